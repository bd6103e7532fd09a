package dataset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/transform"
)

// This file reads a case: from its subjects, rows are found at the source by the keys that lead
// to them, table after table, and no others are read. Tables about no person are read whole.
// What a row refers to outside the case is looked up, so that it is cut or left out as a
// standing dataset's row would be.

// ErrLargeCase says that a case's rows exceed the memory that reading it may take: it has too
// many subjects, or one with very many rows. Build a standing dataset.
var ErrLargeCase = errors.New("a case has too many rows to read by key")

// narrow is what reading a case knows. It is used by one goroutine at a time.
type narrow struct {
	mu       sync.Mutex
	subjects map[string]bool
	budget   int64
	values   map[*members][][]string         // keys of rows that belong, for those that refer to them
	wanted   map[*reference]map[key][]string // keys that rows of a circle refer to within it
}

func newNarrow(c *caseOf, budget int64) *narrow {
	n := &narrow{subjects: map[string]bool{}, budget: budget, values: map[*members][][]string{},
		wanted: map[*reference]map[key][]string{}}
	for _, s := range c.Subjects {
		n.subjects[s] = true
	}
	return n
}

// chosen is the list of subjects: those that a list of the dataset has too, where it has one.
func (n *narrow) chosen(list map[string]bool) map[string]bool {
	if list == nil {
		return n.subjects
	}
	both := map[string]bool{}
	for s := range n.subjects {
		if list[s] {
			both[s] = true
		}
	}
	return both
}

// narrowTables is tables for a case: one after the other, since what one holds decides what is
// asked of the next.
func (r *work) narrowTables(ctx context.Context, conns chan *pgx.Conn) error {
	for _, t := range r.p.tables {
		if t.circle > 0 && !t.settled {
			var members []*table
			for _, m := range r.p.tables {
				if m.circle == t.circle {
					members = append(members, m)
				}
			}
			key, err := r.orderKey(t)
			if err == nil {
				members, err = byWay(members)
			}
			if err == nil {
				err = r.p.settleCircle(ctx, r.s, members, key)
			}
			if err != nil {
				return err
			}
		}
		h, err := r.read(ctx, t)
		if err != nil {
			return err
		}
		if err := r.load(ctx, conns, t, h); err != nil {
			return err
		}
	}
	return nil
}

// byWay orders the tables of a circle so that each comes after that by which its rows are found.
func byWay(circle []*table) ([]*table, error) {
	var out []*table
	for len(out) < len(circle) {
		before := len(out)
		for _, t := range circle {
			if slices.Contains(out, t) {
				continue
			}
			waits := slices.ContainsFunc(t.refs, func(ref *reference) bool {
				return ref.subject && ref.to.circle == t.circle && !slices.Contains(out, ref.to)
			})
			if !waits {
				out = append(out, t)
			}
		}
		if len(out) == before {
			return nil, fmt.Errorf("table %s: its way to the person leads back to itself: it can be in no case", circle[0].name)
		}
	}
	return out, nil
}

// copyOut reads a table's rows: all of them, or of a case those that may belong.
func (p *plan) copyOut(ctx context.Context, s *source, t *table, r *rowReader, need []int) error {
	if p.narrow == nil || t.cat.Subject.Nobody {
		return s.copyOut(ctx, t, r, need)
	}
	p.narrow.mu.Lock()
	defer p.narrow.mu.Unlock()
	var c *pgx.Conn
	select {
	case c = <-s.workers:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.workers <- c }()
	if _, err := c.PgConn().Exec(ctx, "SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off").ReadAll(); err != nil {
		return fmt.Errorf("read %s from the source: %w", t.name, safe(err))
	}
	one := &narrowTable{p: p, c: c, t: t, r: r}
	if err := one.read(ctx); err != nil {
		return fmt.Errorf("read %s from the source: %w", t.name, err)
	}
	r.flushReport()
	return nil
}

// narrowTable is one table being read for a case.
type narrowTable struct {
	p     *plan
	c     *pgx.Conn
	t     *table
	r     *rowReader
	lines [][]byte
	bytes int64
}

func (n *narrowTable) read(ctx context.Context) error {
	columns, keys, err := n.way()
	if err != nil {
		return err
	}
	if err := n.fetch(ctx, n.t, columns, keys, n.keep); err != nil {
		return err
	}
	for _, ref := range n.t.refs {
		if err := n.outside(ctx, ref); err != nil {
			return err
		}
	}
	for _, k := range n.t.keys {
		n.p.narrow.values[k.members] = nil
	}
	n.r.kept = func(fields [][]byte) {
		for _, k := range n.t.keys {
			if v := valuesOf(fields, k.reader.columns); v != nil {
				n.p.narrow.values[k.members] = append(n.p.narrow.values[k.members], v)
			}
		}
	}
	for _, line := range n.lines {
		if n.r.circle != nil { // who belongs is not settled: all that may are looked at by those that follow
			n.r.kept(splitLine(nil, line[:len(line)-1]))
		}
		if _, err := n.r.Write(line); err != nil {
			return err
		}
	}
	return nil
}

// way is how the table's rows are found: by the subjects' keys, or by those of rows that lead
// to the person and belong.
func (n *narrowTable) way() ([]string, [][]string, error) {
	if n.t.person {
		column := n.p.cat.Person.Key
		n.indexed([]string{column})
		var keys [][]string
		whole := transform.ParseType(n.t.src.Column(column).BaseType).Integer()
		for s := range n.t.choose.list {
			if _, ok := parseWhole([]byte(s)); ok || !whole { // what is no number is nobody's key
				keys = append(keys, []string{s})
			}
		}
		slices.SortFunc(keys, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
		return []string{column}, keys, nil
	}
	for _, ref := range n.t.refs {
		if !ref.subject {
			continue
		}
		n.indexed(ref.columns)
		return ref.columns, n.p.narrow.values[ref.target], nil
	}
	return nil, nil, errors.New("it has no way to the person")
}

// indexed notes a look-up that the source can only answer by reading the whole table.
func (n *narrowTable) indexed(columns []string) {
	for _, ix := range n.t.src.Indexes {
		if len(ix.Columns) > 0 && slices.Contains(columns, ix.Columns[0]) {
			return
		}
	}
	if k := n.t.src.PrimaryKey; k != nil && slices.Contains(columns, k.Columns[0]) {
		return
	}
	n.p.note("quick reading of %s: the source has no index on %s", n.t.name, strings.Join(columns, ", "))
}

func (n *narrowTable) keep(line []byte) error {
	if n.bytes += int64(len(line)); n.bytes > n.p.narrow.budget {
		return ErrLargeCase
	}
	n.lines = append(n.lines, line)
	return nil
}

// outside looks up rows that a reference leads to and that are not in the case: they are there,
// so the reference is cut or the row left out; those that are not make it an orphan.
func (n *narrowTable) outside(ctx context.Context, ref *reference) error {
	switch {
	case n.t.circle > 0 && ref.to.circle == n.t.circle:
		if n.r.circle != nil {
			n.inCircle(ref)
		}
		return nil
	case ref.subject || ref.to.cat.Subject.Nobody:
		return nil // it was found by it; or the table was read whole
	}
	places := n.t.askAll(ref.columns)
	seen := map[key]bool{}
	var keys [][]string
	for _, line := range n.lines {
		fields := splitLine(nil, line[:len(line)-1])
		k, null, ok := ref.reader.read(fields)
		if null || !ok || seen[k] || ref.target.in.has(k) || ref.target.out.has(k) {
			continue
		}
		seen[k] = true
		keys = append(keys, valuesOf(fields, places))
	}
	own := ref.target.own()
	return n.fetch(ctx, ref.to, ref.target.of, keys, func(line []byte) error {
		k, null, ok := own.read(splitLine(nil, line[:len(line)-1]))
		if !null && ok && !ref.target.out.add(k) {
			return ErrManyKeys
		}
		return nil
	})
}

// inCircle keeps what rows refer to within their circle until all of it is read.
func (n *narrowTable) inCircle(ref *reference) {
	places := n.t.askAll(ref.columns)
	wanted := map[key][]string{}
	for _, line := range n.lines {
		fields := splitLine(nil, line[:len(line)-1])
		if k, null, ok := ref.reader.read(fields); !null && ok {
			wanted[k] = valuesOf(fields, places)
		}
	}
	n.p.narrow.wanted[ref] = wanted
}

// fill adds to a circle the rows that others of it refer to and that are not in the case: they
// are there, and do not belong.
func (n *narrow) fill(ctx context.Context, p *plan, s *source, known map[*table]*circleTable, orderKey []byte) error {
	if n == nil {
		return nil
	}
	c := <-s.workers
	defer func() { s.workers <- c }()
	for ref, wanted := range n.wanted {
		to := known[ref.to]
		if to == nil {
			continue
		}
		place := 0
		for j, k := range ref.to.keys {
			if k.members == ref.target {
				place = j
			}
		}
		var keys [][]string
		for k, text := range wanted {
			if _, there := to.index[place][k]; !there {
				keys = append(keys, text)
			}
		}
		r := ref.to.newReader(nil, orderKey)
		r.circle = to
		look := &narrowTable{p: p, c: c, t: ref.to, r: r}
		if err := look.fetch(ctx, ref.to, ref.target.of, keys, func(line []byte) error {
			_, err := r.Write(line)
			return err
		}); err != nil {
			return fmt.Errorf("read %s from the source: %w", ref.to.name, err)
		}
	}
	return nil
}

// fetch reads the rows of a table whose columns have one of the keys.
func (n *narrowTable) fetch(ctx context.Context, t *table, columns []string, keys [][]string, each func([]byte) error) error {
	types := make([]string, len(columns))
	for i, c := range columns {
		types[i] = t.src.Column(c).BaseType
		if transform.ParseType(types[i]).Integer() {
			types[i] = "bigint"
		}
	}
	sql := fmt.Sprintf("SELECT %s FROM (SELECT DISTINCT * FROM %s) k JOIN %s t ON %s", quotedList("t.", t.read), unnest(types), t.src.Name.Quoted(), joined(columns))
	return inParts(keys, func(part [][]string) error {
		rr := n.c.PgConn().ExecParams(ctx, sql, arrays(part, len(columns)), nil, nil, nil)
		var failed error
		for rr.NextRow() {
			if failed == nil {
				failed = each(lineOf(rr.Values()))
			}
		}
		if _, err := rr.Close(); err != nil {
			return safe(err)
		}
		return failed
	})
}
