package dataset

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// plan is a dataset resolved against its live source.
type plan struct {
	ds      *catalog.Dataset
	cat     *catalog.Catalog
	def     *trefoil.Definition
	hash    string
	purpose *catalog.Purpose
	schema  *postgres.Schema
	tables  []*table // referenced ones first, where there is no circle
	byName  map[string]*table
	types   *typePlan
	budget  atomic.Int64 // bytes of membership sets that are left
	mu      sync.Mutex   // of notes
	notes   []string     // what the dataset leaves out of the source's shape, and why
}

// table is one table that a build reads: those of the dataset, and those that only lead
// to the person.
type table struct {
	name   string // schema.table
	src    *postgres.Table
	cat    *catalog.Table
	held   bool // part of the dataset
	person bool
	out    []*outColumn
	read   []string // columns asked of the source
	refs   []*reference
	keys   []*memberKey // keys that others look up
	order  []int        // indexes into out of the primary key, when it is held
	lead   int          // index into out of the key's first pseudonym, -1 when it has none
	whole  bool         // the lead is a whole number
	choose *chooser
	circle int // tables of one circle of references share a number above 0

	made      map[string]bool // keys that the dataset has, columns joined by NUL
	settled   bool            // the members of its circle are known before it is read
	inherited bool            // plain tables inherit from it: a query reads their rows too
}

// outColumn is one column as the dataset holds it.
type outColumn struct {
	name    string
	read    int // index into table.read; -1 for a column that is always NULL
	src     *postgres.Column
	cat     *catalog.Column
	form    catalog.DatasetColumn
	tr      *transform.Transform
	sqlType string
	cell    bool // clear or generalised, of the person table: part of the cells
}

// reference is one foreign key, or the way to the person, that decides what belongs.
type reference struct {
	name    string
	columns []string
	target  *members
	to      *table
	reader  *keyReader
	subject bool  // the way to the person: without it a row is nobody's
	soft    []int // indexes into out of columns that become NULL when the row referred to is not there
	source  *postgres.ForeignKey
}

// memberKey is one key of a table that some reference looks up.
type memberKey struct {
	*members
	reader *keyReader
}

// makePlan resolves name. Every finding is reported, not only the first.
func (b *Builder) makePlan(name string, schema *postgres.Schema) (*plan, error) {
	ds := b.cfg.Datasets.Dataset(name)
	if ds == nil {
		return nil, fmt.Errorf("dataset %s is not defined", name)
	}
	p := &plan{ds: ds, schema: schema, byName: map[string]*table{}}
	for _, c := range b.cfg.Catalogs {
		if c.Database == ds.Source {
			p.cat = c
		}
	}
	if p.cat == nil {
		return nil, fmt.Errorf("dataset %s: its source %s has no catalog", name, ds.Source)
	}
	var err error
	if p.def, p.hash, err = b.Define(name); err != nil {
		return nil, err
	}
	p.purpose = b.cfg.Purposes.Purpose(ds.Purpose)
	p.budget.Store(b.cfg.MemberBytes)
	p.types = newTypePlan(schema)
	steps := []func() error{p.findTables, func() error { return p.compileColumns(b.keys) }, p.findWays, p.findReferences,
		p.sortTables, func() error { return p.makeChooser(b.cfg) }, p.findOrder, p.bindReaders}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, fmt.Errorf("plan dataset %s: %w", name, err)
		}
	}
	return p, nil
}

// addTable adds a table that is read.
func (p *plan) addTable(name string) (*table, error) {
	if t := p.byName[name]; t != nil {
		return t, nil
	}
	src, cat := p.schema.Table(name), p.cat.TableOf(name)
	switch {
	case cat == nil:
		return nil, fmt.Errorf("table %s is not in the catalog", name)
	case src == nil:
		return nil, fmt.Errorf("table %s is not at the source, or two are spelt like it", name)
	case src.Kind == postgres.Foreign:
		return nil, fmt.Errorf("table %s is a foreign table: its rows are elsewhere", name)
	}
	t := &table{name: name, src: src, cat: cat, person: name == p.cat.Person.Table && !cat.Subject.Nobody}
	for _, other := range p.schema.Tables {
		t.inherited = t.inherited || slices.Contains(other.Inherits, src.Name)
	}
	p.byName[name] = t
	p.tables = append(p.tables, t)
	return t, nil
}

// findTables adds the dataset's tables and their columns.
func (p *plan) findTables() error {
	var errs []error
	for _, dt := range p.ds.Tables {
		t, err := p.addTable(dt.Table)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if t.held {
			errs = append(errs, fmt.Errorf("table %s is listed twice", dt.Table))
			continue
		}
		t.held = true
		errs = append(errs, t.findColumns(dt))
	}
	return errors.Join(errs...)
}

// findColumns takes the listed columns in the source's order, so that SELECT * looks as
// it does there.
func (t *table) findColumns(dt catalog.DatasetTable) error {
	var errs []error
	listed := map[string]catalog.DatasetColumn{}
	for _, dc := range dt.Columns {
		if t.src.Column(dc.Name) == nil {
			errs = append(errs, fmt.Errorf("column %s.%s is not at the source", t.name, dc.Name))
		}
		listed[dc.Name] = dc
	}
	for _, c := range t.src.Columns {
		dc, ok := listed[c.Name]
		cat := t.cat.Column(c.Name)
		if !ok || cat == nil {
			continue
		}
		if !cat.Reviewed { // not reviewed is withheld, whatever the dataset asks for
			dc = catalog.DatasetColumn{Name: dc.Name, Form: law.Withheld, Null: dc.Null}
		}
		if len(dc.Paths) == 0 && dc.Form == law.Withheld && !dc.Null {
			continue
		}
		t.out = append(t.out, &outColumn{name: c.Name, src: c, cat: cat, form: dc, read: -1})
	}
	return errors.Join(errs...)
}

// compileColumns makes the transforms. Columns of one pseudonym domain share a shape.
func (p *plan) compileColumns(keys *transform.Keys) error {
	domains := map[string][]transform.Type{}
	each := func(f func(*table, *outColumn) error) error {
		var errs []error
		for _, t := range p.tables {
			for _, c := range t.out {
				errs = append(errs, f(t, c))
			}
		}
		return errors.Join(errs...)
	}
	_ = each(func(t *table, c *outColumn) error {
		if c.form.Form == law.Pseudonymised && len(c.form.Paths) == 0 {
			d := catalog.DomainOf(t.name, *c.cat)
			domains[d] = append(domains[d], p.types.base(c.src))
		}
		return nil
	})
	return each(func(t *table, c *outColumn) error {
		in := transform.Input{Table: t.name, Column: *c.cat, Form: c.form, Type: p.types.base(c.src), Purpose: p.purpose.Name, Epoch: p.purpose.Epoch}
		if types := domains[catalog.DomainOf(t.name, *c.cat)]; c.form.Form == law.Pseudonymised && len(c.form.Paths) == 0 {
			shape, err := transform.ShapeOf(types...)
			if err != nil {
				return fmt.Errorf("%s.%s: %w", t.name, c.name, err)
			}
			in.Shape = &shape
		}
		var err error
		if c.tr, err = keys.Compile(in); err != nil {
			return err
		}
		c.sqlType = c.tr.OutType
		if c.tr.Clear || c.tr.Null {
			c.sqlType = p.types.clear(c.src)
		}
		shown := c.form.Form == law.Clear || c.form.Form == law.Generalised || len(c.form.Paths) > 0
		c.cell = t.person && shown && !c.tr.Null
		if !c.tr.Null {
			c.read = t.ask(c.name)
		}
		return nil
	})
}

// ask adds a column to what is read of the source and returns its place.
func (t *table) ask(name string) int {
	if i := slices.Index(t.read, name); i >= 0 {
		return i
	}
	t.read = append(t.read, name)
	return len(t.read) - 1
}

func (t *table) askAll(names []string) []int {
	out := make([]int, len(names))
	for i, n := range names {
		out[i] = t.ask(n)
	}
	return out
}

// findWays adds each table's first step to the person, and the tables on the way.
func (p *plan) findWays() error {
	var errs []error
	for i := 0; i < len(p.tables); i++ { // grows: tables on the way are looked at too
		t := p.tables[i]
		steps, err := p.cat.Path(t.name)
		if errors.Is(err, catalog.ErrNobody) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if len(steps) == 0 {
			continue
		}
		to, err := p.addTable(steps[0].To)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, p.addReference(t, to, &reference{name: "way to the person", columns: steps[0].Columns, subject: true}, steps[0].Of))
	}
	return errors.Join(errs...)
}

// findReferences adds every other reference between tables of the dataset whose columns
// the dataset holds. What it does not hold decides nothing: else withheld values would show
// in which rows are there.
func (p *plan) findReferences() error {
	var errs []error
	for _, t := range p.tables {
		if !t.held {
			continue
		}
		for _, r := range t.cat.References {
			errs = append(errs, p.considerReference(t, r.Table, r.Columns, r.Of, nil))
		}
		for _, fk := range t.src.ForeignKeys {
			errs = append(errs, p.considerReference(t, fk.Table.String(), fk.Columns, fk.Of, fk))
		}
	}
	return errors.Join(errs...)
}

func (p *plan) considerReference(t *table, to string, columns, of []string, fk *postgres.ForeignKey) error {
	target := p.byName[to]
	if target == nil || !target.held {
		if fk != nil {
			p.note("foreign key %s of %s: %s is not in the dataset", fk.Name, t.name, to)
		}
		return nil
	}
	for _, have := range t.refs {
		if have.to == target && slices.Equal(have.columns, columns) && slices.Equal(have.target.of, of) {
			if fk != nil {
				have.source, have.name = fk, fk.Name
			}
			return nil
		}
	}
	for _, c := range columns {
		if out := t.outColumn(c); out == nil || out.tr.Null {
			if fk != nil {
				p.note("foreign key %s of %s: column %s is not held", fk.Name, t.name, c)
			}
			return nil
		}
	}
	r := &reference{name: "reference to " + to, columns: columns, source: fk}
	if fk != nil {
		r.name = fk.Name
	}
	return p.addReference(t, target, r, of)
}

func (p *plan) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := fmt.Sprintf(format, args...); !slices.Contains(p.notes, n) {
		p.notes = append(p.notes, n)
	}
}

func (t *table) outColumn(name string) *outColumn {
	for _, c := range t.out {
		if c.name == name {
			return c
		}
	}
	return nil
}

// addReference resolves r's columns on both sides.
func (p *plan) addReference(t, to *table, r *reference, of []string) error {
	if len(r.columns) == 0 || len(r.columns) != len(of) {
		return fmt.Errorf("%s: a reference to %s names %d columns for %d", t.name, to.name, len(r.columns), len(of))
	}
	whole := len(of) == 1
	for i := range of {
		from, target := t.src.Column(r.columns[i]), to.src.Column(of[i])
		if from == nil {
			return fmt.Errorf("column %s.%s is not at the source", t.name, r.columns[i])
		}
		if target == nil {
			return fmt.Errorf("column %s.%s is not at the source", to.name, of[i])
		}
		whole = whole && transform.ParseType(from.BaseType).Integer() && transform.ParseType(target.BaseType).Integer()
	}
	r.to, r.target = to, to.memberKey(of, whole, &p.budget)
	if !r.subject {
		for _, c := range r.columns {
			if src := t.src.Column(c); !src.NotNull && !t.onTheWay(c) {
				r.soft = append(r.soft, slices.IndexFunc(t.out, func(o *outColumn) bool { return o.name == c }))
			}
		}
	}
	t.refs = append(t.refs, r)
	return nil
}

// onTheWay says that a column is part of the table's way to the person.
func (t *table) onTheWay(column string) bool {
	return slices.ContainsFunc(t.refs, func(r *reference) bool { return r.subject && slices.Contains(r.columns, column) })
}

func (t *table) memberKey(of []string, whole bool, budget *atomic.Int64) *members {
	for _, k := range t.keys {
		if slices.Equal(k.of, of) && k.whole == whole {
			return k.members
		}
	}
	k := &memberKey{members: newMembers(t, of, whole, budget)}
	t.keys = append(t.keys, k)
	return k.members
}

// bindReaders gives every key and reference its reader, once all columns are asked for.
func (p *plan) bindReaders() error {
	for _, t := range p.tables {
		for _, k := range t.keys {
			k.reader = k.members.reader(t.askAll(k.of), t.kinds(k.of))
		}
		for _, r := range t.refs {
			r.reader = r.target.reader(t.askAll(r.columns), t.kinds(r.columns))
		}
		if len(t.read) == 0 {
			return fmt.Errorf("table %s: no column is held", t.name)
		}
	}
	return nil
}

func (t *table) kinds(columns []string) []keyKind {
	out := make([]keyKind, len(columns))
	for i, c := range columns {
		out[i] = kindOf(t.src.Column(c))
	}
	return out
}

// sortTables puts tables after those they refer to, and numbers circles. Tarjan's algorithm
// gives the strongly connected components in that order.
func (p *plan) sortTables() error {
	s := &tarjan{index: map[*table]int{}, low: map[*table]int{}, on: map[*table]bool{}}
	sort.Slice(p.tables, func(i, j int) bool { return p.tables[i].name < p.tables[j].name })
	for _, t := range p.tables {
		if _, seen := s.index[t]; !seen {
			s.visit(t)
		}
	}
	p.tables = s.sorted
	return nil
}

type tarjan struct {
	index, low map[*table]int
	on         map[*table]bool
	stack      []*table
	sorted     []*table
	circles    int
}

func (s *tarjan) visit(t *table) {
	s.index[t] = len(s.index)
	s.low[t] = s.index[t]
	s.stack, s.on[t] = append(s.stack, t), true
	self := false
	for _, r := range t.refs {
		self = self || r.to == t
		if _, seen := s.index[r.to]; !seen {
			s.visit(r.to)
			s.low[t] = min(s.low[t], s.low[r.to])
		} else if s.on[r.to] {
			s.low[t] = min(s.low[t], s.index[r.to])
		}
	}
	if s.low[t] != s.index[t] {
		return
	}
	i := slices.Index(s.stack, t)
	part := s.stack[i:]
	if len(part) > 1 || self {
		s.circles++
		for _, m := range part {
			m.circle = s.circles
		}
	}
	for _, m := range part {
		s.on[m] = false
	}
	s.sorted = append(s.sorted, part...)
	s.stack = s.stack[:i]
}

// findOrder finds what rows are ordered by: the primary key as the dataset holds it.
func (p *plan) findOrder() error {
	for _, t := range p.tables {
		t.lead = -1
		if t.src.PrimaryKey == nil || !t.held {
			continue
		}
		for _, name := range t.src.PrimaryKey.Columns {
			i := slices.IndexFunc(t.out, func(c *outColumn) bool { return c.name == name && !c.tr.Null })
			if i < 0 {
				t.order, t.lead = nil, -1
				break
			}
			t.order = append(t.order, i)
			if c := t.out[i]; t.lead < 0 && c.tr.Domain != "" && !p.types.base(c.src).Array {
				t.lead = i
				t.whole = slices.Contains([]string{"bigint", "integer", "smallint"}, c.sqlType)
			}
		}
	}
	return nil
}

// schemas lists the source's schemas that the dataset has tables in, sorted.
func (p *plan) schemas() []string {
	var out []string
	for _, t := range p.tables {
		if t.held && !slices.Contains(out, t.src.Schema) {
			out = append(out, t.src.Schema)
		}
	}
	for _, s := range p.types.schemas() {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	sort.Strings(out)
	return out
}

// shadow is the schema that a build writes in the place of a source's schema.
func shadow(schema string) string { return clip(shadowPrefix + schema) }

// Schema names of a dataset that are not the source's.
const (
	shadowPrefix = "trefoil_next_"
	oldPrefix    = "trefoil_old_"
	infoSchema   = "trefoil_info"
)

// clip keeps a name within PostgreSQL's 63 bytes; a source's schema name of over 50 bytes
// keeps its start and a count of the rest, which is unique enough to be refused if not.
func clip(name string) string {
	if len(name) <= 63 {
		return name
	}
	return strings.ToValidUTF8(name[:58], "") + fmt.Sprintf("_%d", len(name))
}

// target is a table's name in the shadow schemas, for SQL.
func (t *table) target() string {
	return postgres.Name{Schema: shadow(t.src.Schema), Name: t.src.Name.Name}.Quoted()
}
