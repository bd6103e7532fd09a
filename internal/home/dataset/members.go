package dataset

import (
	"bytes"
	"hash/maphash"
	"strconv"
	"sync/atomic"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// keySet is a set of key values of one table: whole numbers as they are, everything else as
// 128 bits of two hashes with seeds of this process, which nobody who writes keys can know.
// It is filled by one goroutine and then only read.
type keySet struct {
	whole  bool
	ints   []uint64
	hashes [][2]uint64
	n      int
	zero   bool // the value 0, which marks an empty slot
	budget *atomic.Int64
}

// slotLeast is the size of a set's first table of slots.
const slotLeast = 1 << 8

// key is one key value, whole or hashed.
type key [2]uint64

// add puts k in. It returns false when the budget is spent.
func (s *keySet) add(k key) bool {
	if k == (key{}) {
		s.zero = true
		return true
	}
	if s.n*5 >= s.slots()*3 && !s.grow() {
		return false
	}
	if s.insert(k) {
		s.n++
	}
	return true
}

func (s *keySet) slots() int { return len(s.ints) + len(s.hashes) }

func (s *keySet) insert(k key) bool {
	mask := uint64(s.slots() - 1)
	for i := spread(k) & mask; ; i = (i + 1) & mask {
		if s.whole {
			switch s.ints[i] {
			case k[0]:
				return false
			case 0:
				s.ints[i] = k[0]
				return true
			}
			continue
		}
		switch s.hashes[i] {
		case k:
			return false
		case key{}:
			s.hashes[i] = k
			return true
		}
	}
}

// spread mixes a key to a slot (the finaliser of SplitMix64).
func spread(k key) uint64 {
	x := k[0] ^ k[1]
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func (s *keySet) grow() bool {
	size := max(slotLeast, s.slots()*2)
	width := int64(16)
	if s.whole {
		width = 8
	}
	if s.budget.Add(-int64(size)*width/2) < 0 {
		return false
	}
	ints, hashes := s.ints, s.hashes
	if s.whole {
		s.ints = make([]uint64, size)
	} else {
		s.hashes = make([][2]uint64, size)
	}
	for _, v := range ints {
		if v != 0 {
			s.insert(key{v})
		}
	}
	for _, v := range hashes {
		if v != (key{}) {
			s.insert(v)
		}
	}
	return true
}

func (s *keySet) has(k key) bool {
	if k == (key{}) {
		return s.zero
	}
	if s.slots() == 0 {
		return false
	}
	mask := uint64(s.slots() - 1)
	for i := spread(k) & mask; ; i = (i + 1) & mask {
		if s.whole {
			switch s.ints[i] {
			case k[0]:
				return true
			case 0:
				return false
			}
			continue
		}
		switch s.hashes[i] {
		case k:
			return true
		case key{}:
			return false
		}
	}
}

// keyReader turns the columns of a reference, or those it points to, into a key. Both sides
// agree on whole and on the seeds.
type keyReader struct {
	columns []int // of the row as read
	kinds   []keyKind
	whole   bool
	a, b    maphash.Hash
}

// keyKind says how texts of one type are made equal when their values are.
type keyKind int

const (
	exactKey   keyKind = iota
	paddedKey          // char(n): trailing blanks do not count
	decimalKey         // numeric: trailing zeros of a fraction do not count
)

func kindOf(c *postgres.Column) keyKind {
	switch transform.ParseType(c.BaseType).Base {
	case "character", "bpchar":
		return paddedKey
	case "numeric":
		return decimalKey
	}
	return exactKey
}

// read returns the key of a row and whether one of its columns is NULL. ok is false when a
// whole number cannot be read; such a key is in no set.
func (r *keyReader) read(fields [][]byte) (k key, null, ok bool) {
	for _, c := range r.columns {
		if isNull(fields[c]) {
			return key{}, true, true
		}
	}
	if r.whole {
		v, ok := parseWhole(fields[r.columns[0]])
		return key{v}, false, ok
	}
	r.a.Reset()
	r.b.Reset()
	for i, c := range r.columns {
		v := canonical(fields[c], r.kinds[i])
		r.a.Write(v)
		r.a.WriteByte('\t') // COPY text holds no bare tab, so no two rows spell alike
		r.b.Write(v)
		r.b.WriteByte('\t')
	}
	return key{r.a.Sum64(), r.b.Sum64()}, false, true
}

func canonical(v []byte, kind keyKind) []byte {
	switch kind {
	case paddedKey:
		return bytes.TrimRight(v, " ")
	case decimalKey:
		if bytes.IndexByte(v, '.') >= 0 {
			return bytes.TrimRight(bytes.TrimRight(v, "0"), ".")
		}
	}
	return v
}

func parseWhole(b []byte) (uint64, bool) {
	if len(b) > 0 && len(b) <= 18 {
		neg := b[0] == '-'
		if neg {
			b = b[1:]
		}
		var v uint64
		for _, c := range b {
			if c -= '0'; c > 9 {
				return 0, false
			}
			v = v*10 + uint64(c)
		}
		if neg {
			v = -v
		}
		return v, len(b) > 0
	}
	v, err := strconv.ParseInt(string(b), 10, 64)
	return uint64(v), err == nil
}

// members is what a build knows of one key of one table: rows that belong, and rows that
// are there but do not. A value in neither has no row: whoever refers to it is an orphan.
type members struct {
	table   *table
	of      []string
	whole   bool
	seeds   [2]maphash.Seed
	in, out *keySet
	stay    *keySet // while following: keys that the dataset held when it was last asked, and has not lost since
}

func newMembers(t *table, of []string, whole bool, budget *atomic.Int64) *members {
	return &members{table: t, of: of, whole: whole, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()},
		in: &keySet{whole: whole, budget: budget}, out: &keySet{whole: whole, budget: budget}}
}

// reader reads keys of this set from columns of a row.
func (m *members) reader(columns []int, kinds []keyKind) *keyReader {
	r := &keyReader{columns: columns, kinds: kinds, whole: m.whole}
	r.a.SetSeed(m.seeds[0])
	r.b.SetSeed(m.seeds[1])
	return r
}
