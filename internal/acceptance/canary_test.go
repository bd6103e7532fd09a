package acceptance

import (
	"bytes"
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestPlantedValues is one story: what is planted at the source is found there by the search,
// hostile sessions get none of it, and no file outside the source holds any of it.
func TestPlantedValues(t *testing.T) {
	values := plantedValues(t)
	var needles []needle
	columns := map[string]bool{}
	for _, v := range values {
		needles = append(needles, needlesOf(v)...)
		columns[v.column] = true
	}
	if len(columns) < 60 || len(needles) < 10_000 {
		t.Fatalf("%d columns, %d needles: too few to mean anything", len(columns), len(needles))
	}
	h := newHaystack(needles)
	t.Logf("%d values of %d columns, %d byte patterns", len(values), len(columns), len(needles))
	t.Run("source", func(t *testing.T) { sourceHoldsThem(t, h, values) })
	t.Run("sessions", func(t *testing.T) { hostileSessions(t, h) })
	t.Run("outside", func(t *testing.T) { outsideHoldsNone(t, h) })
}

// plantedValues reads what was planted, text and binary, from the source.
func plantedValues(t *testing.T) []value {
	t.Helper()
	conn := connect(t, shared.env["ADMIN_DSN"])
	ctx := bounded(t)
	if _, err := conn.PgConn().Exec(ctx, "SET TIME ZONE 'UTC'; SET extra_float_digits = 1").ReadAll(); err != nil {
		t.Fatal(err)
	}
	var out []value
	take := func(table, where, expr string) {
		sql := fmt.Sprintf("SELECT %[1]s, (%[1]s)::text FROM %[2]s WHERE (%[1]s) IS NOT NULL AND (%[3]s)", expr, table, where)
		r := conn.PgConn().ExecParams(ctx, sql, nil, nil, nil, []int16{1})
		for r.NextRow() {
			row := r.Values()
			out = append(out, value{column: table + "." + expr, oid: r.FieldDescriptions()[0].DataTypeOID, binary: bytes.Clone(row[0]), text: string(row[1])})
		}
		if _, err := r.Close(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	for _, k := range kinds {
		pieces := k.pieces
		if pieces == nil {
			pieces = []string{k.name}
		}
		for _, p := range pieces {
			before := len(out)
			take("app.kinds", "true", p)
			if len(out) != before+planted {
				t.Fatalf("%s: %d values, want %d", p, len(out)-before, planted)
			}
		}
	}
	take("app.kinds", "true", "uncatalogued")
	take("app.kinds", "true", "id")
	for _, p := range platformPieces {
		for _, piece := range p.pieces {
			take(p.table, p.where, piece)
		}
	}
	return out
}

// sourceHoldsThem shows that the search finds what is there: every value as PostgreSQL
// stores it, and every pattern once a careless copy of it stands in a table.
func sourceHoldsThem(t *testing.T, h *haystack, values []value) {
	conn := connect(t, shared.env["ADMIN_DSN"])
	ctx := bounded(t)
	source := filepath.Join(shared.dir, "pg", "dublin-1")
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	exec("CHECKPOINT")
	before := h.directories(t, nil, source)
	text := rowsOf(t, shared.env["ADMIN_DSN"], "platform", h)
	i, missing := 0, map[string]bool{}
	for _, v := range values {
		n, held := len(needlesOf(v)), false
		for j := range n {
			held = held || before.found[i+j] || text[i+j]
		}
		if i += n; n == 0 || !held {
			missing[v.column] = true
		}
	}
	for column := range missing {
		t.Errorf("the search does not find every planted value of %s at the source", column)
	}
	exec("CREATE TABLE app.careless (pattern bytea); ALTER TABLE app.careless ALTER COLUMN pattern SET STORAGE EXTERNAL")
	rows := make([][]any, len(h.needles))
	for i, n := range h.needles {
		rows[i] = []any{n.pattern}
	}
	if _, err := conn.CopyFrom(ctx, pgx.Identifier{"app", "careless"}, []string{"pattern"}, pgx.CopyFromRows(rows)); err != nil {
		t.Fatal(err)
	}
	exec("CHECKPOINT")
	after := h.directories(t, nil, source)
	if n := after.count(); n != len(h.needles) {
		t.Errorf("the search finds %d of %d patterns in the source's files", n, len(h.needles))
	}
	exec("DROP TABLE app.careless")
	t.Logf("source: %d files, %.1f MB: %d patterns as PostgreSQL stores them, %d of %d with the careless copy", after.files, float64(after.bytes)/1e6, before.count(), after.count(), len(h.needles))
}

// rowsOf searches every row of every table of a database as text: what is compressed or in
// TOAST comes as it is, and catalogs and statistics are tables too.
func rowsOf(t *testing.T, dsn, database string, h *haystack) []bool {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + database
	conn := connect(t, u.String())
	ctx := bounded(t)
	found := make([]bool, len(h.needles))
	if _, err := conn.PgConn().Exec(ctx, "SET TIME ZONE 'UTC'; SET statement_timeout = '60s'").ReadAll(); err != nil {
		t.Fatal(err)
	}
	tables, err := conn.Query(ctx, "SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') ORDER BY 1", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(tables, pgx.RowTo[string])
	if err != nil || len(names) < 60 {
		t.Fatalf("%d tables: %v", len(names), err)
	}
	for _, name := range names {
		var buf bytes.Buffer
		if _, err := conn.PgConn().CopyTo(ctx, &buf, "COPY (SELECT t::text FROM "+name+" t) TO STDOUT"); err != nil {
			t.Fatalf("read %s: %v", name, err)
		}
		h.in(buf.Bytes(), found)
	}
	return found
}

// outsideHoldsNone searches all that is not the source and not the cluster inside: the
// outside cluster's tables, indexes, statistics, WAL, temporary files and server log; and what
// gateway, log and monitor wrote.
func outsideHoldsNone(t *testing.T, h *haystack) {
	outside := shared.env["OUTSIDE_ADMIN_DSN"]
	databases := databasesOf(t, outside)
	for _, name := range databases {
		u, _ := url.Parse(outside)
		u.Path = "/" + name
		admin(t, u.String(), "ANALYZE")
	}
	// A sort that does not fit its memory leaves a temporary file while its cursor is open.
	spilling := connect(t, outside)
	for _, sql := range []string{"SET work_mem = '64kB'", "BEGIN", "DECLARE c CURSOR FOR SELECT w.*, p.email FROM app.watch_events w JOIN app.people p ON p.id = w.person_id ORDER BY w.watched_ms", "FETCH 1 FROM c", "CHECKPOINT"} {
		if _, err := spilling.Exec(bounded(t), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	if files, _ := filepath.Glob(filepath.Join(shared.dir, "pg", "outside", "data", "base", "pgsql_tmp", "*")); len(files) == 0 {
		t.Error("no temporary file was there to be searched")
	}
	cluster := h.directories(t, nil, filepath.Join(shared.dir, "pg", "outside"))
	if cluster.files < 500 || cluster.bytes < 50e6 {
		t.Errorf("only %d files of %d bytes were searched", cluster.files, cluster.bytes)
	}
	h.report(t, "the outside cluster's files hold", cluster.found)
	rest := h.directories(t, func(path string) bool { return path == filepath.Join(shared.dir, "pg") }, shared.dir)
	h.report(t, "the files of gateway, log or monitor hold", rest.found)
	for _, name := range databases {
		h.report(t, "rows of the outside cluster hold", rowsOf(t, outside, name, h))
	}
	for what, path := range cluster.first {
		rel, _ := filepath.Rel(shared.dir, path)
		t.Logf("%s in %s", what, rel)
	}
	t.Logf("outside: %d files, %.1f MB; gateway, log and monitor: %d files; every row of %s", cluster.files, float64(cluster.bytes)/1e6, rest.files, strings.Join(databases, ", "))
}

func databasesOf(t *testing.T, dsn string) []string {
	t.Helper()
	conn := connect(t, dsn)
	found, err := conn.Query(context.Background(), "SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(found, pgx.RowTo[string])
	if err != nil || len(names) < 4 {
		t.Fatalf("databases %v: %v", names, err)
	}
	return names
}
