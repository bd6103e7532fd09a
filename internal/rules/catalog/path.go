package catalog

import (
	"errors"
	"fmt"
	"strings"
)

// Step is one hop from a table towards the person table: rows of Table lead to the row of To
// whose Of columns equal Columns.
type Step struct {
	Table   string
	Columns []string
	To      string
	Of      []string
}

// ErrNobody says that a table's rows are about no person: they have no path.
var ErrNobody = errors.New("the table is about nobody")

// Path returns the steps from a table to the person table; none for the person table itself.
// It fails with ErrNobody for a lookup table, and with another error where the catalog does
// not say whose the rows are, or the references do not lead there.
func (c *Catalog) Path(table string) ([]Step, error) {
	var steps []Step
	seen := map[string]bool{}
	for name := table; ; {
		if seen[name] {
			return nil, fmt.Errorf("the path of %s runs in a circle through %s", table, name)
		}
		seen[name] = true
		t := c.TableOf(name)
		if t == nil {
			return nil, fmt.Errorf("the path of %s leads to %s, which is not in the catalog", table, name)
		}
		switch {
		case t.Subject.Self:
			if name != c.Person.Table {
				return nil, fmt.Errorf("%s says it is the person table; that is %s", name, c.Person.Table)
			}
			return steps, nil
		case t.Subject.Nobody:
			if len(steps) == 0 {
				return nil, ErrNobody
			}
			return nil, fmt.Errorf("the path of %s leads to %s, which is about nobody", table, name)
		case t.Subject.Column != "":
			return append(steps, Step{name, []string{t.Subject.Column}, c.Person.Table, []string{c.Person.Key}}), nil
		case t.Subject.Via != "":
			ref := t.reference(t.Subject.Via)
			if ref == nil {
				return nil, fmt.Errorf("%s names %s as its way to the person, but has no reference that begins with it", name, t.Subject.Via)
			}
			steps = append(steps, Step{name, ref.Columns, ref.Table, ref.Of})
			name = ref.Table
		default:
			return nil, fmt.Errorf("nobody has said whose the rows of %s are (subject)", name)
		}
	}
}

// reference returns the reference whose first column is column, or nil.
func (t *Table) reference(column string) *Reference {
	for i := range t.References {
		if len(t.References[i].Columns) > 0 && t.References[i].Columns[0] == column {
			return &t.References[i]
		}
	}
	return nil
}

// splitTable reads schema.table. PostgreSQL's names may hold dots; the schema then is what
// stands before the first one.
func splitTable(name string) (schema, table string, ok bool) {
	schema, table, ok = strings.Cut(name, ".")
	return schema, table, ok && schema != "" && table != ""
}
