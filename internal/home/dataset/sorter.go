package dataset

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
)

// sorter holds lines and gives them back in the order of their keys. What exceeds the
// memory that all sorters share goes to spill files: of this user alone, unlinked as soon
// as they are open, so that nothing stays when the process dies. Lines are transformed
// before they come here.
type sorter struct {
	dir    string
	memory *atomic.Int64 // bytes left for all sorters
	taken  int64

	chunks  [][]byte
	entries []entry
	runs    []*run
	lines   int64
}

// entry is a line in memory: its sort key, its chunk and offset.
type entry struct {
	hi, lo uint64
	pos    uint64 // chunk << 32 | offset
}

const (
	chunkSize = 1 << 20
	// sorterLeast is what a sorter keeps in memory however little is left, so that many
	// tables at once make larger runs, not countless tiny ones.
	sorterLeast = 4 << 20
)

func newSorter(dir string, memory *atomic.Int64) *sorter { return &sorter{dir: dir, memory: memory} }

// add takes a line that ends in a newline; it copies it.
func (s *sorter) add(hi, lo uint64, line []byte) error {
	last := len(s.chunks) - 1
	if last < 0 || len(s.chunks[last])+len(line) > cap(s.chunks[last]) {
		if err := s.room(max(chunkSize, len(line))); err != nil {
			return err
		}
		last = len(s.chunks) - 1
	}
	c := s.chunks[last]
	s.entries = append(s.entries, entry{hi, lo, uint64(last)<<32 | uint64(len(c))})
	s.chunks[last] = append(c, line...)
	s.lines++
	return nil
}

// room makes a chunk, after it spilled what is there if memory is short.
func (s *sorter) room(size int) error {
	// Entries are paid for with the chunk: they take less than the lines as a rule.
	need := 2 * int64(size)
	if s.memory.Add(-need) < 0 && s.taken >= sorterLeast {
		s.memory.Add(need)
		if err := s.spill(); err != nil {
			return err
		}
		s.memory.Add(-need)
	}
	s.taken += need
	s.chunks = append(s.chunks, make([]byte, 0, size))
	return nil
}

// release gives the memory back.
func (s *sorter) release() {
	s.memory.Add(s.taken)
	s.taken, s.chunks, s.entries = 0, nil, nil
}

func (s *sorter) close() {
	s.release()
	for _, r := range s.runs {
		r.file.Close()
	}
	s.runs = nil
}

func (s *sorter) line(e entry) []byte {
	c := s.chunks[e.pos>>32][uint32(e.pos):]
	return c[:bytes.IndexByte(c, '\n')+1]
}

// spill writes what is in memory as one sorted run.
func (s *sorter) spill() error {
	f, err := os.CreateTemp(s.dir, "trefoil-spill-") // 0600
	if err != nil {
		return fmt.Errorf("make spill file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return fmt.Errorf("unlink spill file: %w", err)
	}
	s.runs = append(s.runs, &run{file: f})
	w := bufio.NewWriterSize(f, 256<<10)
	var head [20]byte
	it := s.memoryIterator()
	for {
		hi, lo, line, ok := it.next()
		if !ok {
			break
		}
		binary.LittleEndian.PutUint64(head[0:], hi)
		binary.LittleEndian.PutUint64(head[8:], lo)
		binary.LittleEndian.PutUint32(head[16:], uint32(len(line)))
		w.Write(head[:]) // bufio keeps the first error for Flush
		w.Write(line)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write spill file: %w", err)
	}
	s.release()
	return nil
}

// iterator gives lines in order.
type iterator interface {
	next() (hi, lo uint64, line []byte, ok bool)
	err() error
}

// iterate gives all lines in order. The sorter takes no more.
func (s *sorter) iterate() (iterator, error) {
	if len(s.runs) == 0 {
		return s.memoryIterator(), nil
	}
	m := &merge{}
	for _, r := range s.runs {
		if _, err := r.file.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("read spill file: %w", err)
		}
		r.reader = bufio.NewReaderSize(r.file, 128<<10)
		m.push(&head{src: r})
	}
	m.push(&head{src: s.memoryIterator()})
	return m, m.failed
}

// memoryIterator sorts lazily: keys are spread evenly (pseudonyms and keyed hashes), so one
// pass by their leading bits leaves small buckets, each sorted when its turn comes.
type memoryIterator struct {
	s       *sorter
	sorted  []entry
	ends    []int
	bucket  int
	at, end int
}

const bucketBits = 12

func (s *sorter) memoryIterator() *memoryIterator {
	const n = 1 << bucketBits
	it := &memoryIterator{s: s, sorted: make([]entry, len(s.entries)), ends: make([]int, n)}
	for _, e := range s.entries {
		it.ends[e.hi>>(64-bucketBits)]++
	}
	sum := 0
	for i, c := range it.ends {
		it.ends[i] = sum
		sum += c
	}
	for _, e := range s.entries {
		b := e.hi >> (64 - bucketBits)
		it.sorted[it.ends[b]] = e
		it.ends[b]++
	}
	return it
}

func (it *memoryIterator) next() (uint64, uint64, []byte, bool) {
	for it.at == it.end {
		if it.bucket == len(it.ends) {
			return 0, 0, nil, false
		}
		it.end = it.ends[it.bucket]
		it.bucket++
		it.s.sortEntries(it.sorted[it.at:it.end])
	}
	e := it.sorted[it.at]
	it.at++
	return e.hi, e.lo, it.s.line(e), true
}

func (it *memoryIterator) err() error { return nil }

// sortEntries orders by key, and rows of equal keys by their own bytes: the source's order
// must not show even there.
func (s *sorter) sortEntries(e []entry) {
	slices.SortFunc(e, func(a, b entry) int {
		if a.hi != b.hi {
			return cmp.Compare(a.hi, b.hi)
		}
		if a.lo != b.lo {
			return cmp.Compare(a.lo, b.lo)
		}
		return bytes.Compare(s.line(a), s.line(b))
	})
}

// run is one spill file.
type run struct {
	file   *os.File
	reader *bufio.Reader
	buf    []byte
	failed error
}

func (r *run) next() (uint64, uint64, []byte, bool) {
	var h [20]byte
	if _, err := io.ReadFull(r.reader, h[:]); err != nil {
		if !errors.Is(err, io.EOF) {
			r.failed = fmt.Errorf("read spill file: %w", err)
		}
		return 0, 0, nil, false
	}
	n := int(binary.LittleEndian.Uint32(h[16:]))
	r.buf = slices.Grow(r.buf[:0], n)[:n]
	if _, err := io.ReadFull(r.reader, r.buf); err != nil {
		r.failed = fmt.Errorf("read spill file: %w", err)
		return 0, 0, nil, false
	}
	return binary.LittleEndian.Uint64(h[0:]), binary.LittleEndian.Uint64(h[8:]), r.buf, true
}

func (r *run) err() error { return r.failed }

// head is one sorted source with its first line that was not given yet.
type head struct {
	src    iterator
	hi, lo uint64
	line   []byte
}

// merge is a k-way merge.
type merge struct {
	heads  []*head
	given  *head // its line was given: it moves on at the next call
	failed error
}

func (m *merge) Len() int      { return len(m.heads) }
func (m *merge) Swap(i, j int) { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }
func (m *merge) Push(x any)    { m.heads = append(m.heads, x.(*head)) }
func (m *merge) Pop() any {
	last := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return last
}

func (m *merge) Less(i, j int) bool {
	a, b := m.heads[i], m.heads[j]
	if a.hi != b.hi {
		return a.hi < b.hi
	}
	if a.lo != b.lo {
		return a.lo < b.lo
	}
	return bytes.Compare(a.line, b.line) < 0
}

// push advances h and puts it in, unless it is at its end.
func (m *merge) push(h *head) {
	var ok bool
	if h.hi, h.lo, h.line, ok = h.src.next(); ok {
		heap.Push(m, h)
		return
	}
	m.failed = errors.Join(m.failed, h.src.err())
}

func (m *merge) next() (uint64, uint64, []byte, bool) {
	if m.given != nil {
		m.push(m.given)
		m.given = nil
	}
	if m.failed != nil || len(m.heads) == 0 {
		return 0, 0, nil, false
	}
	m.given = heap.Pop(m).(*head)
	return m.given.hi, m.given.lo, m.given.line, true
}

func (m *merge) err() error { return m.failed }
