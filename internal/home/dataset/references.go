package dataset

import (
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

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
