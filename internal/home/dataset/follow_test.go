package dataset

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// testWriter gives a log to the test.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

// flowing is a fixture whose dataset may follow.
func flowing(t *testing.T, statements, cat, datasets string) (*fixture, *pgx.Conn) {
	t.Helper()
	return flowingTo(t, datasetCluster(t), statements, cat, datasets)
}

func flowingTo(t *testing.T, target *pgtest.Cluster, statements, cat, datasets string) (*fixture, *pgx.Conn) {
	t.Helper()
	source := sourceCluster(t)
	f := setupOn(t, source, source.Database(t), target, statements, cat, datasets)
	conn := f.source.Connect(t, f.dsn)
	sourceDo(t, conn, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = on', current_database()); END $$",
		"SET synchronous_commit = on", "CREATE PUBLICATION trefoil FOR ALL TABLES")
	t.Cleanup(func() {
		if err := flow.DropSlot(testContext(t), conn, flow.SlotName(f.name)); err != nil {
			t.Error(err)
		}
	})
	return f, conn
}

func sourceDo(t *testing.T, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, sql := range statements {
		if _, err := conn.Exec(testContext(t), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// follow runs Follow until the test or stop ends it.
func (f *fixture) follow() (stop func()) {
	f.t.Helper()
	f.b.cfg.Logger = slog.New(slog.NewTextHandler(testWriter{f.t}, nil))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.b.Follow(ctx, f.name) }()
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
		case <-time.After(patience):
			f.t.Error("the flow does not end")
		}
	}
	f.t.Cleanup(stop)
	return stop
}

// caughtUp waits until the dataset is as fresh as the source's clock is now.
func (f *fixture) caughtUp(conn *pgx.Conn) {
	f.t.Helper()
	var now time.Time
	if err := conn.QueryRow(testContext(f.t), "SELECT clock_timestamp()").Scan(&now); err != nil {
		f.t.Fatal(err)
	}
	var asked *pgx.Conn // kept: a connection costs more than the answer
	defer func() {
		if asked != nil {
			closeConn(asked)
		}
	}()
	f.until(func() bool {
		if asked == nil || asked.IsClosed() {
			var err error
			if asked, err = f.b.open(testContext(f.t), f.name); err != nil {
				asked = nil
				return false
			}
		}
		s, err := readFlow(testContext(f.t), asked)
		return err == nil && s != nil && s.State == following && s.FreshAsOf.After(now)
	})
}

func (f *fixture) until(ok func() bool) {
	f.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			s, err := f.b.Flow(testContext(f.t), f.name)
			f.t.Fatalf("it does not come to that: %+v, %v", s, err)
		}
	}
}

func TestADatasetFollowsItsSource(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	f.follow()
	f.caughtUp(conn)
	f.verified()
	for _, step := range []struct{ name, sql string }{
		{"insert", `INSERT INTO app.person (email, country) VALUES ('new@example.org', 'IE'); INSERT INTO "Sales"."Order" SELECT 1000 + i, max(id), NULL, NULL, 3 FROM app.person, generate_series(1,3) i GROUP BY i`},
		{"update", "UPDATE app.person SET plan = 'pro', born = born + 4000 WHERE id % 3 = 0"},
		{"delete", `DELETE FROM "Sales"."Order" WHERE "Id" IN (SELECT "Id" FROM "Sales"."Order" EXCEPT SELECT parent FROM "Sales"."Order" ORDER BY 1 LIMIT 5)`},
		{"a large value that is not sent", "UPDATE app.person SET bio = (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i), doc = jsonb_build_object('name', (SELECT string_agg(md5(i::text), '') FROM generate_series(1, 3000) i)) WHERE id = 4"},
		{"a large value that did not change", "UPDATE app.person SET plan = 'free' WHERE id = 4"},
		{"change of key", `BEGIN; ALTER TABLE "Sales"."Order" DISABLE TRIGGER USER; UPDATE "Sales"."Order" SET "Id" = 5000 + "Id" WHERE "Id" >= 1000; COMMIT`},
		{"a subject leaves", "UPDATE app.person SET country = 'US', moved_from = 'IE', moved = current_date - 900 WHERE id = 6"},
		{"a subject enters", "UPDATE app.person SET country = 'NO' WHERE id = 5"},
		{"a subject goes", `UPDATE "Sales"."Order" SET referrer = NULL WHERE referrer = 7; WITH RECURSIVE gone AS (SELECT "Id" FROM "Sales"."Order" WHERE "personId" = 7
			UNION SELECT o."Id" FROM "Sales"."Order" o JOIN gone ON o.parent = gone."Id") DELETE FROM "Sales"."Order" USING gone WHERE "Order"."Id" = gone."Id";
			DELETE FROM app.person WHERE id = 7`},
		{"two rows exchange a unique value", "BEGIN; UPDATE app.person SET email = 'x@y' WHERE id = 10; UPDATE app.person SET email = 'person10@example.org' WHERE id = 13; UPDATE app.person SET email = 'person13@example.org' WHERE id = 10; COMMIT"},
		{"truncate with all that refer", `TRUNCATE app.person, "Sales"."Order"; INSERT INTO app.person (email, country) SELECT 'again' || i || '@example.org', 'IE' FROM generate_series(1, 20) i`},
	} {
		sourceDo(t, conn, "SELECT 1") // a connection that is still there
		if _, err := conn.PgConn().Exec(testContext(t), step.sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		f.caughtUp(conn)
		v, err := f.b.Verify(testContext(t), f.name)
		if err != nil || !v.Equal {
			t.Fatalf("after %s: %+v, %v", step.name, v, err)
		}
	}
}
