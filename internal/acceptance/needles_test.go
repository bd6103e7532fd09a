package acceptance

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/jackc/pgx/v5/pgtype"
)

// needle is one way in which the bytes of a planted value could stand in a file.
type needle struct {
	pattern  []byte
	column   string
	encoding string
}

func (n needle) String() string { return n.column + " as " + n.encoding }

// shortest pattern that is looked for. All but three encodings have eight bytes or more.
const shortest = 6

// value is a planted value as PostgreSQL gives it: text, and its type's binary form.
type value struct {
	column string
	oid    uint32
	text   string
	binary []byte
}

// needlesOf returns the value's encodings: those that PostgreSQL itself stores, and those
// in which a careless copy, a log or an export would.
func needlesOf(v value) []needle {
	var out []needle
	add := func(encoding string, pattern []byte, least int) {
		if len(pattern) >= least {
			out = append(out, needle{pattern, v.column, encoding})
		}
	}
	add("UTF-8", []byte(v.text), 8)
	add("UTF-16LE", inUTF16(v.text, binary.LittleEndian), 16)
	add("UTF-16BE", inUTF16(v.text, binary.BigEndian), 16)
	raws := []struct {
		name  string
		bytes []byte
	}{{"the text", []byte(v.text)}, {"the wire's binary", v.binary}}
	for i, stored := range onDisk(v.oid, v.binary) {
		raws = append(raws, struct {
			name  string
			bytes []byte
		}{fmt.Sprintf("the stored binary %d", i), stored})
		add(fmt.Sprintf("stored binary %d", i), stored, shortest)
	}
	if v.oid != pgtype.TextOID {
		add("the wire's binary", v.binary, 8)
	}
	for _, raw := range raws {
		if len(raw.bytes) < 8 {
			continue
		}
		add("hex of "+raw.name, []byte(hex.EncodeToString(raw.bytes)), 12)
		add("upper-case hex of "+raw.name, []byte(strings.ToUpper(hex.EncodeToString(raw.bytes))), 12)
		for shift := range 3 {
			add(fmt.Sprintf("base64 of %s at %d", raw.name, shift), inBase64(raw.bytes, shift), 10)
		}
	}
	return out
}

// onDisk turns the wire's binary form into the bytes that stand in a tuple of a
// little-endian machine, without alignment or length words that could vary.
func onDisk(oid uint32, b []byte) [][]byte {
	reversed := func(b []byte) []byte {
		r := slices.Clone(b)
		slices.Reverse(r)
		return r
	}
	switch oid {
	case pgtype.Int8OID, pgtype.TimestampOID, pgtype.TimestamptzOID, pgtype.Float8OID, 790: // 790 is money
		return [][]byte{reversed(b)}
	case pgtype.IntervalOID:
		return [][]byte{slices.Concat(reversed(b[:8]), reversed(b[8:12]), reversed(b[12:]))}
	case pgtype.PointOID:
		return [][]byte{slices.Concat(reversed(b[:8]), reversed(b[8:])), reversed(b[:8]), reversed(b[8:])}
	case pgtype.NumericOID: // digits of base 10,000; the last may have been shortened
		var digits []byte
		for i := 8; i+1 < len(b); i += 2 {
			digits = append(digits, b[i+1], b[i])
		}
		return [][]byte{digits}
	case pgtype.InetOID, pgtype.CIDROID: // one byte of length, family, bits, address
		address := b[4:]
		return [][]byte{slices.Concat([]byte{byte(len(address)+3)<<1 | 1, b[0], b[1]}, address)}
	case pgtype.MacaddrOID, 774, pgtype.UUIDOID, pgtype.ByteaOID: // 774 is macaddr8
		return [][]byte{b}
	case pgtype.VarbitOID:
		return [][]byte{b[4:]}
	}
	return nil
}

func inUTF16(s string, order binary.AppendByteOrder) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = order.AppendUint16(out, u)
	}
	return out
}

// inBase64 is what stands in a base64 text whatever comes before and after the value, which
// begins at a position with this remainder by three.
func inBase64(b []byte, shift int) []byte {
	padded := append(make([]byte, shift), b...)
	text := base64.StdEncoding.EncodeToString(padded)
	first := []int{0, 2, 3}[shift]
	return []byte(text[first : len(padded)/3*4])
}

// haystack finds many needles in one pass.
type haystack struct {
	needles []needle
	byHead  map[uint64][]int32
	filter  []uint64 // a bit for each three bytes that a pattern begins with
}

func newHaystack(needles []needle) *haystack {
	h := &haystack{needles: needles, byHead: map[uint64][]int32{}, filter: make([]uint64, 1<<24/64)}
	for i, n := range needles {
		head := headOf(n.pattern)
		h.byHead[head] = append(h.byHead[head], int32(i))
		key := uint32(head >> 24)
		h.filter[key/64] |= 1 << (key % 64)
	}
	return h
}

// headOf is the first six bytes as a number.
func headOf(b []byte) uint64 {
	_ = b[5]
	return uint64(b[0])<<40 | uint64(b[1])<<32 | uint64(b[2])<<24 | uint64(b[3])<<16 | uint64(b[4])<<8 | uint64(b[5])
}

// in marks the needles that stand in b.
func (h *haystack) in(b []byte, found []bool) {
	for i := 0; i+shortest <= len(b); i++ {
		key := uint32(b[i])<<16 | uint32(b[i+1])<<8 | uint32(b[i+2])
		if h.filter[key/64]&(1<<(key%64)) == 0 {
			continue
		}
		for _, n := range h.byHead[headOf(b[i:])] {
			if bytes.HasPrefix(b[i:], h.needles[n].pattern) {
				found[n] = true
			}
		}
	}
}

// findings is the result of a search.
type findings struct {
	files int
	bytes int64
	found []bool            // by needle
	first map[string]string // needle → file
}

// directories searches every file below the directories.
func (h *haystack) directories(t *testing.T, skip func(path string) bool, dirs ...string) findings {
	t.Helper()
	out := findings{found: make([]bool, len(h.needles)), first: map[string]string{}}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if os.IsNotExist(err) {
				return nil // a running PostgreSQL removes temporary files and old WAL
			}
			if err == nil && d.IsDir() && skip != nil && skip(path) {
				return filepath.SkipDir
			}
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			text, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				return nil
			}
			if err != nil {
				return err
			}
			here := make([]bool, len(h.needles))
			h.in(text, here)
			for i, hit := range here {
				if hit && !out.found[i] {
					out.found[i], out.first[h.needles[i].String()] = true, path
				}
			}
			out.files++
			out.bytes += int64(len(text))
			return nil
		})
		if err != nil {
			t.Fatalf("search files: %v", err)
		}
	}
	return out
}

func (f findings) count() int {
	n := 0
	for _, hit := range f.found {
		if hit {
			n++
		}
	}
	return n
}

// report fails the test for each needle that was found, naming columns, never values.
func (h *haystack) report(t *testing.T, where string, found []bool) {
	t.Helper()
	seen := map[string]bool{}
	for i, hit := range found {
		if name := h.needles[i].String(); hit && !seen[name] {
			seen[name] = true
			t.Errorf("%s: %s", where, name)
		}
	}
}
