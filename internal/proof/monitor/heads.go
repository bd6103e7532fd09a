package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// headEvery is how often a cosigned head is kept. A witness's signature states when it was
// made: what is beyond a head was logged after that time.
const headEvery = time.Hour

// Head is a checkpoint of a watched log that this monitor cosigned.
type Head struct {
	Raw        []byte
	Checkpoint *trefoil.Checkpoint
	At         time.Time // of this monitor's cosignature
}

// keptHead is one line of state/heads/HASH.jsonl.
type keptHead struct {
	Checkpoint string    `json:"checkpoint"`
	At         time.Time `json:"at"` // when it was kept
}

func headsPath(dir, hash string) string {
	return filepath.Join(dir, "state", "heads", hash+".jsonl")
}

// headOf verifies a cosigned checkpoint.
func headOf(t *trefoil.Trust, raw []byte) (*Head, error) {
	c, err := t.VerifyCheckpoint(raw)
	if err != nil {
		return nil, err
	}
	return &Head{Raw: raw, Checkpoint: c, At: c.Witnessed[0].At}, nil
}

// keepHead keeps the head that was cosigned last, once an hour, as soon as the mirror covers it.
// Only the log's follower calls it.
func (f *follower) keepHead(dir string, now time.Time) error {
	raw := f.witness.checkpoint()
	if raw == nil || f.tree.size() == 0 || now.Sub(f.headAt) < headEvery {
		return nil
	}
	h, err := headOf(f.trust, raw)
	if err != nil || h.Checkpoint.Size > f.tree.size() {
		return err
	}
	path := headsPath(dir, originHash(f.origin))
	if f.headAt.IsZero() { // the first since the start: what is kept already
		err := readHeads(path, f.trust, func(_ *Head, at time.Time) error {
			f.headAt = at
			return nil
		})
		if err != nil || now.Sub(f.headAt) < headEvery {
			return err
		}
	}
	line, err := json.Marshal(keptHead{string(raw), now.UTC()})
	if err != nil {
		return fmt.Errorf("keep head: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("keep head: %w", err)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("keep head: %w", err)
	}
	_, werr := file.Write(append(line, '\n'))
	if err := errors.Join(werr, file.Sync(), file.Close()); err != nil {
		return fmt.Errorf("keep head: %w", err)
	}
	f.headAt = now
	return nil
}

// readHeads calls f for each head in a file that verifies, oldest first. A line that a crash
// tore is passed over.
func readHeads(path string, t *trefoil.Trust, f func(h *Head, at time.Time) error) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read heads: %w", err)
	}
	defer file.Close()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var k keptHead
		if json.Unmarshal(lines.Bytes(), &k) != nil {
			continue
		}
		h, err := headOf(t, []byte(k.Checkpoint))
		if err != nil {
			continue
		}
		if err := f(h, k.At); err != nil {
			return err
		}
	}
	return lines.Err()
}

// Heads returns the kept heads of a log, oldest first, and the newest one that the mirror
// covers at the end.
func (l *ArchivedLog) Heads(ctx context.Context) ([]*Head, error) {
	var all []*Head
	err := readHeads(headsPath(l.dir, l.Hash), l.Trust, func(h *Head, _ time.Time) error {
		all = append(all, h)
		return nil
	})
	if err != nil {
		return nil, err
	}
	mirrored, err := l.Tiles.Checkpoint(ctx)
	if err != nil && !errors.Is(err, trefoil.ErrNotFound) {
		return nil, err
	}
	var size uint64
	if c, err := trefoil.ParseCheckpoint(mirrored); err == nil {
		size = c.Size
	}
	own, err := os.ReadFile(filepath.Join(l.dir, "state", "witness", l.Hash))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read heads: %w", err)
	}
	for _, raw := range [][]byte{mirrored, own} {
		h, err := headOf(l.Trust, raw)
		if err != nil || h.Checkpoint.Size > size {
			continue // the log serves one that is not cosigned yet, or the mirror lags
		}
		if n := len(all); n == 0 || h.Checkpoint.Size > all[n-1].Checkpoint.Size || h.Checkpoint.Size == all[n-1].Checkpoint.Size && h.At.After(all[n-1].At) {
			all = append(all, h)
		}
	}
	return all, nil
}

// errNoHead means that nothing of this log was cosigned and mirrored yet.
var errNoHead = errors.New("the mirror holds no cosigned head of the log yet")

// Head returns the newest.
func (l *ArchivedLog) Head(ctx context.Context) (*Head, error) {
	all, err := l.Heads(ctx)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: %w", l.Origin, errNoHead)
	}
	return all[len(all)-1], nil
}
