package trefoil

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// TileWidth is how many hashes a full tile, or entries a full bundle, holds.
const TileWidth = 256

// ErrNotFound means that the log does not have what was asked for.
var ErrNotFound = errors.New("not in the log")

// Fetcher gives the public parts of a log (C2SP tlog-tiles). Width is 1 to TileWidth; TileWidth
// means the full tile or bundle. What it returns is not verified.
type Fetcher interface {
	Checkpoint(ctx context.Context) ([]byte, error)
	Tile(ctx context.Context, level int, index uint64, width int) ([]byte, error)
	Entries(ctx context.Context, index uint64, width int) ([]byte, error)
}

// maxBundleSize bounds a bundle of entries: 256 of 65,535 bytes with their lengths.
const maxBundleSize = TileWidth * (2 + 65535)

// TilePath returns the path of a tile below a log's prefix, e.g. tile/0/x001/067.p/8.
func TilePath(level int, index uint64, width int) string {
	return fmt.Sprintf("tile/%d/%s", level, tileName(index, width))
}

// EntriesPath returns the path of a bundle of entries below a log's prefix.
func EntriesPath(index uint64, width int) string {
	return "tile/entries/" + tileName(index, width)
}

func tileName(index uint64, width int) string {
	name := fmt.Sprintf("%03d", index%1000)
	for index /= 1000; index > 0; index /= 1000 {
		name = fmt.Sprintf("x%03d/%s", index%1000, name)
	}
	if width < TileWidth {
		name += fmt.Sprintf(".p/%d", width)
	}
	return name
}

// Client fetches from a log, or a mirror of it, over HTTP. Its methods may be called from
// several goroutines.
type Client struct {
	prefix string
	http   *http.Client
}

// NewClient returns a client for the log at url; nil hc means one with a timeout of 30 s.
func NewClient(url string, hc *http.Client) *Client {
	if hc == nil {
		hc = &http.Client{Timeout: 30 * time.Second}
	}
	return &Client{prefix: strings.TrimRight(url, "/") + "/", http: hc}
}

// Checkpoint fetches the latest checkpoint. Verify it with Trust.VerifyCheckpoint.
func (c *Client) Checkpoint(ctx context.Context) ([]byte, error) {
	return c.get(ctx, "checkpoint", maxCheckpointSize)
}

// Tile fetches a tile: width hashes of 32 bytes.
func (c *Client) Tile(ctx context.Context, level int, index uint64, width int) ([]byte, error) {
	return partialOrFull(width, 32, func(w int) ([]byte, error) {
		return c.get(ctx, TilePath(level, index, w), TileWidth*32)
	})
}

// Entries fetches a bundle; split it with SplitEntries.
func (c *Client) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	return entriesOrFull(width, func(w int) ([]byte, error) {
		return c.get(ctx, EntriesPath(index, w), maxBundleSize)
	})
}

func (c *Client) get(ctx context.Context, path string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.prefix+path, nil)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusGone:
		return nil, fmt.Errorf("fetch %s: %w", path, ErrNotFound)
	default:
		return nil, fmt.Errorf("fetch %s: the log answered %d", path, resp.StatusCode)
	}
	return readBounded(resp.Body, path, limit)
}

func readBounded(r io.Reader, path string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("fetch %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("fetch %s: more than %d bytes", path, limit)
	}
	return data, nil
}

// Directory reads a log's public files from a directory: a log's own, a mirror or a copy.
type Directory string

// Checkpoint reads the latest checkpoint.
func (d Directory) Checkpoint(context.Context) ([]byte, error) {
	return d.read("checkpoint", maxCheckpointSize)
}

// Tile reads a tile: width hashes of 32 bytes.
func (d Directory) Tile(_ context.Context, level int, index uint64, width int) ([]byte, error) {
	return partialOrFull(width, 32, func(w int) ([]byte, error) {
		return d.read(TilePath(level, index, w), TileWidth*32)
	})
}

// Entries reads a bundle; split it with SplitEntries.
func (d Directory) Entries(_ context.Context, index uint64, width int) ([]byte, error) {
	return entriesOrFull(width, func(w int) ([]byte, error) {
		return d.read(EntriesPath(index, w), maxBundleSize)
	})
}

func (d Directory) read(path string, limit int64) ([]byte, error) {
	f, err := os.Open(filepath.Join(string(d), filepath.FromSlash(path)))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read %s: %w", path, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read log: %w", err)
	}
	defer f.Close()
	return readBounded(f, path, limit)
}

// partialOrFull asks for the width wanted and, where a log has already dropped that partial
// tile, for the full one, whose beginning is the same.
func partialOrFull(width, unit int, get func(width int) ([]byte, error)) ([]byte, error) {
	if width < 1 || width > TileWidth {
		return nil, fmt.Errorf("fetch tile: width %d is not 1 to %d", width, TileWidth)
	}
	data, err := get(width)
	if width < TileWidth && errors.Is(err, ErrNotFound) {
		if full, fullErr := get(TileWidth); fullErr == nil && len(full) == TileWidth*unit {
			return full[:width*unit], nil
		}
	}
	if err == nil && len(data) != width*unit {
		return nil, fmt.Errorf("fetch tile: %d bytes where %d belong", len(data), width*unit)
	}
	return data, err
}

func entriesOrFull(width int, get func(width int) ([]byte, error)) ([]byte, error) {
	if width < 1 || width > TileWidth {
		return nil, fmt.Errorf("fetch entries: width %d is not 1 to %d", width, TileWidth)
	}
	data, err := get(width)
	if width < TileWidth && errors.Is(err, ErrNotFound) {
		if full, fullErr := get(TileWidth); fullErr == nil {
			if n, cutErr := entriesPrefix(full, width); cutErr == nil {
				return full[:n], nil
			}
		}
	}
	return data, err
}

// entriesPrefix returns the length in bytes of the first width entries of a bundle.
func entriesPrefix(bundle []byte, width int) (int, error) {
	n := 0
	for range width {
		if len(bundle)-n < 2 {
			return 0, errors.New("bundle of entries is cut short")
		}
		n += 2 + int(bundle[n])<<8 + int(bundle[n+1])
		if n > len(bundle) {
			return 0, errors.New("bundle of entries is cut short")
		}
	}
	return n, nil
}

// SplitEntries returns the width entries of a bundle; they alias it. Each entry comes after its
// length, a big-endian uint16.
func SplitEntries(bundle []byte, width int) ([][]byte, error) {
	entries := make([][]byte, 0, width)
	for range width {
		n, err := entriesPrefix(bundle, 1)
		if err != nil {
			return nil, err
		}
		entries = append(entries, bundle[2:n])
		bundle = bundle[n:]
	}
	if len(bundle) != 0 {
		return nil, errors.New("bundle of entries is longer than its width")
	}
	return entries, nil
}
