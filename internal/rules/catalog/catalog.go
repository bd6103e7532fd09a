// Package catalog holds the formats of catalog.yaml, datasets.yaml and purposes.yaml: what
// personal data there is, which purpose may see it in which form, and for which subjects.
//
// The invariant it keeps: what is not classified and reviewed is withheld. It decodes
// strictly and reports every error with line and column. It is pure: no network, no disk,
// no clock.
package catalog

import "github.com/trefoil-eu/trefoil/internal/rules/law"

// Catalog is catalog.yaml: the inventory of one database's personal data.
type Catalog struct {
	Version  int     `yaml:"version"`
	Database string  `yaml:"database"` // a name under databases in enclave.yaml
	Person   Person  `yaml:"person"`
	Tables   []Table `yaml:"tables"`
}

// Person names the person table: one row a subject.
type Person struct {
	Table            string `yaml:"table"`                       // schema.table, as PostgreSQL spells it, unquoted
	Key              string `yaml:"key"`                         // its one-column subject key
	Residence        string `yaml:"residence"`                   // column with an ISO 3166-1 alpha-2 country
	ResidenceChanged string `yaml:"residence_changed,omitempty"` // date or timestamp of the last change of residence
	ResidenceBefore  string `yaml:"residence_before,omitempty"`  // country before that change
}

// Table is one table of the inventory.
type Table struct {
	Table      string      `yaml:"table"`
	Subject    Subject     `yaml:"subject"`
	References []Reference `yaml:"references,omitempty"`
	Columns    []Column    `yaml:"columns"`
	// Key names the part of the primary key that alone tells rows apart, as the database cannot
	// say of a partitioned table: (id) of (id, at). A dataset in which the rest is coarsened is
	// keyed by it, and can follow.
	Key  []string `yaml:"key,omitempty"`
	Note string   `yaml:"note,omitempty"`
}

// Subject says whose a table's rows are. Exactly one field is set; none set means unknown,
// and the table is in no dataset.
type Subject struct {
	Self   bool   `yaml:"self,omitempty"`   // the person table itself
	Column string `yaml:"column,omitempty"` // holds the person's key
	Via    string `yaml:"via,omitempty"`    // first column of the reference that leads on to the person
	Nobody bool   `yaml:"nobody,omitempty"` // rows are about no person (a lookup table)
}

// Reference is a foreign key: the database's own, or declared where the schema has none.
type Reference struct {
	Columns  []string `yaml:"columns"`
	Table    string   `yaml:"to"`
	Of       []string `yaml:"of"`
	Declared bool     `yaml:"declared,omitempty"` // not a constraint of the source
	Why      string   `yaml:"why,omitempty"`
}

// Column is one classified column. A column that is not Reviewed counts as withheld.
type Column struct {
	Name      string       `yaml:"name"`
	Type      string       `yaml:"type"`           // as format_type prints it
	Base      string       `yaml:"base,omitempty"` // the type that a domain stands on, likewise
	Category  law.Category `yaml:"category"`
	Trait     law.Trait    `yaml:"trait,omitempty"`
	Domain    string       `yaml:"domain,omitempty"` // pseudonym domain; equal domains join
	Retention string       `yaml:"retention,omitempty"`
	Reviewed  bool         `yaml:"reviewed"`
	Why       string       `yaml:"why,omitempty"` // the reason for the guess
}

// Datasets is datasets.yaml.
type Datasets struct {
	Version  int       `yaml:"version"`
	Datasets []Dataset `yaml:"datasets"`
}

// Dataset is what one purpose may see.
type Dataset struct {
	Name    string         `yaml:"name"`    // also the database's name in its cluster
	Cluster string         `yaml:"cluster"` // inside or outside
	Purpose string         `yaml:"purpose"`
	Source  string         `yaml:"source"`      // a database with a catalog
	K       int64          `yaml:"k,omitempty"` // smallest cell; default 10 when pseudonymised
	Fresh   Fresh          `yaml:"fresh,omitempty"`
	Rows    Rows           `yaml:"rows"`
	Tables  []DatasetTable `yaml:"tables"`
}

// Rows chooses subjects. The choices set are all to hold; none set chooses nobody.
type Rows struct {
	Residence []string `yaml:"residence,omitempty"` // countries, or EEA; protection lasts 24 months after a change
	Subjects  string   `yaml:"subjects,omitempty"`  // a file with one subject key a line
	Condition string   `yaml:"condition,omitempty"` // CEL over catalogued columns of the person table, e.g. person.plan == "pro"
}

// DatasetTable is one table of a dataset.
type DatasetTable struct {
	Table   string          `yaml:"table"`
	Columns []DatasetColumn `yaml:"columns"`
}

// DatasetColumn is one column in the form the dataset holds it. A catalogued column that is
// not listed is withheld: it is not there.
type DatasetColumn struct {
	Name   string                   `yaml:"name"`
	Form   law.Form                 `yaml:"form"`
	By     string                   `yaml:"by,omitempty"`     // generalised: year, month, day, hour, prefix:N, net (/24, /48), bucket:N, lookup
	Lookup map[string]string        `yaml:"lookup,omitempty"` // generalised by lookup: value → value; others become NULL
	Paths  map[string]DatasetColumn `yaml:"paths,omitempty"`  // jsonb: JSON pointer → form; paths not listed are withheld
	Null   bool                     `yaml:"null,omitempty"`   // withheld: keep the column, always NULL
}

// Purposes is purposes.yaml.
type Purposes struct {
	Version  int       `yaml:"version"`
	Purposes []Purpose `yaml:"purposes"`
}

// Purpose is a declared reason with its legal basis.
type Purpose struct {
	Name  string            `yaml:"name"`
	Text  map[string]string `yaml:"text"`  // language → plain sentence; en and fr
	Basis string            `yaml:"basis"` // e.g. "GDPR art. 6(1)(f)"
	Epoch int               `yaml:"epoch"` // pseudonym epoch
}
