package accesslog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
)

const (
	pollQuick = time.Millisecond // while a checkpoint is due
	pollSlow  = 20 * time.Millisecond
	quickFor  = 2 * time.Second // after leaves were fed; then witnesses are away
	complain  = 5 * time.Second
)

func (l *Log) checkpointPath() string { return filepath.Join(string(l.public), "checkpoint") }

// publishedAt is when the driver last published.
func (l *Log) publishedAt() (time.Time, error) {
	info, err := os.Stat(l.checkpointPath())
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// watch looks for the next checkpoint while records wait for one. A checkpoint counts only
// once it verifies here: signature, origin, quorum, and no smaller than the one before.
func (l *Log) watch() {
	var state watchState
	for l.await(l.wakeWatch) {
		state.since = time.Now()
		for l.hasWaiting() {
			err := l.look(&state)
			state.report(l, err)
			wait := pollQuick
			if time.Since(time.Unix(0, l.fed.Load())) > quickFor {
				wait = pollSlow
			}
			if !l.pause(wait) {
				return
			}
		}
	}
}

func (l *Log) hasWaiting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}

// watchState is what watch remembers between two looks.
type watchState struct {
	info  os.FileInfo // of the last checkpoint that verified
	since time.Time   // of the last progress
	said  bool
}

// look reads the checkpoint if it is a new file, verifies it and wakes who waits for it.
func (l *Log) look(s *watchState) error {
	info, err := os.Stat(l.checkpointPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.info != nil && os.SameFile(s.info, info) && s.info.ModTime().Equal(info.ModTime()) {
		return nil
	}
	p, err := l.readPublication()
	if err != nil {
		return err
	}
	s.info, s.since = info, time.Now()
	l.publish(p)
	return nil
}

// report tells the operator once that records wait, and once that they do no more.
func (s *watchState) report(l *Log, err error) {
	late := time.Since(s.since) > complain
	switch {
	case err != nil && !s.said:
		l.c.Logger.Error("access log: the published checkpoint is not usable", "error", err)
	case late && !s.said:
		l.c.Logger.Warn("access log: no cosigned checkpoint comes; releases wait" + l.witnessTrouble())
	case s.said && !late && err == nil:
		l.c.Logger.Info("access log: cosigned checkpoints come again")
	}
	s.said = late || err != nil
}

// readPublication reads and verifies the checkpoint on disk.
func (l *Log) readPublication() (*publication, error) {
	raw, err := l.public.Checkpoint(context.Background())
	if err != nil {
		return nil, err
	}
	c, err := l.trust.VerifyCheckpoint(raw)
	if err != nil {
		return nil, fmt.Errorf("verify own checkpoint: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen != nil && c.Size < l.seen.checkpoint.Size {
		return nil, fmt.Errorf("verify own checkpoint: size went from %d back to %d", l.seen.checkpoint.Size, c.Size)
	}
	return &publication{raw: raw, checkpoint: c, tiles: &cachedTiles{Fetcher: l.public}}, nil
}

// publish hands a verified checkpoint to the records that it includes.
func (l *Log) publish(p *publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = p
	later := l.waiting[:0]
	for _, it := range l.waiting {
		if it.index >= p.checkpoint.Size {
			later = append(later, it)
			continue
		}
		it.result = p
		close(it.done)
		l.pending--
	}
	clear(l.waiting[len(later):])
	l.waiting = later
}

// prove returns the proof of one leaf under this checkpoint.
func (p *publication) prove(ctx context.Context, index uint64, leaf []byte) (*trefoil.Proof, error) {
	path, err := trefoil.ProveInclusion(ctx, p.tiles, p.checkpoint, index, leaf)
	if err != nil {
		return nil, err
	}
	return &trefoil.Proof{Index: index, Hashes: path, Checkpoint: p.raw}, nil
}

// cachedTiles keeps the tiles of one tree: all records of a batch are proven by few of them.
type cachedTiles struct {
	trefoil.Fetcher
	mu    sync.Mutex
	tiles map[[3]uint64][]byte
}

// Tile implements trefoil.Fetcher.
func (c *cachedTiles) Tile(ctx context.Context, level int, index uint64, width int) ([]byte, error) {
	key := [3]uint64{uint64(level), index, uint64(width)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.tiles[key]; ok {
		return t, nil
	}
	t, err := c.Fetcher.Tile(ctx, level, index, width)
	if err != nil {
		return nil, err
	}
	if c.tiles == nil {
		c.tiles = map[[3]uint64][]byte{}
	}
	c.tiles[key] = t
	return t, nil
}
