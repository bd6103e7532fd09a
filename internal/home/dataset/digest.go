package dataset

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"sort"
)

// multiset is an order-independent digest of rows: the sum of a keyed 128-bit hash of each,
// modulo 2^128, and their number. Without the key nobody can make two sets with equal sums,
// nor search for a row; a row twice counts twice.
type multiset struct {
	hi, lo uint64
	n      int64
}

func (m *multiset) add(h [32]byte) {
	var carry uint64
	m.lo, carry = bits.Add64(m.lo, binary.LittleEndian.Uint64(h[:]), 0)
	m.hi, _ = bits.Add64(m.hi, binary.LittleEndian.Uint64(h[8:]), carry)
	m.n++
}

// tableDigest is the digest of one table.
type tableDigest struct {
	key []byte
	sum multiset
	buf []byte
	tap *lineTap // told of every line, as the dataset holds it; nil: nobody is
}

func newTableDigest(key []byte, table string) *tableDigest {
	d := &tableDigest{key: sum(key, table)}
	d.buf = append(d.buf, d.key...)
	return d
}

// sum derives the key of one table, so that a row moved to another table differs.
func sum(key []byte, table string) []byte {
	h := sha256.Sum256(append(append([]byte("trefoil/digest/v1\x00"), key...), table...))
	return h[:]
}

// add makes the digest a sink, where rows need no order.
func (d *tableDigest) add(hi, _ uint64, line []byte) error {
	d.count(hi, line)
	return nil
}

// count counts a line with its newline. SHA-256 of key ‖ line cut to 128 bits is a MAC here:
// the cut hides the state that would let it be extended.
func (d *tableDigest) count(_ uint64, line []byte) {
	d.buf = append(d.buf[:len(d.key)], line...)
	d.sum.add(sha256.Sum256(d.buf))
	if d.tap != nil {
		d.tap.take(line)
	}
}

func (d *tableDigest) total() multiset { return d.sum }

// String is the digest in hex.
func (m multiset) String() string {
	var b [24]byte
	binary.BigEndian.PutUint64(b[0:], m.hi)
	binary.BigEndian.PutUint64(b[8:], m.lo)
	binary.BigEndian.PutUint64(b[16:], uint64(m.n))
	return hex.EncodeToString(b[:])
}

// datasetDigest is the digest of all tables: SHA-256 over their names and digests.
func datasetDigest(tables map[string]multiset) string {
	names := make([]string, 0, len(tables))
	for n := range tables {
		names = append(names, n)
	}
	sort.Strings(names)
	h := sha256.New()
	for _, n := range names {
		h.Write([]byte(n + "\x00" + tables[n].String() + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}
