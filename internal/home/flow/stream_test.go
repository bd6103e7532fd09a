package flow

import (
	"context"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// opened makes a source with two tables and reads it.
func opened(t *testing.T, change func(*Config)) (*pgx.Conn, *Stream, Config) {
	t.Helper()
	ctx := within(t)
	c := pgtest.Start(t, pgtest.WithSetting("wal_level", "logical"), pgtest.WithSetting("synchronous_commit", "on"))
	dsn := c.Database(t)
	conn := c.Connect(t, dsn)
	for _, sql := range []string{"CREATE TABLE a (id int, part text, v text, PRIMARY KEY (part, id))", "CREATE TABLE b (id int PRIMARY KEY)",
		"CREATE TABLE other (id int PRIMARY KEY)", "CREATE PUBLICATION trefoil FOR ALL TABLES"} {
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
	}
	name := SlotName(t.Name())
	if err := CreateSlot(ctx, conn, name); err != nil {
		t.Fatal(err)
	}
	cfg := Config{DSN: dsn, Slot: name, Publication: "trefoil", Tables: map[string]Table{
		"public.a": {Key: []string{"part", "id"}, Columns: []string{"v", "id"}}, "public.b": {Key: []string{"id"}, Columns: []string{"id"}}}}
	if change != nil {
		change(&cfg)
	}
	s, err := Open(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := DropSlot(within(t), conn, name); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(s.Close)
	return conn, s, cfg
}

// snapshot gives what a source sees now, and waits until all of it was received.
func snapshot(t *testing.T, conn *pgx.Conn, s *Stream) Snapshot {
	t.Helper()
	h, err := Look(within(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	for s.Reached() < h.At {
		if err := s.Wait(within(t), h.At); err != nil {
			t.Fatal(err)
		}
	}
	return h.Snapshot
}

// took is what a batch says, in words.
func took(t *testing.T, s *Stream) (map[string]string, *Batch) {
	t.Helper()
	b, err := s.Take()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for name, rows := range b.Tables {
		for _, r := range rows.List {
			text := map[bool]string{true: "gone", false: "?"}[r.Known]
			if r.Line != nil {
				text = string(r.Line[:len(r.Line)-1])
			}
			for i, what := range []string{"inserted", "updated", "deleted"} {
				if r.Touch&(1<<i) != 0 {
					text += " " + what
				}
			}
			out[name+" "+r.Key] = text
		}
	}
	return out, b
}

func do(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(within(t), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func TestRowsAsTheyAreAfterABatch(t *testing.T) {
	conn, s, _ := opened(t, nil)
	do(t, conn, "ALTER TABLE a ALTER v SET STORAGE EXTERNAL", `INSERT INTO a VALUES (1,'x','v'), (2,'x',E'a\tb'), (3,'x','v'), (5,'x',NULL)`, "UPDATE a SET v = 'w' WHERE id = 1",
		"UPDATE a SET part = 'y' WHERE id = 2", "DELETE FROM a WHERE id = 3", "INSERT INTO other VALUES (1)",
		"BEGIN", "INSERT INTO b VALUES (1)", "SAVEPOINT s", "INSERT INTO b VALUES (2)", "ROLLBACK TO s", "COMMIT",
		"BEGIN", "INSERT INTO b VALUES (3)", "ROLLBACK", "SELECT pg_logical_emit_message(true, 'p', 'm')", "TRUNCATE b", "INSERT INTO b VALUES (4)")
	snapshot(t, conn, s)
	got, b := took(t, s)
	want := map[string]string{
		"public.a x\x001": "w\t1 inserted updated", "public.a x\x002": "gone inserted deleted", "public.a y\x002": "a\\tb\t2 inserted updated",
		"public.a x\x003": "gone inserted deleted", "public.a x\x005": "\\N\t5 inserted", "public.b 1": "gone inserted deleted", "public.b 4": "4 inserted",
	}
	if !reflect.DeepEqual(got, want) || !b.Truncated["public.b"] || b.Partial {
		t.Errorf("%q, truncated %v", got, b.Truncated)
	}
	if b.End < s.Reached() {
		t.Errorf("end %s before %s, though nothing stays", b.End, s.Reached())
	}
}

// A large value that did not change is not sent: it is taken from the same batch, from the
// old row under full identity, and else the row is not known.
func TestALargeValueThatIsNotSent(t *testing.T) {
	conn, s, _ := opened(t, nil)
	large := strings.Repeat("0123456789", 500)
	do(t, conn, "ALTER TABLE a ALTER v SET STORAGE EXTERNAL", "INSERT INTO a SELECT i, 'x', repeat('0123456789', 500) FROM generate_series(1, 3) i")
	snapshot(t, conn, s)
	took(t, s)
	do(t, conn, "UPDATE a SET id = 11 WHERE id = 1", "UPDATE a SET v = v || 'a' WHERE id = 2", "UPDATE a SET id = 12 WHERE id = 2")
	snapshot(t, conn, s)
	got, _ := took(t, s)
	want := map[string]string{"public.a x\x001": "gone deleted", "public.a x\x0011": "? inserted updated", "public.a x\x002": "gone updated deleted",
		"public.a x\x0012": large + "a\t12 inserted updated"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%.300q", got)
	}
	do(t, conn, "ALTER TABLE a REPLICA IDENTITY FULL", "UPDATE a SET id = 13 WHERE id = 3", "UPDATE a SET part = part WHERE id = 13")
	snapshot(t, conn, s)
	got, _ = took(t, s)
	want = map[string]string{"public.a x\x003": "gone deleted", "public.a x\x0013": large + "\t13 inserted updated"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%.300q", got)
	}
}

// A transaction that is received but that the snapshot does not see stays, and reading
// begins before it.
func TestWhatASnapshotDoesNotSeeStays(t *testing.T) {
	conn, s, cfg := opened(t, nil)
	do(t, conn, "INSERT INTO b VALUES (1)")
	early := snapshot(t, conn, s)
	s.Split(early.Sees)
	do(t, conn, "INSERT INTO b VALUES (2)")
	snapshot(t, conn, s)
	got, b := took(t, s)
	if !reflect.DeepEqual(got, map[string]string{"public.b 1": "1 inserted"}) || b.End >= s.Reached() {
		t.Fatalf("%q", got)
	}
	s.Confirm(b.End)
	s.Split(nil)
	if got, _ := took(t, s); !reflect.DeepEqual(got, map[string]string{"public.b 2": "2 inserted"}) {
		t.Fatalf("%q", got)
	}
	s.Close()
	cfg.Start = b.End
	again, err := Open(within(t), cfg)
	for try := 0; err != nil && try < 50; try++ { // the slot is in use until the server has noticed
		time.Sleep(20 * time.Millisecond)
		again, err = Open(within(t), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	snapshot(t, conn, again)
	if got, _ := took(t, again); !reflect.DeepEqual(got, map[string]string{"public.b 2": "2 inserted"}) {
		t.Fatalf("after %s: %q", b.End, got)
	}
}

func TestABatchWithWhatTheSnapshotDoesNotSeeIsNotTaken(t *testing.T) {
	conn, s, _ := opened(t, nil)
	early := snapshot(t, conn, s)
	do(t, conn, "INSERT INTO b VALUES (2)")
	snapshot(t, conn, s)
	s.Split(early.Sees)
	if b, err := s.Take(); !errors.Is(err, ErrUnseen) {
		t.Errorf("%+v, %v", b, err)
	}
}

func TestNothingIsConfirmedThatIsNotDurable(t *testing.T) {
	conn, s, cfg := opened(t, nil)
	before, err := FindSlot(within(t), conn, cfg.Slot)
	if err != nil {
		t.Fatal(err)
	}
	do(t, conn, "INSERT INTO b SELECT generate_series(1, 1000)")
	snapshot(t, conn, s)
	time.Sleep(statusEvery + 50*time.Millisecond) // a status has been sent meanwhile
	if now, err := FindSlot(within(t), conn, cfg.Slot); err != nil || now.Confirmed != before.Confirmed {
		t.Fatalf("confirmed %v, was %v: %v", now, before, err)
	}
	_, b := took(t, s)
	position := b.End
	s.Confirm(position)
	snapshot(t, conn, s) // asks, and so confirms
	for range 100 {
		if now, err := FindSlot(within(t), conn, cfg.Slot); err != nil || now.Confirmed >= position {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("a durable position is never confirmed")
}

// A transaction larger than what may be held comes in parts, and nothing else with it.
func TestATransactionThatIsTooLargeComesInParts(t *testing.T) {
	conn, s, _ := opened(t, func(c *Config) { c.MaxRows = 10 })
	do(t, conn, "INSERT INTO b VALUES (1000)", "INSERT INTO b SELECT generate_series(1, 95)", "INSERT INTO b VALUES (1001)")
	h, err := Look(within(t), conn)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	parts := 0
	for s.Reached() < h.At || len(seen) < 97 {
		if err := s.Wait(within(t), h.At); err != nil {
			t.Fatal(err)
		}
		got, b := took(t, s)
		if len(got) > 20 {
			t.Fatalf("%d rows are held", len(got))
		}
		if b.Partial {
			parts++
			if b.End > h.At || seen["public.b 1001"] || !seen["public.b 1000"] {
				t.Errorf("a part is beside other transactions")
			}
		}
		for k := range got {
			seen[k] = true
		}
	}
	if parts < 8 {
		t.Errorf("%d parts", parts)
	}
}

func TestAColumnThatIsNotPublishedLeavesRowsUnknown(t *testing.T) {
	conn, s, _ := opened(t, func(c *Config) {
		c.Tables["public.a"] = Table{Key: []string{"part", "id"}, Columns: []string{"id", "elsewhere"}}
	})
	do(t, conn, "INSERT INTO a VALUES (1, 'x', 'v')")
	snapshot(t, conn, s)
	if got, _ := took(t, s); !reflect.DeepEqual(got, map[string]string{"public.a x\x001": "? inserted"}) {
		t.Errorf("%q", got)
	}
}

func TestATypeThatChangedIsDrift(t *testing.T) {
	conn, s, _ := opened(t, func(c *Config) {
		c.Tables["public.b"] = Table{Key: []string{"id"}, Columns: []string{"id"}, Types: []uint32{23}}
	})
	do(t, conn, "ALTER TABLE b ALTER id TYPE bigint", "INSERT INTO b VALUES (1)")
	drifts(t, s, "public.b")
}

func TestAKeyThatIsNotPublishedIsDrift(t *testing.T) {
	conn, s, _ := opened(t, nil)
	do(t, conn, "ALTER TABLE b REPLICA IDENTITY NOTHING", "INSERT INTO b VALUES (1)")
	drifts(t, s, "public.b")
}

func drifts(t *testing.T, s *Stream, table string) {
	t.Helper()
	var drift *DriftError
	for range 500 {
		if _, _, err := s.Pending(); err != nil {
			if !errors.As(err, &drift) || !strings.Contains(err.Error(), table) {
				t.Error(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("it passes")
}
