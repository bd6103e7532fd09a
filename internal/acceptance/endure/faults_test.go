package endure

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func query(sql string) *pgproto3.Query { return &pgproto3.Query{String: sql} }

// hijacked is a logged-in connection without a driver on it.
func hijacked(t testing.TB, dsn string) (net.Conn, *pgproto3.Frontend) {
	t.Helper()
	conn, err := pgconn.Connect(bounded(t, time.Minute), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	h, err := conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Conn.Close() })
	return h.Conn, h.Frontend
}

// paths are the kinds of session that a fault is tried on.
func paths() map[string]string {
	return map[string]string{"platform": shared.dsn("load", "platform"), "pooled": shared.dsn("load", "pooled"), "release": shared.dsn("endure-cn", "analytics")}
}

// TestClientsThatDoNotReadHoldNobodyUp: some ask for a gigabyte and read nothing; others work
// on at once, and the gateway's memory stays within what sessions may hold.
func TestClientsThatDoNotReadHoldNobodyUp(t *testing.T) {
	before := shared.gauge(t, "process_resident_memory_bytes")
	for _, dsn := range paths() {
		for range 2 {
			_, f := hijacked(t, dsn)
			f.Send(query("SELECT repeat('slow', 250) FROM generate_series(1, 1000000)"))
			if err := f.Flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	time.Sleep(2 * time.Second) // for the answers to fill what there is to fill
	for name, dsn := range paths() {
		conn := connect(t, dsn)
		began := time.Now()
		var n int
		if err := conn.QueryRow(bounded(t, 30*time.Second), "SELECT count(*) FROM app.topics").Scan(&n); err != nil || n != 16 {
			t.Errorf("%s: beside clients that do not read: %d, %v", name, n, err)
		}
		t.Logf("%s: answered after %s", name, time.Since(began))
	}
	// A session may hold 32 MiB and a window of chunks; what is more is on disk or not read.
	if grown := shared.gauge(t, "process_resident_memory_bytes") - before; grown > 300<<20 {
		t.Errorf("six clients that do not read cost %.0f MiB", grown/(1<<20))
	}
}

// TestClientsThatNeverReadAndHangUpEndTheirStatements: who asks for a lot, reads none of it and
// is gone leaves no statement running for it, though its stream ended in good order.
func TestClientsThatNeverReadAndHangUpEndTheirStatements(t *testing.T) {
	for _, database := range []string{"platform", "pooled"} {
		conn, f := hijacked(t, shared.dsn("load", database))
		f.Send(query("SELECT repeat('gone', 250) FROM generate_series(1, 1000000)"))
		if err := f.Flush(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // for the answer to fill what there is to fill
		conn.Close()
	}
	admin := connect(t, shared.env["ADMIN_DSN"])
	eventually(t, 40*time.Second, func() error {
		var n int
		err := admin.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT repeat(''gone''%' AND state = 'active'").Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d statements still run for clients that are gone", n)
		}
		return err
	})
}

// TestClientsThatVanishLeaveNothing: at every stage of a session.
func TestClientsThatVanishLeaveNothing(t *testing.T) {
	connect(t, shared.dsn("load", "platform")).Close(context.Background())
	before := shared.sample(t)
	var all sync.WaitGroup
	for _, dsn := range paths() {
		for stage := range 8 {
			all.Go(func() {
				conn, f := hijacked(t, dsn)
				switch stage {
				case 0:
				case 1: // half a message
					_, _ = conn.Write([]byte{'Q', 0, 0})
				case 2: // a statement that runs
					f.Send(query("SELECT pg_sleep(60)"))
				case 3: // an answer on its way
					f.Send(query("SELECT repeat('x', 1000) FROM generate_series(1, 100000)"))
				case 4: // in a transaction
					f.Send(query("BEGIN; SELECT 1"))
				case 5: // in a COPY
					f.Send(query("BEGIN; CREATE TEMP TABLE c (t text); COPY c FROM STDIN"))
				case 6: // no Sync
					f.Send(&pgproto3.Parse{Query: "SELECT 1"})
				case 7: // with a lock
					f.Send(query("SELECT pg_advisory_lock_shared(77)"))
				}
				_ = f.Flush() // whether it arrives is not the point
				time.Sleep(100 * time.Millisecond)
				conn.Close()
			})
		}
	}
	all.Wait()
	settles(t, before)
}

// TestAServerThatVanishesEndsItsAnswer: the client of a database session that is ended in the
// middle of an answer gets an error, never an answer that looks whole, and the next one works.
func TestAServerThatVanishesEndsItsAnswer(t *testing.T) {
	for name, dsn := range paths() {
		t.Run(name, func(t *testing.T) {
			conn := connect(t, dsn)
			ctx := bounded(t, time.Minute)
			admin := shared.env["ADMIN_DSN"]
			if name == "release" {
				admin = shared.env["OUTSIDE_ADMIN_DSN"]
			}
			var all sync.WaitGroup
			defer all.Wait()
			all.Go(func() { kill(ctx, t, admin) })
			rows, err := conn.Query(ctx, "SELECT 'doomed', pg_sleep(0.001), repeat('x', 1000) FROM generate_series(1, 20000)")
			n := 0
			if err == nil {
				for rows.Next() {
					n++
				}
				err = rows.Err()
			}
			if err == nil || n >= 20000 {
				t.Fatalf("%d rows and no error", n)
			}
			if code := stateOf(err); code != "57P01" && code != "57P03" && code != "08006" && code != "" {
				t.Errorf("the error is %s: %v", code, err)
			}
			next := connect(t, dsn)
			if err := next.QueryRow(ctx, "SELECT count(*) FROM app.topics").Scan(&n); err != nil || n != 16 {
				t.Errorf("afterwards: %d, %v", n, err)
			}
		})
	}
}

// kill ends the database session that runs the doomed statement, once it does.
func kill(ctx context.Context, t *testing.T, admin string) {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close(context.WithoutCancel(ctx))
	where := "query LIKE 'SELECT ''doomed''%' AND state = 'active'"
	if strings.Contains(admin, "analytics") { // dataset clusters do not track statements
		where = "usename NOT IN ('postgres', 'trefoil_steward') AND datname = 'analytics'"
	}
	time.Sleep(time.Second) // for some of the answer to be on its way
	for ctx.Err() == nil {
		var n int
		err := conn.QueryRow(ctx, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend' AND "+where).Scan(&n)
		if err != nil || n > 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// TestAFullPoolSaysSo: who waits longer than the bound for a database session is told, and is
// served once one is free.
func TestAFullPoolSaysSo(t *testing.T) {
	shared.explain(t)
	ctx := bounded(t, time.Minute)
	var holders []*pgx.Conn
	for range 2 {
		began := time.Now()
		c := connect(t, shared.dsn("load", "narrow"))
		t.Logf("connected after %s", time.Since(began))
		if _, err := c.Exec(ctx, "BEGIN"); err != nil {
			t.Fatalf("after %s: %v", time.Since(began), err)
		}
		holders = append(holders, c)
	}
	began := time.Now()
	late, err := pgx.Connect(ctx, shared.dsn("load", "narrow"))
	if err == nil {
		_, err = late.Exec(ctx, "SELECT 1")
		late.Close(ctx)
	}
	if took := time.Since(began); err == nil || took < 2900*time.Millisecond || took > time.Minute {
		t.Errorf("after %s: %v", took, err)
	}
	if code := stateOf(err); code != "53300" && code != "57P03" && code != "57014" && code != "08006" {
		t.Errorf("the error is %q: %v", code, err)
	}
	for _, c := range holders {
		if _, err := c.Exec(ctx, "COMMIT"); err != nil {
			t.Error(err)
		}
	}
	served := connect(t, shared.dsn("load", "narrow"))
	if _, err := served.Exec(ctx, "SELECT 1"); err != nil {
		t.Errorf("a pool that is free again: %v", err)
	}
}

// TestAnExpiredCertificateIsRefusedAndSaid: the database does not take the gateway's old
// certificate; the client gets an error with a code at once, and other databases are served.
func TestAnExpiredCertificateIsRefusedAndSaid(t *testing.T) {
	ctx := bounded(t, 30*time.Second)
	began := time.Now()
	_, err := pgx.Connect(ctx, shared.dsn("load", "expired"))
	if err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("after %s: %v", time.Since(began), err)
	}
	if code := stateOf(err); code == "" || strings.Contains(err.Error(), "platform_app@") {
		t.Errorf("the error is %q: %v", code, err)
	}
	if _, err := connect(t, shared.dsn("load", "platform")).Exec(ctx, "SELECT 1"); err != nil {
		t.Error(err)
	}
}

// TestClientsOutOfStepAreClosed: what is no message of the protocol ends the session with an
// error, on each path, and reaches no database.
func TestClientsOutOfStepAreClosed(t *testing.T) {
	for name, dsn := range paths() {
		for what, bytes := range map[string]string{"unknown type": "\x01\x00\x00\x00\x04", "length below four": "Q\x00\x00\x00\x01", "length of 2 GiB": "Q\x7f\xff\xff\xff", "a server's message": "Z\x00\x00\x00\x05I"} {
			t.Run(fmt.Sprintf("%s/%s", name, what), func(t *testing.T) {
				conn, f := hijacked(t, dsn)
				if _, err := conn.Write([]byte(bytes)); err != nil {
					t.Fatal(err)
				}
				if err := conn.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
					t.Fatal(err)
				}
				for {
					m, err := f.Receive()
					var late net.Error
					if errors.As(err, &late) && late.Timeout() {
						t.Fatal("the session stays open")
					}
					if err != nil {
						return
					}
					if _, ok := m.(*pgproto3.ReadyForQuery); ok {
						t.Fatal("the session goes on")
					}
				}
			})
		}
	}
}
