package catalog

import (
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// use is one column of a dataset with where it stands in the file.
type use struct {
	table  string
	column *Column
	dc     DatasetColumn
	at     string
}

// uses lists the columns of a dataset that the catalog knows.
func uses(cat *Catalog, ds *Dataset, at string) []use {
	var out []use
	for i := range ds.Tables {
		t := cat.TableOf(ds.Tables[i].Table)
		for j, dc := range ds.Tables[i].Columns {
			if col := t.Column(dc.Name); col != nil {
				out = append(out, use{t.Table, col, dc, fmt.Sprintf("%s.tables[%d].columns[%d].form", at, i, j)})
			}
		}
	}
	return out
}

// domains wants one form per domain in a dataset: a value that is clear in one column and a
// pseudonym in another of the same domain is a dictionary.
func (c *checker) domains(cat *Catalog, ds *Dataset, at string) {
	first := map[string]use{}
	for _, u := range uses(cat, ds, at) {
		if u.column.Domain == "" || u.dc.Form == law.Withheld || len(u.dc.Paths) > 0 {
			continue
		}
		other, ok := first[u.column.Domain]
		switch {
		case !ok:
			first[u.column.Domain] = u
		case other.dc.Form != u.dc.Form || other.dc.By != u.dc.By:
			c.fail(u.at, "dataset %s: %s.%s is %s but %s.%s of the same domain %s is %s: one form per domain",
				ds.Name, u.table, u.column.Name, u.dc.Form, other.table, other.column.Name, u.column.Domain, other.dc.Form)
		}
	}
}

// references wants both ends of a reference to agree, so that the dataset joins as its
// source does and its foreign keys can be rebuilt.
func (c *checker) references(cat *Catalog, ds *Dataset, at string) {
	all := map[string]use{}
	for _, u := range uses(cat, ds, at) {
		if u.dc.Form != law.Withheld {
			all[u.table+"."+u.column.Name] = u
		}
	}
	for i := range ds.Tables {
		t := cat.TableOf(ds.Tables[i].Table)
		if t == nil {
			continue
		}
		for _, ref := range t.References {
			for k := range min(len(ref.Columns), len(ref.Of)) {
				from, ok1 := all[t.Table+"."+ref.Columns[k]]
				to, ok2 := all[ref.Table+"."+ref.Of[k]]
				if ok1 && ok2 {
					c.ends(ds, from, to)
				}
			}
		}
	}
}

func (c *checker) ends(ds *Dataset, from, to use) {
	a, b := from.table+"."+from.column.Name, to.table+"."+to.column.Name
	switch {
	case from.dc.Form != to.dc.Form:
		c.fail(from.at, "dataset %s: %s is %s but %s, which it refers to, is %s: they would not join", ds.Name, a, from.dc.Form, b, to.dc.Form)
	case from.dc.Form == law.Pseudonymised && DomainOf(from.table, *from.column) != DomainOf(to.table, *to.column):
		c.fail(from.at, "dataset %s: %s and %s, which it refers to, are in different domains: give both the same domain in the catalog", ds.Name, a, b)
	}
}
