package incident

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// errCorrupt means that the store's file is not what was written: somebody edited it. Keep the
// file as evidence, and restore the one that was backed up.
var errCorrupt = errors.New("incidents do not follow from each other")

// ErrUnknown means that there is no such incident.
var ErrUnknown = errors.New("no such incident")

// ErrClosed means that the incident is closed: what is new opens another.
var ErrClosed = errors.New("incident is closed")

// FileName is the store's file inside its directory.
const FileName = "incidents.jsonl"

// Config is what a store needs. Dir is made if it is missing.
type Config struct {
	Dir string
	Now func() time.Time // nil: time.Now
}

// Store is the incidents of one monitor. Several processes may have it open at once: each event
// is written under a lock of the file, after what the others wrote was read. Its methods may be
// called from several goroutines.
type Store struct {
	now func() time.Time

	mu    sync.Mutex
	file  *os.File
	read  int64  // bytes of the file that are applied
	n     uint64 // events applied
	tip   string // hash of the last line
	byID  map[string]*kept
	order []*kept
	open  map[string]*kept  // by key
	last  map[string]string // key → newest incident
}

// OpenStore opens or creates the store in c.Dir and checks that it is whole.
func OpenStore(c Config) (*Store, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open incidents: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(c.Dir, FileName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open incidents: %w", err)
	}
	s := &Store{now: c.Now, file: f, byID: map[string]*kept{}, open: map[string]*kept{}, last: map[string]string{}}
	if err := s.refresh(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return s, nil
}

// Close closes the file. What Open counted and did not write yet is written.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.locked(func() error { return s.flush(true) }), s.file.Close())
}

// locked runs f with the file's lock held and everything read that others wrote. s.mu is held.
func (s *Store) locked(f func() error) error {
	if err := unix.Flock(int(s.file.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("lock incidents: %w", err)
	}
	err := s.refresh()
	if err == nil {
		err = f()
	}
	return errors.Join(err, unix.Flock(int(s.file.Fd()), unix.LOCK_UN))
}

// refresh applies the whole lines that follow what was read.
func (s *Store) refresh() error {
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("read incidents: %w", err)
	}
	if info.Size() < s.read {
		return fmt.Errorf("read incidents: %w: the file is shorter than it was", errCorrupt)
	}
	raw := make([]byte, info.Size()-s.read)
	if n, err := s.file.ReadAt(raw, s.read); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read incidents: %w", err)
	} else {
		raw = raw[:n]
	}
	for {
		line, rest, whole := bytes.Cut(raw, []byte{'\n'})
		if !whole {
			return nil
		}
		if err := s.line(line); err != nil {
			return fmt.Errorf("read incidents: %w", err)
		}
		s.read += int64(len(line)) + 1
		raw = rest
	}
}

// line applies one line of the file.
func (s *Store) line(line []byte) error {
	var e Event
	if err := json.Unmarshal(line, &e); err != nil {
		return fmt.Errorf("%w: line %d is no event", errCorrupt, s.n+1)
	}
	if e.N != s.n+1 || e.Prev != s.tip {
		return fmt.Errorf("%w: line %d is not the one after line %d", errCorrupt, s.n+1, s.n)
	}
	if err := s.apply(&e); err != nil {
		return err
	}
	s.n, s.tip = e.N, lineHash(line)
	return nil
}

// write appends one event, durably. Both locks are held.
func (s *Store) write(e Event) error {
	e.N, e.Prev = s.n+1, s.tip
	if e.At.IsZero() {
		e.At = s.now().UTC()
	}
	line, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("write incident: %w", err)
	}
	// What follows the last whole line was torn by a crash: nobody was told of it.
	if err := s.file.Truncate(s.read); err != nil {
		return fmt.Errorf("write incident: %w", err)
	}
	if _, err := s.file.WriteAt(append(line, '\n'), s.read); err != nil {
		return fmt.Errorf("write incident: %w", err)
	}
	if err := s.file.Sync(); err != nil {
		return fmt.Errorf("write incident: %w", err)
	}
	return s.refresh()
}

// change runs f with both locks held.
func (s *Store) change(f func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locked(f)
}

// Tip is the number and hash of the last event: what a statement names, so that no event can be
// taken away later.
func (s *Store) Tip() (uint64, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	err := s.refresh()
	return s.n, s.tip, err
}

// Get returns one incident as it stands now.
func (s *Store) Get(id string) (Incident, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return Incident{}, err
	}
	k := s.byID[id]
	if k == nil {
		return Incident{}, fmt.Errorf("%s: %w", id, ErrUnknown)
	}
	return k.show(s.now()), nil
}

// List returns the incidents that keep lets through, in the order in which they were opened; nil
// keeps all.
func (s *Store) List(keep func(*Incident) bool) ([]Incident, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.refresh(); err != nil {
		return nil, err
	}
	out := []Incident{}
	for _, k := range s.order {
		if x := k.show(s.now()); keep == nil || keep(&x) {
			out = append(out, x)
		}
	}
	return out, nil
}

// Events calls f for each event after number after, in order: also those that another process
// wrote. It reads the file, so that nothing of the past need be in memory.
func (s *Store) Events(after uint64, f func(*Event) error) error {
	s.mu.Lock()
	if err := s.refresh(); err != nil {
		s.mu.Unlock()
		return err
	}
	end := s.read
	s.mu.Unlock()
	dec := json.NewDecoder(io.NewSectionReader(s.file, 0, end))
	for {
		var e Event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read incidents: %w", err)
		}
		if e.N <= after {
			continue
		}
		if err := f(&e); err != nil {
			return err
		}
	}
}

// Had reports whether the store has an event of that number and hash: what a statement named is
// still there. Number 0 is the beginning.
func (s *Store) Had(n uint64, hash string) (bool, error) {
	if n == 0 {
		return hash == "", nil
	}
	next := ""
	err := s.Events(n, func(e *Event) error {
		if e.N == n+1 {
			next = e.Prev
		}
		return nil
	})
	if err != nil {
		return false, err
	}
	if last, tip, err := s.Tip(); err != nil || last == n {
		return tip == hash, err
	}
	return next == hash, nil
}
