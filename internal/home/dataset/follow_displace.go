package dataset

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// displace takes away the rows that hold a unique value which a staged row is about to take. At
// the source the value is unique, so these rows changed or went too, and their turn in the
// batch is yet to come: then those that stay are written again.
func (a *applier) displace(ctx context.Context, f *followed) error {
	uniques, err := a.uniques(ctx, f)
	if err != nil {
		return err
	}
	var gone []*changed
	var keys [][]string
	for _, columns := range uniques {
		sql := fmt.Sprintf("SELECT DISTINCT %s FROM %s s JOIN %s t ON %s WHERE NOT EXISTS (SELECT FROM %s x WHERE %s)",
			quotedList("t.", f.pk), f.stage, f.quoted(), equal("t", "s", columns), f.stage, equal("x", "t", f.pk))
		err := a.each(ctx, sql, nil, func(v [][]byte) error {
			key := make([]string, len(v))
			for i := range v {
				key[i] = string(v[i])
			}
			gone, keys = append(gone, &changed{heldKey: key, present: true}), append(keys, key)
			return nil
		})
		if err != nil {
			return fmt.Errorf("find rows of %s that are in the way: %w", f.name, err)
		}
		// One row may be in the way of two values: it goes once.
		if err := a.takeAway(ctx, f, gone, keys); err != nil {
			return err
		}
		gone, keys = nil, nil
	}
	return nil
}

func (a *applier) takeAway(ctx context.Context, f *followed, gone []*changed, keys [][]string) error {
	for _, r := range gone {
		a.count(f, r)
	}
	if a.cells != nil && f.person {
		if err := a.cells.leave(ctx, a, gone); err != nil {
			return err
		}
	}
	return a.remove(ctx, f, keys)
}

// uniques lists the columns of each unique key of a table in the dataset, but its primary key.
func (a *applier) uniques(ctx context.Context, f *followed) ([][]string, error) {
	rows, err := a.tx.Query(ctx, `SELECT (SELECT pg_catalog.array_agg(a.attname::text) FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey[:i.indnkeyatts - 1]))
		FROM pg_catalog.pg_index i WHERE i.indrelid = $1::text::pg_catalog.regclass AND i.indisunique AND NOT i.indisprimary AND i.indexprs IS NULL`, f.quoted())
	if err != nil {
		return nil, fmt.Errorf("read the unique keys of %s: %w", f.name, safe(err))
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[[]string])
	if err != nil {
		return nil, fmt.Errorf("read the unique keys of %s: %w", f.name, safe(err))
	}
	return list, nil
}

func equal(left, right string, columns []string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = left + "." + postgres.Quote(c) + " = " + right + "." + postgres.Quote(c)
	}
	return strings.Join(out, " AND ")
}
