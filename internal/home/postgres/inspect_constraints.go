package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// constraints reads keys, foreign keys and checks of tables. What a partition inherits is
// listed on its parent only.
func (r *inspector) constraints(ctx context.Context) error {
	actions := map[string]string{"a": "no action", "r": "restrict", "c": "cascade", "n": "set null", "d": "set default"}
	return r.each(ctx, `SELECT k.conrelid, k.contype::text, k.conname, pg_catalog.pg_get_constraintdef(k.oid),
		k.convalidated, k.condeferrable, k.confrelid, k.confdeltype::text, k.confupdtype::text, k.confmatchtype = 'f',
		ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY u(n, i)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.n ORDER BY u.i),
		ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY u(n, i)
			JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.n ORDER BY u.i)
		FROM pg_catalog.pg_constraint k
		WHERE k.contype IN ('p','u','f','c') AND k.conrelid <> 0 AND (k.contype <> 'f' OR k.conparentid = 0)
		ORDER BY k.conrelid, k.conname COLLATE "C"`, func(rows pgx.Rows) error {
		var table, other uint32
		var kind, name, def, onDelete, onUpdate string
		var valid, deferrable, full bool
		var columns, of []string
		if err := rows.Scan(&table, &kind, &name, &def, &valid, &deferrable, &other, &onDelete, &onUpdate, &full, &columns, &of); err != nil {
			return err
		}
		t := r.tables[table]
		if t == nil {
			return nil
		}
		switch kind {
		case "p":
			t.PrimaryKey = &Key{Name: name, Columns: columns, Definition: def, Deferrable: deferrable}
		case "u":
			t.Uniques = append(t.Uniques, &Key{Name: name, Columns: columns, Definition: def, Deferrable: deferrable})
		case "c":
			t.Checks = append(t.Checks, &Check{Name: name, Columns: columns, Definition: def})
		case "f":
			fk := &ForeignKey{Name: name, Columns: columns, Of: of, Definition: def, Valid: valid,
				OnDelete: actions[onDelete], OnUpdate: actions[onUpdate], Match: "simple"}
			if full {
				fk.Match = "full"
			}
			if o := r.tables[other]; o != nil {
				fk.Table = o.Name
				t.ForeignKeys = append(t.ForeignKeys, fk)
			}
		}
		return nil
	})
}

func (r *inspector) domainChecks(ctx context.Context) error {
	byOID := map[uint32]*Domain{}
	for _, d := range r.s.Domains {
		byOID[d.OID] = d
	}
	return r.each(ctx, `SELECT k.contypid, k.conname, pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k
		WHERE k.contypid <> 0 AND k.contype = 'c' ORDER BY k.contypid, k.conname COLLATE "C"`, func(rows pgx.Rows) error {
		var oid uint32
		c := &Check{}
		if err := rows.Scan(&oid, &c.Name, &c.Definition); err != nil {
			return err
		}
		if d := byOID[oid]; d != nil {
			d.Checks = append(d.Checks, c)
		}
		return nil
	})
}

// indexes reads all indexes, those that constraints made too.
func (r *inspector) indexes(ctx context.Context) error {
	// to_jsonb reads a column of pg_index that PostgreSQL 12 to 14 do not have.
	return r.each(ctx, `SELECT i.indrelid, ic.relname, pg_catalog.pg_get_indexdef(i.indexrelid), am.amname,
		ARRAY(SELECT coalesce(a.attname::text, '') FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(n, k)
			LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n AND u.n > 0
			WHERE u.k <= i.indnkeyatts ORDER BY u.k),
		ARRAY(SELECT coalesce(a.attname::text, '') FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(n, k)
			LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n AND u.n > 0
			WHERE u.k > i.indnkeyatts ORDER BY u.k),
		i.indisunique, i.indisprimary, i.indisvalid, coalesce(pg_catalog.pg_get_expr(i.indpred, i.indrelid), ''),
		i.indexprs IS NOT NULL, coalesce((pg_catalog.to_jsonb(i) ->> 'indnullsnotdistinct')::boolean, false),
		coalesce((SELECT k.conname FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p','u','x') LIMIT 1), '')
		FROM pg_catalog.pg_index i
		JOIN pg_catalog.pg_class ic ON ic.oid = i.indexrelid
		JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
		JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_catalog.pg_am am ON am.oid = ic.relam
		WHERE `+userSchema+` ORDER BY i.indrelid, ic.relname COLLATE "C"`, func(rows pgx.Rows) error {
		var table uint32
		ix := &Index{}
		if err := rows.Scan(&table, &ix.Name, &ix.Definition, &ix.Method, &ix.Columns, &ix.Include, &ix.Unique, &ix.Primary,
			&ix.Valid, &ix.Predicate, &ix.Expressions, &ix.NullsNotDistinct, &ix.Constraint); err != nil {
			return err
		}
		if t := r.tables[table]; t != nil {
			t.Indexes = append(t.Indexes, ix)
		}
		return nil
	})
}
