package dataset

import (
	"context"
	"slices"
	"sort"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// circleOf is the rows that are being decided: of one table, or of all tables of a circle.
type circleOf struct {
	s     *settler
	rows  map[*followed]map[string]*changed
	fresh map[*followed][]*changed // added since they were last loaded
	told  map[*childOf]map[string]bool
	round int
	steps int // rows that were looked at when rows went
}

func newCircleOf(s *settler) *circleOf {
	return &circleOf{s: s, rows: map[*followed]map[string]*changed{}, fresh: map[*followed][]*changed{}, told: map[*childOf]map[string]bool{}}
}

func (c *circleOf) add(f *followed, rows ...*changed) {
	if c.rows[f] == nil {
		c.rows[f] = map[string]*changed{}
	}
	for _, r := range rows {
		if c.rows[f][r.key] == nil {
			c.rows[f][r.key] = r
			c.fresh[f] = append(c.fresh[f], r)
		}
	}
}

// list gives the rows of f in the order of their keys.
func (c *circleOf) list(f *followed) []*changed {
	out := make([]*changed, 0, len(c.rows[f]))
	for _, r := range c.rows[f] {
		out = append(out, r)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].key < out[j].key })
	return out
}

// decide settles which rows belong, taking in more of the circle until nothing changes.
func (c *circleOf) decide(ctx context.Context, group []*followed) error {
	for ; ; c.round++ {
		c.s.p.resetMembers(group...) // what was inside may have become one of the rows to decide
		for _, f := range group {
			if err := c.load(ctx, f); err != nil {
				return err
			}
		}
		for _, f := range group {
			if err := c.references(ctx, f, c.there(f), true); err != nil {
				return err
			}
			c.judge(f)
		}
		c.prune(group)
		for _, f := range group {
			if err := c.spread(ctx, f); err != nil {
				return err
			}
		}
		grown := false
		for _, f := range group {
			grown = grown || len(c.fresh[f]) > 0
		}
		if !grown {
			return c.finish(group)
		}
	}
}

// load reads rows that were added and are not known, and whether the dataset holds them.
func (c *circleOf) load(ctx context.Context, f *followed) error {
	rows := c.fresh[f]
	delete(c.fresh, f)
	if err := c.s.read(ctx, f, rows); err != nil || !f.held {
		return err
	}
	return c.s.a.present(ctx, f, rows)
}

// read reads rows that are not known.
func (s *settler) read(ctx context.Context, f *followed, rows []*changed) error {
	unknown := map[string]*changed{}
	var keys [][]string
	for _, r := range rows {
		if !r.known {
			unknown[r.key] = r
			keys = append(keys, flow.SplitKey(r.key))
		}
	}
	twice := false
	err := inParts(keys, func(part [][]string) error {
		return s.fetch(ctx, f, f.pk, part, func(line []byte) {
			if r := unknown[f.keyOf(line)]; r != nil {
				twice = twice || r.line != nil
				r.line = line
			}
		})
	})
	if twice {
		return &staleError{"table " + f.name + " has two rows of one key: the key that the catalog names does not tell its rows apart"}
	}
	for _, r := range unknown {
		r.known = err == nil
	}
	return err
}

func (c *circleOf) there(f *followed) []*changed {
	var out []*changed
	for _, r := range c.list(f) {
		if r.line != nil {
			out = append(out, r)
		}
	}
	return out
}

// references looks up what the rows refer to, and fills the sets that belongs asks. Rows of
// the circle itself that are not in the dataset join it, where grow is set.
func (c *circleOf) references(ctx context.Context, f *followed, rows []*changed, grow bool) error {
	for _, ref := range f.refs {
		wanted := map[key][]string{}
		places := f.askAll(ref.columns)
		known, gone := c.index(ref), c.gone(ref)
		for _, r := range rows {
			fields := splitLine(nil, r.line[:len(r.line)-1])
			k, null, ok := ref.reader.read(fields)
			if null || !ok || known[k] != nil || gone[k] || ref.target.in.has(k) || ref.target.out.has(k) {
				continue
			}
			wanted[k] = valuesOf(fields, places)
		}
		to := c.s.p.of[ref.to]
		var absent func(string)
		var up [][]string
		if grow && f.circle > 0 && to.circle == f.circle {
			climb := c.chains(f, ref) && slices.Equal(ref.target.of, to.pk)
			absent = func(k string) {
				if c.add(to, &changed{key: k}); climb {
					up = append(up, flow.SplitKey(k))
				}
			}
		}
		fates, err := c.s.fates(ctx, ref, wanted, absent)
		if err != nil {
			return err
		}
		if err := c.above(ctx, f, ref, up); err != nil {
			return err
		}
		for k, v := range fates {
			switch v {
			case inside:
				ref.target.in.add(k)
			case outside:
				ref.target.out.add(k)
			}
		}
	}
	return nil
}

// index finds rows of the circle by the key that ref looks up.
func (c *circleOf) index(ref *reference) map[key]*changed {
	to := c.s.p.of[ref.to]
	out := map[key]*changed{}
	own := ref.target.own()
	for _, r := range c.rows[to] {
		if r.line == nil {
			continue
		}
		if k, null, ok := own.read(splitLine(nil, r.line[:len(r.line)-1])); !null && ok {
			out[k] = r
		}
	}
	return out
}

// gone finds the keys that ref looks up of rows of the circle which are no longer at the source.
// The dataset still holds them: asked, it would say that they are there.
func (c *circleOf) gone(ref *reference) map[key]bool {
	to := c.s.p.of[ref.to]
	out := map[key]bool{}
	if !slices.Equal(ref.target.of, to.pk) {
		return out // looked up at the source alone
	}
	own := ref.target.own()
	for _, r := range c.rows[to] {
		if r.line != nil {
			continue
		}
		if k, null, ok := own.read(to.fieldsOf(r.key)); !null && ok {
			out[k] = true
		}
	}
	return out
}

// judge decides what does not depend on the circle.
func (c *circleOf) judge(f *followed) {
	if f.circle > 0 {
		f.rows.circle = &circleTable{}
		defer func() { f.rows.circle = nil }()
	}
	for _, r := range c.rows[f] {
		r.alive = false
		if r.line != nil {
			f.rows.fields = splitLine(f.rows.fields, r.line[:len(r.line)-1])
			r.alive = f.rows.belongs()
		}
	}
}

// prune lets rows of a circle go that lack what they need, and those that need these in turn.
func (c *circleOf) prune(group []*followed) {
	if group[0].circle == 0 {
		return
	}
	needed := map[*changed][]*changed{} // by whom
	var gone []*changed
	for _, f := range group {
		for _, ref := range f.refs {
			if ref.to.circle != f.circle {
				continue
			}
			known := c.index(ref)
			for _, r := range c.rows[f] {
				if c.steps++; !r.alive {
					continue
				}
				if on := c.needs(ref, known, r); on != nil && on.alive {
					needed[on] = append(needed[on], r)
				} else if on != nil || !c.has(ref, known, r) {
					r.alive = false
					gone = append(gone, r)
				}
			}
		}
	}
	for len(gone) > 0 {
		last := gone[len(gone)-1]
		gone = gone[:len(gone)-1]
		for _, r := range needed[last] {
			if c.steps++; r.alive {
				r.alive = false
				gone = append(gone, r)
			}
		}
	}
}

// needs gives the row of the circle without which a row does not belong, by one reference.
func (c *circleOf) needs(ref *reference, known map[key]*changed, r *changed) *changed {
	if !ref.subject && len(ref.soft) > 0 {
		return nil
	}
	k, null, ok := ref.reader.read(splitLine(nil, r.line[:len(r.line)-1]))
	if null || !ok {
		return nil
	}
	return known[k]
}

// has says whether a row has what one of its references needs.
func (c *circleOf) has(ref *reference, known map[key]*changed, r *changed) bool {
	k, null, ok := ref.reader.read(splitLine(nil, r.line[:len(r.line)-1]))
	hard := ref.subject || len(ref.soft) == 0
	switch {
	case null:
		return !ref.subject
	case !ok:
		return false
	case known[k] != nil:
		return known[k].alive || !hard
	case ref.target.in.has(k):
		return true
	}
	return ref.target.out.has(k) && !hard
}

// spread takes in rows of the circle that refer to rows whose part changed.
func (c *circleOf) spread(ctx context.Context, f *followed) error {
	for _, child := range f.children {
		if f.circle == 0 || child.from.circle != f.circle {
			continue
		}
		rows := slices.DeleteFunc(c.list(f), func(r *changed) bool { return !c.s.passesOn(r, f, child) || c.tell(child, r.key) })
		if hard := child.ref.subject || len(child.ref.soft) == 0; hard && c.chains(f, child.ref) {
			if err := c.below(ctx, f, child, keysOf(f, child, rows)); err != nil {
				return err
			}
			continue
		}
		err := c.s.descend(ctx, f, child, rows, func(key string) { c.add(child.from, &changed{key: key}) })
		if err != nil {
			return err
		}
	}
	return nil
}

// finish makes the lines of the rows that belong.
func (c *circleOf) finish(group []*followed) error {
	for _, f := range group {
		for _, ref := range f.refs {
			for k, r := range c.index(ref) {
				if r.alive {
					ref.target.in.add(k)
				} else {
					ref.target.out.add(k)
				}
			}
		}
	}
	for _, f := range group {
		for _, r := range c.list(f) {
			if r.line == nil {
				continue
			}
			f.caught.got = false
			before := f.rows.counts.Orphans
			if _, err := f.rows.Write(r.line); err != nil {
				return err
			}
			c.s.orphans += f.rows.counts.Orphans - before
			if f.held {
				r.alive = f.caught.got
				r.outcome, r.hi, r.lo = f.caught.line, f.caught.hi, f.caught.lo
			}
		}
	}
	return nil
}
