package dataset

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// shapeOf describes, per table, all that the plan rests on, as the text of a shape. A column
// is its number too: a name that moved to another column is another shape. New columns
// change nothing.
func shapeOf(ctx context.Context, conn *pgx.Conn, p *followPlan) (map[string]string, error) {
	out := map[string]string{basisOf: p.basis}
	for _, f := range p.all {
		var shape string
		if err := conn.QueryRow(ctx, shapeSQL, f.src.OID, f.read, publication).Scan(&shape); err != nil {
			return nil, fmt.Errorf("read the shape of %s: %w", f.name, safe(err))
		}
		out[f.name] = shape
	}
	return out, nil
}

const shapeSQL = `WITH RECURSIVE part AS (
		SELECT inhrelid FROM pg_catalog.pg_inherits WHERE inhparent = $1
		UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN part p ON i.inhparent = p.inhrelid)
	SELECT coalesce((SELECT pg_catalog.jsonb_build_object('gone', false, 'kind', c.relkind, 'identity', c.relreplident, 'persistence', c.relpersistence,
		'name', n.nspname || '.' || c.relname,
		'columns', (SELECT pg_catalog.jsonb_object_agg(a.attname, pg_catalog.jsonb_build_object('number', a.attnum, 'type', a.atttypid::bigint, 'mod', a.atttypmod,
				'notnull', a.attnotnull, 'coll', a.attcollation::bigint,
				'labels', (SELECT pg_catalog.jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e
					WHERE e.enumtypid IN (t.oid, t.typelem, t.typbasetype))))
			FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
			WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attnum > 0 AND a.attname::text = ANY ($2)),
		'keys', (SELECT pg_catalog.jsonb_agg(o.oid::bigint ORDER BY o.oid) FROM pg_catalog.pg_constraint o WHERE o.conrelid = c.oid AND o.contype IN ('p', 'u', 'f')),
		'parts', (SELECT pg_catalog.jsonb_object_agg(x.relnamespace::pg_catalog.regnamespace || '.' || x.relname, x.oid || ':' || x.relfilenode)
			FROM part JOIN pg_catalog.pg_class x ON x.oid = part.inhrelid),
		'publication', (SELECT pg_catalog.jsonb_build_array(pg_catalog.to_jsonb(p), pg_catalog.to_jsonb(r))
			FROM pg_catalog.pg_publication p LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid WHERE p.pubname = $3))
		FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1), '{"gone": true}'::jsonb)::text`

// shapesBut reads two shapes and says whether they are the same but for their partitions.
func shapesBut(was, now string) (a, b shape, same bool) {
	if json.Unmarshal([]byte(was), &a) != nil || json.Unmarshal([]byte(now), &b) != nil {
		return a, b, false
	}
	x, y := a, b
	x.Parts, y.Parts = nil, nil
	left, err1 := json.Marshal(x)
	right, err2 := json.Marshal(y)
	return a, b, err1 == nil && err2 == nil && string(left) == string(right)
}
