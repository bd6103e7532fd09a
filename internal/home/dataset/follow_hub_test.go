package dataset

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// couple is two datasets of one source, NAME and NAME2.
func couple(t *testing.T) (*fixture, *pgx.Conn, []string) {
	t.Helper()
	one := webDataset("residence: [EEA]", "person: id plan favourite", "account: tenant no owner", "entry: id tenant no other parent", "video: id maker")
	two := webDataset("residence: [EEA]", "person: id plan", "account: tenant no owner")
	at := strings.Index(two, "  - name: NAME")
	both := one + strings.Replace(two[at:], "name: NAME", "name: NAME2", 1)
	f, conn := flowing(t, web, webCatalog, both)
	names := []string{f.name, f.name + "2"}
	t.Cleanup(func() {
		for _, slot := range []string{flow.SlotName(names[1]), f.b.sharedSlot("app")} {
			if err := flow.DropSlot(testContext(t), conn, slot); err != nil {
				t.Error(err)
			}
		}
		f.target.Exec(t, f.target.SuperuserDSN("postgres"), "DROP DATABASE IF EXISTS "+postgres.Quote(names[1])+" WITH (FORCE)",
			"DROP ROLE IF EXISTS "+postgres.Quote(group(names[1])))
	})
	f.b.cfg.Logger = slog.New(slog.NewTextHandler(testWriter{t}, nil))
	return f, conn, names
}

// keep follows a dataset until the test or stop ends it.
func (f *fixture) keep(name string) (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.b.Follow(ctx, name) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				f.t.Error(err)
			}
		case <-time.After(60 * time.Second):
			f.t.Error("the flow does not end")
		}
	}
	f.t.Cleanup(stop)
	return stop
}

// fresh waits until datasets are as fresh as the source's clock is now.
func (f *fixture) fresh(conn *pgx.Conn, names ...string) {
	f.t.Helper()
	var now time.Time
	if err := conn.QueryRow(testContext(f.t), "SELECT clock_timestamp()").Scan(&now); err != nil {
		f.t.Fatal(err)
	}
	f.patiently("a dataset does not catch up", func() bool {
		for _, name := range names {
			if s, err := f.b.Flow(testContext(f.t), name); err != nil || s == nil || s.State != following || !s.FreshAsOf.After(now) {
				return false
			}
		}
		return true
	})
}

func (f *fixture) patiently(what string, ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			f.t.Fatal(what)
		}
	}
}

// slots are the names of the slots of the test's source database, and the walsenders that read them.
func slotsOf(t *testing.T, conn *pgx.Conn) (slots []string, readers string) {
	t.Helper()
	slots = rows(t, conn, "SELECT slot_name FROM pg_replication_slots WHERE database = current_database() ORDER BY 1")
	return slots, rows(t, conn, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND datname = current_database()")[0]
}

// sharing waits until these datasets share one slot, which nothing else stands beside.
func (f *fixture) sharing(conn *pgx.Conn, names ...string) {
	f.t.Helper()
	shared := f.b.sharedSlot("app")
	f.patiently("they do not share a slot", func() bool {
		for _, name := range names {
			if s, err := f.b.Flow(testContext(f.t), name); err != nil || s == nil || s.Slot != shared {
				return false
			}
		}
		slots, readers := slotsOf(f.t, conn)
		return len(slots) == 1 && slots[0] == shared && readers == "1"
	})
}

func (f *fixture) equal(names ...string) {
	f.t.Helper()
	for _, name := range names {
		if v, err := f.b.Verify(testContext(f.t), name); err != nil || !v.Equal {
			f.t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

// built are the times at which datasets were built: who is built again was not followed.
func (f *fixture) built(names ...string) string {
	f.t.Helper()
	out := ""
	for _, name := range names {
		i, err := f.b.Info(testContext(f.t), name)
		d, err2 := f.b.Drift(testContext(f.t), name)
		if err != nil || err2 != nil {
			f.t.Fatal(err, err2)
		}
		out += fmt.Sprint(i.BuiltAt, d)
	}
	return out
}

// Two datasets of one source come to share one slot and one decoding; each has what a build
// would give, the one that joined late too; a dataset that is dropped frees its place, and the
// last one the slot.
func TestDatasetsOfOneSourceShareASlot(t *testing.T) {
	t.Parallel()
	f, conn, names := couple(t)
	f.keep(names[0])
	f.fresh(conn, names[0])
	if slots, _ := slotsOf(t, conn); len(slots) != 1 || slots[0] != flow.SlotName(names[0]) {
		t.Fatalf("one dataset has the slots %v", slots)
	}
	r := rand.New(rand.NewPCG(1, 1))
	stop := f.keep(names[1])
	for range 20 {
		act20(t, conn, r)
	}
	f.sharing(conn, names...)
	before := f.built(names...)
	for range 20 {
		act20(t, conn, r)
	}
	f.fresh(conn, names...)
	f.equal(names...)

	stop()
	if _, err := f.b.Drop(testContext(t), names[1]); err != nil {
		t.Fatal(err)
	}
	hub := f.b.hubOf("app", f.dsn)
	hub.flow.Forget(names[1]) // as its time away would
	act20(t, conn, r)
	f.fresh(conn, names[0])
	f.equal(names[0])
	if slots, readers := slotsOf(t, conn); len(slots) != 1 || readers != "1" {
		t.Errorf("after one was dropped: %v, %s", slots, readers)
	}
	if now := f.built(names[0]); !strings.HasPrefix(before, now) {
		t.Errorf("it was built again: %s, %s", before, now)
	}
}

// One that does not come back is given a slot of its own; the other goes on, and the source
// keeps its log for whom it must. It returns from there, and shares again.
func TestADatasetThatIsAwayHoldsNoOther(t *testing.T) {
	t.Parallel()
	f, conn, names := couple(t)
	hub := f.b.hubOf("app", f.dsn)
	hub.flow = flow.NewHub(flow.HubConfig{DSN: f.dsn, Slot: hub.slot, Publication: publication, Leave: hub.part, Grace: time.Millisecond, Logger: f.b.cfg.Logger})
	f.keep(names[0])
	stop := f.keep(names[1])
	f.fresh(conn, names...)
	f.sharing(conn, names...)
	before := f.built(names...)
	stop()
	f.patiently("it is not parted", func() bool {
		slots, _ := slotsOf(t, conn)
		return len(slots) == 2
	})
	r := rand.New(rand.NewPCG(2, 1))
	for range 20 {
		act20(t, conn, r)
	}
	f.fresh(conn, names[0])
	f.equal(names[0])
	at := rows(t, conn, "SELECT pg_current_wal_insert_lsn()")[0]
	f.patiently("the one that is away holds the shared slot", func() bool {
		act20(t, conn, r)
		return rows(t, conn, "SELECT confirmed_flush_lsn >= '"+at+"' FROM pg_replication_slots WHERE slot_name = '"+hub.slot+"'")[0] == "t"
	})
	f.keep(names[1])
	f.fresh(conn, names...)
	f.sharing(conn, names...)
	f.equal(names...)
	if now := f.built(names...); now != before {
		t.Errorf("one was built or compared again: %s, %s", before, now)
	}
}

// A dataset whose cluster's session hangs stops, and the other does not.
func TestADatasetThatIsHeldHoldsNoOther(t *testing.T) {
	t.Parallel()
	f, conn, names := couple(t)
	f.keep(names[0])
	f.keep(names[1])
	f.fresh(conn, names...)
	f.sharing(conn, names...)
	before := f.built(names...)
	lock := f.target.Connect(t, f.target.SuperuserDSN(names[1]))
	tx, err := lock.Begin(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(testContext(t), "LOCK TABLE trefoil_info.flow IN SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(3, 1))
	for range 3 {
		for range 10 {
			act20(t, conn, r)
		}
		f.fresh(conn, names[0])
	}
	if err := tx.Rollback(testContext(t)); err != nil {
		t.Fatal(err)
	}
	f.fresh(conn, names...)
	f.equal(names...)
	if now := f.built(names...); now != before {
		t.Errorf("one was built or compared again: %s, %s", before, now)
	}
}

// The connection that both read by is cut again and again: both go on from where they were.
func TestCuttingTheSharedConnectionLosesNothing(t *testing.T) {
	t.Parallel()
	f, conn, names := couple(t)
	f.keep(names[0])
	f.keep(names[1])
	f.fresh(conn, names...)
	f.sharing(conn, names...)
	before := f.built(names...)
	r := rand.New(rand.NewPCG(4, 1))
	for range 3 {
		for range 15 {
			act20(t, conn, r)
		}
		f.cut(true)
		f.fresh(conn, names...)
	}
	f.sharing(conn, names...)
	f.equal(names...)
	if now := f.built(names...); now != before {
		t.Errorf("one was built or compared again: %s, %s", before, now)
	}
}
