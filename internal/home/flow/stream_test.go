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
	cfg := Config{DSN: dsn, Slot: name, Publication: "trefoil", Keys: map[string][]string{"public.a": {"part", "id"}, "public.b": {"id"}}}
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
	if err := s.Wait(within(t), h.At); err != nil {
		t.Fatal(err)
	}
	return h.Snapshot
}

func do(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(within(t), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

func TestKeysOfCommittedRows(t *testing.T) {
	conn, s, _ := opened(t, nil)
	do(t, conn, "INSERT INTO a VALUES (1,'x','v'), (2,'x','v'), (3,'x','v')", "UPDATE a SET v = 'w' WHERE id = 1",
		"UPDATE a SET part = 'y' WHERE id = 2", "DELETE FROM a WHERE id = 3", "INSERT INTO other VALUES (1)",
		"BEGIN", "INSERT INTO b VALUES (1)", "SAVEPOINT s", "INSERT INTO b VALUES (2)", "ROLLBACK TO s", "COMMIT",
		"BEGIN", "INSERT INTO b VALUES (3)", "ROLLBACK", "SELECT pg_logical_emit_message(true, 'p', 'm')", "TRUNCATE b")
	b, position := s.Take(snapshot(t, conn, s).Sees)
	want := map[string]map[string]Touch{
		"public.a": {"x\x001": Inserted | Updated, "x\x002": Inserted | Deleted, "y\x002": Inserted | Updated, "x\x003": Inserted | Deleted},
		"public.b": {"1": Inserted},
	}
	if !reflect.DeepEqual(b.Keys, want) || !b.Truncated["public.b"] {
		t.Errorf("%q, truncated %v", b.Keys, b.Truncated)
	}
	if position < s.Reached() {
		t.Errorf("position %s before %s, though nothing stays", position, s.Reached())
	}
}

// A transaction that is received but that the snapshot does not see stays, and reading
// begins before it.
func TestWhatASnapshotDoesNotSeeStays(t *testing.T) {
	conn, s, cfg := opened(t, nil)
	do(t, conn, "INSERT INTO b VALUES (1)")
	early := snapshot(t, conn, s)
	do(t, conn, "INSERT INTO b VALUES (2)")
	snapshot(t, conn, s)
	b, position := s.Take(early.Sees)
	if !reflect.DeepEqual(b.Keys["public.b"], map[string]Touch{"1": Inserted}) {
		t.Fatalf("%q", b.Keys)
	}
	s.Confirm(position)
	s.Close()
	cfg.Start = position
	again, err := Open(within(t), cfg)
	for try := 0; err != nil && try < 50; try++ { // the slot is in use until the server has noticed
		time.Sleep(20 * time.Millisecond)
		again, err = Open(within(t), cfg)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if b, _ := again.Take(snapshot(t, conn, again).Sees); !reflect.DeepEqual(b.Keys["public.b"], map[string]Touch{"2": Inserted}) {
		t.Fatalf("after %s: %q", position, b.Keys)
	}
}

func TestNothingIsConfirmedThatIsNotDurable(t *testing.T) {
	conn, s, cfg := opened(t, nil)
	before, err := FindSlot(within(t), conn, cfg.Slot)
	if err != nil {
		t.Fatal(err)
	}
	do(t, conn, "INSERT INTO b SELECT generate_series(1, 1000)")
	see := snapshot(t, conn, s)
	time.Sleep(statusEvery + 50*time.Millisecond) // a status has been sent meanwhile
	if now, err := FindSlot(within(t), conn, cfg.Slot); err != nil || now.Confirmed != before.Confirmed {
		t.Fatalf("confirmed %v, was %v: %v", now, before, err)
	}
	_, position := s.Take(see.Sees)
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

func TestMoreThanMayBeHeldIsAnError(t *testing.T) {
	conn, s, _ := opened(t, func(c *Config) { c.MaxBytes = 10 * rowCost })
	do(t, conn, "INSERT INTO b SELECT generate_series(1, 100)")
	for range 500 {
		if _, err := s.Pending(); err != nil {
			if !errors.Is(err, ErrTooMuch) {
				t.Error(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("more is held than may be")
}

func TestAKeyThatIsNotPublishedIsDrift(t *testing.T) {
	conn, s, _ := opened(t, nil)
	do(t, conn, "ALTER TABLE b REPLICA IDENTITY NOTHING", "INSERT INTO b VALUES (1)")
	var drift *DriftError
	for range 500 {
		if _, err := s.Pending(); err != nil {
			if !errors.As(err, &drift) || !strings.Contains(err.Error(), "public.b") {
				t.Error(err)
			}
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("a key that is no part of the identity passes")
}
