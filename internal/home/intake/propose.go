package intake

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// FirstDataset is the name of the dataset that Propose proposes.
const FirstDataset = "analytics"

// catalog writes down what was guessed. Nothing is reviewed.
func (w *work) catalog() *catalog.Catalog {
	cat := &catalog.Catalog{Version: 1, Database: w.o.Database}
	if w.person != nil {
		cat.Person = catalog.Person{Table: w.person.name, Key: w.key, Residence: w.country}
		w.residenceHistory(cat)
	}
	for _, t := range w.tables {
		entry := catalog.Table{Table: t.name, Subject: t.subject, References: t.refs, Note: t.note}
		if entry.Key = proposedKey(t); entry.Key != nil {
			entry.Note = strings.TrimSpace(entry.Note + " Make sure that " + entry.Key[0] + " alone tells its rows apart, as key: says; the database does not.")
		}
		for _, c := range t.Columns {
			g := t.guesses[c.Name]
			entry.Columns = append(entry.Columns, catalog.Column{Name: c.Name, Type: c.Type, Base: standsOn(c), Category: g.category, Trait: g.trait, Domain: g.domain, Why: g.why})
		}
		cat.Tables = append(cat.Tables, entry)
	}
	return cat
}

// residenceHistory finds the columns that keep the country before, and when it changed.
func (w *work) residenceHistory(cat *catalog.Catalog) {
	for _, c := range w.person.Columns {
		f := familyOf(c)
		country := named(c.Name, []string{"country", "residence", "pays", "land", "wohnsitzland"})
		switch {
		case !country || c.Name == w.country || w.country == "":
		case (f == famDate || f == famStamp) && cat.Person.ResidenceChanged == "":
			cat.Person.ResidenceChanged = c.Name
		case (f == famText || f == famEnum || f == famOther) && cat.Person.ResidenceBefore == "" && named(c.Name, []string{"before", "previous", "old", "former", "ancien", "vorher"}):
			cat.Person.ResidenceBefore = c.Name
		}
	}
}

// firstPurpose is the purpose of the first dataset: to be read and changed by the operator.
func firstPurpose() *catalog.Purposes {
	return &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{
		Name: FirstDataset,
		Text: map[string]string{
			"en": "To learn how the service is used, without knowing by whom.",
			"fr": "Comprendre comment le service est utilisé, sans savoir par qui.",
		},
		Basis: "GDPR art. 6(1)(f)",
		Epoch: 1,
	}}}
}

// personColumns bounds how many readable columns of the person table the first dataset
// holds: every further one makes the cells smaller.
const personColumns = 3

// firstDataset proposes a pseudonymised dataset: keys as pseudonyms, behaviour as it is,
// times to the day, birth to the year, and nothing that identifies, reaches, pays or tells.
// What the law or the transforms would refuse is left out rather than proposed.
func (w *work) firstDataset(cat *catalog.Catalog, purposes *catalog.Purposes) *catalog.Datasets {
	ds := catalog.Dataset{Name: FirstDataset, Cluster: "outside", Purpose: FirstDataset, Source: w.o.Database, K: law.DefaultK}
	if ds.Name == ds.Source {
		ds.Name = "first_dataset"
	}
	if w.country != "" {
		ds.Rows.Residence = []string{"EEA", "GB", "CH"}
	} else {
		w.everybody(&ds)
	}
	held := map[string]bool{}
	for _, t := range w.tables {
		held[t.name] = t.hops >= 0
	}
	for changed := true; changed; { // what tables about people refer to, and so on
		changed = false
		for _, t := range w.tables {
			for _, r := range t.refs {
				to := w.byName[r.Table]
				if held[t.name] && !held[to.name] && to.subject.Nobody {
					held[to.name], changed = true, true
				}
			}
		}
	}
	for _, t := range w.tables {
		if !held[t.name] {
			continue
		}
		dt := catalog.DatasetTable{Table: t.name}
		readable := map[string]bool{}
		if t == w.person {
			readable = w.readableFirst(t)
		}
		for _, c := range t.Columns {
			dc, ok := w.firstForm(t, c)
			if !ok || !w.allowed(t, c, dc) {
				continue
			}
			if t == w.person && dc.Form != law.Pseudonymised && !readable[c.Name] {
				continue
			}
			dt.Columns = append(dt.Columns, dc)
		}
		if len(dt.Columns) > 0 {
			ds.Tables = append(ds.Tables, dt)
		}
	}
	out := &catalog.Datasets{Version: 1, Datasets: []catalog.Dataset{ds}}
	w.dropRefused(cat, out, purposes)
	return out
}

var celName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// everybody chooses all persons by a condition that holds for each.
func (w *work) everybody(ds *catalog.Dataset) {
	for _, name := range append([]string{w.key}, columnNames(w.person)...) {
		c := w.person.Column(name)
		if f := familyOf(c); celName.MatchString(name) && !isArray(c) && (name == w.key || c.NotNull) && f != famJSON && f != famBytes && f != famMac && f != famTime {
			ds.Rows.Condition = "person." + name + " != null"
			return
		}
	}
	w.notef("Write into datasets.yaml which subjects %s holds (rows): no column of %s can be named in a condition.", ds.Name, w.person.name)
}

func columnNames(t *subjectTable) []string {
	names := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = c.Name
	}
	return names
}

// readableFirst orders a person table's columns for the few readable places: residence and
// birth before others.
func (w *work) readableFirst(t *subjectTable) map[string]bool {
	chosen := map[string]bool{}
	for _, pass := range []func(*guess) bool{
		func(g *guess) bool { return g.trait == law.Residence || g.trait == law.Birth },
		func(*guess) bool { return true },
	} {
		for _, c := range t.Columns {
			dc, ok := w.firstForm(t, c)
			if ok && dc.Form != law.Pseudonymised && w.allowed(t, c, dc) && pass(t.guesses[c.Name]) && len(chosen) < personColumns {
				chosen[c.Name] = true
			}
		}
	}
	return chosen
}

// firstForm is the form that a guess suggests, false for withheld.
func (w *work) firstForm(t *subjectTable, c *postgres.Column) (catalog.DatasetColumn, bool) {
	g := t.guesses[c.Name]
	dc := catalog.DatasetColumn{Name: c.Name}
	f := familyOf(c)
	switch {
	case !c.Readable:
		return dc, false
	case g.trait == law.Residence:
		dc.Form = law.Clear
	case g.trait == law.Birth && (f == famDate || f == famStamp):
		dc.Form, dc.By = law.Generalised, "year"
	case g.trait == law.Birth && f == famInt:
		dc.Form, dc.By = law.Generalised, "bucket:10"
	case !g.quiet:
		return dc, false
	case g.category == law.Identifier:
		dc.Form = law.Pseudonymised
	case g.trait == law.Time && t == w.person:
		return dc, false
	case g.trait == law.Time && f == famStamp:
		dc.Form, dc.By = law.Generalised, "day"
	case t == w.person && f != famBool && f != famEnum && !t.sample[c.Name].few() && !t.referring(c.Name):
		return dc, false
	default:
		dc.Form = law.Clear
	}
	return dc, true
}

// standsOn is the type behind a domain, or behind the domain of an array's elements; "" for
// other types.
func standsOn(c *postgres.Column) string {
	elem, _, _ := strings.Cut(strings.TrimSuffix(c.Type, "[]"), "(")
	switch {
	case c.TypeKind == "domain":
		return c.BaseType
	case c.ElemType != "" && strings.HasSuffix(c.Type, "[]") && !strings.HasPrefix(c.ElemType, elem):
		return c.ElemType + "[]"
	}
	return ""
}

// allowed asks the law whether a pseudonymised dataset may hold the column so.
func (w *work) allowed(t *subjectTable, c *postgres.Column, dc catalog.DatasetColumn) bool {
	g := t.guesses[c.Name]
	seen := catalog.Column{Type: c.Type, Base: standsOn(c)}
	class, _ := law.ClassOf([]law.Held{{Table: t.name, Column: c.Name, Category: g.category, Trait: g.trait, Form: dc.Form, Detail: dc.By,
		Type: seen.Resolved(), Person: t == w.person}}, law.DefaultK)
	return class == law.ClassPseudonymised
}

// dropRefused validates the dataset as it would be once everything is reviewed, and leaves
// out the columns that are refused: a type without a pseudonym, ends of a reference that
// would not join.
func (w *work) dropRefused(cat *catalog.Catalog, out *catalog.Datasets, purposes *catalog.Purposes) {
	reviewed := AsReviewed(&catalog.Files{Catalogs: []*catalog.Catalog{cat}}).Catalogs
	for range 8 {
		src, err := EncodeDatasets(out)
		if err != nil {
			return
		}
		parsed, pos, err := catalog.ParseDatasets("datasets.yaml", src)
		if err != nil {
			return
		}
		lines := map[int]bool{}
		for _, e := range catalog.Validate(&catalog.Files{Catalogs: reviewed, Datasets: parsed, DatasetsPositions: pos, Purposes: purposes}) {
			if e.File == "datasets.yaml" {
				lines[e.Line] = true
			}
		}
		dropped := false
		ds := &out.Datasets[0]
		tables := ds.Tables[:0:0]
		for i, dt := range ds.Tables {
			columns := dt.Columns[:0:0]
			for j, dc := range dt.Columns {
				line, _ := pos.At(fmt.Sprintf("datasets[0].tables[%d].columns[%d].name", i, j))
				if lines[line] {
					dropped = true
					continue
				}
				columns = append(columns, dc)
			}
			if dt.Columns = columns; len(columns) > 0 {
				tables = append(tables, dt)
			}
		}
		ds.Tables = tables
		if !dropped {
			return
		}
	}
}
