package release

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	trefoil "github.com/trefoil-eu/trefoil"
)

func ctxFor(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var modes = map[string]pgx.QueryExecMode{
	"cache": pgx.QueryExecModeCacheStatement, "describe": pgx.QueryExecModeCacheDescribe,
	"describe-exec": pgx.QueryExecModeDescribeExec, "exec": pgx.QueryExecModeExec, "simple": pgx.QueryExecModeSimpleProtocol,
}

func TestEveryByteIsInTheBooks(t *testing.T) {
	for name, mode := range modes {
		t.Run(name, func(t *testing.T) {
			d := openDoor(t, nil)
			conn := d.must(mode)
			ctx := ctxFor(t)
			for range 3 {
				var n int
				if err := conn.QueryRow(ctx, "SELECT count(*) FROM person WHERE id > $1", 10).Scan(&n); err != nil || n != 990 {
					t.Fatalf("got %d, %v", n, err)
				}
				if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_catalog.pg_class").Scan(&n); err != nil {
					t.Fatal(err)
				}
			}
			_, err := conn.Exec(ctx, "SELECT 1/id FROM person WHERE id = $1 - 1 OR 1/(id-1) > 2", 1)
			var pe *pgconn.PgError
			if !errors.As(err, &pe) || pe.Code != "22012" {
				t.Fatalf("got %v, want division by zero", err)
			}
			end := d.close(conn)
			releases := d.log.releases()
			var sum int64
			for i, r := range releases {
				if sum += r.Bytes; r.Cumulative != sum || r.Chunk != int64(i) {
					t.Errorf("chunk %d says chunk %d, cumulative %d, not %d", i, r.Chunk, r.Cumulative, sum)
				}
			}
			if sum != end.Released || end.Outcome != "closed" {
				t.Errorf("records say %d bytes, the end %d, outcome %s", sum, end.Released, end.Outcome)
			}
			if len(releases) != 4 {
				t.Errorf("%d release records, want one a statement that reads the dataset: 4", len(releases))
			}
			last := releases[len(releases)-1]
			if last.Outcome != "error" || last.SQLState != "22012" || !last.Final {
				t.Errorf("the failed statement is recorded as %+v", last)
			}
			for _, r := range releases {
				if len(r.Statements) != 1 || len(r.Statements[0].Tables) != 1 || r.Statements[0].Tables[0] != "public.person" {
					t.Errorf("a release names %+v", r.Statements)
				}
			}
			if end.Covered == 0 {
				t.Error("nothing was covered")
			}
		})
	}
}

// Faults at every step: whatever fails, no byte leaves that no permitted record has.
func TestNoReceiptNoRow(t *testing.T) {
	release := func(b *trefoil.Body) bool { return b.Release != nil }
	cases := map[string]struct {
		fault func(*fakeLog)
		state string
	}{
		"append fails": {func(f *fakeLog) {
			f.onAppend = func(b *trefoil.Body) error {
				if release(b) {
					return errFault
				}
				return nil
			}
		}, "57P03"},
		"witness away": {func(f *fakeLog) {
			f.onWitness = func(ctx context.Context, b *trefoil.Body, _ *trefoil.Proof) error {
				if release(b) {
					<-ctx.Done()
					return ctx.Err()
				}
				return nil
			}
		}, "57P03"},
		"forged cosignature": {func(f *fakeLog) {
			f.onWitness = func(_ context.Context, b *trefoil.Body, p *trefoil.Proof) error {
				if release(b) {
					s := string(p.Checkpoint)
					p.Checkpoint = []byte(s[:strings.LastIndex(strings.TrimSpace(s), "\n")+1])
				}
				return nil
			}
		}, "57P03"},
		"wrong index": {func(f *fakeLog) {
			f.onWitness = func(_ context.Context, b *trefoil.Body, p *trefoil.Proof) error {
				if release(b) {
					p.Index--
				}
				return nil
			}
		}, "57P03"},
		"monitor away": {func(f *fakeLog) {
			f.onPermit = func(_ context.Context, b *trefoil.Body, _ *trefoil.Permit) (*trefoil.NoteReason, error) {
				if release(b) {
					return nil, errFault
				}
				return nil, nil
			}
		}, "57P03"},
		"monitor slow": {func(f *fakeLog) {
			f.onPermit = func(ctx context.Context, b *trefoil.Body, _ *trefoil.Permit) (*trefoil.NoteReason, error) {
				if release(b) {
					<-ctx.Done()
					return nil, ctx.Err()
				}
				return nil, nil
			}
		}, "57P03"},
		"refused": {func(f *fakeLog) {
			f.onPermit = func(_ context.Context, b *trefoil.Body, _ *trefoil.Permit) (*trefoil.NoteReason, error) {
				if release(b) {
					return &trefoil.NoteReason{Rule: "floor", Law: "GDPR art. 44", Reason: "no"}, nil
				}
				return nil, nil
			}
		}, "42501"},
		"permit for another record": {func(f *fakeLog) {
			f.onPermit = func(_ context.Context, b *trefoil.Body, p *trefoil.Permit) (*trefoil.NoteReason, error) {
				if release(b) {
					p.Leaf[0] ^= 1
				}
				return nil, nil
			}
		}, "57P03"},
		"permit of another log": {func(f *fakeLog) {
			f.onPermit = func(_ context.Context, b *trefoil.Body, p *trefoil.Permit) (*trefoil.NoteReason, error) {
				if release(b) {
					p.Origin = "other.test/log"
				}
				return nil, nil
			}
		}, "57P03"},
		"replayed permit": {func(f *fakeLog) {
			var first *trefoil.Permit
			f.onPermit = func(_ context.Context, b *trefoil.Body, p *trefoil.Permit) (*trefoil.NoteReason, error) {
				if first == nil {
					c := *p
					first = &c
				}
				*p = *first
				return nil, nil
			}
		}, "57P03"},
		"expired permit": {func(f *fakeLog) {
			f.onPermit = func(_ context.Context, b *trefoil.Body, p *trefoil.Permit) (*trefoil.NoteReason, error) {
				if release(b) {
					p.Expires = time.Now().Add(-time.Hour).UTC().Truncate(time.Second)
				}
				return nil, nil
			}
		}, "57P03"},
		"permit from before a stop": {func(f *fakeLog) {
			f.epoch = 7
			f.onPermit = func(_ context.Context, b *trefoil.Body, p *trefoil.Permit) (*trefoil.NoteReason, error) {
				if release(b) {
					p.StopEpoch = 6
				}
				return nil, nil
			}
		}, "57P03"},
		"permit cannot be stored": {func(f *fakeLog) {
			n := 0
			f.onStore = func() error {
				if n++; n > 1 {
					return errFault
				}
				return nil
			}
		}, "57P03"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t, func(c *Config) { c.Limits.Wait = 700 * time.Millisecond })
			c.fault(d.log)
			conn := d.must(pgx.QueryExecModeExec)
			start := time.Now()
			rows, err := conn.Query(ctxFor(t), "SELECT secret FROM person")
			if err == nil {
				for rows.Next() {
					t.Error("a row arrived")
				}
				err = rows.Err()
			}
			var pe *pgconn.PgError
			if !errors.As(err, &pe) || pe.Code != c.state || pe.Severity != "FATAL" {
				t.Fatalf("got %v, want FATAL %s", err, c.state)
			}
			if since := time.Since(start); since > 20*time.Second {
				t.Errorf("the error took %v", since)
			}
			if end := d.balance(); end.Released != 0 || end.Outcome != "error" {
				t.Errorf("end record: %+v", end)
			}
			refusals := d.log.of(trefoil.KindRefusal)
			if (c.state == "42501") != (len(refusals) == 1) {
				t.Errorf("%d refusal records", len(refusals))
			}
		})
	}
}

func TestNothingBeforeTheSessionIsPermitted(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.Limits.Wait = 300 * time.Millisecond })
	d.log.onPermit = func(context.Context, *trefoil.Body, *trefoil.Permit) (*trefoil.NoteReason, error) {
		return &trefoil.NoteReason{Rule: "stopped", Law: "GDPR art. 58", Reason: "stopped by an officer"}, nil
	}
	_, err := d.connect(pgx.QueryExecModeExec)
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "42501" || !strings.Contains(pe.Message, "stopped by an officer") {
		t.Fatalf("got %v", err)
	}
	if end := d.balance(); end.Covered != 0 || end.Released != 0 {
		t.Errorf("bytes left: %+v", end)
	}
	d.log.mu.Lock()
	refusal := d.log.bodies[1].Refusal
	d.log.mu.Unlock()
	if refusal == nil || refusal.Stage != "open" || refusal.Rule != "stopped" {
		t.Errorf("refusal record: %+v", refusal)
	}
}
