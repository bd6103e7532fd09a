package dataset

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

const celled = `CREATE SCHEMA app; CREATE TABLE app.person (id int PRIMARY KEY, country text NOT NULL, plan text NOT NULL, moved timestamptz, was text);
	INSERT INTO app.person SELECT i, CASE WHEN i <= 60 THEN 'IE' WHEN i <= 90 THEN 'NO' WHEN i <= 97 THEN 'FR' ELSE 'DE' END, CASE WHEN i <= 30 THEN 'pro' ELSE 'free' END FROM generate_series(1, 100) i;`

var celledCatalog = wholeCatalog("person: {table: app.person, key: id, residence: country, residence_changed: moved, residence_before: was}\ntables:\n  - table: app.person\n    subject: {self: true}\n    columns:\n" +
	column("id", "integer", "identifier", "") + column("country", "text", "location", ", trait: residence") + column("plan", "text", "behaviour", ""))

const celledDatasets = "version: 1\ndatasets:\n  - name: NAME\n    cluster: outside\n    purpose: research\n    source: app\n    rows: {residence: [EEA]}\n    tables:\n      - {table: app.person, columns: [{name: id, form: pseudonymised}, {name: country, form: clear}, {name: plan, form: clear}]}\n"

// Whoever looks at any moment, while persons come, go and change, sees no cell below k.
func TestNoCommitLeavesASmallCell(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, celled, celledCatalog, celledDatasets)
	f.follow()
	f.caughtUp(conn)
	watch := f.connect("")
	r := rand.New(rand.NewPCG(1, 2))
	for step := range 60 {
		sql := fmt.Sprintf("UPDATE app.person SET country = '%s', plan = '%s' WHERE id %% %d = %d", []string{"IE", "NO", "FR", "US"}[r.IntN(4)],
			[]string{"pro", "free", "it''s \\ odd"}[r.IntN(3)], 3+r.IntN(20), r.IntN(3))
		switch step % 4 {
		case 0:
			sql = fmt.Sprintf("DELETE FROM app.person WHERE id = %d AND (SELECT count(*) FROM app.person WHERE country <> 'US') > 40", r.IntN(100))
		case 1:
			sql = fmt.Sprintf("INSERT INTO app.person SELECT i, 'NO', 'pro' FROM generate_series(%d, %d) i ON CONFLICT DO NOTHING", step*100, step*100+r.IntN(15))
		}
		sourceDo(t, conn, sql)
		if got := rows(t, watch, "SELECT coalesce(min(n), 10) FROM (SELECT count(*) AS n FROM app.person GROUP BY country, plan) c")[0]; got < "10" && len(got) < 2 {
			t.Fatalf("after %s a cell holds %s", sql, got)
		}
	}
	f.caughtUp(conn)
	want := rows(t, conn, "SELECT count(*) FROM app.person WHERE country <> 'US'")[0]
	if got := f.one("SELECT count(*) || ' ' || (SELECT subjects FROM trefoil_info.dataset) FROM app.person"); got != want+" "+want {
		t.Errorf("%s persons, of %s", got, want)
	}
	if got := f.one("SELECT min(n) = (SELECT smallest_cell FROM trefoil_info.dataset) FROM (SELECT count(*) AS n FROM app.person GROUP BY country, plan) c"); got != "t" {
		t.Error("the smallest cell is not the one that is told")
	}
	sourceDo(t, conn, "DELETE FROM app.person WHERE id > 9") // fewer than one cell must hold
	f.until(func() bool { return f.one("SELECT count(*) FROM app.person") == "0" })
}

func TestProtectionThatRunsOutByTimeAloneEndsMembership(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, celled+"UPDATE app.person SET country = 'US', was = 'IE', moved = now() - interval '24 months' + interval '1 hour' WHERE id <= 3;",
		celledCatalog, celledDatasets)
	stop := f.follow()
	f.caughtUp(conn)
	if got := f.one("SELECT count(*) FROM app.person"); got != "100" {
		t.Fatalf("%s persons, while protection of three goes on", got)
	}
	stop()
	f.b.pace.ahead = 2 * time.Hour
	f.follow()
	f.until(func() bool { return f.one("SELECT count(*) FROM app.person") == "97" })
}

func TestFollowingIsNotRebuildingAndReadsByIndex(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop+"CREATE INDEX ON app.person (country); CREATE INDEX ON \"Sales\".\"Order\" (referrer); CREATE INDEX ON \"Sales\".\"Order\" (parent);", shopCatalog, shopDatasets)
	f.follow()
	f.caughtUp(conn)
	sourceDo(t, conn, "SET enable_seqscan = off")
	n := 0
	f.noScans(conn, "", func() {
		for i := range 20 {
			n++
			sourceDo(t, conn, fmt.Sprintf("UPDATE app.person SET plan = 'pro', country = '%s' WHERE id = %d", []string{"IE", "US"}[i%2], 1+i%7), // enter and leave
				fmt.Sprintf(`INSERT INTO "Sales"."Order" VALUES (%d, 4, 1, NULL, 1)`, 2000+n), fmt.Sprintf(`UPDATE "Sales"."Order" SET amount = 7 WHERE "Id" = %d`, 11+i))
			time.Sleep(30 * time.Millisecond)
		}
		f.caughtUp(conn)
	})
	f.verified()
}

// noScans fails when work reads whole tables of the source, but for some. Statistics come late, those of a
// session that ended too: what an earlier one did may show in a later window, so it is looked
// again, and what work does shows in each.
func (f *fixture) noScans(conn *pgx.Conn, but string, work func()) {
	f.t.Helper()
	scans := func() (out string) {
		for same := 0; same < 3; {
			time.Sleep(500 * time.Millisecond)
			now := rows(f.t, conn, "SELECT coalesce(string_agg(relname || ' ' || seq_scan, ', ' ORDER BY relname), '') FROM pg_stat_user_tables WHERE relname <> '"+but+"'")[0]
			if same++; now != out {
				out, same = now, 0
			}
		}
		return out
	}
	var before, after string
	for range 3 {
		before = scans()
		work()
		if after = scans(); after == before {
			return
		}
	}
	f.t.Errorf("whole tables are read: %s, before %s", after, before)
}

func TestSchemaChanges(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	f.follow()
	f.caughtUp(conn)
	built := func() string { return f.one("SELECT built_at FROM trefoil_info.dataset") }
	first := built()
	// A new column is in no dataset, whatever stands in it.
	sourceDo(t, conn, "ALTER TABLE app.person ADD canary text DEFAULT 'canary-7781'", "UPDATE app.person SET canary = 'canary-7782' WHERE id < 5")
	f.caughtUp(conn)
	f.verified()
	if got := f.one("SELECT count(*) FROM app.person p WHERE p::text LIKE '%canary%'"); got != "0" || built() != first {
		t.Errorf("%s canaries; built %s, then %s", got, first, built())
	}
	// Another type, another label of an enum: built again.
	for _, sql := range []string{`ALTER TABLE "Sales"."Order" ALTER amount TYPE numeric(14,4)`, "ALTER TYPE app.plan ADD VALUE 'max'"} {
		if strings.HasPrefix(sql, `ALTER TABLE`) {
			sourceDo(t, conn, `ALTER TABLE "Sales"."Order" DROP total`, sql, `ALTER TABLE "Sales"."Order" ADD total numeric GENERATED ALWAYS AS (amount * 2) STORED`)
		} else {
			sourceDo(t, conn, sql, "UPDATE app.person SET plan = 'max' WHERE id = 4")
		}
		f.until(func() bool { // a column that was made anew is another one: somebody looks at it first
			s, err := f.b.Flow(testContext(t), f.name)
			if err == nil && s != nil && s.State == stale && strings.Contains(s.Reason, ErrReview.Error()) {
				if _, err := f.b.AcceptDrift(testContext(t), f.name); err != nil {
					t.Fatal(err)
				}
			}
			return err == nil && s != nil && built() != first
		})
		f.caughtUp(conn)
		f.verified()
		first = built()
	}
	// A column of the definition that is gone: the dataset says so, and stands as it was.
	sourceDo(t, conn, "ALTER TABLE app.person RENAME plan TO scheme")
	f.until(func() bool {
		s, err := f.b.Flow(testContext(t), f.name)
		return err == nil && s != nil && s.State == stale && s.Reason != ""
	})
	if built() != first {
		t.Error("it was built without a column of its definition")
	}
	sourceDo(t, conn, "ALTER TABLE app.person RENAME scheme TO plan")
	f.caughtUp(conn)
	f.verified()
}

func TestCareForTheSource(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	built := func() time.Time {
		i, err := f.b.Info(testContext(t), f.name)
		if err != nil {
			t.Fatal(err)
		}
		return i.BuiltAt
	}
	stop := f.follow()
	f.caughtUp(conn)
	if _, err := f.b.BuildReport(testContext(t), f.name); !errors.Is(err, ErrBusy) {
		t.Errorf("a build while it is followed: %v", err)
	}
	// Idle, freshness moves, and the slot lets go of the log.
	var slot *flow.Slot
	f.until(func() (ok bool) {
		var err error
		slot, err = flow.FindSlot(testContext(t), conn, flow.SlotName(f.name))
		return err == nil && slot != nil && slot.Active
	})
	sourceDo(t, conn, "CREATE TABLE noise AS SELECT generate_series(1, 1000) i")
	f.caughtUp(conn)
	f.until(func() bool {
		now, err := flow.FindSlot(testContext(t), conn, flow.SlotName(f.name))
		return err == nil && now.Confirmed > slot.Confirmed
	})
	stop()
	// A slot that somebody moved on, or took away: compared and mended, not built again.
	for n, sql := range []string{"SELECT pg_replication_slot_advance($1, pg_current_wal_insert_lsn())", "SELECT pg_drop_replication_slot($1)"} {
		was := built()
		sourceDo(t, conn, fmt.Sprintf("UPDATE app.person SET plan = 'free' WHERE id %% 5 = %d", n), `DELETE FROM "Sales"."Order" WHERE "Id" = (SELECT max("Id") FROM "Sales"."Order")`,
			fmt.Sprintf(`INSERT INTO app.person (email, country) VALUES ('late%d@example.org', 'IE')`, n), "UPDATE app.person SET country = 'US', moved_from = NULL WHERE id = 9")
		f.until(func() bool { _, err := conn.Exec(testContext(t), sql, flow.SlotName(f.name)); return err == nil })
		stop = f.follow()
		f.caughtUp(conn)
		if built() != was || !f.drifted(DriftResynced, "slot") {
			t.Errorf("after %s it was built again", sql)
		}
		f.verified()
		stop()
	}
	d, err := f.b.Drop(testContext(t), f.name)
	if err != nil || !d.Slot {
		t.Fatalf("dropped %+v, %v", d, err)
	}
	if slot, err := flow.FindSlot(testContext(t), conn, flow.SlotName(f.name)); err != nil || slot != nil {
		t.Errorf("the slot of a dropped dataset: %+v, %v", slot, err)
	}
}

func TestWhatCannotBeFollowedIsSaid(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	for _, c := range []struct{ do, undo, want string }{
		{"DROP PUBLICATION trefoil", "CREATE PUBLICATION trefoil FOR ALL TABLES", "CREATE PUBLICATION trefoil FOR TABLE"},
		{"ALTER PUBLICATION trefoil SET (publish = 'insert')", "ALTER PUBLICATION trefoil SET (publish = 'insert, update, delete, truncate')", "must publish every"},
		{"ALTER TABLE app.person REPLICA IDENTITY NOTHING", "ALTER TABLE app.person REPLICA IDENTITY DEFAULT", "replica identity"},
	} {
		sourceDo(t, conn, c.do)
		if err := f.b.Follow(testContext(t), f.name); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("after %s: %v", c.do, err)
		}
		sourceDo(t, conn, c.undo)
	}
	sourceDo(t, conn, "CREATE ROLE only_reads LOGIN PASSWORD 'only-reads'", "GRANT pg_read_all_data TO only_reads")
	t.Cleanup(func() { sourceDo(t, conn, "DROP ROLE only_reads") })
	dsn := f.dsn
	f.b.cfg.Sources["app"] = f.source.SocketDSN("only_reads", "only-reads", rows(t, conn, "SELECT current_database()")[0])
	if err := f.b.Follow(testContext(t), f.name); err == nil || !strings.Contains(err.Error(), "REPLICATION") {
		t.Errorf("a role without REPLICATION: %v", err)
	}
	if s, err := f.b.Flow(context.Background(), f.name); s != nil || err != nil {
		t.Errorf("nothing was built, and it says %+v, %v", s, err)
	}
	// With it, the least rights are enough.
	sourceDo(t, conn, "ALTER ROLE only_reads REPLICATION")
	stop := f.follow()
	f.caughtUp(conn)
	sourceDo(t, conn, "UPDATE app.person SET plan = 'free', country = 'NO' WHERE id < 9")
	f.caughtUp(conn)
	stop()
	f.b.cfg.Sources["app"] = dsn
	f.verified()
}

// What no definition names, and rows depend on: a list that changed while nothing followed.
func TestAListOfSubjectsThatChangedIsNotFollowedOn(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, web, webCatalog, webDataset("subjects: list.txt", "person: id plan", "account: tenant no owner"))
	write := func(text string) {
		if err := os.WriteFile(filepath.Join(f.dir, "list.txt"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("1\n2\n")
	stop := f.follow()
	f.caughtUp(conn)
	f.verified()
	stop()
	write("2\n3\n")
	f.follow()
	f.until(func() bool { return strings.Join(f.rows("SELECT id FROM app.person ORDER BY id"), " ") == "2 3" })
	f.caughtUp(conn)
	f.verified()
}
