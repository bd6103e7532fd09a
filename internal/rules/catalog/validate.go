package catalog

import (
	"fmt"
	"regexp"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

var (
	databaseName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,62}$`)
	purposeName  = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)
	domainName   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)
)

// reserved are database names that a dataset cannot have.
var reserved = map[string]bool{"postgres": true, "template0": true, "template1": true, "trefoil": true}

// checker collects what is wrong.
type checker struct {
	files *Files
	errs  strict.Errors
	pos   *strict.Positions // of the file being checked
}

func (c *checker) fail(path, format string, args ...any) {
	c.errs = append(c.errs, c.pos.Errorf(path, format, args...))
}

// Validate checks what the files say against each other and against the law, without the
// database. It returns everything that is wrong, sorted by file and position; nil if nothing
// is.
func Validate(f *Files) []strict.Error {
	c := &checker{files: f}
	databases := map[string]bool{}
	for i, cat := range f.Catalogs {
		if cat == nil {
			continue
		}
		c.pos = nil
		if i < len(f.CatalogPositions) {
			c.pos = f.CatalogPositions[i]
		}
		if databases[cat.Database] {
			c.fail("database", "database %s has two catalogs", cat.Database)
		}
		databases[cat.Database] = true
		c.catalog(cat)
	}
	c.typedDomains()
	if f.Purposes != nil {
		c.pos = f.PurposesPositions
		c.purposes(f.Purposes)
	}
	if f.Datasets != nil {
		c.pos = f.DatasetsPositions
		c.datasets(f.Datasets, databases)
	}
	if c.errs.Err() == nil {
		return nil
	}
	return c.errs
}

// catalog checks one inventory.
func (c *checker) catalog(cat *Catalog) {
	if cat.Version != 1 {
		c.fail("version", "version: want 1")
	}
	if cat.Database == "" {
		c.fail("database", "database: name the entry under databases in enclave.yaml")
	}
	seen := map[string]bool{}
	for i := range cat.Tables {
		t, path := &cat.Tables[i], fmt.Sprintf("tables[%d]", i)
		if _, _, ok := splitTable(t.Table); !ok {
			c.fail(path+".table", "table %q: want schema.table", t.Table)
		}
		if seen[t.Table] {
			c.fail(path+".table", "table %s is listed twice", t.Table)
		}
		seen[t.Table] = true
		c.table(cat, t, path)
	}
	c.person(cat)
}

// person checks the person table.
func (c *checker) person(cat *Catalog) {
	p := cat.Person
	t := cat.TableOf(p.Table)
	if t == nil {
		c.fail("person.table", "person.table: %q is not in the catalog; name the table with one row a person", p.Table)
		return
	}
	if !t.Subject.Self {
		c.fail("person.table", "person.table: %s must say subject: {self: true}", p.Table)
	}
	if t.Column(p.Key) == nil {
		c.fail("person.key", "person.key: %s has no column %q", p.Table, p.Key)
	}
	for _, col := range []struct{ key, name string }{
		{"residence", p.Residence}, {"residence_changed", p.ResidenceChanged}, {"residence_before", p.ResidenceBefore}} {
		if col.name != "" && t.Column(col.name) == nil {
			c.fail("person."+col.key, "person.%s: %s has no column %q", col.key, p.Table, col.name)
		}
	}
}

// table checks one table of the inventory.
func (c *checker) table(cat *Catalog, t *Table, path string) {
	seen := map[string]bool{}
	for j := range t.Columns {
		col, at := &t.Columns[j], fmt.Sprintf("%s.columns[%d]", path, j)
		if col.Name == "" {
			c.fail(at+".name", "%s: a column has no name", t.Table)
		}
		if seen[col.Name] {
			c.fail(at+".name", "column %s.%s is listed twice", t.Table, col.Name)
		}
		seen[col.Name] = true
		c.column(t, col, at)
	}
	for j := range t.References {
		c.reference(cat, t, &t.References[j], fmt.Sprintf("%s.references[%d]", path, j))
	}
	for j, name := range t.Key {
		if t.Column(name) == nil {
			c.fail(fmt.Sprintf("%s.key[%d]", path, j), "%s has no column %q", t.Table, name)
		}
	}
	c.subject(cat, t, path+".subject")
}

// column checks one classification.
func (c *checker) column(t *Table, col *Column, at string) {
	name := t.Table + "." + col.Name
	if col.Type == "" {
		c.fail(at+".type", "column %s has no type", name)
	}
	if col.Category != "" && !col.Category.Known() {
		c.fail(at+".category", "column %s: unknown category %q (identifier, contact, location, content, behaviour, device, financial, special)", name, col.Category)
	}
	if !col.Trait.Known() {
		c.fail(at+".trait", "column %s: unknown trait %q (birth, time, key, typed, neutral, residence)", name, col.Trait)
	}
	if col.Reviewed && col.Category == "" && col.Trait != law.Neutral {
		c.fail(at, "column %s is reviewed but has no category; a value about no person has trait: neutral", name)
	}
	if col.Domain != "" && !domainName.MatchString(col.Domain) {
		c.fail(at+".domain", "column %s: a domain is letters, digits, dots, hyphens and underscores", name)
	}
}

// reference checks one reference.
func (c *checker) reference(cat *Catalog, t *Table, r *Reference, at string) {
	to := cat.TableOf(r.Table)
	if to == nil {
		c.fail(at+".to", "%s refers to %q, which is not in the catalog", t.Table, r.Table)
	}
	if len(r.Columns) == 0 || len(r.Columns) != len(r.Of) {
		c.fail(at, "%s: a reference needs as many columns as it refers to, and at least one", t.Table)
	}
	for k, name := range r.Columns {
		if t.Column(name) == nil {
			c.fail(fmt.Sprintf("%s.columns[%d]", at, k), "%s has no column %q", t.Table, name)
		}
	}
	for k, name := range r.Of {
		if to != nil && to.Column(name) == nil {
			c.fail(fmt.Sprintf("%s.of[%d]", at, k), "%s has no column %q", r.Table, name)
		}
	}
}

// subject checks that a table says in one way at most whose its rows are.
func (c *checker) subject(cat *Catalog, t *Table, at string) {
	s, set := t.Subject, 0
	for _, given := range []bool{s.Self, s.Column != "", s.Via != "", s.Nobody} {
		if given {
			set++
		}
	}
	switch {
	case set > 1:
		c.fail(at, "%s: subject has exactly one of self, column, via, nobody", t.Table)
	case s.Self && t.Table != cat.Person.Table:
		c.fail(at, "%s says it is the person table; that is %s", t.Table, cat.Person.Table)
	case s.Column != "" && t.Column(s.Column) == nil:
		c.fail(at+".column", "%s has no column %q", t.Table, s.Column)
	case s.Via != "" && t.reference(s.Via) == nil:
		c.fail(at+".via", "%s has no reference whose first column is %q", t.Table, s.Via)
	case s.Via != "":
		if _, err := cat.Path(t.Table); err != nil {
			c.fail(at, "%v", err)
		}
	}
}

// typedDomains finds columns that users write sharing a domain with identifiers: a planted
// value would become a dictionary of pseudonyms.
func (c *checker) typedDomains() {
	owners := map[string]string{}
	for _, cat := range c.files.Catalogs {
		cat.eachColumn(func(t *Table, col *Column, _ string) {
			if col.Trait != law.Typed && col.Domain != "" {
				owners[col.Domain] = t.Table + "." + col.Name
			}
		})
	}
	for i, cat := range c.files.Catalogs {
		c.pos = nil
		if i < len(c.files.CatalogPositions) {
			c.pos = c.files.CatalogPositions[i]
		}
		cat.eachColumn(func(t *Table, col *Column, at string) {
			if owner := owners[col.Domain]; col.Trait == law.Typed && col.Domain != "" && owner != "" {
				c.fail(at+".domain", "column %s.%s is written by users and shares the domain %s with %s: a planted value would reveal its pseudonym",
					t.Table, col.Name, col.Domain, owner)
			}
		})
	}
}

// eachColumn visits the columns of a catalog with their paths in the file.
func (cat *Catalog) eachColumn(visit func(t *Table, col *Column, at string)) {
	if cat == nil {
		return
	}
	for i := range cat.Tables {
		for j := range cat.Tables[i].Columns {
			visit(&cat.Tables[i], &cat.Tables[i].Columns[j], fmt.Sprintf("tables[%d].columns[%d]", i, j))
		}
	}
}

// purposes checks purposes.yaml.
func (c *checker) purposes(p *Purposes) {
	if p.Version != 1 {
		c.fail("version", "version: want 1")
	}
	seen := map[string]bool{}
	for i := range p.Purposes {
		one, at := &p.Purposes[i], fmt.Sprintf("purposes[%d]", i)
		if !purposeName.MatchString(one.Name) {
			c.fail(at+".name", "purpose %q: a name is small letters, digits, hyphens and underscores, and begins with a letter", one.Name)
		}
		if seen[one.Name] {
			c.fail(at+".name", "purpose %s is listed twice", one.Name)
		}
		seen[one.Name] = true
		if one.Basis == "" {
			c.fail(at, "purpose %s has no legal basis, as in basis: GDPR art. 6(1)(f)", one.Name)
		}
		for _, language := range []string{"en", "fr"} {
			if one.Text[language] == "" {
				c.fail(at+".text", "purpose %s has no text in %q: people must be able to read it", one.Name, language)
			}
		}
		if one.Epoch < 0 {
			c.fail(at+".epoch", "purpose %s: epoch counts from 0", one.Name)
		}
	}
}
