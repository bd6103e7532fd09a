// Package ranges compares the rows of tables at two places by digests of key ranges, and
// names the rows that differ.
//
// The invariant it keeps: two tables have the same digests only if they hold the same rows,
// each as often, in any order. A row's hash is keyed with a key that is drawn for one run, so
// nobody can prepare rows whose hashes cancel out, and a digest tells nothing once the key is
// gone. A range is a set of keys with one prefix of their keyed hash: both sides agree on it
// whatever the keys' types, collations and encodings are.
//
// One side may be digested here, row by row (rows that have to be transformed first), the
// other in its own database by SQL, so that only digests travel. What it does not do: decide
// which rows belong, take snapshots, or mend what differs.
package ranges

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
)

// Bits is how many bits of a key's hash choose its range; Count is how many ranges there are.
const (
	Bits  = 12
	Count = 1 << Bits
)

// Key is the key of one run. It is never stored.
type Key [32]byte

// Draw makes the key of one run from crypto/rand.
func Draw() (*Key, error) {
	var k Key
	if _, err := rand.Read(k[:]); err != nil {
		return nil, fmt.Errorf("draw digest key: %w", err)
	}
	return &k, nil
}

// of derives the key of one table and use: a row moved to another table has another hash.
func (k *Key) of(table, use string) []byte {
	h := sha256.New()
	h.Write([]byte("trefoil/ranges/v1\x00"))
	h.Write(k[:])
	h.Write([]byte(use + "\x00" + table))
	return h.Sum(nil)
}

// Sum digests rows: two sums modulo 2^64 over the halves of a 128-bit hash each, and how many
// rows there are.
type Sum struct {
	Hi, Lo uint64
	N      int64
}

// Digest holds the sums of one table, one a range.
type Digest [Count]Sum

// Differ lists the ranges in which two digests differ.
func Differ(a, b *Digest) []int {
	var out []int
	for i := range a {
		if a[i] != b[i] {
			out = append(out, i)
		}
	}
	return out
}

// Rows is how many rows a digest covers.
func (d *Digest) Rows() int64 {
	var n int64
	for i := range d {
		n += d[i].N
	}
	return n
}

// Table says what is compared of a table.
type Table struct {
	Name    string   // schema.table; both sides use the same, it is part of the key
	From    string   // quoted, as it stands in a FROM clause of the side that is asked by SQL
	Columns []string // all columns that are compared, in one order
	Key     []int    // indexes into Columns of the row's key; none: the whole row is its key
}

// Hasher hashes the rows of one table here. It belongs to one goroutine.
type Hasher struct {
	table    *Table
	row, key []byte // key, then scratch
	rowKey   int    // length of the key at the start of row
	keyKey   int
	sum      [sha256.Size]byte
}

// Hasher makes one for t.
func (k *Key) Hasher(t *Table) *Hasher {
	h := &Hasher{table: t, row: k.of(t.Name, "row"), key: k.of(t.Name, "range")}
	h.rowKey, h.keyKey = len(h.row), len(h.key)
	return h
}

// Hashed is what a row's hashes say.
type Hashed struct {
	Range  int
	Key    uint64 // tells keys of one run apart; of the row itself where it has no key
	Hi, Lo uint64
}

// Hash hashes a row of values as the server prints them, nil for NULL, one a column.
func (h *Hasher) Hash(fields [][]byte) Hashed {
	h.row = appendRecord(h.row[:h.rowKey], fields, nil)
	h.sum = sha256.Sum256(h.row)
	out := Hashed{Hi: binary.BigEndian.Uint64(h.sum[:]), Lo: binary.BigEndian.Uint64(h.sum[8:])}
	at := h.sum[16:]
	if len(h.table.Key) > 0 {
		h.key = appendRecord(h.key[:h.keyKey], fields, h.table.Key)
		h.sum = sha256.Sum256(h.key)
		at = h.sum[:]
	}
	out.Range = int(binary.BigEndian.Uint16(at) >> (16 - Bits))
	out.Key = binary.BigEndian.Uint64(at[2:])
	return out
}

// Add counts a hashed row.
func (d *Digest) Add(h Hashed) {
	s := &d[h.Range]
	s.Hi, s.Lo, s.N = s.Hi+h.Hi, s.Lo+h.Lo, s.N+1
}

// appendRecord writes fields, or those at the places of only, as PostgreSQL prints a row
// (record_out): no two rows of one number of columns have one text.
func appendRecord(dst []byte, fields [][]byte, only []int) []byte {
	dst = append(dst, '(')
	n := len(fields)
	if only != nil {
		n = len(only)
	}
	for i := range n {
		if i > 0 {
			dst = append(dst, ',')
		}
		f := fields[i]
		if only != nil {
			f = fields[only[i]]
		}
		dst = appendField(dst, f)
	}
	return append(dst, ')')
}

func appendField(dst, f []byte) []byte {
	if f == nil {
		return dst
	}
	quoted := len(f) == 0
	for _, c := range f {
		switch c {
		case '"', '\\', '(', ')', ',', ' ', '\t', '\n', '\v', '\f', '\r':
			quoted = true
		}
	}
	if !quoted {
		return append(dst, f...)
	}
	dst = append(dst, '"')
	for _, c := range f {
		if c == '"' || c == '\\' {
			dst = append(dst, c)
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
