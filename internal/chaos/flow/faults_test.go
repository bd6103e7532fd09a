package flow

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// faults goes through what may fail around a follower that lives. Nothing may be built again for
// it: a fault that passes costs no second reading of the source, and a lost slot a comparison.
func (w *world) faults(ctx context.Context, conn *pgx.Conn) {
	for _, f := range []struct {
		name string
		play func(context.Context, *testing.T, *pgx.Conn)
		slow bool // left out of the short form
	}{
		{"the network to the source is cut", w.cutSource, false},
		{"the network to the datasets is cut", w.cutDatasets, false},
		{"the network says nothing for a while", w.silence, false},
		{"a dataset's network is slow", w.slowDataset, true},
		{"the sender is impatient while a dataset's table is locked", w.impatient, true},
		{"a large transaction is rolled back", w.rolledBack, false},
		{"rows refer to nobody", w.orphans, false},
		{"the disk of a dataset is full", w.diskFull, false},
		{"the slots are dropped behind its back", w.slotsGone, true},
	} {
		if f.slow && os.Getenv("TREFOIL_CHAOS_FLOW") == "" {
			continue
		}
		ok := w.t.Run(f.name, func(t *testing.T) {
			before := w.built(ctx, t)
			began := time.Now()
			f.play(ctx, t, conn)
			took := w.caughtUp(ctx, conn)
			t.Logf("%.1f s, then caught up after %.1f s", time.Since(began).Seconds()-took.Seconds(), took.Seconds())
			for name, at := range w.built(ctx, t) {
				if at != before[name] {
					t.Errorf("%s was built again", name)
				}
			}
		})
		if !ok {
			w.t.Log(w.lastWords(30))
		}
	}
}

// built says when each dataset was built.
func (w *world) built(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, s := range specs {
		out[s.name] = w.ask(ctx, t, s, "SELECT built_at::text FROM trefoil_info.dataset")
	}
	return out
}

// ask gives one value of a dataset as its superuser sees it.
func (w *world) ask(ctx context.Context, t *testing.T, s spec, sql string) (v string) {
	t.Helper()
	conn, err := pgx.Connect(ctx, w.cluster(s).SuperuserDSN(s.name))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.QueryRow(ctx, sql).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func do(ctx context.Context, t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// few changes rows in every dataset.
const few = "UPDATE app.event SET n = n + 1 WHERE id % 7 = 0"

func (w *world) cutSource(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	do(ctx, t, conn, few)
	w.toSource.Cut()
	do(ctx, t, conn, few)
	rest(ctx, 300*time.Millisecond)
	w.toSource.Mend()
}

func (w *world) cutDatasets(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	do(ctx, t, conn, few)
	w.toOutside.Cut()
	do(ctx, t, conn, few)
	w.caughtUp(ctx, conn, "plain", "picked") // the others are not held up
	w.toOutside.Mend()
}

// silence holds all bytes back: nobody may take that for an end, nor lose what was under way.
func (w *world) silence(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	do(ctx, t, conn, few)
	w.toSource.Hold()
	do(ctx, t, conn, few)
	rest(ctx, 700*time.Millisecond)
	w.toOutside.Hold()
	w.toSource.Mend()
	rest(ctx, 700*time.Millisecond)
	w.toOutside.Mend()
}

func (w *world) slowDataset(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	w.toOutside.Slow(400 << 10)
	do(ctx, t, conn, fmt.Sprintf("INSERT INTO app.click SELECT i, %d + 1 + i %% 200, 'slow' FROM generate_series(20000, 24000) i", firstPerson), "DELETE FROM app.click WHERE id >= 20000 AND id % 2 = 0", few)
	w.caughtUp(ctx, conn, "plain", "picked")
	w.caughtUp(ctx, conn)
	w.toOutside.Mend()
	do(ctx, t, conn, "DELETE FROM app.click WHERE id >= 20000")
}

// impatient makes the source end a stream that does not answer for a second, while a dataset
// cannot be written for three.
func (w *world) impatient(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	senders := func() (pids []int32) {
		if err := conn.QueryRow(ctx, "SELECT array_agg(pid ORDER BY pid) FROM pg_stat_replication").Scan(&pids); err != nil {
			t.Fatal(err)
		}
		return pids
	}
	do(ctx, t, conn, "ALTER SYSTEM SET wal_sender_timeout = '1s'", "SELECT pg_reload_conf()")
	rest(ctx, 500*time.Millisecond)
	before := senders()
	lock := w.outside.Connect(t, w.outside.SuperuserDSN("shade"))
	do(ctx, t, lock, "BEGIN", "LOCK app.event IN SHARE MODE")
	do(ctx, t, conn, few)
	rest(ctx, 3*time.Second)
	do(ctx, t, lock, "COMMIT")
	w.caughtUp(ctx, conn)
	if after := senders(); len(before) == 0 || !slices.Equal(before, after) {
		t.Errorf("the senders %v became %v: a stream did not answer", before, after)
	}
	do(ctx, t, conn, "ALTER SYSTEM RESET wal_sender_timeout", "SELECT pg_reload_conf()")
}

// rolledBack writes many rows and takes them back: nothing of them comes anywhere.
func (w *world) rolledBack(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	rows := 100_000
	if os.Getenv("TREFOIL_CHAOS_FLOW") != "" {
		rows = 1_000_000
	}
	before := w.toOutside.Bytes()
	many := fmt.Sprintf("INSERT INTO app.click SELECT i, %d + 1 + i %% 200, 'undone' FROM generate_series(100000, %d) i", firstPerson, 100000+rows)
	do(ctx, t, conn, "BEGIN", many, "ROLLBACK", "BEGIN", few, "SAVEPOINT s", fmt.Sprintf("UPDATE app.click SET page = 'undone' WHERE id < %d", rows), "ROLLBACK TO s", "COMMIT")
	w.caughtUp(ctx, conn)
	if sent := w.toOutside.Bytes() - before; sent > 2<<20 {
		t.Errorf("%d bytes were sent to the datasets for it", sent)
	}
}

// orphans come, are counted, and hold nothing up; they enter as soon as they lead to somebody.
func (w *world) orphans(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	shade := specs[0]
	was := w.ask(ctx, t, shade, "SELECT orphans::text FROM trefoil_info.flow")
	rows := w.ask(ctx, t, shade, "SELECT count(*)::text FROM app.click")
	do(ctx, t, conn, fmt.Sprintf("INSERT INTO app.click SELECT i, %d, 'nobody' FROM generate_series(90000, 90009) i", firstPerson+9999))
	w.caughtUp(ctx, conn)
	if now := w.ask(ctx, t, shade, "SELECT orphans::text FROM trefoil_info.flow"); now == was {
		t.Error("rows that lead to nobody are not counted")
	}
	if now := w.ask(ctx, t, shade, "SELECT count(*)::text FROM app.click"); now != rows {
		t.Errorf("%s clicks are held, %s before", now, rows)
	}
	do(ctx, t, conn, fmt.Sprintf("UPDATE app.click SET person = (SELECT min(id) FROM app.person WHERE country = 'IE') WHERE person = %d", firstPerson+9999))
}

// slotsGone takes the slots away while they are read.
func (w *world) slotsGone(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		var left int
		_, err := conn.Exec(ctx, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
		if err == nil {
			_, err = conn.Exec(ctx, "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE NOT active")
		}
		if err == nil {
			err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_replication_slots").Scan(&left)
		}
		if err == nil && left == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the slots do not go: %d, %v", left, err)
		}
	}
	do(ctx, t, conn, few)
	for _, name := range w.settings.Names {
		now := w.clock(ctx, conn)
		w.until(ctx, name, func(s *dataset.FlowState) bool { return s.State == "following" && s.FreshAsOf.After(now) })
	}
}

// small makes the directory of temporary files a file system of its own, as far as that is
// allowed, while make runs.
func (w *world) small(make func()) {
	at, err := os.MkdirTemp("", "trefoil-disk-")
	if err != nil {
		w.t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=1g,mode=1777"); err != nil {
		_ = os.Remove(at)
		make()
		return
	}
	w.disk = at
	w.t.Cleanup(func() { // before the cluster's own, which is registered later, this one comes last
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			w.t.Error(err)
		}
		_ = os.Remove(at)
	})
	was, set := os.LookupEnv("TMPDIR")
	w.t.Setenv("TMPDIR", at)
	make()
	if set {
		w.t.Setenv("TMPDIR", was)
	} else if err := os.Unsetenv("TMPDIR"); err != nil {
		w.t.Fatal(err)
	}
}

// diskFull leaves the cluster outside no room, writes more than fits, and gives room again.
func (w *world) diskFull(ctx context.Context, t *testing.T, conn *pgx.Conn) {
	if w.disk == "" {
		t.Skip("mounting a small file system takes privileges")
	}
	shade := specs[0]
	rows := w.ask(ctx, t, shade, "SELECT count(*)::text FROM app.click")
	w.resize(t, true)
	do(ctx, t, conn, fmt.Sprintf("INSERT INTO app.click SELECT i, %d + 1 + i %% 200, repeat('full', 200) FROM generate_series(30000, 36000) i", firstPerson), "SELECT pg_switch_wal()", few)
	w.caughtUp(ctx, conn, "plain", "picked") // the source and the other cluster go on
	rest(ctx, time.Second)
	if text, err := os.ReadFile(w.log.Name()); err != nil || !strings.Contains(string(text), "following stopped") {
		t.Errorf("nothing was heard of the full disk: %v", err)
	}
	w.resize(t, false)
	if !w.outside.Running() {
		if err := w.outside.Start(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if now := w.ask(ctx, t, shade, "SELECT count(*)::text FROM app.click"); now < rows {
		t.Errorf("%s clicks are held, %s before: part of a batch went", now, rows)
	}
	w.caughtUp(ctx, conn)
	do(ctx, t, conn, "DELETE FROM app.click WHERE id >= 30000")
}

func (w *world) resize(t *testing.T, full bool) {
	t.Helper()
	size := "1g"
	if full {
		var st unix.Statfs_t
		if err := unix.Statfs(w.disk, &st); err != nil {
			t.Fatal(err)
		}
		size = fmt.Sprint((st.Blocks - st.Bfree) * uint64(st.Bsize))
	}
	if err := unix.Mount("tmpfs", w.disk, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}
