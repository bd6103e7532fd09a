package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// TemporaryUse is what one session of a dataset cluster has on disk in temporary tables,
// their indexes and TOAST. Rows that no other session can see yet are in it: the files are
// measured, not the catalogs.
type TemporaryUse struct {
	Database string
	Backend  int // PostgreSQL's number of the session, as in its virtual transaction ids
	Bytes    int64
}

// temporaryFunction measures the files of temporary tables: base/DATABASE/tBACKEND_FILE. Only
// a superuser may list them, so the steward is given this one question and no directory.
const temporaryFunction = `CREATE OR REPLACE FUNCTION trefoil.temporary(OUT database text, OUT backend integer, OUT bytes bigint) RETURNS SETOF record
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$
	SELECT d.datname::text, substring(f.name FROM '^t([0-9]+)_')::integer, coalesce(sum((pg_stat_file('base/' || d.oid || '/' || f.name, true)).size), 0)::bigint
	FROM pg_database d CROSS JOIN LATERAL pg_ls_dir('base/' || d.oid, true, false) AS f (name)
	WHERE f.name ~ '^t[0-9]+_' GROUP BY 1, 2 $$`

// measureTemporary gives the steward the question, in the database "postgres" alone.
func measureTemporary(ctx context.Context, conn *pgx.Conn) error {
	return run(ctx, conn,
		"CREATE SCHEMA IF NOT EXISTS trefoil",
		"REVOKE ALL ON SCHEMA trefoil FROM PUBLIC",
		temporaryFunction,
		"REVOKE ALL ON FUNCTION trefoil.temporary() FROM PUBLIC",
		"GRANT USAGE ON SCHEMA trefoil TO "+StewardRole,
		"GRANT EXECUTE ON FUNCTION trefoil.temporary() TO "+StewardRole)
}

// TemporaryUses lists the sessions of a cluster that have temporary tables on disk, in no
// order. conn is the steward's, on the database "postgres" of a cluster that
// PrepareDatasetCluster has prepared.
func TemporaryUses(ctx context.Context, conn *pgx.Conn) ([]TemporaryUse, error) {
	rows, err := conn.Query(ctx, "SELECT database, backend, bytes FROM trefoil.temporary()")
	if err != nil {
		return nil, fmt.Errorf("measure temporary tables: %w", err)
	}
	uses, err := pgx.CollectRows(rows, pgx.RowToStructByPos[TemporaryUse])
	if err != nil {
		return nil, fmt.Errorf("measure temporary tables: %w", err)
	}
	return uses, nil
}
