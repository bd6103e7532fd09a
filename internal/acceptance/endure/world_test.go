package endure

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// password of the principals that these tests add.
const password = "endurance-endurance-endurance"

// world is the enclave that all tests share. Its databases: platform (a database session a
// client), pooled (transaction mode), narrow (transaction mode, two database sessions), lying (a server
// that these tests play), expired (the gateway's certificate for it has expired).
type world struct {
	dir, binary string
	env         map[string]string
	demo        *demo.World
	metrics     string // URL
	liar        *liar
}

var shared *world

func TestMain(m *testing.M) { os.Exit(demotest.Main(m, start)) }

func start(ctx context.Context, dir string) (func(context.Context) error, error) {
	w := &world{}
	var err error
	if w.liar, err = startLiar(); err != nil {
		return nil, err
	}
	d, err := demotest.Start(ctx, dir, demo.Options{People: 500, Prepare: w.prepare})
	if err != nil {
		return w.close, err
	}
	w.dir, w.binary, w.env, w.demo = d.Dir, d.Binary, d.Env, d.World
	shared = w
	return w.close, nil
}

func (w *world) close(ctx context.Context) error {
	defer w.liar.close()
	if w.demo == nil {
		return nil
	}
	return w.demo.Close(ctx)
}

const addedDatabases = `  pooled: {site: dublin-1, dbname: platform, dsn: DSN, pool: {mode: transaction, servers: 8}}
  narrow: {site: dublin-1, dsn: DSN, pool: {mode: transaction, servers: 2, wait: 3s}}
  lying: {site: dublin-1, dbname: platform, dsn: LIAR, pool: {mode: transaction, servers: 2, wait: 2s}}
  expired: {site: dublin-1, dbname: platform, dsn: EXPIRED}
`

const addedServices = `  - {id: load, verifier: VERIFIER, databases: [platform, pooled, narrow, lying, expired], role: platform_app, site: dublin-1, groups: [services], purposes: [service]}
`

const addedPeople = `  - {id: endure-cn, verifier: VERIFIER, groups: [analysts], employer: clover-cn, workplace: CN, purposes: [analytics]}
`

const addedPrincipals = `  - {id: endure-cn, employer: clover-cn, workplace: CN, groups: [analysts]}
`

// prepare adds principals, pools, and databases that these tests spoil.
func (w *world) prepare(ctx context.Context, dir, admin string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE narrow") // its own: pools are one for each database and role of a server
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	verifier, err := identity.NewVerifier(password, identity.MinIterations)
	if err != nil {
		return err
	}
	port, err := postgres.FreePort("127.0.0.1")
	if err != nil {
		return err
	}
	w.metrics = fmt.Sprintf("http://127.0.0.1:%d/metrics", port)
	// A certificate of the right authority that ended two years ago.
	past := func() time.Time { return time.Now().AddDate(-4, 0, 0) }
	ca, err := postgres.NewAuthority(filepath.Join(dir, "enclave", "tls"), "databases-ca", past)
	if err != nil {
		return err
	}
	old := filepath.Join(dir, "enclave", "expired")
	if err := os.MkdirAll(old, 0o700); err != nil {
		return err
	}
	pair, err := ca.Client(old, "gateway")
	if err != nil {
		return err
	}
	edit := demotest.Edit
	replace := func(mark, with string) func(string) string {
		with = strings.ReplaceAll(with, "VERIFIER", fmt.Sprintf("%q", verifier))
		return func(s string) string { return strings.Replace(s, mark, with, 1) }
	}
	enclave, monitor := filepath.Join(dir, "enclave"), filepath.Join(dir, "monitor")
	return errors.Join(
		edit(filepath.Join(enclave, "people.yaml"), replace("services:\n", "services:\n"+addedServices)),
		edit(filepath.Join(enclave, "people.yaml"), replace("people:\n", "people:\n"+addedPeople)),
		edit(filepath.Join(monitor, "rules.yaml"), replace("instruments:\n", addedPrincipals+"instruments:\n")),
		edit(filepath.Join(enclave, "enclave.yaml"), func(s string) string {
			_, rest, _ := strings.Cut(s, "  platform:\n")
			_, dsn, _ := strings.Cut(rest, "dsn: ")
			dsn, _, _ = strings.Cut(dsn, "\n")
			plain, _ := strconv.Unquote(dsn)
			u, _ := url.Parse(plain) // written by this project
			q := u.Query()
			q.Set("sslcert", pair.Certificate)
			q.Set("sslkey", pair.Key)
			u.RawQuery = q.Encode()
			added := strings.NewReplacer("DSN", dsn, "LIAR", strconv.Quote(w.liar.dsn()), "EXPIRED", strconv.Quote(u.String())).Replace(addedDatabases)
			return replace("gateway:\n", "gateway:\n  metrics: "+strings.TrimSuffix(strings.TrimPrefix(w.metrics, "http://"), "/metrics")+"\n")(
				replace("databases:\n", "databases:\n"+added)(s))
		}))
}

// dsn is that of a principal these tests added.
func (w *world) dsn(principal, database string) string {
	u, err := url.Parse(w.env["ANALYST_CN_DSN"])
	if err != nil {
		panic("the demonstration's DSN is no URI") // written by this project
	}
	u.User, u.Path = url.UserPassword(principal, password), "/"+database
	return u.String()
}

// bounded ends every wait of a test.
func bounded(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// explain shows the end of the gateway's log, and what database sessions do, of a test that fails.
func (w *world) explain(t testing.TB) {
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		text, err := os.ReadFile(filepath.Join(w.dir, "logs", "gateway.log"))
		t.Logf("the gateway's log ends (%v):\n%s", err, text[max(0, len(text)-4000):])
		conn := connect(t, w.env["ADMIN_DSN"])
		rows, err := conn.Query(bounded(t, time.Minute), "SELECT pid, usename, state, wait_event_type, wait_event, now() - backend_start, query FROM pg_stat_activity WHERE backend_type = 'client backend'")
		for err == nil && rows.Next() {
			values, _ := rows.Values()
			t.Log(values...)
		}
	})
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(bounded(t, time.Minute), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) }) // it may have been ended by intent
	return conn
}

func stateOf(err error) string {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// gauge reads one figure of the gateway.
func (w *world) gauge(t testing.TB, name string) float64 {
	t.Helper()
	resp, err := http.Get(w.metrics)
	if err != nil {
		t.Fatalf("metrics: %v", err)
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			v, err := strconv.ParseFloat(rest, 64)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			return v
		}
	}
	t.Fatalf("the gateway has no figure %s", name)
	return 0
}

// backends counts the database sessions of the service's role at the source.
func (w *world) backends(t testing.TB) (n int) {
	t.Helper()
	conn := connect(t, w.env["ADMIN_DSN"])
	defer conn.Close(context.Background())
	if err := conn.QueryRow(bounded(t, time.Minute), "SELECT count(*) FROM pg_stat_activity WHERE usename = 'platform_app'").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// eventually polls until f is nil.
func eventually(t testing.TB, limit time.Duration, f func() error) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s still: %v", limit, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// verifyLog re-reads the whole access log as an outsider.
func (w *world) verifyLog(t *testing.T) {
	t.Helper()
	trust, err := trefoil.ParseTrust(w.env["LOG_VKEY"], strings.Split(w.env["MONITOR_VKEY"], ","))
	if err != nil {
		t.Fatal(err)
	}
	report, err := trefoil.VerifyLog(bounded(t, 5*time.Minute), trefoil.NewClient(w.env["LOG_URL"], nil), trust, trefoil.LogOptions{})
	if err != nil {
		t.Fatalf("the log does not verify: %v", err)
	}
	t.Logf("the log of %d leaves verifies", report.Leaves)
}
