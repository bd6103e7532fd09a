package dataset

import (
	"github.com/trefoil-eu/trefoil/internal/home/ranges"
)

// lineTap sees the lines of one table as a fresh build makes them. Of a dataset that follows
// it sees them before small cells are hidden (early), and hides what the dataset hides: which
// rows those are may differ from a fresh build's choice, lawfully (docs/design/verify.md).
type lineTap struct {
	c     *compared
	early bool
	next  sink
	rows  *rowReader
	cells *cells
	to    func(ranges.Hashed, [][]byte) // the values are the callee's only during the call

	hash   *ranges.Hasher
	fields [][]byte
	values [][]byte
	buf    []byte
}

// add implements sink.
func (t *lineTap) add(hi, lo uint64, line []byte) error {
	t.take(line)
	return t.next.add(hi, lo, line)
}

// take hashes one line with its newline.
func (t *lineTap) take(line []byte) {
	t.fields = splitLine(t.fields, line[:len(line)-1])
	t.decode(len(line))
	h := t.hash.Hash(t.values)
	if _, hidden := t.c.hidden[h.Key]; hidden {
		if t.cells != nil {
			t.c.hiddenCells[t.cells.of(t.fields)]++
		}
		for _, i := range t.c.t.cellColumns() {
			t.values[i] = nil
		}
		h = t.hash.Hash(t.values)
	}
	t.to(h, t.values)
}

// decode makes values of fields, nil for NULL.
func (t *lineTap) decode(most int) {
	if cap(t.buf) < most { // values stay where they are while the line is decoded
		t.buf = make([]byte, 0, 2*most)
	}
	t.buf, t.values = t.buf[:0], t.values[:0]
	for _, f := range t.fields {
		if isNull(f) {
			t.values = append(t.values, nil)
			continue
		}
		start := len(t.buf)
		v, copied := unescape(t.buf[start:start], f)
		t.buf = t.buf[:start+len(copied)]
		t.values = append(t.values, v[:len(v):len(v)])
	}
}
