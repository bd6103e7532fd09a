package gateway_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

// connect opens pgx through the gateway.
func (f *fixture) connect(url string) *pgx.Conn {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func TestPgxInAllModes(t *testing.T) {
	f := start(t, nil)
	f.cluster.Exec(t, f.dsn, "create table people(id bigint primary key, name text, born date)")
	for i, mode := range []string{"cache_statement", "cache_describe", "describe_exec", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			c := f.connect(f.url("app", "sslmode=disable&default_query_exec_mode="+mode))
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for k := range 3 { // twice the same statement: the cached one is used
				id := int64(i*10 + k)
				if _, err := c.Exec(ctx, "insert into people values ($1, $2, $3)", id, "Ø", time.Date(1990, 1, 2, 0, 0, 0, 0, time.UTC)); err != nil {
					t.Fatal(err)
				}
				var name string
				if err := c.QueryRow(ctx, "select name from people where id = $1", id).Scan(&name); err != nil || name != "Ø" {
					t.Fatalf("%q %v", name, err)
				}
			}
			if _, err := c.Exec(ctx, "insert into people values ($1, '', null)", int64(i*10)); err == nil {
				t.Fatal("a duplicate key is no error")
			}
			n, err := c.CopyFrom(ctx, pgx.Identifier{"people"}, []string{"id", "name"}, pgx.CopyFromSlice(1000, func(k int) ([]any, error) {
				return []any{int64(1000*(i+1) + k), "copied"}, nil
			}))
			if mode != "simple_protocol" && (err != nil || n != 1000) {
				t.Fatalf("copied %d: %v", n, err)
			}
		})
	}
}

func TestPsql(t *testing.T) {
	server, _ := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.TLS = server })
	for _, mode := range []string{"sslmode=disable", "sslmode=require", "sslmode=require&channel_binding=require"} {
		cmd := exec.Command("psql", "-X", "-A", "-t", "-v", "ON_ERROR_STOP=1", f.url("app", mode))
		cmd.Stdin = strings.NewReader("create temp table t(a int);\n\\copy t from program 'echo 42'\nselect a from t;\n\\d t\nselect a+1 from t \\bind \\g\n")
		out, err := cmd.CombinedOutput()
		if strings.Contains(string(out), "invalid command \\bind") {
			err = nil // psql before 16
		}
		if err != nil || !strings.Contains(string(out), "42") || !strings.Contains(string(out), "a|integer") {
			t.Errorf("%s: %v\n%s", mode, err, out)
		}
	}
}

func TestSessionAndSummaryRecords(t *testing.T) {
	f := start(t, nil)
	c := f.connect(f.url("app", "sslmode=disable&default_query_exec_mode=cache_statement"))
	ctx := t.Context()
	const one = "select g from generate_series(1, $1::int) g"
	for range 5 {
		rows, err := c.Query(ctx, one, 10)
		if err != nil {
			t.Fatal(err)
		}
		rows.Close()
	}
	if _, err := c.Exec(ctx, "select 1/0"); err == nil {
		t.Fatal("no error")
	}
	if err := c.Close(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session's end is recorded", func() bool { return len(f.records.all(trefoil.KindSession)) == 2 })
	s := f.records.all(trefoil.KindSession)
	if a, b := s[0].Session, s[1].Session; a.Event != "start" || b.Event != "end" || b.Outcome != "closed" || a.Path != "service" ||
		a.Access.Session != b.Access.Session || b.Fixed == 0 || a.Access.Principal != "pseudonym-of-app" {
		t.Fatalf("%+v\n%+v", a, b)
	}
	sum := f.records.all(trefoil.KindSummary)
	if len(sum) != 1 || !sum[0].Summary.Final {
		t.Fatalf("%d summaries", len(sum))
	}
	got := sum[0].Summary
	if got.Rows != 50 || got.BytesIn == 0 || got.BytesOut == 0 || got.Unparsed != 0 {
		t.Fatalf("%+v", got)
	}
	var in, out int64
	for _, n := range got.TypesIn {
		in += n
	}
	for _, n := range got.TypesOut {
		out += n
	}
	if in != got.BytesIn || out != got.BytesOut || got.TypesOut["D"] == 0 || got.TypesIn["P"] == 0 {
		t.Fatalf("bytes by type: %d in, %d out: %+v", in, out, got)
	}
	var calls, rows int64
	for _, st := range got.Statements {
		if st.Fingerprint == fmt.Sprintf("%016x", len(one)) {
			calls, rows = st.Calls, st.Rows
		}
	}
	if calls != 5 || rows != 50 {
		t.Fatalf("%d calls, %d rows: %+v", calls, rows, got.Statements)
	}
}

func TestSummariesEveryInterval(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Limits.Summary = 50 * time.Millisecond })
	c, _ := f.open(f.through("app"))
	query(t, c, "select 1")
	eventually(t, "a summary before the session's end", func() bool { return len(f.records.all(trefoil.KindSummary)) == 1 })
	query(t, c, "select 1")
	eventually(t, "another one", func() bool { return len(f.records.all(trefoil.KindSummary)) == 2 })
	var rows int64
	for _, b := range f.records.all(trefoil.KindSummary) {
		rows += b.Summary.Rows
	}
	if rows != 2 {
		t.Fatalf("%d rows in all summaries, want 2", rows)
	}
}

// TestARushOfSessionsIsRecordedWithFewSyncs: what waits is recorded at once, in its order.
func TestARushOfSessionsIsRecordedWithFewSyncs(t *testing.T) {
	f := start(t, nil)
	f.records.setFail(true) // the disk is slow: everything waits
	const clients = 20
	for range clients {
		c, _ := f.open(f.through("app"))
		_ = c.Close()
	}
	f.records.setFail(false)
	eventually(t, "all is recorded", func() bool { return len(f.records.all(trefoil.KindSession)) == 2*clients })
	f.records.mu.Lock()
	defer f.records.mu.Unlock()
	if f.records.asks > clients {
		t.Errorf("%d sessions took %d syncs", clients, f.records.asks)
	}
	last := map[string]trefoil.Kind{}
	for _, b := range f.records.list {
		switch {
		case b.Session != nil && b.Session.Event == "start":
			last[b.Session.Access.Session] = trefoil.KindSession
		case b.Summary != nil && last[b.Summary.Access.Session] == trefoil.KindSession:
			last[b.Summary.Access.Session] = trefoil.KindSummary
		case b.Session == nil || last[b.Session.Access.Session] != trefoil.KindSummary:
			t.Fatalf("a %s out of its order", b.Kind)
		}
	}
}

// TestServiceOutlivesTheRecorder: sessions go on while nothing can be recorded; when more
// waits than may, no new one begins; all of it is recorded later.
func TestServiceOutlivesTheRecorder(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Limits.RecordQueue = 2 })
	f.records.setFail(true)
	c, _ := f.open(f.through("app"))
	var refused *wiretest.Refused
	for range 5 {
		if _, _, err := wiretest.Open(f.through("app")); errors.As(err, &refused) {
			break
		}
	}
	if refused == nil || refused.SQLState != "57P03" {
		t.Fatalf("sessions begin without end while nothing is recorded: %+v", refused)
	}
	query(t, c, "select 1")
	f.records.setFail(false)
	eventually(t, "starts are recorded", func() bool { return len(f.records.all(trefoil.KindSession)) >= 2 })
	f.open(f.through("app"))
}

// TestTwoClientsNeverSeeEachOthersResults runs many sessions at once with answers that name
// their session.
func TestTwoClientsNeverSeeEachOthersResults(t *testing.T) {
	f := start(t, nil)
	var wg sync.WaitGroup
	for n := range 16 {
		c := f.connect(f.url("app", "sslmode=disable"))
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(n)))
			for k := range 60 {
				tag := fmt.Sprintf("s%d-%d", n, k)
				rows, err := c.Query(context.Background(), "select $1::text, repeat('x', $2) from generate_series(1, $3)", tag, r.IntN(5000), 1+r.IntN(40))
				if err != nil {
					t.Error(err)
					return
				}
				for rows.Next() {
					var got, fill string
					if err := rows.Scan(&got, &fill); err != nil || got != tag {
						t.Errorf("session %d got %q, asked %q: %v", n, got, tag, err)
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestTooManyParameters(t *testing.T) {
	f := start(t, nil)
	c := f.connect(f.url("app", "sslmode=disable&default_query_exec_mode=exec"))
	args := make([]any, 70000)
	for i := range args {
		args[i] = "x"
	}
	if _, err := c.Exec(t.Context(), "select 1", args...); err == nil {
		t.Fatal("70,000 parameters are no error")
	}
	// A client that counts in 16 bits without looking sends 4,464: PostgreSQL's own words.
	raw, _ := f.open(f.through("app"))
	script, err := wiretest.Parse([]byte(`> Parse {"Query":"select 1 where $70000::int = 1"}` + "\n> Sync\nuntil ReadyForQuery\n"))
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.Close()
	got := strings.Join(script.Run(t, wiretest.Dial(f.through("app"))), "\n")
	if !strings.Contains(got, `V="ERROR"`) || !strings.Contains(got, "ReadyForQuery I") {
		t.Fatal(got)
	}
}

// TestHugeStatementIsStreamed: 100 MB of statement do not stay in the gateway.
func TestHugeStatementIsStreamed(t *testing.T) {
	f := start(t, nil)
	c, _ := f.open(f.through("app"))
	query(t, c, "select 1")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const size = 100 << 20
	go func() {
		head := wire.AppendMessage(nil, wire.Query, nil)
		n := size + len("select length('')") + 1 + 4
		head[1], head[2], head[3], head[4] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
		_, _ = c.Write(append(head, "select length('"...))
		block := []byte(strings.Repeat("x", 1<<20))
		for range size >> 20 {
			_, _ = c.Write(block)
		}
		_, _ = c.Write([]byte("')\x00"))
	}()
	var got string
	for {
		typ, p, err := wiretest.ReadMessage(c)
		if err != nil {
			t.Fatal(err)
		}
		if typ == 'D' {
			got = string(p[6:])
		}
		if typ == 'Z' {
			break
		}
	}
	runtime.ReadMemStats(&after)
	if got != fmt.Sprint(size) {
		t.Fatalf("length %q", got)
	}
	if grown := int64(after.TotalAlloc) - int64(before.TotalAlloc); grown > 16<<20 {
		t.Fatalf("%d bytes allocated for a statement that is only passed on", grown)
	}
}

func TestMessageOverTheBound(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Limits.ServiceMessage = 1 << 20 })
	c, _ := f.open(f.through("app"))
	if _, err := c.Write([]byte{'Q', 0, 32, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if e := lastError(t, c); e.SQLState != "54000" {
		t.Fatalf("%+v", e)
	}
	c, _ = f.open(f.through("app"))
	if _, err := c.Write([]byte{'!', 0, 0, 0, 4}); err != nil {
		t.Fatal(err)
	}
	if e := lastError(t, c); e.SQLState != "08P01" {
		t.Fatalf("%+v", e)
	}
}

func TestPgBouncerStylePools(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Limits.SessionsPer, c.Limits.Sessions = 2, 3 })
	a, _ := f.open(f.through("app"))
	f.open(f.through("app"))
	if r := f.refused(f.through("app")); r.SQLState != "53300" {
		t.Fatalf("%+v", r)
	}
	f.open(f.through("batch"))
	if r := f.refused(f.through("aoife")); r.SQLState != "53300" {
		t.Fatalf("%+v", r)
	}
	a.Close()
	eventually(t, "the place is free again", func() bool { return len(f.gw.Sessions()) == 2 })
	f.open(f.through("app"))
}

// TestPsycopg2: another driver, written by others on libpq.
func TestPsycopg2(t *testing.T) {
	const python = "/usr/bin/python3"
	if err := exec.Command(python, "-c", "import psycopg2").Run(); err != nil {
		t.Skip("python3-psycopg2 is not installed")
	}
	f := start(t, nil)
	program := `
import sys, io, psycopg2
c = psycopg2.connect(sys.argv[1])
with c, c.cursor() as cur:
    cur.execute("create temp table t(a int, b text)")
    cur.executemany("insert into t values (%s, %s)", [(i, "Ø%d" % i) for i in range(50)])
    cur.copy_expert("copy t from stdin", io.StringIO("100\tx\n101\ty\n"))
    cur.execute("select count(*), min(b) from t where a = any(%s)", ([7, 100, 101],))
    print(cur.fetchone())
    out = io.StringIO()
    cur.copy_expert("copy (select a from t order by a limit 3) to stdout", out)
    print(repr(out.getvalue()))
with c.cursor("named") as cur:
    cur.itersize = 7
    cur.execute("select g from generate_series(1, 100) g")
    print(sum(r[0] for r in cur))
c.commit()
try:
    with c, c.cursor() as cur:
        cur.execute("select 1/0")
except psycopg2.errors.DivisionByZero as e:
    print(e.pgcode)
`
	for _, user := range []string{"app", "aoife"} {
		out, err := exec.Command(python, "-c", program, f.url(user, "sslmode=disable")).Output() // the notice at connect goes to standard error
		if want := "(3, 'x')\n'0\\n1\\n2\\n'\n5050\n22012\n"; err != nil || string(out) != want {
			t.Errorf("%s: %v\n%s", user, err, out)
		}
	}
}

// TestUnattributedStatementsAreAnIncident: a service whose statements cannot be told apart is
// counted to the row and byte, and the log says that it is not known what it did.
func TestUnattributedStatementsAreAnIncident(t *testing.T) {
	f := start(t, nil)
	bad, _ := f.open(f.through("app"))
	good, _ := f.open(f.through("batch"))
	for i := range 150 {
		query(t, good, fmt.Sprintf("select %d", i))
		ask(t, bad, "") // the accountant of these tests cannot parse an empty text
		until(t, bad, wire.ReadyForQuery)
	}
	good.Close()
	bad.Close()
	eventually(t, "both ends are recorded", func() bool { return len(f.records.all(trefoil.KindSession)) == 4 })
	eventually(t, "one incident is recorded", func() bool { return len(f.records.all(trefoil.KindIncident)) == 1 })
	if r := f.records.all(trefoil.KindIncident)[0].Incident; r.Event != "opened" || r.Reason != "unparsed-statements" {
		t.Fatalf("%+v", r)
	}
	var calls, unparsed int64
	for _, b := range f.records.all(trefoil.KindSummary) {
		unparsed += b.Summary.Unparsed
		for _, s := range b.Summary.Statements {
			calls += s.Calls
		}
	}
	if calls != 150 || unparsed != 150 {
		t.Fatalf("%d calls attributed, %d not; want 150 each", calls, unparsed)
	}
}

// TestServiceByGoroutines runs the service path's tests on the portable loop, which serves
// where there is no event loop.
func TestServiceByGoroutines(t *testing.T) {
	if os.Getenv(portableEnv) != "" {
		t.Skip("this is it")
	}
	cmd := exec.Command(os.Args[0], "-test.count=1", "-test.timeout=120s",
		"-test.run=^(TestPgxInAllModes|TestPsql|TestSessionAndSummaryRecords|TestTwoClientsNeverSeeEachOthersResults|TestRevocationEndsSessions|TestDrain|TestServerVanishes|TestClientThatNeverReads|TestClientVanishes|TestHalfClosedClientStillGetsItsAnswer|TestHugeStatementIsStreamed)$")
	cmd.Env = append(os.Environ(), portableEnv+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
