package dataset

import (
	"context"
	"fmt"
	"sort"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
)

// setting is the name under which every session can read what the dataset holds.
const setting = "trefoil.dataset"

// publish writes what the dataset says of itself and swaps the schemas in one transaction.
// Running statements, cursors and portals go on with the old tables; the next statement
// sees the new ones. Nobody may read the old ones by name any more.
func (t *target) publish(ctx context.Context, p *plan, r *Report) error {
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	if _, err := conn.Exec(ctx, "SET synchronous_commit = on"); err != nil {
		return fmt.Errorf("swap: %w", safe(err))
	}
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		for _, step := range []struct {
			what string
			run  func() error
		}{
			{"remember its columns", func() error { return t.remember(ctx, tx, p) }},
			{"describe the dataset", func() error { return describe(ctx, tx, p.def, r) }},
			{"retire old schemas", func() error { return t.retire(ctx, tx) }},
			{"rename schemas", func() error { return t.rename(ctx, tx, append(p.schemas(), infoSchema)) }},
			{"set " + setting, func() error {
				return execAll(ctx, tx, "ALTER DATABASE "+postgres.Quote(t.name)+" SET "+setting+" = "+literal(Describe(p.def)))
			}},
		} {
			if err := step.run(); err != nil {
				return fmt.Errorf("%s: %w", step.what, safe(err))
			}
		}
		return nil
	})
}

func execAll(ctx context.Context, tx pgx.Tx, statements ...string) error {
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// retire renames every schema of the present generation and takes it from the group.
func (t *target) retire(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT nspname::text, oid::bigint FROM pg_catalog.pg_namespace
		WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'trefoil_care')
		AND NOT pg_catalog.starts_with(nspname::text, $1) AND NOT pg_catalog.starts_with(nspname::text, $2)
		AND (nspname <> 'public' OR EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = pg_namespace.oid)
			OR EXISTS (SELECT FROM pg_catalog.pg_namespace n WHERE n.nspname = $3)) ORDER BY 1`,
		shadowPrefix, oldPrefix, shadow("public"))
	if err != nil {
		return err
	}
	type old struct {
		name string
		oid  int64
	}
	present, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (old, error) {
		var o old
		return o, r.Scan(&o.name, &o.oid)
	})
	if err != nil {
		return err
	}
	for _, o := range present {
		away := clip(fmt.Sprintf("%s%d", oldPrefix, o.oid))
		role := postgres.Quote(group(t.name))
		if err := execAll(ctx, tx,
			"REVOKE ALL ON SCHEMA "+postgres.Quote(o.name)+" FROM "+role+", PUBLIC",
			"ALTER SCHEMA "+postgres.Quote(o.name)+" RENAME TO "+postgres.Quote(away)); err != nil {
			return err
		}
	}
	return nil
}

// rename puts the shadow schemas in their place and opens them to the group.
func (t *target) rename(ctx context.Context, tx pgx.Tx, schemas []string) error {
	role := postgres.Quote(group(t.name))
	for _, s := range schemas {
		name := postgres.Quote(s)
		if err := execAll(ctx, tx,
			"ALTER SCHEMA "+postgres.Quote(shadow(s))+" RENAME TO "+name,
			"GRANT USAGE ON SCHEMA "+name+" TO "+role,
			"GRANT SELECT ON ALL TABLES IN SCHEMA "+name+" TO "+role); err != nil {
			return err
		}
	}
	// What the source has and the dataset has not is nobody's to count here.
	about := postgres.Name{Schema: infoSchema, Name: "dataset"}.Quoted()
	return execAll(ctx, tx, "REVOKE SELECT ON "+about+" FROM "+role,
		"GRANT SELECT (name, cluster, purpose, definition_hash, built_at, snapshot_at, rows, subjects, smallest_cell, suppressed) ON "+about+" TO "+role)
}

// describe fills trefoil_info in its shadow schema.
func describe(ctx context.Context, tx pgx.Tx, def *trefoil.Definition, r *Report) error {
	in := func(name string) string { return postgres.Name{Schema: shadow(infoSchema), Name: name}.Quoted() }
	role := postgres.Quote(group(def.Name))
	if err := execAll(ctx, tx,
		"SET LOCAL check_function_bodies = off", // the function names the schema as it will be
		"CREATE TABLE "+in("columns")+` (table_schema text NOT NULL, table_name text NOT NULL, column_name text NOT NULL,
			data_type text NOT NULL, category text NOT NULL, form text NOT NULL, detail text NOT NULL)`,
		"CREATE TABLE "+in("dataset")+` (name text NOT NULL, cluster text NOT NULL, purpose text NOT NULL, definition_hash text NOT NULL,
			built_at timestamptz NOT NULL, snapshot_at timestamptz NOT NULL, rows bigint NOT NULL, subjects bigint NOT NULL,
			smallest_cell bigint NOT NULL, suppressed bigint NOT NULL, bad_values bigint NOT NULL, left_out bigint NOT NULL,
			orphans bigint NOT NULL, digest text NOT NULL)`,
		"CREATE TABLE "+in("tables")+" (table_schema text NOT NULL, table_name text NOT NULL, rows bigint NOT NULL)",
		"CREATE FUNCTION "+in("fresh_as_of")+"() RETURNS timestamptz LANGUAGE sql STABLE AS 'SELECT snapshot_at FROM trefoil_info.dataset'",
		"REVOKE ALL ON FUNCTION "+in("fresh_as_of")+"() FROM PUBLIC",
		"GRANT EXECUTE ON FUNCTION "+in("fresh_as_of")+"() TO "+role); err != nil {
		return err
	}
	var probed bool
	if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = $1)", install.Role).Scan(&probed); err != nil {
		return err
	}
	if probed { // the monitor's probe has values counted against their forms, and sees none
		if err := execAll(ctx, tx, install.FormsStatements(postgres.Quote(shadow(infoSchema)))...); err != nil {
			return err
		}
	}
	for _, c := range def.Columns {
		schema, table, _ := strings.Cut(c.Table, ".")
		if _, err := tx.Exec(ctx, "INSERT INTO "+in("columns")+" VALUES ($1, $2, $3, $4, $5, $6, $7)",
			schema, table, c.Column, c.Type, c.Category, c.Form, c.Detail); err != nil {
			return err
		}
	}
	for _, t := range r.Tables {
		schema, table, _ := strings.Cut(t.Table, ".")
		if _, err := tx.Exec(ctx, "INSERT INTO "+in("tables")+" VALUES ($1, $2, $3)", schema, table, t.Rows); err != nil {
			return err
		}
	}
	m := r.Measured
	_, err := tx.Exec(ctx, "INSERT INTO "+in("dataset")+" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
		def.Name, def.Cluster, def.Purpose, r.Hash, r.BuiltAt, r.SnapshotAt, m.Rows, m.Subjects, m.SmallestCell, m.Suppressed,
		m.BadValues, m.LeftOut, m.Orphans, m.Digest)
	return err
}

// Describe says in lines of text which columns a dataset holds in which forms.
func Describe(def *trefoil.Definition) string {
	byTable := map[string][]string{}
	for _, c := range def.Columns {
		text := c.Column + " " + c.Form
		if _, path, ok := strings.Cut(c.Type, "#"); ok {
			text = c.Column + "#" + path + " " + c.Form
		}
		if c.Form == "generalised" {
			text += " (" + c.Detail + ")"
		}
		byTable[c.Table] = append(byTable[c.Table], text)
	}
	names := make([]string, 0, len(byTable))
	for t := range byTable {
		names = append(names, t)
	}
	sort.Strings(names)
	var b strings.Builder
	fmt.Fprintf(&b, "dataset %s for %s", def.Name, def.Purpose)
	for _, t := range names {
		fmt.Fprintf(&b, "\n%s: %s", t, strings.Join(byTable[t], ", "))
	}
	return b.String()
}
