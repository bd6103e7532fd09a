package intake

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// foreignKeys takes the database's own foreign keys.
func (w *work) foreignKeys() {
	for _, t := range w.tables {
		for _, fk := range t.ForeignKeys {
			if w.byName[fk.Table.String()] == nil {
				w.notef("%s refers to %s, which cannot be read: that reference is left out.", t.name, fk.Table)
				continue
			}
			t.refs = append(t.refs, catalog.Reference{Columns: fk.Columns, Table: fk.Table.String(), Of: fk.Of})
		}
		sort.SliceStable(t.refs, func(i, j int) bool { return len(t.refs[i].Columns) < len(t.refs[j].Columns) })
	}
}

// keyWords end or begin the names of columns that hold keys.
var keyWords = []string{"id", "uuid", "nr", "no", "num", "nummer", "number", "key", "code", "fk", "ref", "numero"}

// thing is what a column that looks like a reference refers to: customer_id, idClient and
// KundenNr give customer, client and kunde.
func thing(column string) string {
	ws := words(column)
	if n := len(ws); n > 1 && containsString(keyWords, ws[n-1]) {
		ws = ws[:n-1]
	} else if n > 1 && containsString(keyWords, ws[0]) {
		ws = ws[1:]
	} else if n == 1 {
		for _, k := range []string{"id", "nr", "uuid"} { // userid, kundennr
			if len(ws[0]) > len(k)+2 && strings.HasSuffix(ws[0], k) {
				return singular(strings.TrimSuffix(ws[0], k))
			}
		}
		return ""
	}
	for i := range ws {
		ws[i] = singular(ws[i])
	}
	return strings.Join(ws, "")
}

func refType(c *postgres.Column) bool {
	f := familyOf(c)
	return !isArray(c) && (f == famInt || f == famUUID || f == famText || f == famNumber)
}

// referring reports whether a column is part of an accepted reference.
func (t *subjectTable) referring(column string) bool {
	for _, r := range t.refs {
		if containsString(r.Columns, column) {
			return true
		}
	}
	return false
}

// declareByName proposes references that the schema does not declare: a column named after
// another table, whose values are that table's keys.
func (w *work) declareByName(ctx context.Context) {
	for _, t := range w.tables {
		for _, c := range t.Columns {
			of := thing(c.Name)
			if of == "" || !refType(c) || !c.Readable || t.referring(c.Name) || of == stem(t.Name.Name) || of == w.keyThing(t) {
				continue
			}
			for _, to := range w.namedTables(t, of) {
				if w.declare(ctx, t, c, to, "is named after "+to.name) {
					break
				}
			}
		}
	}
}

// namedTables lists the tables that a thing names, those of the same schema and with the
// whole name first.
func (w *work) namedTables(from *subjectTable, of string) []*subjectTable {
	rank := func(t *subjectTable) int {
		r := 0
		if t.Schema != from.Schema {
			r += 2
		}
		if stem(t.Name.Name) != of {
			r++
		}
		if lastWord(t.Name.Name) != of {
			r += 4 // by the name of its key alone
		}
		return r
	}
	var out []*subjectTable
	for _, t := range w.tables {
		if t != from && (stem(t.Name.Name) == of || lastWord(t.Name.Name) == of || w.keyThing(t) == of) {
			out = append(out, t)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return rank(out[i]) < rank(out[j]) })
	return out
}

// keyThing is what a table's key says it is the key of: BestellNr of Bestellungen.
func (w *work) keyThing(t *subjectTable) string {
	if key := w.likelyKey(t); key != nil {
		return thing(key.Name)
	}
	return ""
}

// declare accepts a reference of one column when its values are among the other's keys.
func (w *work) declare(ctx context.Context, t *subjectTable, c *postgres.Column, to *subjectTable, because string) bool {
	key := w.likelyKey(to)
	if key == nil || familyOf(key) != familyOf(c) {
		return false
	}
	total, found, err := w.included(ctx, t, c.Name, to, key.Name)
	switch {
	case err != nil:
		w.notef("%s.%s may refer to %s.%s, but comparing them failed (%s).", t.name, c.Name, to.name, key.Name, reason(err))
		return false
	case total == 0 && containsString([]string{"is named after " + to.name}, because):
		because += "; there are no values to compare"
	case total == 0:
		return false
	case found*100 < total*95:
		w.notef("%s.%s looks as if it referred to %s.%s, but only %d of %d sampled values are there: declare it by hand if it does.", t.name, c.Name, to.name, key.Name, found, total)
		return false
	default:
		because += fmt.Sprintf("; %d of %d sampled values are keys there", found, total)
	}
	t.refs = append(t.refs, catalog.Reference{Columns: []string{c.Name}, Table: to.name, Of: []string{key.Name}, Declared: true, Why: "the column " + because})
	return true
}

// likelyKey is a table's one-column key, declared or by its name.
func (w *work) likelyKey(t *subjectTable) *postgres.Column {
	if key, ok := w.oneKey(t); ok && (t.PrimaryKey != nil || refType(t.Column(key))) {
		return t.Column(key)
	}
	for _, c := range t.Columns {
		ws := words(c.Name)
		if refType(c) && (len(ws) == 1 && containsString(keyWords, ws[0]) || thing(c.Name) == stem(t.Name.Name)) {
			return c
		}
	}
	return nil
}

// included counts how many of a sample of different values are keys of another table. The
// comparison is made in the database: no value leaves it.
func (w *work) included(ctx context.Context, t *subjectTable, column string, to *subjectTable, key string) (total, found int, err error) {
	q := postgres.Quote
	sql := fmt.Sprintf(`SELECT count(*), count(*) FILTER (WHERE EXISTS (SELECT FROM %[1]s k WHERE k.%[2]s = s.v))
		FROM (SELECT DISTINCT x.v FROM (SELECT %[3]s AS v FROM %[4]s WHERE %[3]s IS NOT NULL LIMIT 2000) x LIMIT 200) s`,
		to.Quoted(), q(key), q(column), t.Quoted())
	err = w.guarded(ctx, func(tx pgx.Tx) error { return tx.QueryRow(ctx, sql).Scan(&total, &found) })
	return total, found, err
}

// declareRoles proposes references to the person by the part played: author_id, sender,
// created_by. Values must be there: numbers alone prove nothing without the name.
func (w *work) declareRoles(ctx context.Context) {
	for _, t := range w.tables {
		for _, c := range t.Columns {
			if t == w.person && c.Name == w.key || !refType(c) || !c.Readable || t.referring(c.Name) {
				continue
			}
			if !named(c.Name, roleWords) && !named(c.Name, auditWords) {
				continue
			}
			if ws := words(c.Name); familyOf(c) == famInt && len(ws) > 1 && !containsString(keyWords, ws[len(ws)-1]) && ws[len(ws)-1] != "by" {
				continue // user_count
			}
			w.declare(ctx, t, c, w.person, "names a part that people play")
		}
	}
}
