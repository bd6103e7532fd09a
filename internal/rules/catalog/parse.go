package catalog

import "github.com/trefoil-eu/trefoil/internal/strict"

// ParseCatalog decodes catalog.yaml. File is used in errors only. The error is a
// strict.Errors; what could be read and its positions are returned with it.
func ParseCatalog(file string, src []byte) (*Catalog, *strict.Positions, error) {
	var c Catalog
	pos, err := strict.DecodeWithPositions(file, src, &c)
	return &c, pos, err
}

// ParseDatasets decodes datasets.yaml, as ParseCatalog does.
func ParseDatasets(file string, src []byte) (*Datasets, *strict.Positions, error) {
	var d Datasets
	pos, err := strict.DecodeWithPositions(file, src, &d)
	return &d, pos, err
}

// ParsePurposes decodes purposes.yaml, as ParseCatalog does.
func ParsePurposes(file string, src []byte) (*Purposes, *strict.Positions, error) {
	var p Purposes
	pos, err := strict.DecodeWithPositions(file, src, &p)
	return &p, pos, err
}

// Files are the decoded files of one enclave. The positions may be nil; then errors have
// no line. CatalogPositions runs parallel to Catalogs.
type Files struct {
	Catalogs          []*Catalog
	CatalogPositions  []*strict.Positions
	Datasets          *Datasets
	DatasetsPositions *strict.Positions
	Purposes          *Purposes
	PurposesPositions *strict.Positions
}

// Catalog returns the catalog of a database, or nil.
func (f *Files) Catalog(database string) *Catalog {
	for _, c := range f.Catalogs {
		if c != nil && c.Database == database {
			return c
		}
	}
	return nil
}

// Dataset returns the dataset of a name, or nil.
func (d *Datasets) Dataset(name string) *Dataset {
	if d == nil {
		return nil
	}
	for i := range d.Datasets {
		if d.Datasets[i].Name == name {
			return &d.Datasets[i]
		}
	}
	return nil
}

// Purpose returns the purpose of a name, or nil.
func (p *Purposes) Purpose(name string) *Purpose {
	if p == nil {
		return nil
	}
	for i := range p.Purposes {
		if p.Purposes[i].Name == name {
			return &p.Purposes[i]
		}
	}
	return nil
}

// TableOf returns the inventory of a table, or nil.
func (c *Catalog) TableOf(name string) *Table {
	if c == nil {
		return nil
	}
	for i := range c.Tables {
		if c.Tables[i].Table == name {
			return &c.Tables[i]
		}
	}
	return nil
}

// Column returns the classification of a column, or nil.
func (t *Table) Column(name string) *Column {
	if t == nil {
		return nil
	}
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}

// Resolved returns the type behind the column's: what a domain stands on, else the type.
func (c *Column) Resolved() string {
	if c.Base != "" {
		return c.Base
	}
	return c.Type
}

// DomainOf names the pseudonym domain of a column: its own, or schema.table.column, which it
// shares with no other.
func DomainOf(table string, c Column) string {
	if c.Domain != "" {
		return c.Domain
	}
	return table + "." + c.Name
}
