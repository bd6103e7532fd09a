package dataset

import (
	"context"
	"slices"
	"sort"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// This file decides which rows belong after a batch of changes, as of one snapshot of the
// source. Tables are taken after those they refer to, so a reference leads to a row that the
// dataset's own transaction already holds rightly, or to one that is looked up. Tables of one
// circle are settled together: rows leave until all that stay have what they need.

// changed is one row that may have changed, by its primary key.
type changed struct {
	key     string
	touch   flow.Touch // 0: nobody wrote it, but what it refers to may have changed
	line    []byte     // as of the snapshot, nil when it is not there
	present bool       // in the dataset before
	alive   bool       // in the dataset from now on
	outcome []byte     // line as the dataset holds it
	hi, lo  uint64
	heldKey []string
}

// fate of a row that a reference leads to.
type fate uint8

const (
	missing fate = iota // no such row at the source
	outside
	inside
)

// chunkRows is how many rows are decided at a time, circles apart.
const chunkRows = 4096

// settler decides and applies one batch.
type settler struct {
	p     *followPlan
	v     *sight
	a     *applier
	dirty map[*followed]map[string]flow.Touch

	orphans int64
}

// all goes through the tables in the order of their references.
func (s *settler) all(ctx context.Context) error {
	done := map[*followed]bool{}
	for _, f := range s.p.all {
		if done[f] {
			continue
		}
		group := []*followed{f}
		if f.circle > 0 {
			group = nil
			for _, g := range s.p.all {
				if g.circle == f.circle {
					group = append(group, g)
				}
			}
		}
		for _, g := range group {
			done[g] = true
		}
		if err := s.group(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (s *settler) group(ctx context.Context, group []*followed) error {
	if group[0].circle > 0 {
		c := &circleOf{s: s, rows: map[*followed]map[string]*changed{}}
		for _, f := range group {
			c.add(f, s.dirty[f])
		}
		return s.chunk(ctx, group, c)
	}
	f := group[0]
	keys := make([]string, 0, len(s.dirty[f]))
	for k := range s.dirty[f] {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	for len(keys) > 0 {
		n := min(chunkRows, len(keys))
		c := &circleOf{s: s, rows: map[*followed]map[string]*changed{}}
		for _, k := range keys[:n] {
			c.add(f, map[string]flow.Touch{k: s.dirty[f][k]})
		}
		if err := s.chunk(ctx, group, c); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// chunk decides the rows of c, applies them, and passes on what follows from them.
func (s *settler) chunk(ctx context.Context, group []*followed, c *circleOf) error {
	if err := c.decide(ctx, group); err != nil {
		return err
	}
	for _, f := range group {
		rows := c.list(f)
		if f.held {
			if err := s.a.apply(ctx, f, rows); err != nil {
				return err
			}
		}
		for _, child := range f.children {
			if f.circle > 0 && child.from.circle == f.circle {
				continue
			}
			if err := s.descend(ctx, f, child, rows, func(key string) {
				m := s.dirty[child.from]
				if m == nil {
					m = map[string]flow.Touch{}
					s.dirty[child.from] = m
				}
				if _, there := m[key]; !there {
					m[key] = 0
				}
			}); err != nil {
				return err
			}
		}
	}
	return nil
}

// descend finds the rows that refer to rows whose part in the dataset changed.
func (s *settler) descend(ctx context.Context, f *followed, child *childOf, rows []*changed, found func(key string)) error {
	var keys [][]string
	for _, r := range rows {
		if !r.passesOn(f, child) {
			continue
		}
		if k := f.columnsOf(r, child.ref.target.of); k != nil {
			keys = append(keys, k)
		}
	}
	return inParts(keys, func(part [][]string) error {
		return s.v.fetch(ctx, child.from, child.ref.columns, part, func(line []byte) { found(child.from.keyOf(line)) })
	})
}

func inParts(keys [][]string, do func([][]string) error) error {
	for len(keys) > 0 {
		n := min(chunkRows, len(keys))
		if err := do(keys[:n]); err != nil {
			return err
		}
		keys = keys[n:]
	}
	return nil
}

// passesOn says that rows which refer to this one may belong otherwise than before. A row
// that was only inserted has, under a foreign key, none that were there before it.
func (r *changed) passesOn(f *followed, child *childOf) bool {
	if child.ref.source != nil && r.touch == flow.Inserted {
		return false
	}
	if !f.held {
		return true
	}
	return r.present != r.alive || child.ref.source == nil && r.touch&^flow.Updated != 0
}

// columnsOf gives the values of a row's columns; of a row that is gone only its key is known.
func (f *followed) columnsOf(r *changed, columns []string) []string {
	var fields [][]byte
	if r.line != nil {
		fields = splitLine(nil, r.line[:len(r.line)-1])
	} else {
		fields = f.fieldsOf(r.key)
	}
	return valuesOf(fields, f.askAll(columns))
}

// valuesOf unescapes fields; nil when one is NULL.
func valuesOf(fields [][]byte, places []int) []string {
	out := make([]string, len(places))
	for i, p := range places {
		if isNull(fields[p]) {
			return nil
		}
		v, _ := unescape(nil, fields[p])
		out[i] = string(v)
	}
	return out
}

// keyOf is the primary key of a line as read.
func (f *followed) keyOf(line []byte) string {
	return flow.JoinKey(valuesOf(splitLine(nil, line[:len(line)-1]), f.place))
}

// reader of the key that m's references look up, for rows of m's own table.
func (m *members) own() *keyReader {
	for _, k := range m.table.keys {
		if k.members == m {
			return k.reader
		}
	}
	return nil
}

// fates finds what became of the rows that references to m lead to, other than those the
// caller knows. absent is told of rows that are at the source and not in the dataset.
func (s *settler) fates(ctx context.Context, m *members, wanted map[key][]string, absent func(key string)) (map[key]fate, error) {
	to := s.p.of[m.table]
	out := make(map[key]fate, len(wanted))
	if len(wanted) == 0 {
		return out, nil
	}
	ask := wanted
	if to.held && slices.Equal(m.of, to.pk) {
		present, err := s.presentOf(ctx, to, wanted)
		if err != nil {
			return nil, err
		}
		ask = map[key][]string{}
		for k, v := range wanted {
			if present[k] {
				out[k] = inside
			} else {
				ask[k] = v
			}
		}
	}
	keys := make([][]string, 0, len(ask))
	for _, v := range ask {
		keys = append(keys, v)
	}
	var rows []*changed
	err := inParts(keys, func(part [][]string) error {
		return s.v.fetch(ctx, to, m.of, part, func(line []byte) { rows = append(rows, &changed{key: to.keyOf(line), line: line}) })
	})
	if err != nil || len(rows) == 0 {
		return out, err
	}
	if err := s.belonging(ctx, to, rows); err != nil {
		return nil, err
	}
	own := m.own()
	for _, r := range rows {
		k, null, ok := own.read(splitLine(nil, r.line[:len(r.line)-1]))
		if null || !ok {
			continue
		}
		out[k] = outside
		if r.alive {
			out[k] = inside
		} else if absent != nil {
			absent(r.key)
		}
	}
	return out, nil
}

// belonging says of rows that nobody touched whether they belong: what the dataset holds
// tells, and of a table that only leads to the person, its own way.
func (s *settler) belonging(ctx context.Context, f *followed, rows []*changed) error {
	if f.held {
		if err := s.a.present(ctx, f, rows); err != nil {
			return err
		}
		for _, r := range rows {
			r.alive = r.present
		}
		return nil
	}
	c := &circleOf{s: s, rows: map[*followed]map[string]*changed{f: {}}}
	if err := c.references(ctx, f, rows, false); err != nil {
		return err
	}
	for _, r := range rows {
		f.rows.fields = splitLine(f.rows.fields, r.line[:len(r.line)-1])
		r.alive = f.rows.belongs()
	}
	return nil
}

// presentOf says which keys of f the dataset holds.
func (s *settler) presentOf(ctx context.Context, f *followed, wanted map[key][]string) (map[key]bool, error) {
	var rows []*changed
	var order []key
	for k, v := range wanted {
		order = append(order, k)
		rows = append(rows, &changed{key: flow.JoinKey(v)})
	}
	if err := s.a.present(ctx, f, rows); err != nil {
		return nil, err
	}
	out := map[key]bool{}
	for i, r := range rows {
		out[order[i]] = r.present
	}
	return out, nil
}
