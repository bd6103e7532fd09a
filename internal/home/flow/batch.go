package flow

import (
	"bytes"
	"strings"
	"unsafe"
)

// Touch says how a row was touched.
type Touch uint8

// Touches of one row may add up.
const (
	Inserted Touch = 1 << iota
	Updated
	Deleted
)

// Batch is what a set of whole transactions did, each row once; or, where Partial is set, the
// first part of what they and one more did.
type Batch struct {
	Tables    map[string]*Rows
	Truncated map[string]bool
	XIDs      []uint32
	Partial   bool // its last transaction goes on in the next batch
	End       LSN  // every commit before it is in this batch or in former ones

	rows  int
	bytes int64
}

// Rows are the rows of one table, in the order in which they were first touched.
type Rows struct {
	List  []Row
	index map[string]int32
}

// Row is one row by its key.
type Row struct {
	Key   string // SplitKey gives its values
	Touch Touch
	Known bool   // Line is what the row is after the batch
	Line  []byte // in the text of COPY with a newline, of Table.Columns; nil when the row is gone
}

// Find gives the row of a key, nil when the batch did not touch it. It is valid until rows are added.
func (r *Rows) Find(key string) *Row {
	if i, ok := r.index[key]; ok {
		return &r.List[i]
	}
	return nil
}

func (r *Rows) row(key string) *Row {
	i, ok := r.index[key]
	if !ok {
		i = int32(len(r.List))
		r.List = append(r.List, Row{Key: key})
		r.index[key] = i
	}
	return &r.List[i]
}

func newBatch() *Batch { return &Batch{Tables: map[string]*Rows{}, Truncated: map[string]bool{}} }

// Empty says that nothing that is wanted happened in the batch.
func (b *Batch) Empty() bool { return len(b.XIDs) == 0 }

// Len is the number of rows touched.
func (b *Batch) Len() int { return b.rows }

// Bytes is about what the batch holds in memory.
func (b *Batch) Bytes() int64 { return b.bytes + int64(b.rows)*rowCost }

// rowCost is what one row takes beside its line, in the list and in the map, in bytes.
const rowCost = 192

// SplitKey gives the values of a key, in the order of Table.Key, as the source prints them.
func SplitKey(k string) []string { return strings.Split(k, "\x00") }

// JoinKey makes a key of values. PostgreSQL's texts hold no zero byte.
func JoinKey(values []string) string { return strings.Join(values, "\x00") }

// edit is one change as received.
type edit struct {
	t        *followed
	key, old string // old: the key before, where the row had another
	touch    Touch
	line     []byte // nil for a deletion
	unknown  bool   // not every column is there
	holes    bool   // a large value that did not change was not sent: its field is `\u`
	rekeyed  bool   // old is set
	truncate bool
}

// hole stands in a line for a value that was not sent. No value of COPY's text is spelt so.
const hole = `\u`

// Add takes what another batch did after this one.
func (b *Batch) Add(next *Batch) {
	for name := range next.Truncated {
		b.truncate(name)
	}
	for name, rows := range next.Tables {
		own := b.table(name)
		for i := range rows.List {
			from := &rows.List[i]
			r := own.row(from.Key)
			r.Touch, r.Known, r.Line = r.Touch|from.Touch, from.Known, from.Line
		}
	}
	b.XIDs, b.Partial, b.End = append(b.XIDs, next.XIDs...), next.Partial, next.End
	b.bytes += next.bytes
	b.count()
}

func (b *Batch) count() {
	b.rows = 0
	for _, rows := range b.Tables {
		b.rows += len(rows.List)
	}
}

func (b *Batch) table(name string) *Rows {
	rows := b.Tables[name]
	if rows == nil {
		rows = &Rows{index: map[string]int32{}}
		b.Tables[name] = rows
	}
	return rows
}

// truncate empties a table: rows touched before are gone.
func (b *Batch) truncate(name string) {
	b.Truncated[name] = true
	rows := b.table(name)
	for i := range rows.List {
		r := &rows.List[i]
		r.Touch, r.Known, r.Line = r.Touch|Deleted, true, nil
	}
}

// apply takes one change.
func (b *Batch) apply(c *edit) {
	if c.truncate {
		b.truncate(c.t.name)
		return
	}
	rows := b.table(c.t.name)
	before := len(rows.List)
	var base []byte // the row before, where it is known
	if c.rekeyed {
		r := rows.row(c.old)
		if r.Known {
			base = r.Line
		}
		r.Touch, r.Known, r.Line = r.Touch|Deleted, true, nil
	}
	r := rows.row(c.key)
	if !c.rekeyed && r.Known {
		base = r.Line
	}
	r.Touch |= c.touch
	switch {
	case c.line == nil && !c.unknown:
		r.Known, r.Line = true, nil
	case c.unknown:
		r.Known, r.Line = false, nil
	case c.holes:
		r.Line = fill(c.line, base)
		r.Known = r.Line != nil
	default:
		r.Known, r.Line = true, c.line
	}
	b.rows += len(rows.List) - before
	b.bytes += int64(len(c.line) + len(c.key))
}

// fill puts values of the row before into the holes of a line; nil when there is none.
func fill(line, base []byte) []byte {
	if base == nil {
		return nil
	}
	fields, old := bytes.Split(line[:len(line)-1], []byte{'\t'}), bytes.Split(base[:len(base)-1], []byte{'\t'})
	if len(fields) != len(old) {
		return nil
	}
	for i, f := range fields {
		if string(f) == hole {
			fields[i] = old[i]
		}
	}
	return append(bytes.Join(fields, []byte{'\t'}), '\n')
}

// slab hands out bytes that live as long as anything beside them.
type slab struct{ rest []byte }

const slabSize = 64 << 10

func (s *slab) keep(b []byte) []byte {
	if len(b) > slabSize/4 {
		return bytes.Clone(b)
	}
	if len(b) > cap(s.rest)-len(s.rest) {
		s.rest = make([]byte, 0, slabSize)
	}
	n := len(s.rest)
	s.rest = append(s.rest, b...)
	return s.rest[n:len(s.rest):len(s.rest)]
}

// text is a string in the slab, which nobody writes to again.
func (s *slab) text(b []byte) string {
	b = s.keep(b)
	return unsafe.String(unsafe.SliceData(b), len(b))
}
