package dataset

import (
	"context"
	"slices"
	"strings"

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
	known   bool       // line is what it is; else it is to be read
	line    []byte     // as of the batch's end, nil when it is not there
	present bool       // in the dataset before
	alive   bool       // in the dataset from now on
	outcome []byte     // line as the dataset holds it
	hi, lo  uint64
	heldKey []string
}

// dirty is the rows of one table that a batch has to decide.
type dirty struct {
	rows  []*changed
	batch *flow.Rows
	more  map[string]bool // rows that the batch did not touch
}

// newDirty takes what a batch says of a table; values of the stream only where they are trusted.
func newDirty(r *flow.Rows, trusted bool) *dirty {
	d := &dirty{batch: r}
	if r == nil {
		return d
	}
	all := make([]changed, len(r.List))
	d.rows = make([]*changed, len(all))
	for i := range r.List {
		from := &r.List[i]
		all[i] = changed{key: from.Key, touch: from.Touch}
		if trusted {
			all[i].known, all[i].line = from.Known, from.Line
		}
		d.rows[i] = &all[i]
	}
	return d
}

// add takes in a row that nobody touched.
func (d *dirty) add(key string) {
	if d.batch != nil && d.batch.Find(key) != nil || d.more[key] {
		return
	}
	if d.more == nil {
		d.more = map[string]bool{}
	}
	d.more[key] = true
	d.rows = append(d.rows, &changed{key: key})
}

// touch takes in rows of which only the keys are known.
func (d *dirty) touch(keys map[string]flow.Touch) {
	for k, touch := range keys {
		d.rows = append(d.rows, &changed{key: k, touch: touch})
	}
}

// fate of a row that a reference leads to.
type fate uint8

const (
	missing fate = iota // no such row at the source
	outside
	inside
)

// chunkRows is how many rows are decided at a time, circles and plain tables apart.
const chunkRows = 4096

// settler decides and applies one part of a batch.
type settler struct {
	p        *followPlan
	v        *sight // nil: the source is not looked at
	peek     *sight // tells whether rows are there at all
	a        *applier
	thorough bool // what foreign keys of the source promise of the rest of the batch is not relied on
	away     map[*members]*keySet
	dirty    map[*followed]*dirty

	orphans int64
}

// fetch reads rows by key as of the batch's snapshot.
func (s *settler) fetch(ctx context.Context, f *followed, columns []string, keys [][]string, each func(line []byte)) error {
	if len(keys) == 0 {
		return nil
	}
	if s.v == nil {
		return errLook
	}
	return s.v.fetch(ctx, s.v.conn, f, columns, keys, each)
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
		some := false
		for _, g := range group {
			done[g] = true
			some = some || len(s.dirty[g].rows) > 0
		}
		if !some {
			continue
		}
		if err := s.group(ctx, group); err != nil {
			return err
		}
	}
	return nil
}

func (s *settler) group(ctx context.Context, group []*followed) error {
	f := group[0]
	if f.circle > 0 {
		c := newCircleOf(s)
		for _, g := range group {
			c.add(g, s.dirty[g].rows...)
		}
		return s.chunk(ctx, group, c)
	}
	if s.plain(f) {
		return s.fast(ctx, f, s.dirty[f].rows)
	}
	rows := slices.SortedFunc(slices.Values(s.dirty[f].rows), func(a, b *changed) int { return strings.Compare(a.key, b.key) })
	for len(rows) > 0 {
		n := min(chunkRows, len(rows))
		c := newCircleOf(s)
		c.add(f, rows[:n]...)
		if err := s.chunk(ctx, group, c); err != nil {
			return err
		}
		rows = rows[n:]
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
		if err := s.pass(ctx, f, rows); err != nil {
			return err
		}
	}
	return nil
}

// pass takes in rows that refer to rows whose part in the dataset changed.
func (s *settler) pass(ctx context.Context, f *followed, rows []*changed) error {
	if slices.ContainsFunc(rows, func(r *changed) bool { return r.present && !r.alive }) {
		f.forget()
	}
	if err := s.expected(f, rows); err != nil {
		return err
	}
	for _, child := range f.children {
		if f.circle > 0 && child.from.circle == f.circle {
			continue
		}
		if err := s.descend(ctx, f, child, rows, s.dirty[child.from].add); err != nil {
			return err
		}
	}
	return nil
}

// expected finds rows that came into the dataset and that rows of an earlier part of the
// batch referred to in vain.
func (s *settler) expected(f *followed, rows []*changed) error {
	if s.away == nil || s.v != nil {
		return nil
	}
	for _, k := range f.keys {
		away := s.away[k.members]
		if away == nil {
			continue
		}
		for _, r := range rows {
			if r.line == nil || r.present || !r.alive && f.held {
				continue
			}
			if v, null, ok := k.reader.read(splitLine(nil, r.line[:len(r.line)-1])); !null && ok && away.has(v) {
				return errLook
			}
		}
	}
	return nil
}

// descend finds the rows that refer to rows whose part in the dataset changed.
func (s *settler) descend(ctx context.Context, f *followed, child *childOf, rows []*changed, found func(key string)) error {
	some := make([]*changed, 0, len(rows))
	for _, r := range rows {
		if s.passesOn(r, f, child) {
			some = append(some, r)
		}
	}
	return inParts(keysOf(f, child, some), func(part [][]string) error {
		return s.fetch(ctx, child.from, child.ref.columns, part, func(line []byte) { found(child.from.keyOf(line)) })
	})
}

// keysOf are the values by which rows are referred to.
func keysOf(f *followed, child *childOf, rows []*changed) [][]string {
	var keys [][]string
	for _, r := range rows {
		if k := f.columnsOf(r, child.ref.target.of); k != nil {
			keys = append(keys, k)
		}
	}
	return keys
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
// that was only inserted has, under a foreign key of the source, none that were there before
// it; one that is gone there has none at all, or the dataset's own foreign key says so at
// commit, and the batch is done again as of a snapshot.
func (s *settler) passesOn(r *changed, f *followed, child *childOf) bool {
	if fk := child.ref.source; fk != nil && !s.thorough {
		if r.touch == flow.Inserted || r.known && r.line == nil && r.touch&flow.Deleted != 0 && child.guarded && fk.Valid {
			return false
		}
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
