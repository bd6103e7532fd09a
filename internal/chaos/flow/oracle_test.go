package flow

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"unicode/utf16"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// suffix of the datasets that are built from nothing to compare with.
const suffix = "_fresh"

// compared builds every dataset a second time with the same keys, and compares row for row. The
// source must be at rest, and nobody may follow.
func (w *world) compared(ctx context.Context) {
	w.t.Helper()
	s := w.settings
	s.Datasets = datasetsText(suffix)
	fresh, err := s.open(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	var both errgroup.Group
	for _, s := range specs {
		both.Go(func() error {
			_, err := fresh.BuildReport(ctx, s.name+suffix)
			return err
		})
	}
	if err := both.Wait(); err != nil {
		w.t.Fatalf("build datasets to compare with: %v", err)
	}
	for _, s := range specs {
		was := w.content(ctx, w.cluster(s), s.name)
		want := w.content(ctx, w.cluster(s), s.name+suffix)
		w.same(s, was, want)
		w.foreignKeys(ctx, s)
	}
}

// table is what a dataset holds of one: columns with types, constraints, and rows as text.
type table struct {
	columns, keys string
	rows          []string
}

// content reads a whole dataset as its superuser.
func (w *world) content(ctx context.Context, c *pgtest.Cluster, name string) map[string]*table {
	w.t.Helper()
	conn := c.Connect(w.t, c.SuperuserDSN(name))
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT n.nspname::text, c.relname::text,
		(SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attname) FROM pg_attribute WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped),
		coalesce((SELECT string_agg(replace(replace(pg_get_constraintdef(oid), ' DEFERRABLE', ''), ' NOT VALID', ''), '; ' ORDER BY contype, conname) FROM pg_constraint WHERE conrelid = c.oid AND contype IN ('p', 'u', 'f')), '')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname !~ '^(pg_|information_schema|trefoil_)' ORDER BY 1, 2`)
	if err != nil {
		w.t.Fatal(err)
	}
	type found struct{ Schema, Name, Columns, Keys string }
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[found])
	if err != nil {
		w.t.Fatal(err)
	}
	out := map[string]*table{}
	for _, f := range list {
		var buf bytes.Buffer
		if _, err := conn.PgConn().CopyTo(ctx, &buf, "COPY (SELECT * FROM "+postgres.Name{Schema: f.Schema, Name: f.Name}.Quoted()+") TO STDOUT"); err != nil {
			w.t.Fatalf("read %s.%s of %s: %v", f.Schema, f.Name, name, err)
		}
		t := &table{columns: f.Columns, keys: f.Keys, rows: strings.Split(buf.String(), "\n")}
		sort.Strings(t.rows)
		out[f.Schema+"."+f.Name] = t
	}
	return out
}

// same compares what followed with what was built.
func (w *world) same(s spec, was, want map[string]*table) {
	w.t.Helper()
	names := slices.Sorted(maps.Keys(want))
	if got := slices.Sorted(maps.Keys(was)); !slices.Equal(got, names) || len(names) != len(s.tables) {
		w.t.Errorf("%s holds the tables %v, a fresh one %v", s.name, got, names)
		return
	}
	for _, name := range names {
		a, b := was[name], want[name]
		if a.columns != b.columns || a.keys != b.keys {
			w.t.Errorf("%s: %s is (%s; %s), a fresh one (%s; %s)", s.name, name, a.columns, a.keys, b.columns, b.keys)
		}
		if s.cells && name == "app.person" {
			w.cells(s, a.rows, b.rows)
			continue
		}
		if !slices.Equal(a.rows, b.rows) {
			more, less := beyond(a.rows, b.rows), beyond(b.rows, a.rows)
			w.t.Errorf("%s: %s has %d rows, a fresh one %d; %d are only in the first:\n%s\n%d only in the second:\n%s", s.name, name,
				len(a.rows)-1, len(b.rows)-1, len(more), some(more), len(less), some(less))
		}
		w.t.Logf("%s: %s: %d rows compared", s.name, name, len(b.rows)-1)
	}
}

func beyond(a, b []string) []string {
	count := map[string]int{}
	for _, r := range b {
		count[r]++
	}
	var out []string
	for _, r := range a {
		if count[r]--; count[r] < 0 {
			out = append(out, r)
		}
	}
	return out
}

func some(rows []string) string {
	var out []string
	for _, r := range rows[:min(len(rows), 4)] {
		out = append(out, "  "+r[:min(len(r), 300)])
	}
	return strings.Join(out, "\n")
}

// cells compares the person table of a dataset with cells: the same persons; where both show a
// value it is the same; and no cell of either is too small.
func (w *world) cells(s spec, was, want []string) {
	w.t.Helper()
	shown := map[string]string{}
	for _, r := range want {
		id, rest, _ := strings.Cut(r, "\t")
		shown[id] = rest
	}
	if len(was) != len(want) {
		w.t.Errorf("%s: %d persons, a fresh one has %d", s.name, len(was)-1, len(want)-1)
	}
	sizes := map[string]int{}
	for _, r := range was {
		id, rest, _ := strings.Cut(r, "\t")
		fresh, there := shown[id]
		if !there {
			w.t.Errorf("%s: a person whom a fresh one does not have", s.name)
		}
		if id != "" {
			sizes[rest]++
		}
		if strings.Contains(rest, `\N`) || strings.Contains(fresh, `\N`) {
			continue // what is withheld for k depends on the way there; columns that are NULL anyway too
		}
		if rest != fresh {
			w.t.Errorf("%s: a person's cell is %q, in a fresh one %q", s.name, rest, fresh)
		}
	}
	for cell, n := range sizes {
		if n < s.k {
			w.t.Errorf("%s: the cell %q holds %d persons", s.name, cell, n)
		}
	}
}

// foreignKeys looks for rows whose reference leads nowhere, whatever the catalog says of it.
func (w *world) foreignKeys(ctx context.Context, s spec) {
	w.t.Helper()
	conn := w.cluster(s).Connect(w.t, w.cluster(s).SuperuserDSN(s.name))
	defer conn.Close(ctx)
	rows, err := conn.Query(ctx, `SELECT conname::text, convalidated, format('SELECT count(*) FROM %s a WHERE %s AND NOT EXISTS (SELECT FROM %s b WHERE %s)', conrelid::regclass,
		(SELECT string_agg(format('a.%I IS NOT NULL', attname), ' AND ') FROM pg_attribute WHERE attrelid = conrelid AND attnum = ANY (conkey)), confrelid::regclass,
		(SELECT string_agg(format('a.%I = b.%I', x.attname, y.attname), ' AND ') FROM unnest(conkey, confkey) k(l, r)
			JOIN pg_attribute x ON x.attrelid = conrelid AND x.attnum = l JOIN pg_attribute y ON y.attrelid = confrelid AND y.attnum = r))
		FROM pg_constraint WHERE contype = 'f'`)
	if err != nil {
		w.t.Fatal(err)
	}
	type key struct {
		Name  string
		Valid bool
		SQL   string
	}
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[key])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range list {
		var n int
		if err := conn.QueryRow(ctx, k.SQL).Scan(&n); err != nil {
			w.t.Fatalf("%s: %v", k.SQL, err)
		}
		if n > 0 || !k.Valid {
			w.t.Errorf("%s: foreign key %s has %d rows that lead nowhere, validated: %v", s.name, k.Name, n, k.Valid)
		}
	}
}

// needles are the forms in which a careless copy, or PostgreSQL itself, could hold the marker.
func needles() map[string][]byte {
	out := map[string][]byte{"text": []byte(marker), "upper case": []byte(strings.ToUpper(marker)), "hex": []byte(hex.EncodeToString([]byte(marker))),
		"uuid": []byte("6b616e61-7269"), "bigint as stored": []byte("iranak"), "bigint as text": []byte("77375869996"), "UTF-16": nil}
	for _, u := range utf16.Encode([]rune(marker)) {
		out["UTF-16"] = append(out["UTF-16"], byte(u), byte(u>>8))
	}
	for i := range 3 { // base64 at each alignment, without what depends on its neighbours
		text := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", i) + marker))
		out[fmt.Sprintf("base64 %d", i)] = []byte(strings.TrimRight(text, "=")[(i*8+5)/6 : (i+len(marker))*8/6])
	}
	return out
}

// leaks searches every file of the cluster outside, and every row of every table in it, catalogs
// and statistics included; and first shows that the same search finds each needle at the source.
func (w *world) leaks(ctx context.Context) {
	w.t.Helper()
	var copies []string
	for _, n := range needles() {
		copies = append(copies, fmt.Sprintf("('\\x%x')", n))
	}
	w.source.Exec(w.t, w.admin(), "CREATE TABLE careless (v bytea)", "INSERT INTO careless VALUES "+strings.Join(copies, ", "), "CHECKPOINT")
	seen, _ := w.files(w.source.Directory())
	for name := range needles() {
		if seen[name] == "" {
			w.t.Errorf("the search does not find %s where it is: it would prove nothing", name)
		}
	}
	w.outside.Exec(w.t, w.outside.SuperuserDSN("postgres"), "CHECKPOINT")
	found, size := w.files(w.outside.Directory())
	for name, file := range found {
		w.t.Errorf("the marker as %s is in %s of the cluster outside", name, file)
	}
	rows := w.everyRow(ctx, w.outside)
	w.t.Logf("searched %.0f MB of files and %d rows of the cluster outside", float64(size)/1e6, rows)
}

func (w *world) files(dir string) (found map[string]string, size int64) {
	w.t.Helper()
	found = map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return nil // gone meanwhile, as temporary files go
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		size += int64(len(text))
		for name, needle := range needles() {
			if found[name] == "" && bytes.Contains(text, needle) {
				found[name] = strings.TrimPrefix(path, dir)
			}
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return found, size
}

// everyRow reads every table of every database as text: compression hides text from a byte search.
func (w *world) everyRow(ctx context.Context, c *pgtest.Cluster) (n int) {
	w.t.Helper()
	conn := c.Connect(w.t, c.SuperuserDSN("postgres"))
	names, err := pgx.CollectRows(must(conn.Query(ctx, "SELECT datname::text FROM pg_database WHERE datallowconn")), pgx.RowTo[string])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range names {
		conn := c.Connect(w.t, c.SuperuserDSN(name))
		tables, err := pgx.CollectRows(must(conn.Query(ctx, `SELECT oid::regclass::text FROM pg_class WHERE relkind IN ('r', 'm') AND relpersistence <> 't'
			AND oid::regclass::text NOT IN ('pg_proc', 'pg_description', 'pg_depend', 'pg_operator', 'pg_amop', 'pg_amproc', 'pg_collation')`)), pgx.RowTo[string])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, table := range tables {
			var buf bytes.Buffer
			if _, err := conn.PgConn().CopyTo(ctx, &buf, "COPY (SELECT t FROM "+table+" t) TO STDOUT"); err != nil {
				w.t.Fatalf("read %s of %s: %v", table, name, err)
			}
			n += bytes.Count(buf.Bytes(), []byte("\n"))
			for what, needle := range needles() {
				if bytes.Contains(buf.Bytes(), needle) {
					w.t.Errorf("the marker as %s is in table %s of %s", what, table, name)
				}
			}
		}
		_ = conn.Close(ctx)
	}
	return n
}

func must(rows pgx.Rows, err error) pgx.Rows {
	if err != nil {
		panic(err)
	}
	return rows
}

// leftovers looks for what nobody would clear away: slots, shadow schemas, sessions, spilled files.
func (w *world) leftovers(ctx context.Context) {
	w.t.Helper()
	for _, s := range specs {
		c := w.cluster(s)
		conn := c.Connect(w.t, c.SuperuserDSN(s.name))
		var schemas string
		var sessions int
		if err := conn.QueryRow(ctx, `SELECT (SELECT coalesce(string_agg(nspname, ' '), '') FROM pg_namespace WHERE nspname LIKE 'trefoil\_next%' OR nspname LIKE 'trefoil\_old%'),
			(SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend')`).Scan(&schemas, &sessions); err != nil {
			w.t.Fatal(err)
		}
		if schemas != "" || sessions > 0 {
			w.t.Errorf("%s: the schemas %q and %d sessions are left", s.name, schemas, sessions)
		}
		_ = conn.Close(ctx)
	}
	for _, c := range []*pgtest.Cluster{w.inside, w.outside} {
		temp, err := filepath.Glob(filepath.Join(c.DataDir(), "base", "*", "t*_*"))
		more, err2 := filepath.Glob(filepath.Join(c.DataDir(), "base", "pgsql_tmp", "*"))
		if err != nil || err2 != nil || len(temp)+len(more) > 0 {
			w.t.Errorf("temporary files are left: %v %v %v %v", temp, more, err, err2)
		}
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, "spill")); err != nil || len(left) > 0 {
		w.t.Errorf("left where the follower spills: %v, %v", left, err)
	}
	for _, s := range specs {
		if _, err := w.followed.Drop(ctx, s.name); err != nil {
			w.t.Errorf("drop %s: %v", s.name, err)
		}
	}
	conn := w.source.Connect(w.t, w.admin())
	slots, err := pgx.CollectRows(must(conn.Query(ctx, "SELECT slot_name::text FROM pg_replication_slots")), pgx.RowTo[string])
	if err != nil || len(slots) > 0 {
		w.t.Errorf("slots are left at the source after the datasets were dropped: %v, %v", slots, err)
	}
}
