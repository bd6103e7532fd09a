package release

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// Sizes of the memory that holds bytes: most answers are small, large ones are held in
// segments that are used again.
const (
	smallSegment = 4 << 10
	segment      = 256 << 10
)

// errHeld means that what is held is not what was counted: nothing of it may leave.
var errHeld = errors.New("held bytes are not what was counted")

// segmentPool keeps a session's segments for its next parcels.
type segmentPool struct{ p sync.Pool }

func (s *segmentPool) get() []byte {
	if b, ok := s.p.Get().(*[]byte); ok {
		return (*b)[:0]
	}
	return make([]byte, 0, segment)
}

func (s *segmentPool) put(b []byte) {
	clear(b[:cap(b)]) // rows do not outlive their release
	s.p.Put(&b)
}

// held is a run of server bytes: in memory up to the session's budget, then in a spill file
// that has no name (it is unlinked at creation, mode 0600). Its digest is
// SHA-256(salt ‖ bytes).
type held struct {
	mem    *budget
	pool   *segmentPool
	dir    string
	segs   [][]byte
	file   *os.File
	n      int64
	taken  int64
	shared int64 // of taken, also from the budget of all sessions
	spilt  int64
	digest hash.Hash
}

func newHeld(mem *budget, pool *segmentPool, dir string, salt []byte) *held {
	h := &held{mem: mem, pool: pool, dir: dir, digest: sha256.New()}
	h.digest.Write(salt)
	return h
}

// add appends p.
func (h *held) add(p []byte) error {
	h.digest.Write(p)
	h.n += int64(len(p))
	for len(p) > 0 && h.file == nil {
		last := len(h.segs) - 1
		if last < 0 || len(h.segs[last]) == cap(h.segs[last]) {
			if !h.grow() {
				break
			}
			last++
		}
		s := h.segs[last]
		k := min(cap(s)-len(s), len(p))
		h.segs[last] = append(s, p[:k]...)
		p = p[k:]
	}
	if len(p) == 0 {
		return nil
	}
	if h.file == nil {
		if err := h.spill(); err != nil {
			return err
		}
	}
	if !h.mem.disk().take(int64(len(p))) {
		return errStoreFull
	}
	h.spilt += int64(len(p))
	if _, err := h.file.Write(p); err != nil {
		return fmt.Errorf("spill held bytes: %w", err)
	}
	return nil
}

// grow adds an empty segment, if the session may hold more in memory.
func (h *held) grow() bool {
	size := int64(segment)
	if len(h.segs) == 0 {
		size = smallSegment
	}
	if !h.mem.take(size) {
		return false
	}
	if size == segment { // a small answer is held whatever others hold
		if !h.mem.memory().take(size) {
			h.mem.give(size)
			return false
		}
		h.shared += size
	}
	h.taken += size
	if size == segment {
		h.segs = append(h.segs, h.pool.get())
	} else {
		h.segs = append(h.segs, make([]byte, 0, smallSegment))
	}
	return true
}

// spill opens the file. It never has a name, so that nothing stays behind if the process is
// killed here; only where the file system has no such files it has one for a moment.
func (h *held) spill() error {
	if fd, err := unix.Open(h.dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600); err == nil {
		h.file = os.NewFile(uintptr(fd), "held bytes")
		return nil
	}
	f, err := os.CreateTemp(h.dir, "trefoil-held-*")
	if err != nil {
		return fmt.Errorf("create spill file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return fmt.Errorf("unlink spill file: %w", err)
	}
	h.file = f
	return nil
}

// writeTo writes everything to w and returns how many bytes w took.
func (h *held) writeTo(w io.Writer) (int64, error) {
	var done int64
	if h.n > segment/4 && sabotage.Point("other-bytes") != nil { // a gateway that sends others than it recorded
		h.segs[0][len(h.segs[0])/2] ^= 1
	}
	for i, s := range h.segs {
		if i > 0 {
			if err := sabotage.Point("letting-out"); err != nil {
				return done, err
			}
		}
		n, err := w.Write(s)
		done += int64(n)
		if err != nil {
			return done, err
		}
	}
	if h.file == nil {
		return done, h.whole(done)
	}
	if _, err := h.file.Seek(0, io.SeekStart); err != nil {
		return done, fmt.Errorf("read spill file: %w", err)
	}
	n, err := io.Copy(w, io.LimitReader(h.file, h.n-done))
	done += n
	if err != nil {
		return done, err
	}
	return done, h.whole(done)
}

func (h *held) whole(done int64) error {
	if done != h.n {
		return errHeld
	}
	return nil
}

// drop gives back memory and disk. Nothing can leave after it.
func (h *held) drop() {
	for _, s := range h.segs {
		if cap(s) == segment {
			h.pool.put(s)
		}
	}
	h.segs, h.n = nil, -1
	h.mem.give(h.taken)
	h.mem.memory().give(h.shared)
	h.mem.disk().give(h.spilt)
	h.taken, h.shared, h.spilt = 0, 0, 0
	if h.file != nil {
		h.file.Close()
		h.file = nil
	}
}
