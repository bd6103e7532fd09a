package intake

import (
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// proposedKey is the part of a table's primary key that probably tells its rows apart without the
// times in it, nil for none: one column that counts, or is random, beside times. The key of a
// partitioned table has to hold the time that it is divided by, and a pseudonymised dataset
// coarsens that. The database does not promise it: whoever reviews the catalog does.
func proposedKey(t *subjectTable) []string {
	if t.PrimaryKey == nil || len(t.PrimaryKey.Columns) < 2 {
		return nil
	}
	var rest []string
	times := 0
	for _, name := range t.PrimaryKey.Columns {
		c := t.Column(name)
		if c == nil {
			return nil
		}
		if f := familyOf(c); f == famDate || f == famStamp {
			times++
			continue
		}
		if !distinct(c) {
			return nil
		}
		rest = append(rest, name)
	}
	if times == 0 || len(rest) != 1 {
		return nil
	}
	return slices.Clone(rest)
}

// distinct says that a column's values are drawn for each row anew, as far as its definition tells.
func distinct(c *postgres.Column) bool {
	return c.Identity != "" || c.BaseType == "uuid" && c.Default != "" || strings.HasPrefix(c.Default, "nextval(")
}
