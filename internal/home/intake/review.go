package intake

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Accepted is one column that a reviewer accepts as it is classified.
type Accepted struct {
	Table    string       `json:"table"`
	Column   string       `json:"column"`
	Category law.Category `json:"category"`
	Trait    law.Trait    `json:"trait,omitempty"`
	Why      string       `json:"why"`
}

// Accept marks as reviewed what names say, in the text of a catalog, and returns the text
// and what changed. A name is schema.table, schema.table.column, or a dataset's: the columns
// that it holds. Comments and layout stay; only the word false becomes true. Names that say
// nothing of this catalog are returned too: another one may know them.
func Accept(file string, src []byte, datasets *catalog.Datasets, names []string) (text []byte, accepted []Accepted, unknown []string, err error) {
	cat, pos, err := catalog.ParseCatalog(file, src)
	if err != nil {
		return nil, nil, nil, err
	}
	chosen, unknown := choose(cat, datasets, names)
	lines := bytes.SplitAfter(src, []byte("\n"))
	var out []Accepted
	for i, t := range cat.Tables {
		for j, c := range t.Columns {
			if c.Reviewed || !chosen[t.Table+"\x00"+c.Name] {
				continue
			}
			line, column := pos.At(fmt.Sprintf("tables[%d].columns[%d].reviewed", i, j))
			if err := setTrue(lines, line, column); err != nil {
				return nil, nil, nil, strict.Error{File: file, Line: line, Column: column, Message: fmt.Sprintf("column %s.%s: %v", t.Table, c.Name, err)}
			}
			out = append(out, Accepted{t.Table, c.Name, c.Category, c.Trait, c.Why})
		}
	}
	return bytes.Join(lines, nil), out, unknown, nil
}

// choose resolves names to columns of a catalog.
func choose(cat *catalog.Catalog, datasets *catalog.Datasets, names []string) (map[string]bool, []string) {
	chosen := map[string]bool{}
	var unknown []string
	for _, name := range names {
		found := false
		if ds := datasets.Dataset(name); ds != nil && ds.Source == cat.Database {
			found = true
			for _, dt := range ds.Tables {
				for _, dc := range dt.Columns {
					chosen[dt.Table+"\x00"+dc.Name] = true
				}
			}
		}
		for _, t := range cat.Tables {
			for _, c := range t.Columns {
				if name == t.Table || name == t.Table+"."+c.Name {
					chosen[t.Table+"\x00"+c.Name], found = true, true
				}
			}
		}
		if !found {
			unknown = append(unknown, name)
		}
	}
	return chosen, unknown
}

// setTrue replaces false at a position. Columns count characters, as the parser's do.
func setTrue(lines [][]byte, line, column int) error {
	if line < 1 || line > len(lines) {
		return fmt.Errorf("has no reviewed: false to change; write reviewed: true by hand")
	}
	text := []rune(string(lines[line-1]))
	at := column - 1
	if at < 0 || at+5 > len(text) || string(text[at:at+5]) != "false" {
		return fmt.Errorf("has no reviewed: false to change; write reviewed: true by hand")
	}
	lines[line-1] = []byte(string(text[:at]) + "true" + string(text[at+5:]))
	return nil
}

// AsReviewed is a copy of files as they would be once every column is reviewed as it is
// classified: what Validate says of it is wrong whoever reviews.
func AsReviewed(f *catalog.Files) *catalog.Files {
	out := *f
	out.Catalogs = nil
	for _, cat := range f.Catalogs {
		c := *cat
		c.Tables = nil
		for _, t := range cat.Tables {
			t.Columns = slices.Clone(t.Columns)
			for i := range t.Columns {
				t.Columns[i].Reviewed = true
			}
			c.Tables = append(c.Tables, t)
		}
		out.Catalogs = append(out.Catalogs, &c)
	}
	return &out
}

// Unreviewed lists what datasets want and nobody has reviewed: one finding a column, at its
// line of the catalog.
func Unreviewed(f *catalog.Files) []Finding {
	var out []Finding
	if f.Datasets == nil {
		return nil
	}
	said := map[string]bool{}
	for i, cat := range f.Catalogs {
		for _, ds := range f.Datasets.Datasets {
			if ds.Source != cat.Database {
				continue
			}
			for _, dt := range ds.Tables {
				for _, dc := range dt.Columns {
					ti, ci := find(cat, dt.Table, dc.Name)
					if ci < 0 || cat.Tables[ti].Columns[ci].Reviewed || (dc.Form == law.Withheld && len(dc.Paths) == 0) || said[dt.Table+"\x00"+dc.Name] {
						continue
					}
					said[dt.Table+"\x00"+dc.Name] = true
					c := cat.Tables[ti].Columns[ci]
					one := Finding{Severity: Review, Text: fmt.Sprintf("%s.%s is not reviewed: %s, %s in %s (%s)", dt.Table, dc.Name, label(c), formLabel(dc), ds.Name, c.Why)}
					if i < len(f.CatalogPositions) {
						one.File = f.CatalogPositions[i].File()
						one.Line, one.Column = f.CatalogPositions[i].At(fmt.Sprintf("tables[%d].columns[%d]", ti, ci))
					}
					out = append(out, one)
				}
			}
		}
	}
	return out
}

func find(cat *catalog.Catalog, table, column string) (int, int) {
	for i := range cat.Tables {
		if cat.Tables[i].Table != table {
			continue
		}
		for j := range cat.Tables[i].Columns {
			if cat.Tables[i].Columns[j].Name == column {
				return i, j
			}
		}
	}
	return -1, -1
}

func label(c catalog.Column) string {
	parts := []string{string(c.Category)}
	if c.Category == "" {
		parts = nil
	}
	if c.Trait != "" {
		parts = append(parts, string(c.Trait))
	}
	return strings.Join(parts, " ")
}

func formLabel(dc catalog.DatasetColumn) string {
	if dc.By != "" {
		return string(dc.Form) + " by " + dc.By
	}
	return string(dc.Form)
}
