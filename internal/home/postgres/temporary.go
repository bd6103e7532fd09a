package postgres

import (
	"context"
	"fmt"
	"strings"

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
	LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog AS $$` + temporaryBody + `$$`

const temporaryBody = `
	SELECT d.datname::text, substring(f.name FROM '^t([0-9]+)_')::integer, coalesce(sum((pg_stat_file('base/' || d.oid || '/' || f.name, true)).size), 0)::bigint
	FROM pg_database d CROSS JOIN LATERAL pg_ls_dir('base/' || d.oid, true, false) AS f (name)
	WHERE f.name ~ '^t[0-9]+_' GROUP BY 1, 2 `

// ownTemporary, of a row p of pg_proc, is true of this very function where nobody else may call it.
const ownTemporary = `(p.oid::regprocedure::text = 'trefoil.temporary()' AND current_database() = 'postgres' AND p.prosrc = $trefoil$` +
	temporaryBody + `$trefoil$ AND p.proconfig = ARRAY['search_path=pg_catalog'] AND NOT has_function_privilege('public', p.oid, 'EXECUTE'))`

// temporaryStatements give the steward the question, in the database "postgres" alone.
func temporaryStatements() []string {
	return []string{
		"CREATE SCHEMA IF NOT EXISTS trefoil",
		"REVOKE ALL ON SCHEMA trefoil FROM PUBLIC",
		temporaryFunction,
		"REVOKE ALL ON FUNCTION trefoil.temporary() FROM PUBLIC",
		"GRANT USAGE ON SCHEMA trefoil TO " + StewardRole,
		"GRANT EXECUTE ON FUNCTION trefoil.temporary() TO " + StewardRole,
	}
}

// temporary warns where temporary tables cannot be measured: nothing bounds them then.
func (k *datasetCheck) temporary(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	err := conn.QueryRow(ctx, `SELECT coalesce(has_schema_privilege(current_user, (SELECT oid FROM pg_namespace WHERE nspname = 'trefoil'), 'USAGE')
		AND EXISTS (SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
			WHERE n.nspname = 'trefoil' AND p.proname = 'temporary' AND p.prosecdef AND has_function_privilege(current_user, p.oid, 'EXECUTE')), false)`).Scan(&there)
	if err != nil {
		return err
	}
	if !there {
		k.warn("temporary-tables", conn.Config().Database, strings.Join(temporaryStatements(), ";\n")+";", "temporary tables cannot be measured here, so nothing bounds them: they can fill the disk")
	}
	return nil
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
