package dataset

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// written is a table of the dataset as statements need it.
type written struct {
	types   []string // of the columns, in the order of lines
	pk      []int    // places of the key in lines
	uniques bool     // it has unique keys beside the one that rows are found by
	update  string   // names of prepared statements; "" until they are
	insert  string
	remove  string
}

// describe reads the table as it stands.
func (a *applier) describe(ctx context.Context, f *followed) error {
	t := &written{}
	rows, err := a.conn.Query(ctx, `SELECT attname::text, pg_catalog.format_type(atttypid, atttypmod) FROM pg_catalog.pg_attribute
		WHERE attrelid = $1::text::pg_catalog.regclass AND attnum > 0 AND NOT attisdropped`, f.quoted())
	if err != nil {
		return err
	}
	types := map[string]string{}
	for rows.Next() {
		var name, typ string
		if err := rows.Scan(&name, &typ); err != nil {
			return err
		}
		types[name] = typ
	}
	if err := rows.Err(); err != nil {
		return err
	}
	f.heldPK = f.heldPK[:0]
	for _, name := range f.pk {
		f.heldPK = append(f.heldPK, types[name])
		t.pk = append(t.pk, slices.IndexFunc(f.out, func(c *outColumn) bool { return c.name == name }))
	}
	for _, c := range f.out {
		t.types = append(t.types, types[c.name])
	}
	var uniques int
	err = a.conn.QueryRow(ctx, `SELECT count(*) FROM pg_catalog.pg_index WHERE indrelid = $1::text::pg_catalog.regclass AND (indisunique OR indisexclusion)`, f.quoted()).Scan(&uniques)
	if err != nil {
		return err
	}
	t.uniques, f.to = uniques > 1, t
	for _, child := range f.children {
		if fk := child.ref.source; fk != nil && child.from.held {
			if err := a.conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE contype = 'f' AND convalidated
				AND conrelid = pg_catalog.to_regclass($1) AND confrelid = pg_catalog.to_regclass($2) AND conname = $3)`,
				child.from.quoted(), f.quoted(), fk.Name).Scan(&child.guarded); err != nil {
				return err
			}
		}
	}
	return a.statements(ctx, f)
}

// statements prepares how rows are written: one array a column.
func (a *applier) statements(ctx context.Context, f *followed) error {
	t := f.to
	var args, names, put, set []string
	for i, c := range f.out {
		elem, value := t.types[i], fmt.Sprintf("u.c%d", i)
		if strings.HasSuffix(elem, "[]") { // unnest would take an array of arrays apart
			elem, value = "text", fmt.Sprintf("u.c%d::%s", i, t.types[i])
		}
		args = append(args, fmt.Sprintf("$%d::%s[]", i+1, elem))
		names, put = append(names, fmt.Sprintf("c%d", i)), append(put, value)
		if !slices.Contains(t.pk, i) {
			set = append(set, postgres.Quote(c.name)+" = "+value)
		}
	}
	from := fmt.Sprintf("unnest(%s) u(%s)", strings.Join(args, ", "), strings.Join(names, ", "))
	var on []string
	for n, i := range t.pk {
		on = append(on, fmt.Sprintf("t.%s = %s", postgres.Quote(f.pk[n]), put[i]))
	}
	if len(set) == 0 { // nothing but its key: a row that is there is as it should be
		set = []string{postgres.Quote(f.pk[0]) + " = t." + postgres.Quote(f.pk[0])}
	}
	t.update, t.insert, t.remove = f.stage+"_update", f.stage+"_insert", f.stage+"_remove"
	for name, sql := range map[string]string{
		t.update: fmt.Sprintf("UPDATE %s t SET %s FROM %s WHERE %s", f.quoted(), strings.Join(set, ", "), from, strings.Join(on, " AND ")),
		t.insert: fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s ON CONFLICT (%s) DO NOTHING", f.quoted(), f.columnList(), strings.Join(put, ", "), from, postgres.QuoteAll(f.pk)),
		t.remove: fmt.Sprintf("DELETE FROM %s t USING %s k WHERE %s RETURNING k.o", f.quoted(), ordered(f.heldPK), joined(f.pk)),
	} {
		if _, err := a.conn.PgConn().Prepare(ctx, name, sql, nil); err != nil {
			return err
		}
	}
	return nil
}
