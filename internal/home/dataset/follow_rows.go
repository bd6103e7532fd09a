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
	var keys [][]string
	for _, r := range rows {
		if !s.passesOn(r, f, child) {
			continue
		}
		if k := f.columnsOf(r, child.ref.target.of); k != nil {
			keys = append(keys, k)
		}
	}
	return inParts(keys, func(part [][]string) error {
		return s.fetch(ctx, child.from, child.ref.columns, part, func(line []byte) { found(child.from.keyOf(line)) })
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

// fates finds what became of the rows that a reference leads to, other than those the caller
// knows. absent is told of rows that are at the source and not in the dataset.
func (s *settler) fates(ctx context.Context, ref *reference, wanted map[key][]string, absent func(key string)) (map[key]fate, error) {
	m := ref.target
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
		switch {
		case s.v != nil || len(ask) == 0:
		case absent != nil: // rows of a circle that keep each other out might come in together
			return nil, errLook
		default:
			return out, s.there(ctx, ref, ask, out)
		}
	}
	var rows []*changed
	err := inParts(values(ask), func(part [][]string) error {
		return s.fetch(ctx, to, m.of, part, func(line []byte) { rows = append(rows, &changed{key: to.keyOf(line), known: true, line: line}) })
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

func values(m map[key][]string) [][]string {
	out := make([][]string, 0, len(m))
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// there decides without a snapshot of rows that are not in the dataset: they are outside
// where the source has them. A foreign key of the source promises that; without one, or where
// it matters to the row that refers to it, the source is asked whether they are there at all.
// One that is not makes the batch look.
func (s *settler) there(ctx context.Context, ref *reference, ask map[key][]string, out map[key]fate) error {
	m := ref.target
	to := s.p.of[m.table]
	if hard := ref.subject || len(ref.soft) == 0; !hard || ref.source == nil || !ref.source.Valid {
		found := map[key]bool{}
		own := m.own()
		err := inParts(values(ask), func(part [][]string) error {
			return s.peek.fetch(ctx, s.peek.watch, to, m.of, part, func(line []byte) {
				if k, null, ok := own.read(splitLine(nil, line[:len(line)-1])); !null && ok {
					found[k] = true
				}
			})
		})
		if err != nil {
			return err
		}
		if len(found) < len(ask) {
			return errLook
		}
	}
	for k := range ask {
		out[k] = outside
		if s.away == nil {
			continue
		}
		if s.away[m] == nil {
			s.away[m] = &keySet{whole: m.whole, budget: s.p.awayBudget()}
		}
		if !s.away[m].add(k) {
			return errLook
		}
	}
	return nil
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
