package intake

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// maxValue is how many characters of a value are looked at.
const maxValue = 200

// sampleTable looks at a bounded part of a table. What cannot be read, or not in time, is
// noted and leaves the table to names and types alone.
func (w *work) sampleTable(ctx context.Context, t *subjectTable) error {
	var columns []*postgres.Column
	var list []string
	for _, c := range t.Columns {
		if c.Readable && c.Generated == "" && sampled(c) {
			columns = append(columns, c)
			list = append(list, fmt.Sprintf("pg_catalog.left(%s::pg_catalog.text, %d)", postgres.Quote(c.Name), maxValue))
		}
	}
	if len(columns) == 0 {
		return nil
	}
	from := t.Quoted()
	if t.Rows > 50*int64(w.o.SampleRows) && t.Kind == postgres.Ordinary {
		// Pages from all over the table; a few times the rows wanted, since pages vary.
		from += fmt.Sprintf(" TABLESAMPLE SYSTEM (%.6f)", min(100, 400*float64(w.o.SampleRows)/float64(t.Rows)))
	}
	sql := fmt.Sprintf("SELECT %s FROM %s LIMIT %d", strings.Join(list, ", "), from, w.o.SampleRows)
	err := w.guarded(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, sql)
		if err != nil {
			return err
		}
		defer rows.Close()
		return w.look(t, columns, rows)
	})
	if err != nil && ctx.Err() == nil {
		t.sample = nil
		w.notef("%s could not be sampled (%s): its columns are guessed by names and types alone.", t.name, reason(err))
		return nil
	}
	return err
}

// sampled says which types are worth a look: those whose meaning is not in the type.
func sampled(c *postgres.Column) bool {
	switch familyOf(c) {
	case famText, famInt, famDate:
		return !isArray(c)
	}
	return false
}

// guarded runs f in a savepoint, so that its failure does not end the transaction.
func (w *work) guarded(ctx context.Context, f func(pgx.Tx) error) error {
	sub, err := w.tx.Begin(ctx)
	if err != nil {
		return err
	}
	if err := f(sub); err != nil {
		if rb := sub.Rollback(context.WithoutCancel(ctx)); rb != nil {
			return rb
		}
		return err
	}
	return sub.Commit(ctx)
}

// look counts shapes. Values live in this function only.
func (w *work) look(t *subjectTable, columns []*postgres.Column, rows pgx.Rows) error {
	now := time.Now()
	seen := make([]map[string]struct{}, len(columns))
	t.sample = map[string]*shape{}
	for i, c := range columns {
		seen[i] = map[string]struct{}{}
		t.sample[c.Name] = &shape{kinds: map[string]int{}}
	}
	values := make([]*string, len(columns))
	into := make([]any, len(columns))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return err
		}
		for i, c := range columns {
			s := t.sample[c.Name]
			s.rows++
			if values[i] == nil || strings.TrimSpace(*values[i]) == "" {
				continue
			}
			v := strings.TrimSpace(strings.ToValidUTF8(*values[i], "?"))
			s.values++
			seen[i][v] = struct{}{}
			s.longest = max(s.longest, utf8.RuneCountInString(v))
			for _, k := range shapesOf(v, now) {
				s.kinds[k]++
			}
		}
	}
	for i, c := range columns {
		t.sample[c.Name].distinct = len(seen[i])
	}
	return rows.Err()
}

// reason puts an error into words without what the server said: messages can hold values.
func reason(err error) string {
	switch code := postgres.SQLState(err); code {
	case "42501":
		return "no right to read it"
	case "57014":
		return "it took too long"
	case "":
		return "the connection failed"
	default:
		return "SQLSTATE " + code
	}
}
