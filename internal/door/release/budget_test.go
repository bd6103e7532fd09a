package release

import (
	"errors"
	"testing"
)

// Many sessions whose clients never read: together they hold what the store allows in
// memory, then on disk, then end; a small answer is held all the same, and all is given back.
func TestSessionsTogetherAreBounded(t *testing.T) {
	store := NewStore(4*segment, 3*segment)
	dir := t.TempDir()
	pool := new(segmentPool)
	block := make([]byte, segment)
	var all []*held
	var err error
	for range 20 {
		h := newHeld(&budget{limit: 1 << 30, store: store}, pool, dir, nil)
		all = append(all, h)
		if err = h.add(block); err != nil {
			break
		}
	}
	if !errors.Is(err, errStoreFull) {
		t.Fatalf("%v after %d sessions, want %v", err, len(all), errStoreFull)
	}
	if got := store.memory.used.Load(); got > 4*segment {
		t.Errorf("%d bytes in memory, want at most %d", got, 4*segment)
	}
	if got := store.disk.used.Load(); got > 3*segment {
		t.Errorf("%d bytes on disk, want at most %d", got, 3*segment)
	}
	small := newHeld(&budget{limit: 1 << 30, store: store}, pool, dir, nil)
	if err := small.add(make([]byte, smallSegment)); err != nil {
		t.Errorf("a small answer: %v", err)
	}
	for _, h := range append(all, small) {
		h.drop()
	}
	if m, d := store.memory.used.Load(), store.disk.used.Load(); m != 0 || d != 0 {
		t.Errorf("%d and %d bytes are not given back", m, d)
	}
}
