package dataset

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"unsafe"

	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// ErrManyKeys says that the membership sets of a build exceed their bound: raise it, or
// choose fewer subjects.
var ErrManyKeys = errors.New("membership sets exceed their bound")

// counts is what reading one table found.
type counts struct {
	Read      int64
	Rows      int64 // that belong
	LeftOut   int64 // that do not: their person is not chosen, or a row they need is not there
	Orphans   int64 // whose reference leads to no row of the source
	Cut       int64 // nullable references that became NULL: the row they lead to does not belong
	Bad       int64 // values that did not fit and became NULL
	Undecided int64
}

// sink takes a table's rows as the dataset holds them. line ends in a newline and is the
// caller's.
type sink interface {
	add(hi, lo uint64, line []byte) error
}

// rowReader takes the lines of one table's COPY and gives its sink what belongs, in its
// forms. It is an io.Writer that gets one row a call, as PostgreSQL's COPY sends them. It
// belongs to one goroutine and allocates nothing per row once its scratch has grown.
type rowReader struct {
	t      *table
	sink   sink
	cells  *cells
	counts counts
	nulls  []int64 // per out column

	order   hash.Hash // keyed: orders rows whose key is no pseudonym
	funcs   []transform.Func
	fields  [][]byte
	held    [][]byte
	ends    []int
	line    []byte
	scratch []byte
	value   []byte
	cut     []bool
	sum     [sha256.Size]byte
	circle  *circleTable          // set while a circle is being settled
	kept    func(fields [][]byte) // told of each row that belongs, as it was read

	sinceReport, bytesSince int64
	report                  func(rows, bytes int64)
}

func (t *table) newReader(s sink, orderKey []byte) *rowReader {
	r := &rowReader{t: t, sink: s, order: hmac.New(sha256.New, orderKey), nulls: make([]int64, len(t.out)),
		cut: make([]bool, len(t.out)), funcs: make([]transform.Func, len(t.out)), report: func(int64, int64) {}}
	for i, c := range t.out {
		if !c.tr.Clear && !c.tr.Null {
			r.funcs[i] = c.tr.New(&r.counts.Bad)
		}
	}
	return r
}

// reportEvery is how many rows pass between reports of progress.
const reportEvery = 8192

// Write takes one row of COPY text with its newline.
func (r *rowReader) Write(row []byte) (int, error) {
	if len(row) == 0 || row[len(row)-1] != '\n' {
		return 0, errors.New("the source sent a part of a row")
	}
	r.counts.Read++
	r.bytesSince += int64(len(row))
	if r.sinceReport++; r.sinceReport == reportEvery {
		r.flushReport()
	}
	r.fields = splitLine(r.fields, row[:len(row)-1])
	if len(r.fields) != len(r.t.read) {
		return 0, fmt.Errorf("the source sent a row of %d columns, not %d", len(r.fields), len(r.t.read))
	}
	if r.circle != nil {
		return len(row), r.circle.take(r)
	}
	belongs := r.belongs()
	if err := r.remember(belongs); err != nil {
		return 0, err
	}
	if !belongs {
		return len(row), nil
	}
	r.counts.Rows++
	if r.kept != nil {
		r.kept(r.fields)
	}
	if !r.t.held || r.sink == nil {
		return len(row), nil
	}
	return len(row), r.hold()
}

func (r *rowReader) flushReport() {
	r.report(r.sinceReport, r.bytesSince)
	r.sinceReport, r.bytesSince = 0, 0
}

// belongs decides whether the row is in the dataset, and which of its references are cut.
func (r *rowReader) belongs() bool {
	clear(r.cut)
	if c := r.t.choose; c != nil && r.t.person && !c.chosen(r.fields) {
		r.counts.LeftOut++
		return false
	}
	for _, ref := range r.t.refs {
		if r.circle != nil && ref.to.circle == r.t.circle {
			continue
		}
		k, null, ok := ref.reader.read(r.fields)
		switch {
		case null && !ref.subject, ok && !null && ref.target.in.has(k):
		case null || ok && ref.target.out.has(k):
			if ref.subject || len(ref.soft) == 0 {
				r.counts.LeftOut++
				return false
			}
			r.counts.Cut++
			for _, i := range ref.soft {
				r.cut[i] = true
			}
		default:
			r.counts.Orphans++
			return false
		}
	}
	return true
}

// remember puts the row's keys where those who refer to it look.
func (r *rowReader) remember(belongs bool) error {
	if r.t.settled {
		return nil
	}
	for _, k := range r.t.keys {
		v, null, ok := k.reader.read(r.fields)
		if null || !ok {
			continue
		}
		set := k.out
		if belongs {
			set = k.in
		}
		if !set.add(v) {
			return ErrManyKeys
		}
	}
	return nil
}

// hold transforms the row and hands it to the sink.
func (r *rowReader) hold() error {
	r.line, r.ends = r.line[:0], r.ends[:0]
	for i, c := range r.t.out {
		if i > 0 {
			r.line = append(r.line, '\t')
		}
		r.column(i, c)
		r.ends = append(r.ends, len(r.line))
	}
	if r.cells != nil {
		r.held = splitLine(r.held, r.line)
		r.cells.count(r.held)
	}
	hi, lo := r.sortKey()
	r.line = append(r.line, '\n')
	return r.sink.add(hi, lo, r.line)
}

// column appends one column in its form.
func (r *rowReader) column(i int, c *outColumn) {
	if c.tr.Null || r.cut[i] || isNull(r.fields[c.read]) {
		r.nulls[i]++
		r.line = append(r.line, '\\', 'N')
		return
	}
	field := r.fields[c.read]
	if c.tr.Clear {
		r.line = append(r.line, field...)
		return
	}
	var src []byte
	src, r.scratch = unescape(r.scratch, field)
	ok := false
	if c.tr.Plain {
		r.line, ok = r.funcs[i](r.line, src)
	} else if r.value, ok = r.funcs[i](r.value[:0], src); ok {
		r.line = appendEscaped(r.line, r.value)
	}
	if !ok {
		r.nulls[i]++
		r.line = append(r.line, '\\', 'N')
	}
}

// sortKey is the place of the row just made: the pseudonym in its key first, so that the
// primary key's index is built nearly in order; then, or where there is none, a keyed hash of
// its key, or of the whole row where it has no key. Neither tells of the source's order.
func (r *rowReader) sortKey() (hi, lo uint64) {
	if r.t.lead >= 0 {
		hi = leadOrder(r.heldField(r.t.lead), r.t.out[r.t.lead].sqlType)
		if len(r.t.order) == 1 && r.t.whole {
			return hi, 0
		}
	}
	r.order.Reset()
	if len(r.t.order) == 0 {
		r.order.Write(r.line)
	}
	for _, i := range r.t.order {
		r.order.Write(r.heldField(i))
		r.order.Write([]byte{'\t'})
	}
	sum := r.order.Sum(r.sum[:0])
	if r.t.lead >= 0 {
		return hi, binary.BigEndian.Uint64(sum)
	}
	return binary.BigEndian.Uint64(sum), binary.BigEndian.Uint64(sum[8:])
}

// heldField is one column of the line just made.
func (r *rowReader) heldField(i int) []byte {
	start := 0
	if i > 0 {
		start = r.ends[i-1] + 1
	}
	return r.line[start:r.ends[i]]
}

// leadOrder is the start of a pseudonym as 64 bits: a whole number in its own order, a text
// by its first bytes.
func leadOrder(field []byte, sqlType string) uint64 {
	width := map[string]uint{"smallint": 16, "integer": 32, "bigint": 64}[sqlType]
	if width == 0 {
		var b [8]byte
		copy(b[:], field)
		return binary.BigEndian.Uint64(b[:])
	}
	v, err := strconv.ParseInt(view(field), 10, 64)
	if err != nil {
		return ^uint64(0) // NULL: a value that did not fit
	}
	return uint64(v)<<(64-width) ^ 1<<63
}

// view is b as a string without a copy, for a call that does not keep it.
func view(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
