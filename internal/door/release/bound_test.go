package release

import (
	"errors"
	"slices"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
)

const boundText = "SELECT plan FROM person WHERE id = $1"

func openBoundDoor(t *testing.T) *door {
	t.Helper()
	fingerprint := statement.NewClassifier(tables).Analyze(boundText).Fingerprint
	return openDoor(t, func(c *Config) { c.Statement = fingerprint })
}

// TestAGrantForOneStatementLetsThatOneOut: by every way of the protocol, with any value, in a
// transaction, and beside catalog reads.
func TestAGrantForOneStatementLetsThatOneOut(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			d := openBoundDoor(t)
			conn := d.must(mode)
			ctx := ctxFor(t)
			tx, err := conn.Begin(ctx)
			if err != nil {
				t.Fatal(err)
			}
			for _, id := range []int{1, 2, 900} {
				var plan string
				if err := tx.QueryRow(ctx, boundText, id).Scan(&plan); err != nil || plan == "" {
					t.Fatalf("the approved statement was refused: %v", err)
				}
			}
			var n int
			if err := tx.QueryRow(ctx, "SELECT count(*) FROM pg_catalog.pg_class").Scan(&n); err != nil {
				t.Errorf("catalog read: %v", err)
			}
			if err := tx.Commit(ctx); err != nil {
				t.Fatal(err)
			}
			if end := d.close(conn); end.Outcome != "closed" || end.Released == 0 {
				t.Errorf("the session ended as %s with %d bytes released", end.Outcome, end.Released)
			}
		})
	}
}

// TestAnotherStatementUnderAGrantForOne: whatever way it is sent, nothing of its answer leaves.
func TestAnotherStatementUnderAGrantForOne(t *testing.T) {
	for name, texts := range map[string][]string{
		"another column":      {"SELECT secret FROM person WHERE id = 1"},
		"another condition":   {"SELECT plan FROM person WHERE id > 1"},
		"two in one text":     {"SELECT plan FROM person WHERE id = 1; SELECT secret FROM person"},
		"copy":                {"COPY (SELECT plan FROM person WHERE id = 1) TO STDOUT"},
		"prepared by name":    {"PREPARE x AS SELECT secret FROM person WHERE id = 1", "EXECUTE x"},
		"cursor":              {"BEGIN; DECLARE c CURSOR FOR SELECT secret FROM person; FETCH ALL FROM c"},
		"through an error":    {"SELECT plan FROM person WHERE id = (SELECT secret FROM person LIMIT 1)::int"},
		"through a temp name": {"CREATE TEMP TABLE pg_class AS SELECT secret FROM public.person", "SELECT * FROM pg_temp.pg_class"},
		"notice by a block":   {"DO $$ BEGIN RAISE NOTICE '%', (SELECT secret FROM person LIMIT 1); END $$"},
		"notification":        {"LISTEN x; SELECT pg_notify('x', (SELECT secret FROM person LIMIT 1))"},
	} {
		t.Run(name, func(t *testing.T) {
			d := openBoundDoor(t)
			conn := d.must(pgx.QueryExecModeSimpleProtocol)
			var err error
			for _, text := range texts {
				if _, err = conn.Exec(ctxFor(t), text); err != nil {
					break
				}
			}
			var pe *pgconn.PgError
			if !errors.As(err, &pe) || pe.Code != "42501" || pe.Severity != "FATAL" {
				t.Fatalf("got %v, want FATAL 42501", err)
			}
			end := d.close(conn)
			if end.Released != 0 {
				t.Errorf("%d bytes were released", end.Released)
			}
			if got := d.log.releases(); len(got) != 0 {
				t.Errorf("%d release records of what did not leave", len(got))
			}
			if !slices.ContainsFunc(d.log.of(trefoil.KindRefusal), func(b *trefoil.Body) bool { return b.Refusal != nil && b.Refusal.Rule == "grant-statement" }) {
				t.Error("the refusal is no record")
			}
		})
	}
}

// TestAnotherStatementInThePipelineOfTheApprovedOne: it is in the same batch, before one Sync.
func TestAnotherStatementInThePipelineOfTheApprovedOne(t *testing.T) {
	d := openBoundDoor(t)
	conn := d.must(pgx.QueryExecModeExec)
	var b pgx.Batch
	b.Queue("SELECT plan FROM person WHERE id = 1")
	b.Queue("SELECT secret FROM person WHERE id = 1")
	b.Queue("SELECT plan FROM person WHERE id = 2")
	results := conn.SendBatch(ctxFor(t), &b)
	var failed error
	for range b.Len() {
		if _, err := results.Exec(); err != nil {
			failed = err
			break
		}
	}
	_ = results.Close()
	var pe *pgconn.PgError
	if !errors.As(failed, &pe) || pe.Code != "42501" {
		t.Fatalf("got %v, want 42501", failed)
	}
	if end := d.close(conn); end.Released != 0 {
		t.Errorf("%d bytes were released", end.Released)
	}
}

// TestGrantEndsUnderAnOpenCursor: a cursor of the protocol is open and half read when the grant
// behind the session ends. What was not released by then never is.
func TestGrantEndsUnderAnOpenCursor(t *testing.T) {
	d := openDoor(t, nil)
	conn := d.must(pgx.QueryExecModeSimpleProtocol)
	ctx := ctxFor(t)
	for _, text := range []string{"BEGIN", "DECLARE c CURSOR FOR SELECT secret FROM person", "FETCH 10 FROM c"} {
		if _, err := conn.Exec(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	s, _ := d.last()
	s.Stop(Revoked)
	end := d.log.end(t)
	if end.Outcome != "revoked" {
		t.Errorf("the session ended as %s", end.Outcome)
	}
	before := len(d.log.releases())
	if tag, err := conn.Exec(ctx, "FETCH ALL FROM c"); err == nil {
		t.Errorf("the cursor goes on: %s", tag)
	}
	if e := d.balance(); e.Released != end.Released || len(d.log.releases()) != before {
		t.Error("rows left after the grant's end")
	}
}
