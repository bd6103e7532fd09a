package dataset

import (
	"context"
	"fmt"
)

// This file settles which rows belong in a circle of references (a table that refers to
// itself, or several that refer to each other): none of them can be read before the others.
// Keys alone are read first; rows leave until every row that is left has what it needs.

// circleTable is what is known of one table of a circle.
type circleTable struct {
	t       *table
	keys    [][]key // per member key, per row
	alive   []bool
	refs    []*reference // within the circle
	wants   [][]key      // per reference, per row
	missing [][]bool     // per reference, per row: NULL
	index   []map[key]int32
	charge  func(int64) bool
}

// circleCost is the memory of one row and key, in bytes, maps included.
const circleCost = 96

// settleCircle fills the members of the tables of one circle.
func (p *plan) settleCircle(ctx context.Context, s *source, tables []*table, orderKey []byte) error {
	known := map[*table]*circleTable{}
	for _, t := range tables {
		ct := &circleTable{t: t, keys: make([][]key, len(t.keys)), index: make([]map[key]int32, len(t.keys)),
			charge: func(n int64) bool { return p.budget.Add(-n) >= 0 }}
		for i := range ct.index {
			ct.index[i] = map[key]int32{}
		}
		for _, r := range t.refs {
			if r.to.circle == t.circle {
				ct.refs = append(ct.refs, r)
			}
		}
		ct.wants, ct.missing = make([][]key, len(ct.refs)), make([][]bool, len(ct.refs))
		known[t] = ct
		if err := ct.load(ctx, p, s, orderKey); err != nil {
			return err
		}
	}
	if err := p.narrow.fill(ctx, p, s, known, orderKey); err != nil {
		return err
	}
	for changed := true; changed; {
		if err := ctx.Err(); err != nil {
			return err
		}
		changed = false
		for _, t := range tables {
			changed = known[t].prune(known) || changed
		}
	}
	for _, t := range tables {
		if err := known[t].publish(); err != nil {
			return err
		}
	}
	return nil
}

// load reads keys and references of a table, and decides what does not depend on the circle.
func (ct *circleTable) load(ctx context.Context, p *plan, s *source, orderKey []byte) error {
	need := []int{}
	for _, k := range ct.t.keys {
		need = append(need, k.reader.columns...)
	}
	for _, r := range ct.t.refs {
		need = append(need, r.reader.columns...)
	}
	if c := ct.t.choose; c != nil {
		need = append(need, c.current, c.before, c.change, c.key)
		for _, v := range c.values {
			need = append(need, v.read)
		}
	}
	r := ct.t.newReader(nil, orderKey)
	r.circle = ct
	if err := p.copyOut(ctx, s, ct.t, r, need); err != nil {
		return err
	}
	if c := ct.t.choose; c != nil {
		c.Undecided = 0 // the rows are read once more
	}
	return nil
}

// take keeps one row.
func (ct *circleTable) take(r *rowReader) error {
	if !ct.charge(int64(circleCost * (len(ct.keys) + len(ct.refs) + 1))) {
		return ErrManyKeys
	}
	row := int32(len(ct.alive))
	if row < 0 {
		return fmt.Errorf("%w: a table in a circle has too many rows", ErrManyKeys)
	}
	ct.alive = append(ct.alive, r.belongs())
	for i, k := range ct.t.keys {
		v, null, ok := k.reader.read(r.fields)
		if !null && ok {
			ct.index[i][v] = row
		}
		ct.keys[i] = append(ct.keys[i], v)
	}
	for i, ref := range ct.refs {
		v, null, _ := ref.reader.read(r.fields)
		ct.wants[i] = append(ct.wants[i], v)
		ct.missing[i] = append(ct.missing[i], null)
	}
	return nil
}

// prune lets rows go that lack what they need; it says whether any went.
func (ct *circleTable) prune(known map[*table]*circleTable) bool {
	changed := false
	for i, ref := range ct.refs {
		target := known[ref.to]
		place := 0
		for j, k := range ref.to.keys {
			if k.members == ref.target {
				place = j
			}
		}
		for row, alive := range ct.alive {
			if !alive {
				continue
			}
			if ct.missing[i][row] {
				if ref.subject {
					ct.alive[row], changed = false, true
				}
				continue
			}
			to, there := target.index[place][ct.wants[i][row]]
			hard := ref.subject || len(ref.soft) == 0
			if !there || hard && !target.alive[to] {
				ct.alive[row], changed = false, true
			}
		}
	}
	return changed
}

// publish fills the members from what is left.
func (ct *circleTable) publish() error {
	for i, k := range ct.t.keys {
		for v, row := range ct.index[i] {
			set := k.out
			if ct.alive[row] {
				set = k.in
			}
			if !set.add(v) {
				return ErrManyKeys
			}
		}
	}
	ct.charge(-int64(circleCost * (len(ct.keys) + len(ct.refs) + 1) * len(ct.alive)))
	ct.t.settled = true
	return nil
}
