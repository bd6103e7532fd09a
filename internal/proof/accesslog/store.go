package accesslog

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/trefoil-eu/trefoil"
)

// store keeps bodies, salts, openings and permits in segments, and finds them by log index.
// mu guards the fields; entries on disk are written by one goroutine at a time under it.
type store struct {
	dir     string // of the segments
	cleanAt string
	bodies  *indexFile
	permits *indexFile

	mu     sync.Mutex
	names  map[uint32]segmentName
	active map[string]*activeSegment // by kind-day.class
	nextID uint32
	clean  cleanState
}

// activeSegment is one that still grows. Its size is what is known to be whole.
type activeSegment struct {
	id   uint32
	name segmentName
	f    *os.File
	size int64
}

// cleanState is where recovery may begin: every index below Next is on disk, and every body
// before a segment's offset is indexed or gone.
type cleanState struct {
	Next     uint64           `json:"next"`
	NextID   uint32           `json:"next_id"`
	Segments map[uint32]int64 `json:"segments"`
}

// openStore opens or makes the store in dir, readable by its owner alone.
func openStore(dir string) (*store, error) {
	if err := os.MkdirAll(filepath.Join(dir, "segments"), 0o700); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	return loadStore(dir, os.O_RDWR|os.O_CREATE)
}

// loadStore reads what is in dir; flag is how the index files are opened.
func loadStore(dir string, flag int) (*store, error) {
	s := &store{
		dir:     filepath.Join(dir, "segments"),
		cleanAt: filepath.Join(dir, "clean.json"),
		names:   map[uint32]segmentName{},
		active:  map[string]*activeSegment{},
		nextID:  1,
	}
	var err error
	if s.bodies, err = openIndex(filepath.Join(dir, "bodies.index"), flag); err != nil {
		return nil, err
	}
	if s.permits, err = openIndex(filepath.Join(dir, "permits.index"), flag); err != nil {
		return nil, errors.Join(err, s.bodies.close())
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *store) load() error {
	raw, err := os.ReadFile(s.cleanAt)
	if err == nil {
		err = json.Unmarshal(raw, &s.clean)
	} else if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	if err != nil {
		return fmt.Errorf("read clean.json: %w", err)
	}
	s.nextID = max(s.nextID, s.clean.NextID)
	return s.list()
}

// list takes note of the segments that are there.
func (s *store) list() error {
	files, err := os.ReadDir(s.dir)
	if err != nil {
		return fmt.Errorf("list segments: %w", err)
	}
	for _, file := range files {
		if name, ok := parseSegmentName(file.Name()); ok {
			s.names[name.id] = name
			s.nextID = max(s.nextID, name.id+1)
		}
	}
	return nil
}

// put is one entry to store and, afterwards, where it lies.
type put struct {
	kind  trefoil.Kind
	entry entry
	at    location
}

// write appends the entries to their segments and, if durable, syncs them. On an error nothing
// of the batch counts: segments are cut back to where they were.
func (s *store) write(class string, batch []*put, durable bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	groups := map[*activeSegment][]*put{}
	for _, p := range batch {
		a, err := s.segmentFor(class, p.kind, p.entry.at)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrStore, err)
		}
		groups[a] = append(groups[a], p)
	}
	var g errgroup.Group
	for a, puts := range groups {
		g.Go(func() error { return a.append(puts, durable) })
	}
	if err := g.Wait(); err != nil {
		for a := range groups {
			s.abandon(a)
		}
		return fmt.Errorf("%w: %w", ErrStore, err)
	}
	for a, puts := range groups {
		last := puts[len(puts)-1].at
		a.size = int64(last.offset) + int64(last.length)
	}
	return nil
}

// abandon cuts off what a failed write left, and lets the next write begin a new segment:
// after a failed sync nobody knows what the file holds. What cannot be cut off now is seen as
// torn, or queued again, by the next Open. s.mu is held.
func (s *store) abandon(a *activeSegment) {
	_ = a.f.Truncate(a.size)
	_ = a.f.Close()
	maps.DeleteFunc(s.active, func(_ string, b *activeSegment) bool { return a == b })
}

// append writes the entries in one call and syncs. It does not move a.size.
func (a *activeSegment) append(puts []*put, durable bool) error {
	var buf []byte
	for _, p := range puts {
		start := len(buf)
		buf = appendEntry(buf, &p.entry)
		p.at = location{segment: a.id, offset: uint64(a.size) + uint64(start), length: uint32(len(buf) - start)}
	}
	if _, err := a.f.WriteAt(buf, a.size); err != nil {
		return fmt.Errorf("write segment: %w", err)
	}
	if !durable {
		return nil
	}
	if err := a.f.Sync(); err != nil {
		return fmt.Errorf("sync segment: %w", err)
	}
	return nil
}

// segmentFor returns the growing segment of a kind and the day of at. s.mu is held.
func (s *store) segmentFor(class string, kind trefoil.Kind, at time.Time) (*activeSegment, error) {
	day := at.Format("20060102")
	key := string(kind) + "-" + day + "." + class
	if a := s.active[key]; a != nil && a.size < maxSegment {
		return a, nil
	}
	// A day's segments of the same kind and class are closed when a new one begins.
	for k, a := range s.active {
		if a.name.kind == kind && a.name.class == class {
			_ = a.f.Close()
			delete(s.active, k)
		}
	}
	name := segmentName{id: s.nextID, kind: kind, day: day, class: class}
	f, err := os.OpenFile(s.path(name), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make segment: %w", err)
	}
	if err := syncDir(s.dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.nextID++
	a := &activeSegment{id: name.id, name: name, f: f}
	s.names[a.id], s.active[key] = name, a
	return a, nil
}

func (s *store) path(n segmentName) string { return filepath.Join(s.dir, n.String()) }

// open returns the file of a segment for reading or erasing.
func (s *store) open(id uint32, flag int) (*os.File, segmentName, error) {
	s.mu.Lock()
	name, ok := s.names[id]
	s.mu.Unlock()
	if !ok {
		return nil, name, ErrNoBody
	}
	f, err := os.OpenFile(s.path(name), flag, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, name, ErrNoBody
	}
	if err != nil {
		return nil, name, fmt.Errorf("open segment: %w", err)
	}
	return f, name, nil
}

// read returns the entry that an index points to.
func (s *store) read(x *indexFile, i uint64) (*entry, segmentName, error) {
	at, err := x.get(i)
	if err != nil {
		return nil, segmentName{}, err
	}
	f, name, err := s.open(at.segment, os.O_RDONLY)
	if err != nil {
		return nil, name, err
	}
	defer f.Close()
	e, err := readEntry(f, int64(at.offset))
	if err != nil {
		return nil, name, fmt.Errorf("read body of record %d: %w", i, err)
	}
	if e.state != stateLive {
		return nil, name, ErrNoBody
	}
	return e, name, nil
}

// sizes returns, for each segment of bodies, up to where it holds whole entries. A closed one
// has no end that matters: nothing is added to it.
func (s *store) sizes() map[uint32]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	sizes := map[uint32]int64{}
	for id, name := range s.names {
		if name.class == classBodies {
			sizes[id] = maxSegment << 2
		}
	}
	for _, a := range s.active {
		if a.name.class == classBodies {
			sizes[a.id] = a.size
		}
	}
	return sizes
}

// markClean records where the next recovery may begin: every index below next is written,
// every body before its segment's offset is settled.
func (s *store) markClean(next uint64, offsets map[uint32]int64) error {
	s.mu.Lock()
	c := cleanState{Next: next, NextID: s.nextID, Segments: offsets}
	s.mu.Unlock()
	if c.Next == s.clean.Next && c.NextID == s.clean.NextID && maps.Equal(c.Segments, s.clean.Segments) {
		return nil
	}
	if err := errors.Join(s.bodies.sync(), s.permits.sync(), s.syncPermits()); err != nil {
		return fmt.Errorf("sync index: %w", err)
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("write clean.json: %w", err)
	}
	if err := writeFile(s.cleanAt, raw); err != nil {
		return fmt.Errorf("write clean.json: %w", err)
	}
	s.clean = c
	return nil
}

// syncPermits brings permits to disk: they are written without a sync of their own.
func (s *store) syncPermits() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, a := range s.active {
		if a.name.class == classPermits {
			errs = append(errs, a.f.Sync())
		}
	}
	return errors.Join(errs...)
}

// segments lists the segments of a class by id.
func (s *store) segments(class string) []segmentName {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []segmentName
	for _, n := range s.names {
		if n.class == class {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b segmentName) int { return int(a.id) - int(b.id) })
	return list
}

func (s *store) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, a := range s.active {
		errs = append(errs, a.f.Sync(), a.f.Close())
	}
	s.active = nil
	return errors.Join(append(errs, s.bodies.close(), s.permits.close())...)
}

// writeFile replaces a small file durably.
func writeFile(path string, data []byte) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
