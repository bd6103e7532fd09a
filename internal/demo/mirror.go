package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// mirror reads the monitor's copy of the log as the monitor's own reader does.
type mirror struct {
	url   string // of the monitor
	hash  string // names the log there
	token string
	log   *trefoil.Client
}

// openMirror asks the monitor which logs it mirrors.
func (w *World) openMirror(ctx context.Context) (*mirror, error) {
	token, err := os.ReadFile(w.path("monitor", "keys", "bodies.token"))
	if err != nil {
		return nil, fmt.Errorf("read token: %w", err)
	}
	m := &mirror{url: "http://" + w.monitorAddr, token: strings.TrimSpace(string(token)),
		log: trefoil.NewClient("http://"+w.logAddr, nil)}
	var status struct {
		Logs []struct{ Origin, Hash string }
	}
	if code, err := fetch(ctx, m.url+"/status", m.token, &status); err != nil || code != http.StatusOK {
		return nil, fmt.Errorf("ask the monitor for its logs: HTTP %d: %w", code, err)
	}
	for _, l := range status.Logs {
		if l.Origin == origin {
			m.hash = l.Hash
		}
	}
	if m.hash == "" {
		return nil, errors.New("the monitor does not mirror this log")
	}
	return m, nil
}

// fetch gets JSON with a bearer token, and returns the status. Where it is told to wait
// (429), it does.
func fetch(ctx context.Context, url, token string, into any) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		code, err := fetchOnce(ctx, url, token, into)
		if code != http.StatusTooManyRequests {
			return code, err
		}
		select {
		case <-ctx.Done():
			return code, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func fetchOnce(ctx context.Context, url, token string, into any) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	if err != nil || resp.StatusCode != http.StatusOK || into == nil {
		return resp.StatusCode, err
	}
	return resp.StatusCode, json.Unmarshal(text, into)
}

// size is the size of the log as it is published now.
func (m *mirror) size(ctx context.Context) (uint64, error) {
	raw, err := m.log.Checkpoint(ctx)
	if err != nil {
		return 0, fmt.Errorf("read checkpoint: %w", err)
	}
	c, err := trefoil.ParseCheckpoint(raw)
	if err != nil {
		return 0, err
	}
	return c.Size, nil
}

// body returns a mirrored body, nil while the mirror does not have it (or never will).
func (m *mirror) body(ctx context.Context, index uint64) (*trefoil.Body, error) {
	var found struct{ Body []byte }
	code, err := fetch(ctx, fmt.Sprintf("%s/bodies/%s/%d", m.url, m.hash, index), m.token, &found)
	switch {
	case err != nil:
		return nil, fmt.Errorf("read mirrored record %d: %w", index, err)
	case code == http.StatusNotFound:
		return nil, nil
	case code != http.StatusOK:
		return nil, fmt.Errorf("read mirrored record %d: HTTP %d", index, code)
	}
	return trefoil.DecodeBody(found.Body)
}

// newest returns the index of the newest mirrored record that fits.
func (m *mirror) newest(ctx context.Context, fits func(*trefoil.Body) bool) (uint64, error) {
	size, err := m.size(ctx)
	if err != nil {
		return 0, err
	}
	for i := size; i > 0; i-- {
		b, err := m.body(ctx, i-1)
		if err != nil {
			return 0, err
		}
		if b != nil && fits(b) {
			return i - 1, nil
		}
	}
	return 0, errors.New("the mirror has no such record")
}

// soon waits until the mirror has a record that fits: it follows the log once a second.
func (m *mirror) soon(ctx context.Context, fits func(*trefoil.Body) bool) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		index, err := m.newest(ctx, fits)
		if err == nil || ctx.Err() != nil {
			return index, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// releases are the release records of one session.
type releases struct{ chunks, bytes int64 }

// sessionEnd waits for the end record of the one session that a principal began since the log
// had size from, and adds up its release records. The end of an earlier one may come late.
func (m *mirror) sessionEnd(ctx context.Context, w *World, from uint64, principal string) (*trefoil.SessionBody, releases, error) {
	key, err := os.ReadFile(w.path("monitor", "keys", "staff"))
	if err != nil {
		return nil, releases{}, fmt.Errorf("read staff key: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	var total releases
	var end *trefoil.SessionBody
	began := false
	for next := from; end == nil; {
		b, err := m.body(ctx, next)
		if err != nil {
			return nil, total, err
		}
		if b == nil {
			size, err := m.size(ctx)
			if err != nil {
				return nil, total, err
			}
			// The mirror follows within a second or two; then every body below the size is there.
			select {
			case <-ctx.Done():
				return nil, total, fmt.Errorf("the mirror has no end of the session; record %d of %d is missing there", next, size)
			case <-time.After(100 * time.Millisecond):
			}
			continue
		}
		next++
		pseudonym := trefoil.StaffPseudonym(key, b.At, principal)
		switch {
		case b.Session != nil && b.Session.Access.Principal == pseudonym && b.Session.Event == "start":
			began = true
		case !began:
		case b.Release != nil && b.Release.Access.Principal == pseudonym:
			total.chunks++
			total.bytes += b.Release.Bytes
		case b.Session != nil && b.Session.Access.Principal == pseudonym && b.Session.Event == "end":
			end = b.Session
		}
	}
	return end, total, nil
}

// bundleWidth is how many entries bundle n of a log of this size holds.
func bundleWidth(size, n uint64) int {
	return int(min(size-n*trefoil.TileWidth, trefoil.TileWidth))
}

// copyLog downloads what anyone can: the checkpoint, the entries, and the tiles of hashes.
func copyLog(ctx context.Context, url, dir string) (uint64, error) {
	if err := os.RemoveAll(dir); err != nil {
		return 0, fmt.Errorf("copy log: %w", err)
	}
	c := trefoil.NewClient(url, nil)
	write := func(name string, data []byte, err error) error {
		if err != nil {
			return fmt.Errorf("copy log: %w", err)
		}
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("copy log: %w", err)
		}
		return os.WriteFile(path, data, 0o644)
	}
	raw, err := c.Checkpoint(ctx)
	if err := write("checkpoint", raw, err); err != nil {
		return 0, err
	}
	head, err := trefoil.ParseCheckpoint(raw)
	if err != nil {
		return 0, err
	}
	for n := uint64(0); n*trefoil.TileWidth < head.Size; n++ {
		width := bundleWidth(head.Size, n)
		data, err := c.Entries(ctx, n, width)
		if err := write(trefoil.EntriesPath(n, width), data, err); err != nil {
			return 0, err
		}
	}
	for level, size := 0, head.Size; size > 0; level, size = level+1, size/trefoil.TileWidth {
		for n := uint64(0); n*trefoil.TileWidth < size; n++ {
			width := bundleWidth(size, n)
			data, err := c.Tile(ctx, level, n, width)
			if err := write(trefoil.TilePath(level, n, width), data, err); err != nil {
				return 0, err
			}
		}
	}
	return head.Size, nil
}
