package catalog

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Definition returns the canonical definition of a dataset: sorted, and the same for files
// that mean the same. Regimes are those its subjects may be exported under; none means all
// of them. A domain's type is the one it stands on. It fails where the dataset names what the catalog or purposes do not have; it
// does not repeat Validate.
//
// Detail of a column: the unit of a generalisation (a lookup as "lookup:" and 16 hex digits
// of its table's hash), the domain of a pseudonym, "null" of a withheld column that stays. A
// document with paths gives one column a path, whose type is the document's type, "#" and
// the path, as in jsonb#/device/model.
func Definition(ds *Dataset, cat *Catalog, purposes *Purposes, regimes ...law.Regime) (*trefoil.Definition, error) {
	switch {
	case ds == nil || cat == nil:
		return nil, fmt.Errorf("define dataset: no dataset or no catalog")
	case ds.Source != cat.Database:
		return nil, fmt.Errorf("define dataset %s: its source %s is not the catalog's database", ds.Name, ds.Source)
	case purposes.Purpose(ds.Purpose) == nil:
		return nil, fmt.Errorf("define dataset %s: unknown purpose %s", ds.Name, ds.Purpose)
	}
	def := &trefoil.Definition{Cluster: ds.Cluster, Columns: []trefoil.DefinedColumn{}, Name: ds.Name, Person: cat.Person.Table,
		Purpose: ds.Purpose, Regimes: regimeNames(regimes), Rows: ds.Rows.named()}
	for _, dt := range ds.Tables {
		t := cat.TableOf(dt.Table)
		if t == nil {
			return nil, fmt.Errorf("define dataset %s: unknown table %s", ds.Name, dt.Table)
		}
		for _, dc := range dt.Columns {
			c := t.Column(dc.Name)
			if c == nil {
				return nil, fmt.Errorf("define dataset %s: unknown column %s.%s", ds.Name, dt.Table, dc.Name)
			}
			def.Columns = append(def.Columns, definedColumns(dt.Table, c, dc)...)
		}
	}
	sort.Slice(def.Columns, func(i, j int) bool { return less(def.Columns[i], def.Columns[j]) })
	def.K = ds.smallestCell(def)
	if slices.ContainsFunc(def.Columns, func(c trefoil.DefinedColumn) bool { return law.Form(c.Form) == law.Pseudonymised }) {
		def.Epoch = int64(purposes.Purpose(ds.Purpose).Epoch)
	}
	return def, nil
}

// smallestCell is the k that the build enforces: the dataset's own, or the default where the
// dataset is pseudonymised or has to be.
func (d *Dataset) smallestCell(def *trefoil.Definition) int64 {
	if d.K != 0 {
		return d.K
	}
	if d.Cluster == "outside" {
		return law.DefaultK
	}
	if class, _ := law.ClassOf(heldColumns(def), law.DefaultK); class == law.ClassPseudonymised {
		return law.DefaultK
	}
	return 0
}

// CaseRow is the entry of a definition's rows that makes it a case: a dataset of a few subjects
// whom somebody named.
const CaseRow = "case"

// ClassOf returns the class of a defined dataset, and why it is not pseudonymised. A case never
// is: whoever named its subjects knows who they are, whatever stands for their names.
func ClassOf(def *trefoil.Definition) (law.Class, []string) {
	if def == nil {
		return law.NoClass, []string{"there is no definition"}
	}
	class, why := law.ClassOf(heldColumns(def), def.K)
	if _, isCase := def.Rows[CaseRow]; isCase && class == law.ClassPseudonymised {
		return law.ClassClear, []string{"a dataset of a few subjects whom somebody named does not count as pseudonymised (GDPR art. 4(5))"}
	}
	return class, why
}

// heldColumns puts a definition into the words of law.
func heldColumns(def *trefoil.Definition) []law.Held {
	held := make([]law.Held, len(def.Columns))
	for i, c := range def.Columns {
		held[i] = law.Held{Table: c.Table, Column: c.Column, Category: law.Category(c.Category), Trait: law.Trait(c.Trait),
			Form: law.Form(c.Form), Detail: c.Detail, Type: c.Type, Person: c.Table == def.Person}
	}
	return held
}

// definedColumns is what a dataset holds of one column: nothing if it is withheld.
func definedColumns(table string, c *Column, dc DatasetColumn) []trefoil.DefinedColumn {
	one := trefoil.DefinedColumn{Category: string(c.Category), Column: c.Name, Table: table, Trait: string(c.Trait), Type: c.Resolved()}
	if len(dc.Paths) > 0 && c.Reviewed {
		var all []trefoil.DefinedColumn
		for path, form := range dc.Paths {
			if form.Form == law.Withheld && !form.Null {
				continue
			}
			at := one
			at.Type = one.Type + "#" + path
			at.Form, at.Detail = string(form.Form), detail(table+"."+c.Name+"#"+path, form)
			all = append(all, at)
		}
		return all
	}
	form := dc
	if !c.Reviewed {
		form = DatasetColumn{Form: law.Withheld, Null: dc.Null}
	}
	if form.Form == law.Withheld && !form.Null {
		return nil
	}
	one.Form, one.Detail = string(form.Form), detail(DomainOf(table, *c), form)
	return []trefoil.DefinedColumn{one}
}

// detail is what a form needs to be understood.
func detail(domain string, dc DatasetColumn) string {
	switch dc.Form {
	case law.Pseudonymised:
		return domain
	case law.Withheld:
		return "null"
	case law.Generalised:
		if dc.By == "lookup" {
			return "lookup:" + lookupHash(dc.Lookup)
		}
		return dc.By
	}
	return ""
}

// lookupHash makes a changed lookup a changed definition. Lookups are the operator's own
// text about classes of values, so the hash hides nothing that needs hiding.
func lookupHash(table map[string]string) string {
	keys := make([]string, 0, len(table))
	for k := range table {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	h := sha256.New()
	for _, k := range keys {
		fmt.Fprintf(h, "%d:%s%d:%s", len(k), k, len(table[k]), table[k])
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

func less(a, b trefoil.DefinedColumn) bool {
	if a.Table != b.Table {
		return a.Table < b.Table
	}
	if a.Column != b.Column {
		return a.Column < b.Column
	}
	return a.Type < b.Type
}

// named is how subjects are chosen, for the definition.
func (r Rows) named() map[string]string {
	m := map[string]string{}
	if len(r.Residence) > 0 {
		names := slices.Clone(r.Residence)
		slices.Sort(names)
		m["residence"] = strings.Join(slices.Compact(names), ",")
	}
	if r.Subjects != "" {
		m["list"] = r.Subjects
	}
	if r.Condition != "" {
		m["condition"] = r.Condition
	}
	return m
}

// regimeNames sorts regimes; none, or an unknown one, gives all.
func regimeNames(regimes []law.Regime) []string {
	if len(regimes) == 0 || slices.ContainsFunc(regimes, func(r law.Regime) bool { return !r.Known() }) {
		regimes = law.AllRegimes()
	}
	names := make([]string, len(regimes))
	for i, r := range regimes {
		names[i] = string(r)
	}
	slices.Sort(names)
	return slices.Compact(names)
}
