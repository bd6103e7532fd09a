package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/pool"
)

// startPool brings up a gateway whose service sessions share database sessions.
func startPool(t *testing.T, s pool.Settings) *fixture {
	t.Helper()
	return start(t, func(_ *gateway.Config, a *authoriser) {
		decide := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			d := decide(r)
			if d.Path == gateway.Service {
				d.Target.Pool = &s
			}
			return d
		}
	})
}

func (f *fixture) pgx(t *testing.T, user, options string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, f.url(user, "sslmode=disable&"+options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// one returns the single value of a query as text.
func one(t *testing.T, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var v string
	if err := c.QueryRow(ctx, sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func do(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if _, err := c.Exec(ctx, sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func sqlState(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

func (f *fixture) pool(t *testing.T) pool.Info {
	t.Helper()
	list := f.gw.Pools()
	if len(list) != 1 {
		t.Fatalf("%d pools, want 1", len(list))
	}
	return list[0]
}

func TestPooledPreparedStatements(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2, Statements: 3})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			c := f.pgx(t, "app", fmt.Sprintf("application_name=client-%d", i%3))
			for n := range 60 {
				want := fmt.Sprintf("%d %d client-%d", i, n, i%3)
				sql := fmt.Sprintf("select concat_ws(' ', $1::int, $2::int, current_setting('application_name')) /* %d */", n%6)
				if got := one(t, c, sql, i, n); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
		})
	}
	wg.Wait()
	if p := f.pool(t); len(p.Servers) > 2 || p.Stats.Attached < 600 || p.Pinned > 0 {
		t.Errorf("%d servers, attached %d times, %d pinned", len(p.Servers), p.Stats.Attached, p.Pinned)
	}
}

func TestPooledStateStaysWithItsClient(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2})
	for name, tc := range map[string]struct{ leave, ask, other string }{
		"setting":             {"set work_mem = '7MB'", "select current_setting('work_mem') = '7MB'", "select current_setting('work_mem') <> '7MB'"},
		"setting by function": {"select set_config('a.b', 'left', false)", "select current_setting('a.b') = 'left'", "select coalesce(current_setting('a.b', true), '') = ''"},
		"tracked setting":     {"set timezone = 'Asia/Tokyo'", "select current_setting('timezone') = 'Asia/Tokyo'", "select current_setting('timezone') <> 'Asia/Tokyo'"},
		"role":                {"set role pg_monitor", "select current_user = 'pg_monitor'", "select current_user = 'app'"},
		"temporary table":     {"create temp table left_behind as select 1", "select count(*) = 1 from left_behind", "select to_regclass('left_behind') is null"},
		"advisory lock":       {"select pg_advisory_lock(42)", "select count(*) = 1 from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()", "select not pg_try_advisory_lock(42)"},
		"held cursor":         {"begin; declare c cursor with hold for select true; commit", "fetch all from c", "select count(*) = 0 from pg_cursors where name = 'c'"},
		"listen":              {"listen channel", "select 'channel' in (select pg_listening_channels())", "select not exists (select pg_listening_channels())"},
		"prepared in SQL":     {"prepare left_behind as select true", "execute left_behind", "select count(*) = 0 from pg_prepared_statements where name = 'left_behind'"},
	} {
		t.Run(name, func(t *testing.T) {
			const simple = "default_query_exec_mode=simple_protocol"
			keeper, other := f.pgx(t, "app", simple), f.pgx(t, "app", simple)
			is := func(who string, c *pgx.Conn, sql string) {
				t.Helper()
				var ok bool
				if err := c.QueryRow(t.Context(), sql).Scan(&ok); err != nil || !ok {
					t.Errorf("%s: %s: %v %v", who, sql, ok, err)
				}
			}
			do(t, keeper, tc.leave)
			for range 5 {
				is("the other client", other, tc.other)
			}
			is("the client itself", keeper, tc.ask)
			keeper.Close(t.Context())
			others := 0
			if name == "advisory lock" { // who tries keeps the server too
				others = 1
			}
			eventually(t, "the server is free again", func() bool { return f.pool(t).Pinned == others && f.pool(t).ServersOther == 0 })
			if name == "advisory lock" {
				is("a client afterwards", other, "select pg_try_advisory_lock(42)")
				other.Close(t.Context())
				return
			}
			// Both servers: one of them was the client's.
			next := f.pgx(t, "app", simple)
			do(t, other, "begin")
			is("the other client", other, tc.other)
			is("the next client", next, tc.other)
			other.Close(t.Context())
			next.Close(t.Context())
			eventually(t, "all servers are free again", func() bool { p := f.pool(t); return len(p.Clients) == 0 && p.ServersIdle == len(p.Servers) })
		})
	}
}

func TestPooledSequenceValuesAreOnesOwn(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 1})
	a, b := f.pgx(t, "app", ""), f.pgx(t, "app", "")
	do(t, a, "create sequence s")
	one(t, a, "select nextval('s')::text")
	if _, err := b.Exec(t.Context(), "select lastval()"); sqlState(err) != "55000" {
		t.Errorf("lastval of another client's sequence: %v", err)
	}
}

func TestPooledSessionsAreReused(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.BySession, Servers: 1})
	var pid string
	for i := range 5 {
		c := f.pgx(t, "app", "")
		got := one(t, c, "select concat(pg_backend_pid(), current_setting('work_mem') = '7MB', to_regclass('x'))")
		if i == 0 {
			pid = got
		}
		if got != pid {
			t.Errorf("session %d got %q, the first %q", i, got, pid)
		}
		do(t, c, "set work_mem = '7MB'; create temp table x(); prepare p as select 1; listen l")
		c.Close(t.Context())
	}
	if p := f.pool(t); p.Stats.Logins != 1 {
		t.Errorf("%d logins for 5 sessions one after the other", p.Stats.Logins)
	}
}

func TestPooledQueue(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 1, Wait: 300 * time.Millisecond})
	holder, waiter := f.pgx(t, "app", ""), f.pgx(t, "app", "")
	do(t, holder, "begin")
	_, err := waiter.Exec(t.Context(), "select 1")
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != "53300" || e.Detail == "" || e.Hint == "" {
		t.Fatalf("waiting too long: %v", err)
	}
	do(t, holder, "commit")
	if got := one(t, waiter, "select 'on'"); got != "on" {
		t.Error(got)
	}
	if p := f.pool(t); p.Stats.Timeouts != 1 {
		t.Errorf("%d time-outs counted", p.Stats.Timeouts)
	}
}

func TestPooledPrincipalCannotTakeAll(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2, PerPrincipal: 1, Wait: 300 * time.Millisecond})
	first, second, other := f.pgx(t, "app", ""), f.pgx(t, "app", ""), f.pgx(t, "batch", "")
	do(t, first, "begin")
	if _, err := second.Exec(t.Context(), "select 1"); sqlState(err) != "53300" {
		t.Errorf("a second session of one principal: %v", err)
	}
	do(t, other, "begin")
}

func TestPooledServerThatDiedIsNotGivenOut(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 1})
	c := f.pgx(t, "app", "")
	for range 5 {
		pid := one(t, c, "select pg_backend_pid()::text")
		f.cluster.Exec(t, f.dsn, "select pg_terminate_backend("+pid+")")
		eventually(t, "the server is gone", func() bool { return len(f.pool(t).Servers) == 0 })
		if again := one(t, c, "select pg_backend_pid()::text"); again == pid {
			t.Error("the same process answers")
		}
	}
}

func TestPooledServerThatDiesWithinATransactionEndsItsClient(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2})
	c, other := f.pgx(t, "app", ""), f.pgx(t, "app", "")
	do(t, c, "begin")
	pid := one(t, c, "select pg_backend_pid()::text")
	f.cluster.Exec(t, f.dsn, "select pg_terminate_backend("+pid+")")
	if _, err := c.Exec(t.Context(), "select 1"); err == nil {
		t.Error("the transaction went on")
	}
	if got := one(t, other, "select 'on'"); got != "on" {
		t.Error(got)
	}
}

func TestPooledDatabaseAway(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2})
	c := f.pgx(t, "app", "")
	one(t, c, "select 'there'")
	f.cluster.Exec(t, f.dsn, "alter role app nologin")
	t.Cleanup(func() { f.cluster.Exec(t, f.dsn, "alter role app login") })
	f.cluster.Exec(t, f.dsn, "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'app'")
	eventually(t, "the servers are gone", func() bool { return len(f.pool(t).Servers) == 0 })
	if _, err := c.Exec(t.Context(), "select 1"); sqlState(err) != "57P03" {
		t.Errorf("while nobody may log in: %v", err)
	}
	before := f.pool(t).Stats.LoginsFailed
	for range 20 {
		_, _ = c.Exec(t.Context(), "select 1")
	}
	if n := f.pool(t).Stats.LoginsFailed - before; n > 10 {
		t.Errorf("%d logins tried for 20 statements", n)
	}
	f.cluster.Exec(t, f.dsn, "alter role app login")
	eventually(t, "the client goes on", func() bool { _, err := c.Exec(t.Context(), "select 1"); return err == nil })
}

// TestPooledCancelReachesNobodyElse: clients cancel at random moments, also when their
// statement is over; those that never do are never cancelled.
func TestPooledCancelReachesNobodyElse(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2})
	done := make(chan struct{})
	var cancelling, working sync.WaitGroup
	for range 3 {
		c := f.pgx(t, "app", "")
		cancelling.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				go func() { _ = c.PgConn().CancelRequest(context.Background()) }()
				_, err := c.Exec(context.Background(), fmt.Sprintf("select pg_sleep(0.00%d)", n%4))
				if s := sqlState(err); err != nil && s != "57014" {
					t.Errorf("cancelling client: %v", err)
					return
				}
			}
		})
	}
	for range 4 {
		c := f.pgx(t, "app", "")
		working.Go(func() {
			for range 150 {
				if _, err := c.Exec(context.Background(), "select pg_sleep(0.002)"); err != nil {
					t.Errorf("a client that cancels nothing: %v", err)
					return
				}
			}
		})
	}
	working.Wait()
	close(done)
	cancelling.Wait()
}

// TestPooledFunctionsThatLeaveSomething: what a database's own functions do does not show in
// a statement, so they are looked for in the catalog.
func TestPooledFunctionsThatLeaveSomething(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2})
	f.cluster.Exec(t, f.dsn, `create function leave() returns text language plpgsql as $$ begin perform set_config('work_mem', '7MB', false); return 'x'; end $$`)
	f.cluster.Exec(t, f.dsn, `create function by_another() returns text language sql as $$ select leave() $$`)
	f.cluster.Exec(t, f.dsn, `create function by_trigger() returns trigger language plpgsql as $$ begin set work_mem = '7MB'; return new; end $$`)
	f.cluster.Exec(t, f.dsn, `create table watched (a int)`)
	f.cluster.Exec(t, f.dsn, `create trigger x before insert on watched for each row execute function by_trigger()`)
	f.cluster.Exec(t, f.dsn, `create view seen as select leave()`)
	f.cluster.Exec(t, f.dsn, `create function harmless() returns text language plpgsql as $$ begin
		perform set_config('a.b', 'c', true); update watched set a = 1; return 'x'; end $$`)
	for _, sql := range []string{"select leave()", "select by_another()", "insert into watched values (1)", "select * from seen"} {
		t.Run(sql, func(t *testing.T) {
			c, other := f.pgx(t, "app", ""), f.pgx(t, "app", "")
			do(t, c, sql)
			do(t, other, "begin")
			if got := one(t, other, "select current_setting('work_mem')"); got == "7MB" {
				t.Error("another client has the setting")
			}
			if got := one(t, c, "select current_setting('work_mem')"); got != "7MB" {
				t.Errorf("the client itself has %s", got)
			}
			c.Close(t.Context())
			other.Close(t.Context())
			eventually(t, "all servers are free again", func() bool { p := f.pool(t); return len(p.Clients) == 0 && p.ServersOther == 0 })
		})
	}
	c := f.pgx(t, "app", "")
	do(t, c, "select harmless()")
	if p := f.pool(t); p.Pinned > 0 {
		t.Errorf("pinned: %+v", p.Clients)
	}
}

// TestPooledNamesOfOneDatabaseKeepTheirOwnSettings: two names that stand for the same database
// and role are two pools; one's settings are not the other's.
func TestPooledNamesOfOneDatabaseKeepTheirOwnSettings(t *testing.T) {
	f := start(t, func(c *gateway.Config, a *authoriser) {
		decide := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			d := decide(r)
			d.Target.Pool = &pool.Settings{Mode: pool.BySession, Servers: 3}
			if r.Database == "reports" {
				d.Target.Pool = &pool.Settings{Mode: pool.ByTransaction, Servers: 1}
			}
			return d
		}
		d, err := identity.NewDirectory(&identity.File{Version: 1, Services: []identity.Account{
			{ID: "app", Verifier: verifier(t), Databases: []string{"platform", "reports"}, Role: "app"}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		c.Directory = d
	})
	one(t, f.pgx(t, "app", ""), "select 'platform'")
	reports, err := pgx.Connect(t.Context(), strings.Replace(f.url("app", "sslmode=disable"), "/platform?", "/reports?", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reports.Close(context.Background()) })
	one(t, reports, "select 'reports'")
	sizes := map[string]string{}
	for _, p := range f.gw.Pools() {
		sizes[p.Database] = fmt.Sprint(p.Mode, " ", p.Size)
	}
	if len(sizes) != 2 || sizes["platform"] != "session 3" || sizes["reports"] != "transaction 1" {
		t.Errorf("pools: %v", sizes)
	}
}

func TestPooledLanesShareThePlaces(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 1, Wait: 20 * time.Second})
	var wg sync.WaitGroup
	for _, size := range []string{"1MB", "2MB", "3MB"} {
		c := f.pgx(t, "app", "work_mem="+size)
		wg.Go(func() {
			for range 5 {
				if got := one(t, c, "select current_setting('work_mem')"); got != size {
					t.Errorf("got %s, want %s", got, size)
				}
			}
		})
	}
	wg.Wait()
	if p := f.pool(t); p.Lanes != 3 || len(p.Servers) > 1 {
		t.Errorf("%d lanes, %d servers", p.Lanes, len(p.Servers))
	}
}

func TestPooledServersAreReaped(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 3, Warm: 1, Idle: 200 * time.Millisecond, Lifetime: 4 * time.Second})
	a, b := f.pgx(t, "app", ""), f.pgx(t, "app", "")
	do(t, a, "begin")
	do(t, b, "begin")
	do(t, a, "commit")
	do(t, b, "commit")
	if n := len(f.pool(t).Servers); n != 2 {
		t.Fatalf("%d servers", n)
	}
	var pid uint32
	eventually(t, "only the warm one is left", func() bool {
		p := f.pool(t)
		if len(p.Servers) == 1 {
			pid = p.Servers[0].PID
		}
		return len(p.Servers) == 1
	})
	eventually(t, "it is replaced when it is old", func() bool {
		p := f.pool(t)
		return len(p.Servers) == 1 && p.Servers[0].PID != pid
	})
	if got := one(t, a, "select 'on'"); got != "on" {
		t.Error(got)
	}
}

// TestPooledSessionsEndWithTheirReason: an end that the gateway gives reaches clients of a pool
// too, and costs no server that is at rest.
func TestPooledSessionsEndWithTheirReason(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2})
	idle, busy := f.pgx(t, "app", ""), f.pgx(t, "app", "")
	one(t, idle, "select 'there'")
	do(t, busy, "begin")
	if n := f.gw.CloseSessions(func(gateway.SessionInfo) bool { return true }, "the grant was revoked"); n != 2 {
		t.Errorf("%d sessions closed", n)
	}
	for _, c := range []*pgx.Conn{idle, busy} {
		if _, err := c.Exec(t.Context(), "select 1"); err == nil {
			t.Error("the session goes on")
		}
	}
	eventually(t, "both are gone", func() bool { p := f.pool(t); return len(p.Clients) == 0 && p.ServersActive == 0 })
	f.stop()
}

// TestPooledRecordsAreExact: what a session of a pool did is recorded from its own stream.
func TestPooledRecordsAreExact(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 1})
	var wg sync.WaitGroup
	for range 4 {
		c := f.pgx(t, "app", "")
		wg.Go(func() {
			for range 25 {
				_, _ = c.Exec(context.Background(), "select generate_series(1, $1::int)", 10)
			}
			c.Close(context.Background())
		})
	}
	wg.Wait()
	f.stop()
	var rows, calls int64
	sessions := map[string]int{}
	for _, b := range f.records.all("summary") {
		rows += b.Summary.Rows
		for _, s := range b.Summary.Statements {
			calls += s.Calls
		}
		sessions[b.Summary.Access.Session]++
	}
	if rows != 4*25*10 || calls != 4*25 || len(sessions) != 4 {
		t.Errorf("%d rows, %d calls, %d sessions recorded", rows, calls, len(sessions))
	}
}
