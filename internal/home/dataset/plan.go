package dataset

import (
	"errors"
	"fmt"
	"slices"
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
	narrow  *narrow      // of a case: only the rows that lead to its subjects are read
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
	ds := b.dataset(name)
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
	if c := b.caseNamed(name); c != nil {
		p.purpose, p.narrow = c.purpose(), newNarrow(c, b.cfg.MemoryBytes)
	}
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
