package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// small is a source of persons and their visits, with declared and real references.
const small = `CREATE SCHEMA app; CREATE TABLE app.person (id int PRIMARY KEY, country text, plan text);
	INSERT INTO app.person SELECT i, 'IE', 'pro' FROM generate_series(1, 50) i;
	CREATE TABLE app.visit (id int PRIMARY KEY, person int NOT NULL REFERENCES app.person, note text);
	INSERT INTO app.visit SELECT i, 1 + i % 50, 'tab	x' FROM generate_series(1, 400) i;`

var smallCatalog = wholeCatalog("person: {table: app.person, key: id, residence: country}\ntables:\n  - table: app.person\n    subject: {self: true}\n    columns:\n" +
	column("id", "integer", "identifier", ", domain: person, trait: key") + column("country", "text", "location", ", trait: residence") + column("plan", "text", "behaviour", "") +
	"  - table: app.visit\n    subject: {column: person}\n    columns:\n" + column("id", "integer", "identifier", "") + column("person", "integer", "identifier", ", domain: person") + column("note", "text", "behaviour", ""))

const smallDatasets = `version: 1
datasets:
  - name: NAME
    cluster: inside
    purpose: research
    source: app
    rows: {residence: [EEA, GB]}
    tables:
      - {table: app.person, columns: [{name: id, form: pseudonymised}, {name: country, form: clear}]}
      - {table: app.visit, columns: [{name: id, form: pseudonymised}, {name: person, form: pseudonymised}, {name: note, form: clear}]}
`

// hook is a Progress that runs f once, when a table stands.
type hook struct {
	silent
	f func()
}

func (h *hook) Done(string, int64) { h.run() }

// early is a hook that runs before a table is read.
type early struct{ hook }

func (e *early) Expect(string, int64, int64) { e.run() }

func (h *hook) run() {
	if h.f != nil {
		f := h.f
		h.f = nil
		f()
	}
}

// at makes a second builder whose build is disturbed by f when its first table stands.
func (f *fixture) disturbed(f1 func()) *Builder {
	return f.open(smallCatalog, smallDatasets, func(c *Config) { c.Progress, c.Workers = &hook{f: f1}, 1 })
}

// stands checks that the first build is still there, whole, and that a build now works.
func (f *fixture) stands(rows string) {
	f.t.Helper()
	if got := f.one("SELECT count(*) FROM app.visit"); got != rows {
		f.t.Errorf("after a build that failed %s visits stand, not %s", got, rows)
	}
	f.build()
	f.verified()
	if got := f.one("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'trefoil\\_next%'"); got != "0" {
		f.t.Errorf("%s shadow schemas are left", got)
	}
}

func TestSourceThatDiesDuringABuildLeavesTheDatasetAlone(t *testing.T) {
	t.Parallel()
	source := pgtest.Private(t)
	f := setupOn(t, source, source.SuperuserDSN("postgres"), datasetCluster(t), small, smallCatalog, smallDatasets)
	f.build()
	ctx := testContext(t)
	b := f.open(smallCatalog, smallDatasets, nil)
	b.cfg.Progress = &early{hook{f: func() {
		if err := errors.Join(source.Stop(ctx, postgres.StopImmediate), source.Start(ctx)); err != nil {
			t.Error(err)
		}
	}}}
	if _, _, err := b.Build(ctx, f.name); err == nil || !strings.Contains(err.Error(), "source") {
		t.Errorf("a source that died: %v", err)
	}
	f.b = f.open(smallCatalog, smallDatasets, func(c *Config) { c.Sources["app"] = source.SuperuserDSN("postgres") })
	f.stands("400")
}

func TestCancelledBuildLeavesTheDatasetAlone(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	f.build()
	ctx, cancel := context.WithCancel(testContext(t))
	if _, _, err := f.disturbed(cancel).Build(ctx, f.name); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled build: %v", err)
	}
	f.stands("400")
}

func TestTwoBuildsAtOnceAreRefused(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	ctx := testContext(t)
	var second error
	b := f.disturbed(func() { _, _, second = f.b.Build(ctx, f.name) })
	if _, _, err := b.Build(ctx, f.name); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(second, ErrBusy) {
		t.Errorf("the second of two builds: %v", second)
	}
	f.stands("400")
}

// TestLeftoversOfAKilledBuildAreCleared plays what kill -9 leaves: shadow schemas, and a
// session that is still at work in them.
func TestLeftoversOfAKilledBuildAreCleared(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	f.build()
	ctx := testContext(t)
	target, err := openTarget(ctx, f.b.cfg.Clusters["inside"], f.name)
	if err != nil {
		t.Fatal(err)
	}
	left, err := target.session(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(left)
	if _, err := left.PgConn().Exec(ctx, "CREATE SCHEMA trefoil_next_app; CREATE TABLE trefoil_next_app.person (x int); BEGIN; LOCK trefoil_next_app.person").ReadAll(); err != nil {
		t.Fatal(err)
	}
	target.close() // the lock goes with the process
	f.stands("400")
}

func TestFullSpillDiskFailsClearly(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	f.build()
	b := f.open(smallCatalog, smallDatasets, func(c *Config) { c.SpillDir, c.MemoryBytes = filepath.Join(f.dir, "gone"), 1 })
	s := newSorter(b.cfg.SpillDir, new(work).budget(1))
	var err error
	line := append(bytes.Repeat([]byte{'x'}, 1<<16), '\n')
	for i := 0; i < 400 && err == nil; i++ {
		err = s.add(uint64(i)<<50, 0, line)
	}
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("spilling nowhere: %v", err)
	}
	s.close()
	f.stands("400")
}

// budget is a memory budget of n bytes.
func (w *work) budget(n int64) *atomic.Int64 { w.memory.Store(n); return &w.memory }

func TestLatin1SourceIsHeldInUTF8(t *testing.T) {
	t.Parallel()
	source := sourceCluster(t)
	dsn := source.DatabaseWith(t, "TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'")
	f := setupOn(t, source, dsn, datasetCluster(t), small+"UPDATE app.visit SET note = U&'\\00c5got S\\00f8rlie \\00e9';", smallCatalog, smallDatasets)
	f.build()
	if got := f.rows("SELECT DISTINCT note, octet_length(note) FROM app.visit"); len(got) != 1 || got[0] != "Ågot Sørlie é|16" {
		t.Errorf("notes are %v", got)
	}
	f.verified()
}

func TestTamperedDatasetsAreFound(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	f.build()
	f.verified()
	for name, sql := range map[string]string{
		"changed row": "UPDATE app.visit SET note = 'y' WHERE id = (SELECT min(id) FROM app.visit)",
		"deleted row": "DELETE FROM app.visit WHERE id = (SELECT max(id) FROM app.visit)",
		"added row":   "INSERT INTO app.visit SELECT 5, person, note FROM app.visit LIMIT 1",
		"doubled row": "ALTER TABLE app.visit DROP CONSTRAINT visit_pkey; INSERT INTO app.visit SELECT * FROM app.visit LIMIT 1",
		"swapped values": "WITH two AS (SELECT a.id AS i, b.id AS j, a.person AS p, b.person AS q FROM app.visit a, app.visit b WHERE a.person <> b.person ORDER BY 1, 2 LIMIT 1) " +
			"UPDATE app.visit v SET person = CASE v.id WHEN i THEN q ELSE p END FROM two WHERE v.id IN (i, j)",
		"added column": "ALTER TABLE app.visit ADD COLUMN more text",
		"added table":  "CREATE TABLE app.more AS SELECT 1 AS x",
		"lost column":  "ALTER TABLE app.visit DROP COLUMN note",
		"lost table":   "DROP TABLE app.visit",
	} {
		f.target.Exec(t, f.target.SuperuserDSN(f.name), sql)
		v, err := f.b.Verify(testContext(t), f.name)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if v.Equal {
			t.Errorf("%s is not found", name)
		}
		f.build()
	}
	f.source.Exec(t, f.dsn, "UPDATE app.visit SET note = 'later' WHERE id = 1")
	if v, err := f.b.Verify(testContext(t), f.name); err != nil || v.Equal {
		t.Errorf("a source that moved on: %v", err)
	}
}

func TestOpenSessionsGoOnThroughASwap(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	f.build()
	ctx := testContext(t)
	if err := f.b.Admit(ctx, "p_swap", f.name); err != nil {
		t.Fatal(err)
	}
	conn := f.connect("p_swap")
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "DECLARE c CURSOR FOR SELECT id FROM app.visit"); err != nil {
		t.Fatal(err)
	}
	f.source.Exec(t, f.dsn, "DELETE FROM app.visit WHERE id > 100")
	r := f.build()
	if r.OldSchemas == 0 {
		t.Error("the old tables went while a cursor read them")
	}
	n := 0
	rows, err := tx.Query(ctx, "FETCH ALL FROM c")
	if err != nil {
		t.Fatal(err)
	}
	for rows.Next() {
		n++
	}
	if rows.Err() != nil || n != 400 {
		t.Errorf("the cursor gave %d rows: %v", n, rows.Err())
	}
	var now int
	if err := tx.QueryRow(ctx, "SELECT count(*) FROM app.visit").Scan(&now); err != nil || now != 100 {
		t.Errorf("the next statement sees %d rows: %v", now, err)
	}
	old := f.rows("SELECT nspname FROM pg_namespace WHERE nspname LIKE 'trefoil\\_old%' AND EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_namespace.oid AND relname = 'visit')")
	if len(old) != 1 {
		t.Fatalf("old schemas: %v", old)
	}
	if _, err := conn.Exec(ctx, "SELECT FROM "+old[0]+".visit"); sqlState(err) != "42501" {
		t.Errorf("erased rows can be read by the old name: %v", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Fatal(err)
	}
	if left, err := f.b.Sweep(ctx, f.name); err != nil || left != 0 {
		t.Errorf("%d old schemas are left: %v", left, err)
	}
}

func TestPrincipalsReadTheirDatasetAndNothingElse(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	r := f.build()
	ctx := testContext(t)
	if err := f.b.Admit(ctx, "p_reader", f.name); err != nil {
		t.Fatal(err)
	}
	conn := f.connect("p_reader")
	if got := rows(t, conn, "SELECT count(*) FROM app.visit"); got[0] != "400" {
		t.Errorf("a principal sees %v", got)
	}
	if got := rows(t, conn, "SELECT trefoil_info.fresh_as_of() = (SELECT snapshot_at FROM trefoil_info.dataset), (SELECT definition_hash FROM trefoil_info.dataset)"); got[0] != "t|"+r.Hash {
		t.Errorf("trefoil_info says %v", got)
	}
	if got := rows(t, conn, "SELECT form FROM trefoil_info.columns WHERE table_name = 'visit' AND column_name = 'person'"); len(got) != 1 || got[0] != "pseudonymised" {
		t.Errorf("trefoil_info.columns says %v", got)
	}
	var shown string
	fresh := f.connect("") // settings of a database come with the session
	if err := fresh.QueryRow(ctx, "SHOW trefoil.dataset").Scan(&shown); err != nil || !strings.Contains(shown, "person pseudonymised") {
		t.Errorf("SHOW trefoil.dataset says %q: %v", shown, err)
	}
	for _, sql := range []string{"UPDATE app.visit SET note = 'x'", "INSERT INTO app.person VALUES (1)", "DELETE FROM app.visit", "CREATE TABLE app.x (y int)", "CREATE SCHEMA mine", "CREATE TABLE public.x (y int)",
		"DROP SCHEMA app CASCADE", "ALTER DATABASE " + f.name + " SET trefoil.dataset = 'lie'", "TRUNCATE app.visit", "SET ROLE trefoil_owner", "COPY app.visit TO PROGRAM 'cat'",
		"SELECT left_out FROM trefoil_info.dataset", "SELECT orphans FROM trefoil_info.dataset", "SELECT bad_values FROM trefoil_info.dataset"} {
		if _, err := conn.Exec(ctx, sql); sqlState(err) != "42501" {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if _, err := conn.Exec(ctx, "CREATE TEMP TABLE own AS SELECT * FROM app.visit"); err != nil {
		t.Errorf("a temporary table: %v", err)
	}
	if err := f.b.Expel(ctx, "p_reader", f.name); err != nil {
		t.Fatal(err)
	}
	if got := f.one("SELECT has_database_privilege('p_reader', current_database(), 'CONNECT')"); got != "f" {
		t.Error("an expelled principal may still connect")
	}
	for _, role := range []string{"postgres", "trefoil_owner", "trefoil_steward", "p; DROP", ""} {
		if err := f.b.Admit(ctx, role, f.name); err == nil {
			t.Errorf("role %q is admitted", role)
		}
	}
}

// memory is a Recorder for tests.
type memory struct {
	events []string
	fail   string
}

func (m *memory) Record(_ context.Context, b trefoil.CatalogBody) error {
	if b.Event == m.fail {
		return errors.New("the log is away")
	}
	m.events = append(m.events, b.Event)
	return nil
}

func TestEveryActIsRecorded(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	rec := &memory{}
	f.b = f.open(smallCatalog, smallDatasets, func(c *Config) { c.Recorder = rec })
	f.build()
	f.verified()
	if d, err := f.b.Drop(testContext(t), f.name); err != nil || d.Rows != 450 || d.Tables != 2 {
		t.Errorf("dropped %+v: %v", d, err)
	}
	if got := fmt.Sprint(rec.events); got != "[defined built verified dropped]" {
		t.Errorf("recorded %s", got)
	}
	if _, err := f.b.Info(testContext(t), f.name); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("a dropped dataset: %v", err)
	}
	rec.fail = "defined"
	if _, _, err := f.b.Build(testContext(t), f.name); err == nil {
		t.Error("a build without its record")
	}
	if there := rows(t, f.target.Connect(t, f.target.SuperuserDSN("postgres")), "SELECT count(*) FROM pg_database WHERE datname = '"+f.name+"'"); there[0] != "0" {
		t.Error("a build without its record left a database")
	}
}

func TestClearDatasetIsRefusedOutside(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, strings.Replace(smallDatasets, "cluster: inside", "cluster: outside", 1))
	b := f.open(smallCatalog, strings.Replace(strings.Replace(smallDatasets, "cluster: inside", "cluster: outside", 1), "{name: id, form: pseudonymised}", "{name: id, form: clear}", 1), nil)
	if _, _, err := b.Build(testContext(t), f.name); err == nil || !strings.Contains(err.Error(), "outside") {
		t.Errorf("a clear dataset outside: %v", err)
	}
	held := f.open(smallCatalog, smallDatasets, func(c *Config) { c.Hold = func(*trefoil.Definition) error { return errors.New("policy says no") } })
	if _, _, err := held.Build(testContext(t), f.name); err == nil {
		t.Error("a dataset that policy refuses is built")
	}
}

func TestErrorsRepeatNoValue(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	conn := f.source.Connect(t, f.dsn)
	_, err := conn.Exec(testContext(t), "INSERT INTO app.person VALUES (1, 'SECRET', 'x')")
	if err == nil || strings.Contains(safe(err).Error(), "(1)") || !strings.Contains(safe(err).Error(), "person_pkey") {
		t.Errorf("error is %v", safe(err))
	}
	_, err = conn.Exec(testContext(t), "SELECT 'SECRET'::int")
	if strings.Contains(safe(err).Error(), "SECRET") || !strings.Contains(safe(err).Error(), "22P02") {
		t.Errorf("error is %v", safe(err))
	}
}
