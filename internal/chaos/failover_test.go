package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// writers that are at work when the primary's site goes away.
const writers = 12

// patroni answers for one server as Patroni's REST API does: 200 while the server takes writes.
func patroni(t *testing.T, c *postgres.Cluster) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var replica bool
		var timeline, position int64
		err := c.AsSuperuser(r.Context(), "postgres", func(conn *pgx.Conn) error {
			return conn.QueryRow(r.Context(), `SELECT pg_is_in_recovery(), (pg_control_recovery()).min_recovery_end_timeline,
				(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END - '0/0'::pg_lsn)::bigint`).Scan(&replica, &timeline, &position)
		})
		if err == nil && !replica {
			err = c.AsSuperuser(r.Context(), "postgres", func(conn *pgx.Conn) error {
				return conn.QueryRow(r.Context(), "SELECT ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int").Scan(&timeline)
			})
		}
		switch {
		case err != nil:
			http.Error(w, `{"state":"stopped"}`, http.StatusServiceUnavailable)
		case replica:
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintf(w, `{"state":"streaming","role":"replica","xlog":{"replayed_location":%d}}`, position)
		default:
			fmt.Fprintf(w, `{"state":"running","role":"master","timeline":%d,"xlog":{"location":%d}}`, timeline, position)
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// followed lets the gateway of a running enclave follow the sites' primary.
func (e *enclave) followed(ctx context.Context) {
	e.t.Helper()
	e.kill(ctx, "gateway", "")
	lines := "    route:\n      read_only: platform_ro\n      interval: 200ms\n      members:\n"
	for _, site := range []string{"dublin-2", "hamar", "dublin-1"} {
		c := e.Clusters()[site]
		lines += fmt.Sprintf("        - {address: %q, patroni: %q}\n", c.Addr(), patroni(e.t, c))
	}
	if err := demotest.Replace(e.Path("enclave", "enclave.yaml"), "    site: dublin-1\n    dsn:", "    site: dublin-1\n"+lines+"    dsn:"); err != nil {
		e.t.Fatal(err)
	}
	e.revive(ctx, "gateway")
}

// ledgerOf is what the writers know: what was acknowledged, and how each connection ended.
type ledgerOf struct {
	mu     sync.Mutex
	acked  []int64
	states map[string]int // SQLSTATE by which a running session ended
	first  time.Time      // of the first acknowledgement after the kill
	killed time.Time
	next   atomic.Int64
}

func (l *ledgerOf) ack(id int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked = append(l.acked, id)
	if !l.killed.IsZero() && l.first.IsZero() && time.Now().After(l.killed) {
		l.first = time.Now()
	}
}

func (l *ledgerOf) ended(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := "none: " + fmt.Sprint(err)
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		state = pg.Code
	}
	l.states[state]++
}

// write inserts rows over sessions of the service path until ctx ends: a new session after
// each one that ended.
func (l *ledgerOf) write(ctx context.Context, dsn string) {
	for ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			time.Sleep(20 * time.Millisecond) // as an application's pool does
			continue
		}
		for {
			id := l.next.Add(1)
			if _, err = conn.Exec(ctx, "INSERT INTO app.failover VALUES ($1)", id); err != nil {
				break
			}
			l.ack(id)
		}
		if ctx.Err() == nil {
			l.ended(err)
		}
		_ = conn.Close(context.WithoutCancel(ctx))
	}
}

// TestFailoverLosesNoAcknowledgedWrite: the primary's site is killed under writers. A replica is
// promoted; the gateway follows. Clients hear an error of class 57P and connect again, and what
// was acknowledged is there.
func TestFailoverLosesNoAcknowledgedWrite(t *testing.T) {
	e := start(t, 200, false)
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	sites := e.Clusters()
	if err := sites["dublin-1"].AsSuperuser(ctx, "platform", func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, "CREATE TABLE app.failover (id bigint PRIMARY KEY); GRANT SELECT, INSERT ON app.failover TO platform_app")
		return err
	}); err != nil {
		t.Fatal(err)
	}
	e.followed(ctx)
	readOnly(ctx, t, e)

	l := &ledgerOf{states: map[string]int{}}
	work, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() { l.write(work, e.DSN("app", "platform")) })
	}
	until(ctx, t, "writes", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return len(l.acked) > 200 })
	l.mu.Lock()
	l.killed = time.Now()
	l.mu.Unlock()
	e.kill(ctx, "dublin-1", "")
	dead := time.Now()
	next := foremost(ctx, t, sites)
	if err := sites[next].Promote(ctx); err != nil {
		t.Fatal(err)
	}
	l.mu.Lock() // acknowledgements that were on their way when the server died do not count
	l.killed, l.first = time.Now(), time.Time{}
	l.mu.Unlock()
	until(ctx, t, "writes after the failover", func() bool { l.mu.Lock(); defer l.mu.Unlock(); return !l.first.IsZero() })
	until(ctx, t, "all writers", func() bool { return len(connections(ctx, t, sites[next])) >= writers })
	stop()
	all.Wait()
	t.Logf("%d acknowledged; promoted %.2f s after the kill, writes again %.2f s after that; sessions ended by %v",
		len(l.acked), l.killed.Sub(dead).Seconds(), l.first.Sub(l.killed).Seconds(), l.states)
	kept := map[int64]bool{}
	if err := sites[next].AsSuperuser(context.WithoutCancel(ctx), "platform", func(conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, "SELECT id FROM app.failover") // its error comes with the rows
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		for _, id := range ids {
			kept[id] = true
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	lost := slices.DeleteFunc(slices.Clone(l.acked), func(id int64) bool { return kept[id] })
	if len(lost) > 0 {
		t.Errorf("%d of %d acknowledged writes are lost", len(lost), len(l.acked))
	}
	for state, n := range l.states {
		if !strings.HasPrefix(state, "57P") {
			t.Errorf("%d sessions ended by %s, want class 57P", n, state)
		}
	}
}

// readOnly: sessions of the second name read on a replica, and cannot write.
func readOnly(ctx context.Context, t *testing.T, e *enclave) {
	conn, err := pgx.Connect(ctx, e.DSN("app", "platform_ro"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var replica bool
	if err := conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&replica); err != nil || !replica {
		t.Errorf("a read-only session is not on a replica: %v", err)
	}
	var pg *pgconn.PgError
	if _, err := conn.Exec(ctx, "INSERT INTO app.failover VALUES (0)"); !errors.As(err, &pg) || pg.Code != "25006" {
		t.Errorf("a write on a read-only session: %v", err)
	}
}

// foremost is the replica that received most: the one that a cluster manager promotes.
func foremost(ctx context.Context, t *testing.T, sites map[string]*postgres.Cluster) (name string) {
	t.Helper()
	var most int64
	for _, site := range []string{"dublin-2", "hamar"} {
		var got int64
		if err := sites[site].AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
			return conn.QueryRow(ctx, "SELECT (pg_last_wal_receive_lsn() - '0/0'::pg_lsn)::bigint").Scan(&got)
		}); err != nil {
			t.Fatal(err)
		}
		if got > most {
			name, most = site, got
		}
	}
	return name
}

// connections of the application at a server.
func connections(ctx context.Context, t *testing.T, c *postgres.Cluster) (pids []int32) {
	t.Helper()
	if err := c.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		rows, _ := conn.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE usename = 'platform_app'") // its error comes with the rows
		var err error
		pids, err = pgx.CollectRows(rows, pgx.RowTo[int32])
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return pids
}

func until(ctx context.Context, t *testing.T, what string, done func() bool) {
	t.Helper()
	for !done() {
		if ctx.Err() != nil {
			t.Fatalf("no %s: %v", what, ctx.Err())
		}
		time.Sleep(20 * time.Millisecond)
	}
}
