package dataset

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/home/ranges"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// This file narrows a difference from ranges to rows: both sides are read once more, the source
// in its snapshot, for the rows of the ranges that differ and no others.

const (
	namedRows = 100     // of each table, in a report
	matchRows = 200_000 // are matched at a time
)

// name finds the rows of the ranges that differ.
func (c *comparison) name(ctx context.Context, d *compared, tv *TableVerification) error {
	rest := tv.Ranges
	for len(rest) > 0 {
		n, rows := 0, int64(0)
		for n < len(rest) && (n == 0 || rows < matchRows) {
			rows += max(d.fresh[rest[n]].N, d.held[rest[n]].N)
			n++
		}
		if err := c.match(ctx, d, rest[:n], tv); err != nil {
			return err
		}
		rest = rest[n:]
		if c.o.each == nil {
			break
		}
	}
	tv.Unnamed = len(rest)
	return nil
}

// match reads the rows of some ranges from both sides and pairs them.
func (c *comparison) match(ctx context.Context, d *compared, in []int, tv *TableVerification) error {
	m := ranges.NewMatcher(d.as)
	wanted := map[int]bool{}
	for _, r := range in {
		wanted[r] = true
	}
	keys := map[string][]string{} // a number that stands in a row's place → its key at the source
	tap := &lineTap{c: &compared{t: d.t, hidden: d.hidden, hiddenCells: map[key]int64{}}, early: d.live, hash: c.key.Hasher(d.as)}
	tap.to = func(h ranges.Hashed, values [][]byte) {
		if !wanted[h.Range] {
			return
		}
		row := ranges.Row{Fields: cloned(values)}
		if d.live && c.o.each != nil {
			row.Place = hex.EncodeToString([]byte{byte(len(keys) >> 24), byte(len(keys) >> 16), byte(len(keys) >> 8), byte(len(keys))})
			keys[row.Place] = valuesOf(tap.rows.fields, d.source)
		}
		m.First(row)
	}
	again := &work{b: c.b, p: c.p, s: c.s, held: map[*table]*heldTable{}, tap: func(*table) *lineTap { return tap }}
	again.memory.Store(c.b.cfg.MemoryBytes)
	settled := d.t.settled
	d.t.settled = true // who belongs is known from the first pass
	h, err := again.read(ctx, d.t)
	d.t.settled = settled
	if err == nil {
		err = again.load(ctx, nil, d.t, h)
	}
	if again.held[d.t] != nil && again.held[d.t].sorter != nil {
		again.held[d.t].sorter.close()
	}
	if err != nil {
		return err
	}
	if err := c.side.Rows(ctx, d.as, in, func(r ranges.Row) error { m.Second(r); return nil }); err != nil {
		return safe(err)
	}
	for _, diff := range m.Differences() {
		if err := c.tell(d, diff, keys, tv); err != nil {
			return err
		}
	}
	return nil
}

func cloned(values [][]byte) [][]byte {
	out := make([][]byte, len(values))
	for i, v := range values {
		if v != nil {
			out[i] = append([]byte{}, v...)
		}
	}
	return out
}

// tell puts a difference in the report, or gives it to whoever mends it.
func (c *comparison) tell(d *compared, diff ranges.Difference, keys map[string][]string, tv *TableVerification) error {
	any := append(slices.Clone(diff.First), diff.Second...)[0]
	if c.o.each != nil {
		out := rowDifference{table: d.t, kind: diff.Kind}
		for _, i := range d.t.order {
			out.held = append(out.held, any.Fields[i])
		}
		for n, r := range diff.First {
			if n == 0 {
				out.source = keys[r.Place]
			} else {
				out.more = append(out.more, keys[r.Place])
			}
		}
		return c.o.each(out)
	}
	if len(tv.Rows) >= namedRows {
		tv.More++
		return nil
	}
	row := RowDifference{Kind: diff.Kind, Key: c.nameOf(d, any)}
	for _, i := range diff.Columns {
		row.Columns = append(row.Columns, d.t.out[i].name)
	}
	if len(diff.Second) > 0 {
		row.Place = diff.Second[len(diff.Second)-1].Place
	}
	tv.Rows = append(tv.Rows, row)
	return nil
}

// nameOf names a row without a value: a pseudonym stands for itself, anything else is digested
// with this run's key.
func (c *comparison) nameOf(d *compared, r ranges.Row) []string {
	digest := func(v []byte) string {
		mac := hmac.New(sha256.New, c.key[:])
		mac.Write([]byte("name\x00" + d.t.name + "\x00"))
		mac.Write(v)
		return hex.EncodeToString(mac.Sum(nil)[:8])
	}
	if len(d.t.order) == 0 {
		var whole []byte
		for _, f := range r.Fields {
			whole = append(append(whole, f...), 0)
		}
		return []string{"row#" + digest(whole)}
	}
	var out []string
	for _, i := range d.t.order {
		o := d.t.out[i]
		if o.form.Form == law.Pseudonymised && len(o.form.Paths) == 0 {
			out = append(out, o.name+"="+string(r.Fields[i]))
			continue
		}
		out = append(out, o.name+"#"+digest(r.Fields[i]))
	}
	return out
}
