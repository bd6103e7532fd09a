package dataset

import (
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

const renamed = `CREATE SCHEMA app; CREATE TABLE app.person (id int PRIMARY KEY, email text, plan text, country text);
	INSERT INTO app.person SELECT i, 'canary-4417@example.org', 'pro', 'IE' FROM generate_series(1, 40) i;
	CREATE TABLE app.visit (id int, person int NOT NULL REFERENCES app.person, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE app.visit_2025 PARTITION OF app.visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
	INSERT INTO app.visit SELECT i, i, '2025-06-01' FROM generate_series(1, 40) i;`

var renamedCatalog = wholeCatalog("person: {table: app.person, key: id, residence: country}\ntables:\n  - table: app.person\n    subject: {self: true}\n    columns:\n" +
	column("id", "integer", "identifier", ", domain: person, trait: key") + column("email", "text", "contact", "") + column("plan", "text", "behaviour", "") + column("country", "text", "location", ", trait: residence") +
	"  - table: app.visit\n    subject: {column: person}\n    columns:\n" + column("id", "integer", "identifier", "") + column("person", "integer", "identifier", ", domain: person") + column("at", "date", "behaviour", ""))

const renamedDatasets = `version: 1
datasets:
  - name: NAME
    cluster: inside
    purpose: research
    source: app
    rows: {residence: [EEA]}
    tables:
      - {table: app.person, columns: [{name: id, form: pseudonymised}, {name: plan, form: clear}]}
      - {table: app.visit, columns: [{name: id, form: clear}, {name: person, form: pseudonymised}, {name: at, form: clear}]}
`

// rooted is the fixture of these tests: partitions are published by their root.
func rooted(t *testing.T) (*fixture, *pgx.Conn) {
	t.Helper()
	f, conn := flowing(t, renamed, renamedCatalog, renamedDatasets)
	sourceDo(t, conn, "ALTER PUBLICATION trefoil SET (publish_via_partition_root = true)")
	return f, conn
}

// shown says whether the canary is anywhere in the dataset's database, old schemas and what a
// build left included.
func (f *fixture) shown() bool {
	f.t.Helper()
	conn := f.connect("")
	for _, table := range rows(f.t, conn, "SELECT c.oid::regclass FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'") {
		if got := rows(f.t, conn, "SELECT count(*) FROM "+table+" t WHERE t::text LIKE '%canary%'"); got[0] != "0" {
			return true
		}
	}
	return false
}

// whenHeld waits until the dataset waits for review.
func (f *fixture) whenHeld() {
	f.t.Helper()
	f.until(func() bool {
		s, err := f.b.Flow(testContext(f.t), f.name)
		return err == nil && s != nil && s.State == stale && strings.Contains(s.Reason, ErrReview.Error())
	})
}

func (f *fixture) drifted(kind DriftKind, what string) bool {
	f.t.Helper()
	all, err := f.b.Drift(testContext(f.t), f.name)
	if err != nil {
		f.t.Fatal(err)
	}
	for _, d := range all {
		if d.Kind == kind && strings.Contains(d.What, what) && !d.At.IsZero() && d.Done != "" {
			return true
		}
	}
	return false
}

// The e-mail takes the name of a column that is held in clear: neither the flow nor the build
// that follows may read it under that name, until somebody has looked.
func TestAnEmailRenamedIntoAClearColumnIsNeverShown(t *testing.T) {
	t.Parallel()
	f, conn := rooted(t)
	f.follow()
	f.caughtUp(conn)
	sourceDo(t, conn, "ALTER TABLE app.person RENAME plan TO plan_old", "ALTER TABLE app.person RENAME email TO plan", "UPDATE app.person SET plan = plan || 'x' WHERE id < 20")
	f.whenHeld()
	if f.shown() {
		t.Fatal("the e-mail is in the dataset")
	}
	if got := f.one("SELECT count(*) FROM app.person WHERE plan = 'pro'"); got != "40" {
		t.Errorf("what stood does not stand as it was: %s", got)
	}
	if !f.drifted(DriftReplaced, "it was called email") || !f.drifted(DriftRenamed, "app.person.email is now called plan") {
		d, _ := f.b.Drift(testContext(t), f.name)
		t.Errorf("the report does not say it: %+v", d)
	}
	// A plain build is held as well.
	if err := f.plain(); err == nil || !strings.Contains(err.Error(), ErrReview.Error()) {
		t.Errorf("a plain build: %v", err)
	}
	// Named back, it goes on by itself; nobody has to accept anything.
	sourceDo(t, conn, "ALTER TABLE app.person RENAME plan TO email", "ALTER TABLE app.person RENAME plan_old TO plan", "UPDATE app.person SET plan = 'free' WHERE id = 3")
	f.caughtUp(conn)
	f.verified()
	if f.shown() {
		t.Error("the e-mail is in the dataset")
	}
}

// plain tries a build by a builder of its own.
func (f *fixture) plain() error {
	f.t.Helper()
	_, _, err := f.open(renamedCatalog, renamedDatasets, nil).Build(testContext(f.t), f.name)
	for deadline := time.Now().Add(patience); err != nil && strings.Contains(err.Error(), ErrBusy.Error()) && time.Now().Before(deadline); {
		time.Sleep(20 * time.Millisecond)
		_, _, err = f.open(renamedCatalog, renamedDatasets, nil).Build(testContext(f.t), f.name)
	}
	return err
}

// Swapped, written, and swapped back while nobody looked: what the stream carries under the
// name was the e-mail for a time.
func TestColumnsSwappedByRenameAndBackBetweenTwoBatchesShowNothing(t *testing.T) {
	t.Parallel()
	f, conn := rooted(t)
	stop := f.follow()
	f.caughtUp(conn)
	stop()
	swap := func(a, b string) {
		sourceDo(t, conn, "BEGIN", "ALTER TABLE app.person RENAME "+a+" TO between", "ALTER TABLE app.person RENAME "+b+" TO "+a, "ALTER TABLE app.person RENAME between TO "+b, "COMMIT")
	}
	for range 2 {
		swap("plan", "email")
		sourceDo(t, conn, "UPDATE app.person SET country = 'FR' WHERE id % 3 = 0", "INSERT INTO app.person SELECT 100 + max(id), 'pro', 'canary-4418', 'IE' FROM app.person", "DELETE FROM app.person WHERE id = (SELECT max(id) FROM app.person)")
		swap("plan", "email")
		sourceDo(t, conn, "UPDATE app.person SET country = 'DE' WHERE id % 4 = 0")
	}
	f.follow()
	for range 20 {
		if f.shown() {
			t.Fatal("the e-mail is in the dataset")
		}
		time.Sleep(10 * time.Millisecond)
	}
	f.caughtUp(conn)
	f.verified()
	if f.shown() {
		t.Error("the e-mail is in the dataset")
	}
}

// A rename between a build's plan and its reading of the table: names are resolved as of now,
// rows as of the snapshot.
func TestAColumnRenamedWhileABuildRunsIsNotReadInTheOthersForm(t *testing.T) {
	t.Parallel()
	f := setup(t, renamed, renamedCatalog, renamedDatasets)
	conn := f.source.Connect(t, f.dsn)
	b := f.open(renamedCatalog, renamedDatasets, nil)
	b.cfg.Progress = &early{hook{f: func() {
		sourceDo(t, conn, "ALTER TABLE app.person RENAME plan TO plan_old", "ALTER TABLE app.person RENAME email TO plan")
	}}}
	if _, _, err := b.Build(testContext(t), f.name); err == nil || !strings.Contains(err.Error(), "changed at the source") {
		t.Errorf("a column was renamed under a build: %v", err)
	}
	if f.shown() {
		t.Error("the e-mail is in the dataset's database")
	}
}

func TestDriftIsReported(t *testing.T) {
	t.Parallel()
	f, conn := rooted(t)
	f.b.cfg.WatchEvery = 100 * time.Millisecond
	f.follow()
	f.caughtUp(conn)
	built := f.one("SELECT built_at FROM trefoil_info.dataset")
	for _, c := range []struct {
		sql, what string
		kind      DriftKind
		rebuilt   bool
	}{
		{"ALTER TABLE app.person ADD diagnosis text DEFAULT 'canary'", "column app.person.diagnosis (text) is new", DriftNewColumn, false},
		{"CREATE TABLE app.later (x int)", "table app.later is new", DriftNewTable, false},
		{"ALTER TABLE app.person RENAME email TO mail", "column app.person.email is now called mail", DriftRenamed, false},
		{"CREATE TABLE app.visit_2026 PARTITION OF app.visit FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')", "empty partitions of app.visit came: app.visit_2026", DriftPartitions, false},
		{"CREATE TABLE app.visit_2027 (LIKE app.visit); INSERT INTO app.visit_2027 VALUES (77, 1, '2027-02-01'); ALTER TABLE app.visit ATTACH PARTITION app.visit_2027 FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
			"partitions of app.visit changed: app.visit_2027 came", DriftPartitions, true},
		{"ALTER TABLE app.visit DETACH PARTITION app.visit_2027", "app.visit_2027 went", DriftPartitions, true},
		{"ALTER TABLE app.person ALTER plan TYPE varchar(30)", "column app.person.plan was text and is character varying(30)", DriftRetyped, true},
		{"ALTER TABLE app.person REPLICA IDENTITY FULL", "the replica identity of app.person was default and is full", DriftIdentity, true},
		{"ALTER PUBLICATION trefoil SET (publish = 'insert, update, delete, truncate', publish_via_partition_root = true); ALTER PUBLICATION trefoil OWNER TO CURRENT_USER; COMMENT ON PUBLICATION trefoil IS 'x'", "", "", false},
	} {
		if _, err := conn.PgConn().Exec(testContext(t), c.sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", c.sql, err)
		}
		if c.kind != "" {
			f.until(func() bool { return f.drifted(c.kind, c.what) })
		}
		f.caughtUp(conn)
		now := f.one("SELECT built_at FROM trefoil_info.dataset")
		if (now != built) != c.rebuilt {
			t.Errorf("after %s: built again: %v", c.sql, now != built)
		}
		built = now
		sourceDo(t, conn, "INSERT INTO app.visit VALUES (5, 5, '2025-03-01') ON CONFLICT DO NOTHING", "UPDATE app.visit SET id = id + 1000 WHERE id = 40", "UPDATE app.visit SET id = id - 1000 WHERE id = 1040")
		if c.sql[:12] == "CREATE TABLE" && c.kind == DriftPartitions {
			sourceDo(t, conn, "INSERT INTO app.visit SELECT i, i, '2026-02-02' FROM generate_series(1, 30) i ON CONFLICT DO NOTHING")
		}
		f.caughtUp(conn)
		f.verified()
	}
	for _, d := range []struct {
		kind DriftKind
		n    int
	}{{DriftNewColumn, 1}, {DriftRebuilt, 4}} {
		all, err := f.b.Drift(testContext(t), f.name)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, x := range all {
			if x.Kind == d.kind {
				n++
			}
		}
		if n != d.n {
			t.Errorf("%s is reported %d times, not %d", d.kind, n, d.n)
		}
	}
	if f.shown() {
		t.Error("an uncatalogued column is in the dataset")
	}
}

// A table that left the publication, or a publication that left: the dataset stands and says
// why, and goes on once it is mended.
func TestATableDroppedFromThePublicationIsNoticed(t *testing.T) {
	t.Parallel()
	f, conn := rooted(t)
	sourceDo(t, conn, "DROP PUBLICATION trefoil", "CREATE PUBLICATION trefoil FOR TABLE app.person, app.visit WITH (publish_via_partition_root = true)")
	f.follow()
	f.caughtUp(conn)
	sourceDo(t, conn, "ALTER PUBLICATION trefoil DROP TABLE app.visit", "INSERT INTO app.visit VALUES (900, 1, '2025-07-07')")
	f.until(func() bool {
		s, err := f.b.Flow(testContext(t), f.name)
		return err == nil && s != nil && s.State == stale && strings.Contains(s.Reason, "publication")
	})
	if !f.drifted(DriftPublication, "publication trefoil changed for app.visit") {
		t.Error("the report does not say it")
	}
	sourceDo(t, conn, "ALTER PUBLICATION trefoil ADD TABLE app.visit")
	f.caughtUp(conn)
	f.verified()
	if slot, err := flow.FindSlot(testContext(t), conn, flow.SlotName(f.name)); err != nil || slot == nil {
		t.Errorf("its slot: %v, %v", slot, err)
	}
}
