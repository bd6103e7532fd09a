package dataset

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// following is a fixture on a source of its own, which may be stopped and copied.
func ownSource(t *testing.T, bin string, more ...pgtest.Option) (*fixture, *pgx.Conn) {
	t.Helper()
	source := pgtest.Private(t, append(more, pgtest.WithBin(bin))...)
	f := setupOn(t, source, source.SuperuserDSN("postgres"), datasetCluster(t), shop, shopCatalog, shopDatasets)
	conn := source.Connect(t, f.dsn)
	sourceDo(t, conn, "CREATE PUBLICATION trefoil FOR ALL TABLES")
	return f, conn
}

// copyOf copies a stopped cluster as it is, files and all: a snapshot of its volume.
func copyOf(t *testing.T, c *postgres.Cluster, settings map[string]string) *postgres.Cluster {
	t.Helper()
	dir := c.Directory() + "-copy"
	if out, err := exec.Command("cp", "-a", c.Directory(), dir).CombinedOutput(); err != nil {
		t.Fatalf("copy: %v: %s", err, out)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := postgres.Options{Directory: dir, Bin: c.Programs().Dir, Name: "copy", NoSync: true, DieWithParent: true, Settings: map[string]string{
		"wal_level": "logical", "max_wal_senders": "10", "max_replication_slots": "10"}}
	for k, v := range settings {
		o.Settings[k] = v
	}
	out, err := postgres.Open(testContext(t), o)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func startCopy(t *testing.T, c *postgres.Cluster) (dsn string, conn *pgx.Conn) {
	t.Helper()
	if err := c.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Stop(testContext(t), postgres.StopImmediate) })
	return c.SuperuserDSN("postgres"), (&pgtest.Cluster{Cluster: c}).Connect(t, c.SuperuserDSN("postgres"))
}

// at points the fixture to another server that plays the source.
func (f *fixture) at(dsn string) {
	f.b.cfg.Sources["app"], f.dsn = dsn, dsn
}

// A snapshot of the source's volume is put back, slot, identifier and timeline included, and
// its log grows beyond where the dataset was before anybody follows again.
func TestASourceRestoredFromASnapshotIsNoticedHoweverFarItHasCome(t *testing.T) {
	t.Parallel()
	f, conn := ownSource(t, "")
	stop := f.follow()
	f.caughtUp(conn)
	stop()
	ctx := testContext(t)
	if err := f.source.Stop(ctx, postgres.StopFast); err != nil {
		t.Fatal(err)
	}
	earlier := copyOf(t, f.source.Cluster, nil)
	if err := f.source.Start(ctx); err != nil {
		t.Fatal(err)
	}
	f.at(f.source.SuperuserDSN("postgres"))
	conn = f.source.Connect(t, f.dsn)
	stop = f.follow()
	sourceDo(t, conn, "UPDATE app.person SET plan = 'pro'", "INSERT INTO app.person (email, country) SELECT 'lost' || i || '@example.org', 'IE' FROM generate_series(1, 9) i")
	f.caughtUp(conn)
	stop()
	built := f.builtAt()
	was, err := f.b.Flow(ctx, f.name)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.source.Stop(ctx, postgres.StopFast); err != nil {
		t.Fatal(err)
	}
	dsn, conn := startCopy(t, earlier)
	f.at(dsn)
	sourceDo(t, conn, "UPDATE app.person SET plan = 'free' WHERE id % 2 = 0", "CREATE TABLE noise AS SELECT i, md5(i::text) FROM generate_series(1, 20000) i")
	if got := rows(t, conn, "SELECT pg_current_wal_lsn() > '"+was.Position+"', (SELECT system_identifier FROM pg_control_system()) = "+was.system+", EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '"+flow.SlotName(f.name)+"')")[0]; got != "t|t|t" {
		t.Fatalf("the test does not show what it should: %s", got)
	}
	f.follow()
	f.caughtUp(conn)
	f.verified()
	if !f.drifted(DriftResynced, "history is another one") || f.builtAt() != built {
		d, _ := f.b.Drift(ctx, f.name)
		t.Errorf("what was done: %+v", d)
	}
}

// Before PostgreSQL 17 slots stay behind when a standby takes over; and one that had not
// received everything takes rows back that the dataset has.
func TestAfterAFailoverTheDatasetIsMendedNotBuiltAgain(t *testing.T) {
	t.Parallel()
	f, conn := ownSource(t, "")
	stop := f.follow()
	f.caughtUp(conn)
	stop()
	ctx := testContext(t)
	if err := f.source.Stop(ctx, postgres.StopFast); err != nil {
		t.Fatal(err)
	}
	standby := copyOf(t, f.source.Cluster, nil)
	for _, slot := range []string{"pg_replslot/" + flow.SlotName(f.name)} { // a base backup takes no slots
		if err := os.RemoveAll(standby.DataDir() + "/" + slot); err != nil {
			t.Fatal(err)
		}
	}
	own(t, f.source.DataDir()+"/PG_VERSION", standby.DataDir()+"/standby.signal")
	if err := f.source.Start(ctx); err != nil {
		t.Fatal(err)
	}
	f.at(f.source.SuperuserDSN("postgres"))
	conn = f.source.Connect(t, f.dsn)
	stop = f.follow()
	sourceDo(t, conn, "UPDATE app.person SET plan = 'pro' WHERE id < 12", "INSERT INTO app.person (email, country) SELECT 'unsent' || i || '@example.org', 'IE' FROM generate_series(1, 5) i")
	f.caughtUp(conn)
	built := f.builtAt()
	if err := f.source.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	dsn, conn := startCopy(t, standby)
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	f.at(dsn)
	stop()
	sourceDo(t, conn, "UPDATE app.person SET plan = 'free' WHERE id = 4", `DELETE FROM "Sales"."Order" WHERE "Id" = (SELECT max("Id") FROM "Sales"."Order")`)
	f.follow()
	f.caughtUp(conn)
	f.verified()
	if f.builtAt() != built || !f.drifted(DriftResynced, "") {
		d, _ := f.b.Drift(ctx, f.name)
		t.Errorf("what was done: %+v", d)
	}
	if got := f.one("SELECT count(*) FROM app.person WHERE plan = 'pro'"); got != rows(t, conn, "SELECT count(*) FROM app.person WHERE plan = 'pro' AND country IN ('IE', 'FR', 'NO')")[0] && got == "0" {
		t.Errorf("%s", got)
	}
}

// own makes an empty file that belongs to whom like belongs.
func own(t *testing.T, like, file string) {
	t.Helper()
	if out, err := exec.Command("sh", "-c", `cp -p "$1" "$2" && : > "$2"`, "sh", like, file).CombinedOutput(); err != nil {
		t.Fatalf("make %s: %v: %s", file, err, out)
	}
}

// With PostgreSQL 17 and later the slot goes with the primary, and following goes on.
func TestAFailoverSlotLetsFollowingGoOn(t *testing.T) {
	t.Parallel()
	bin := pgtest.Bin18()
	if bin == "" {
		if os.Getenv("TREFOIL_PG18_REQUIRED") != "" {
			t.Fatal("PostgreSQL 18 is required and not there: run scripts/install-pg18.sh")
		}
		t.Skip("PostgreSQL 18 is not there: scripts/install-pg18.sh")
	}
	f, conn := ownSource(t, bin)
	ctx := testContext(t)
	sourceDo(t, conn, "SELECT pg_create_physical_replication_slot('standby_1', true)", "ALTER SYSTEM SET synchronized_standby_slots = 'standby_1'")
	if err := f.source.Stop(ctx, postgres.StopFast); err != nil {
		t.Fatal(err)
	}
	standby := copyOf(t, f.source.Cluster, nil)
	if err := os.RemoveAll(standby.DataDir() + "/pg_replslot/standby_1"); err != nil {
		t.Fatal(err)
	}
	own(t, f.source.DataDir()+"/PG_VERSION", standby.DataDir()+"/standby.signal")
	own(t, f.source.DataDir()+"/PG_VERSION", standby.DataDir()+"/postgresql.auto.conf") // without synchronized_standby_slots
	if err := f.source.Start(ctx); err != nil {
		t.Fatal(err)
	}
	f.at(f.source.SuperuserDSN("postgres"))
	conn = f.source.Connect(t, f.dsn)
	standby.Configure(map[string]string{"primary_conninfo": f.source.SuperuserDSN("postgres") + "&application_name=standby_1", "primary_slot_name": "standby_1",
		"sync_replication_slots": "on", "hot_standby_feedback": "on", "hot_standby": "on"})
	dsn, there := startCopy(t, standby)
	stop := f.follow()
	f.caughtUp(conn)
	f.until(func() bool {
		return rows(t, there, "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '"+flow.SlotName(f.name)+"' AND synced AND NOT temporary AND failover")[0] == "1"
	})
	for i := range 20 {
		sourceDo(t, conn, fmt.Sprintf("UPDATE app.person SET plan = 'pro', born = born + %d WHERE id %% 7 = %d", i, i%7))
	}
	f.caughtUp(conn)
	built := f.builtAt()
	if err := f.source.Kill(ctx); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	stop()
	f.at(dsn)
	conn = (&pgtest.Cluster{Cluster: standby}).Connect(t, dsn)
	sourceDo(t, conn, "UPDATE app.person SET plan = 'free' WHERE id = 4")
	f.follow()
	f.caughtUp(conn)
	f.verified()
	d, err := f.b.Drift(ctx, f.name)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range d {
		if x.Kind == DriftResynced || x.Kind == DriftRebuilt {
			t.Errorf("following did not just go on: %+v", x)
		}
	}
	if f.builtAt() != built {
		t.Error("it was built again")
	}
}

// What the flow and a build hold at the source is what a plain reader holds.
func TestFollowingTakesNoLockBeyondAReaders(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	f.b.cfg.WatchEvery = 1 // all the time
	seen := map[string]bool{}
	look := func() {
		for _, l := range rows(t, conn, `SELECT DISTINCT l.locktype || ' ' || l.mode FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE a.datname = current_database() AND a.application_name LIKE 'trefoil%' AND l.locktype IN ('relation', 'tuple', 'extend', 'page', 'object') AND l.granted`) {
			seen[l] = true
		}
	}
	b := f.open(shopCatalog, shopDatasets, nil)
	b.cfg.Progress = &early{hook{f: look}}
	if _, _, err := b.Build(testContext(t), f.name); err != nil {
		t.Fatal(err)
	}
	f.follow()
	f.caughtUp(conn)
	for i := range 60 {
		sourceDo(t, conn, fmt.Sprintf("UPDATE app.person SET plan = 'pro', country = '%s' WHERE id = %d", []string{"IE", "US"}[i%2], 1+i%9))
		look()
	}
	f.caughtUp(conn)
	for l := range seen {
		if !strings.HasSuffix(l, " AccessShareLock") {
			t.Errorf("a lock beyond a reader's: %s", l)
		}
	}
	if !seen["relation AccessShareLock"] {
		t.Error("no lock was seen at all")
	}
}

// A dataset for which the source keeps too much of its log gives its slot up, also while the
// dataset's own cluster is away, and is compared with the source afterwards.
func TestTheSourceKeepsNoMoreLogThanItsBound(t *testing.T) {
	t.Parallel()
	f, conn := ownSource(t, "") // others would fill its log
	stop := f.follow()
	f.caughtUp(conn)
	stop()
	slot := func() *flow.Slot {
		s, err := flow.FindSlot(testContext(t), conn, flow.SlotName(f.name))
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	built, steward := f.builtAt(), f.b.cfg.Clusters["inside"]
	f.b.cfg.Retain = map[string]int64{"app": slot().Retained + 4<<20}
	f.b.cfg.Clusters["inside"] = "host=/nowhere user=nobody"
	stop = f.follow()
	time.Sleep(300 * time.Millisecond) // time to be wrong
	if slot() == nil {
		t.Error("a slot within its bound is given up")
	}
	sourceDo(t, conn, "CREATE TABLE noise AS SELECT i, md5(i::text) a, md5(i::text) b FROM generate_series(1, 100000) i", "UPDATE app.person SET plan = 'free' WHERE id < 6")
	f.until(func() bool { return slot() == nil })
	stop()
	f.b.cfg.Clusters["inside"] = steward
	f.follow()
	f.caughtUp(conn)
	f.verified()
	if f.builtAt() != built {
		t.Error("it was built again")
	}
}
