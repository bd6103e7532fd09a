package catalog

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// datasets checks datasets.yaml.
func (c *checker) datasets(d *Datasets, databases map[string]bool) {
	if d.Version != 1 {
		c.fail("version", "version: want 1")
	}
	seen := map[string]bool{}
	for i := range d.Datasets {
		ds, at := &d.Datasets[i], fmt.Sprintf("datasets[%d]", i)
		c.datasetName(ds.Name, at+".name", seen, databases)
		if ds.Cluster != "inside" && ds.Cluster != "outside" {
			c.fail(at+".cluster", "dataset %s: cluster is inside or outside", ds.Name)
		}
		if c.files.Purposes.Purpose(ds.Purpose) == nil {
			c.fail(at+".purpose", "dataset %s: purpose %q is not in purposes.yaml", ds.Name, ds.Purpose)
		}
		if ds.K < 0 {
			c.fail(at+".k", "dataset %s: k is a number of persons", ds.Name)
		}
		c.fresh(ds, at+".fresh")
		cat := c.files.Catalog(ds.Source)
		if cat == nil {
			c.fail(at+".source", "dataset %s: source %q has no catalog", ds.Name, ds.Source)
			continue
		}
		c.dataset(cat, ds, at)
	}
}

func (c *checker) datasetName(name, at string, seen, databases map[string]bool) {
	switch {
	case !databaseName.MatchString(name):
		c.fail(at, "dataset %q: a name is a database's: small letters, digits and underscores, begins with a letter, 63 at most", name)
	case reserved[name] || strings.HasPrefix(name, "trefoil_") || strings.HasPrefix(name, "pg_"):
		c.fail(at, "dataset %s: the name is reserved", name)
	case databases[name]:
		c.fail(at, "dataset %s: a source database has the same name", name)
	case seen[name]:
		c.fail(at, "dataset %s is listed twice", name)
	}
	seen[name] = true
}

// dataset checks one dataset against its catalog.
func (c *checker) dataset(cat *Catalog, ds *Dataset, at string) {
	if len(ds.Tables) == 0 {
		c.fail(at, "dataset %s has no tables", ds.Name)
	}
	before, about, seen := len(c.errs), false, map[string]bool{}
	for i := range ds.Tables {
		dt, path := &ds.Tables[i], fmt.Sprintf("%s.tables[%d]", at, i)
		t := cat.TableOf(dt.Table)
		if t == nil {
			c.fail(path+".table", "dataset %s: table %q is not in the catalog", ds.Name, dt.Table)
			continue
		}
		if seen[dt.Table] {
			c.fail(path+".table", "dataset %s: table %s is listed twice", ds.Name, dt.Table)
		}
		seen[dt.Table] = true
		_, err := cat.Path(dt.Table)
		about = about || !errors.Is(err, ErrNobody)
		if err != nil && !errors.Is(err, ErrNobody) {
			c.fail(path+".table", "dataset %s: %v", ds.Name, err)
		}
		c.datasetColumns(ds, t, dt, path)
	}
	c.rows(cat, ds, at+".rows", about)
	c.domains(cat, ds, at)
	c.references(cat, ds, at)
	if len(c.errs) == before {
		c.class(cat, ds, at)
	}
}

// datasetColumns checks the columns of one table of a dataset.
func (c *checker) datasetColumns(ds *Dataset, t *Table, dt *DatasetTable, path string) {
	seen := map[string]bool{}
	if len(dt.Columns) == 0 {
		c.fail(path, "dataset %s: table %s has no columns", ds.Name, dt.Table)
	}
	for j := range dt.Columns {
		dc, at := dt.Columns[j], fmt.Sprintf("%s.columns[%d]", path, j)
		col, name := t.Column(dc.Name), dt.Table+"."+dc.Name
		switch {
		case col == nil:
			c.fail(at+".name", "dataset %s: column %s is not in the catalog", ds.Name, name)
			continue
		case seen[dc.Name]:
			c.fail(at+".name", "dataset %s: column %s is listed twice", ds.Name, name)
		case !col.Reviewed && (dc.Form != law.Withheld || len(dc.Paths) > 0):
			c.fail(at+".form", "dataset %s: column %s is not reviewed, so it can only be withheld; look at it in the catalog and set reviewed: true", ds.Name, name)
		}
		seen[dc.Name] = true
		if len(dc.Paths) > 0 {
			c.paths(ds, col, dc, at, name)
			continue
		}
		for _, why := range formRefusals(col.Resolved(), dc, false) {
			c.fail(at+".form", "dataset %s: column %s: %s", ds.Name, name, why)
		}
	}
}

// paths checks a document's paths.
func (c *checker) paths(ds *Dataset, col *Column, dc DatasetColumn, at, name string) {
	base, array := splitType(col.Resolved())
	switch {
	case familyOf(base) != familyJSON || array:
		c.fail(at+".paths", "dataset %s: column %s: paths are for json and jsonb, not for %s", ds.Name, name, col.Type)
	case dc.By != "" || dc.Null || len(dc.Lookup) > 0:
		c.fail(at, "dataset %s: column %s has paths, so by, lookup and null belong there", ds.Name, name)
	}
	for _, p := range slices.Sorted(maps.Keys(dc.Paths)) {
		form, where := dc.Paths[p], at+".paths."+p
		if !strings.HasPrefix(p, "/") || len(p) < 2 {
			c.fail(where, "dataset %s: column %s: path %q is no JSON pointer to a member, as in /device/model", ds.Name, name, p)
		}
		for q := range dc.Paths {
			if strings.HasPrefix(q, p+"/") {
				c.fail(where, "dataset %s: column %s: path %s holds another path", ds.Name, name, p)
				break
			}
		}
		if form.Name != "" || len(form.Paths) > 0 {
			c.fail(where, "dataset %s: column %s: a path has a form, and no name or paths of its own", ds.Name, name)
		}
		for _, why := range formRefusals("text", form, true) {
			c.fail(where, "dataset %s: column %s, path %s: %s", ds.Name, name, p, why)
		}
	}
}

// formRefusals says why a type cannot have a form. In a document a value is text or a
// number, whichever it is.
func formRefusals(t string, dc DatasetColumn, inDocument bool) []string {
	var out []string
	add := func(why string) {
		if why != "" {
			out = append(out, why)
		}
	}
	switch dc.Form {
	case law.Clear:
		if base, _ := splitType(t); familyOf(base) == familyJSON {
			add("a document is not held whole: give paths, or withhold it")
		}
	case law.Generalised:
		why := generaliseRefusal(t, dc.By)
		if inDocument && why != "" {
			why = generaliseRefusal("numeric", dc.By)
		}
		add(why)
		if (dc.By == "lookup") != (len(dc.Lookup) > 0) {
			add("lookup: and by: lookup belong together")
		}
	case law.Pseudonymised:
		add(pseudonymRefusal(t))
	case law.Withheld:
	case law.Aggregate:
		add("the aggregate form is not held in a dataset")
	case "":
		add("no form is given (clear, generalised, pseudonymised, withheld)")
	default:
		add(fmt.Sprintf("unknown form %q (clear, generalised, pseudonymised, withheld)", dc.Form))
	}
	if dc.Form != law.Generalised && (dc.By != "" || len(dc.Lookup) > 0) {
		add("by and lookup belong to the generalised form")
	}
	if dc.Form != law.Withheld && dc.Null {
		add("null belongs to the withheld form")
	}
	return out
}

// rows checks how subjects are chosen.
func (c *checker) rows(cat *Catalog, ds *Dataset, at string, about bool) {
	r := ds.Rows
	if about && len(r.Residence) == 0 && r.Subjects == "" && r.Condition == "" {
		c.fail(at, "dataset %s: rows chooses nobody; give residence, subjects or condition", ds.Name)
	}
	if len(r.Residence) > 0 {
		if _, err := law.NewRegion(r.Residence); err != nil {
			c.fail(at+".residence", "dataset %s: residence: %v", ds.Name, err)
		}
		if cat.Person.Residence == "" {
			c.fail(at+".residence", "dataset %s: the catalog names no person.residence to choose by", ds.Name)
		}
	}
	if r.Condition != "" {
		if _, err := CompileCondition(r.Condition, cat.conditionColumns()); err != nil {
			c.fail(at+".condition", "dataset %s: %v", ds.Name, err)
		}
	}
}

// conditionColumns returns the columns that a condition may read: the reviewed ones of the
// person table, name → type.
func (c *Catalog) conditionColumns() map[string]string {
	columns := map[string]string{}
	if t := c.TableOf(c.Person.Table); t != nil {
		for _, col := range t.Columns {
			if col.Reviewed {
				columns[col.Name] = col.Resolved()
			}
		}
	}
	return columns
}

// class refuses what may not stand in the outside cluster.
func (c *checker) class(cat *Catalog, ds *Dataset, at string) {
	if ds.Cluster != "outside" {
		return
	}
	def, err := Definition(ds, cat, c.files.Purposes)
	if err != nil {
		return // said already
	}
	class, reasons := ClassOf(def)
	if class == law.ClassPseudonymised {
		return
	}
	for _, why := range reasons {
		c.fail(placeOf(ds, at, why), "dataset %s: outside holds pseudonymised datasets only: %s", ds.Name, why)
	}
}

// placeOf finds the column that a reason of law.ClassOf begins with.
func placeOf(ds *Dataset, at, why string) string {
	for i, dt := range ds.Tables {
		for j, dc := range dt.Columns {
			if strings.HasPrefix(why, dt.Table+"."+dc.Name+": ") {
				return fmt.Sprintf("%s.tables[%d].columns[%d].form", at, i, j)
			}
		}
	}
	return at + ".k"
}
