package gateway_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

// ask sends a simple query.
func ask(t *testing.T, c net.Conn, sql string) {
	t.Helper()
	if _, err := c.Write(wire.AppendMessage(nil, wire.Query, append([]byte(sql), 0))); err != nil {
		t.Fatal(err)
	}
}

// query runs a simple query to its end.
func query(t *testing.T, c net.Conn, sql string) {
	t.Helper()
	ask(t, c, sql)
	if e := until(t, c, wire.ReadyForQuery); e != nil {
		t.Fatalf("%s: %+v", sql, e)
	}
}

// until reads up to a message of typ, and returns the error that came before it.
func until(t *testing.T, c net.Conn, typ byte) *wire.ErrorFields {
	t.Helper()
	var found *wire.ErrorFields
	for {
		got, p, err := wiretest.ReadMessage(c)
		if err != nil {
			t.Fatalf("read: %v", err)
		}
		if got == wire.ErrorResponse {
			f, err := wire.ParseFields(p)
			if err != nil {
				t.Fatal(err)
			}
			found = &f
		}
		if got == typ {
			return found
		}
	}
}

// lastError reads to the end of the stream and returns the last message's error.
func lastError(t *testing.T, c net.Conn) wire.ErrorFields {
	t.Helper()
	var last wire.ErrorFields
	for {
		typ, p, err := wiretest.ReadMessage(c)
		if err != nil {
			return last
		}
		last = wire.ErrorFields{}
		if typ == wire.ErrorResponse {
			if last, err = wire.ParseFields(p); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func (f *fixture) cancel(pid uint32, secret []byte) {
	f.t.Helper()
	c, err := net.Dial("tcp", f.gw.Addr().String())
	if err != nil {
		f.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := c.Write(wire.AppendCancelRequest(nil, pid, secret)); err != nil {
		f.t.Fatal(err)
	}
	if b, _ := io.ReadAll(c); len(b) != 0 {
		f.t.Fatalf("a cancel request was answered: %q", b)
	}
}

func TestCancel(t *testing.T) {
	f := start(t, nil)
	for _, user := range []string{"app", "aoife"} {
		c, o := f.open(f.through(user))
		ask(t, c, "select pg_sleep(30)")
		time.Sleep(100 * time.Millisecond) // the statement has to be running: a cancel before it does nothing
		f.cancel(o.PID, o.Secret)
		if e := until(t, c, wire.ReadyForQuery); e == nil || e.SQLState != "57014" {
			t.Fatalf("%s: %+v", user, e)
		}
		query(t, c, "select 1")
	}
}

func TestGuessedCancelKey(t *testing.T) {
	f := start(t, nil)
	c, o := f.open(f.through("app"))
	_, other := f.open(f.through("app"))
	ask(t, c, "select pg_sleep(0.5)")
	wrong := append([]byte(nil), o.Secret...)
	wrong[3] ^= 1
	f.cancel(o.PID, wrong)
	f.cancel(o.PID, other.Secret)
	f.cancel(other.PID, o.Secret)
	f.cancel(o.PID, append(append([]byte(nil), o.Secret...), 0))
	if e := until(t, c, wire.ReadyForQuery); e != nil {
		t.Fatalf("a guessed key cancelled: %+v", e)
	}
	for range 30 { // past the bound even the right key is not looked at
		f.cancel(1, []byte{1, 2, 3, 4})
	}
	ask(t, c, "select pg_sleep(0.3)")
	f.cancel(o.PID, o.Secret)
	if e := until(t, c, wire.ReadyForQuery); e != nil {
		t.Fatalf("guessing goes on without bound: %+v", e)
	}
}

// TestCancelKeyIsTheGatewaysOwn: the database's key is not given away, and does not work.
func TestCancelKeyIsTheGatewaysOwn(t *testing.T) {
	f := start(t, nil)
	_, o := f.open(f.through("app"))
	conn := f.cluster.Connect(t, f.dsn)
	var pids []int32
	if err := conn.QueryRow(t.Context(), "select array_agg(pid) from pg_stat_activity").Scan(&pids); err != nil {
		t.Fatal(err)
	}
	for _, p := range pids {
		if uint32(p) == o.PID {
			t.Fatal("the client has the database's process id")
		}
	}
}

func TestRevocationEndsSessions(t *testing.T) {
	f := start(t, nil)
	busy, _ := f.open(f.through("app"))
	other, _ := f.open(f.through("batch"))
	ask(t, busy, "select pg_sleep(30)")
	eventually(t, "both are open", func() bool { return len(f.gw.Sessions()) == 2 })
	if n := f.gw.CloseSessions(func(s gateway.SessionInfo) bool { return s.Principal == "app" }, "access was revoked"); n != 1 {
		t.Fatalf("%d sessions", n)
	}
	if e := lastError(t, busy); e.SQLState != "57P01" || e.Message != "access was revoked" {
		t.Fatalf("%+v", e)
	}
	query(t, other, "select 1")
	eventually(t, "the end is recorded as revoked", func() bool {
		for _, b := range f.records.all(trefoil.KindSession) {
			if b.Session.Outcome == "revoked" {
				return true
			}
		}
		return false
	})
}

func TestSessionEndsWithItsGrant(t *testing.T) {
	f := start(t, func(_ *gateway.Config, a *authoriser) {
		decide := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			d := decide(r)
			d.Until = time.Now().Add(400 * time.Millisecond)
			return d
		}
	})
	c, _ := f.open(f.through("app"))
	if e := lastError(t, c); e.SQLState != "57P01" || !strings.Contains(e.Message, "expired") {
		t.Fatalf("%+v", e)
	}
	c, _ = f.open(f.through("aoife")) // the release path gets it as its context's cause
	_, _ = io.ReadAll(c)
	f.runner.mu.Lock()
	defer f.runner.mu.Unlock()
	var e *gateway.End
	if len(f.runner.ends) != 1 || !errors.As(f.runner.ends[0], &e) || e.SQLState != "57P01" {
		t.Fatalf("%v", f.runner.ends)
	}
}

func TestDrain(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Limits.Drain = 3 * time.Second })
	idle, _ := f.open(f.through("app"))
	busy, _ := f.open(f.through("app"))
	stuck, _ := f.open(f.through("app"))
	half, err := net.Dial("tcp", f.gw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer half.Close()
	ask(t, busy, "select pg_sleep(1)")
	query(t, stuck, "begin")
	time.Sleep(50 * time.Millisecond)
	go f.stop()
	if e := lastError(t, idle); e.SQLState != "57P01" {
		t.Fatalf("idle: %+v", e)
	}
	if e := until(t, busy, wire.ReadyForQuery); e != nil {
		t.Fatalf("a running statement was not let finish: %+v", e)
	}
	if e := lastError(t, busy); e.SQLState != "57P01" {
		t.Fatalf("busy: %+v", e)
	}
	if e := lastError(t, stuck); e.SQLState != "57P01" {
		t.Fatalf("in a transaction: %+v", e)
	}
	f.stop()
	if _, err := net.DialTimeout("tcp", f.gw.Addr().String(), time.Second); err == nil {
		t.Fatal("the listener is still open")
	}
	drained := 0
	for _, b := range f.records.all(trefoil.KindSession) {
		if b.Session.Outcome == "drained" {
			drained++
		}
	}
	if drained != 3 {
		t.Fatalf("%d sessions recorded as drained, want 3", drained)
	}
}

// TestStopsThoughNothingCanBeRecorded: a recorder that never takes a record delays the stop
// by a bound, not for ever.
func TestStopsThoughNothingCanBeRecorded(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.Limits.Drain, c.Limits.Grace, c.Limits.RecordQueue = 100*time.Millisecond, 200*time.Millisecond, 1
	})
	f.records.setFail(true)
	c, _ := f.open(f.through("app"))
	query(t, c, "begin")
	before := time.Now()
	f.stop()
	if d := time.Since(before); d > 30*time.Second {
		t.Fatalf("stopped after %v", d)
	}
	if e := lastError(t, c); e.SQLState != "57P01" {
		t.Fatalf("%+v", e)
	}
}

func TestServerVanishes(t *testing.T) {
	c := pgtest.Private(t, pgtest.WithTLS(), pgtest.WithAccess(postgres.Access{GatewayName: "gateway", GatewayUsers: []string{"app"}}))
	c.Exec(t, c.SuperuserDSN("postgres"), "create role app login")
	recs := &records{}
	auth := &authoriser{decide: func(r gateway.Request) gateway.Decision {
		return gateway.Decision{Path: gateway.Service, Target: target(t, c, "postgres")}
	}}
	g, _ := run(t, gateway.Config{Listen: []string{"127.0.0.1:0"}, Directory: directory(t), Authoriser: auth, Recorder: recs, Releases: &runner{}})
	f := &fixture{t: t, cluster: c, gw: g, records: recs}
	idle, _ := f.open(f.through("app"))
	busy, _ := f.open(f.through("app"))
	mid, _ := f.open(f.through("app"))
	ask(t, busy, "select pg_sleep(30)")
	ask(t, mid, "select repeat('x', 1000) from generate_series(1, 1000000)")
	until(t, mid, wire.DataRow)
	if err := c.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	for name, conn := range map[string]net.Conn{"idle": idle, "busy": busy} {
		if e := lastError(t, conn); e.Severity != wire.Fatal || !strings.HasPrefix(e.SQLState, "57P0") {
			t.Errorf("%s: %+v", name, e)
		}
	}
	if _, err := io.Copy(io.Discard, mid); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("mid-result: %v", err)
	}
	eventually(t, "all ends are recorded", func() bool { return len(recs.all(trefoil.KindSession)) == 6 })
}

// TestClientThatNeverReads: the gateway holds no more of its result than its buffers, and
// lets go of it at the bound.
func TestClientThatNeverReads(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Limits.Write = 500 * time.Millisecond })
	c, _ := f.open(f.through("app"))
	ask(t, c, "select repeat('x', 10000) from generate_series(1, 100000)")
	eventually(t, "the session ends", func() bool { return len(f.gw.Sessions()) == 0 })
	eventually(t, "its end is recorded", func() bool { return len(f.records.all(trefoil.KindSession)) == 2 })
	if sum := f.records.all(trefoil.KindSummary); len(sum) != 1 || sum[0].Summary.BytesOut > 64<<20 {
		t.Fatalf("%d summaries", len(sum))
	}
}

func TestClientVanishes(t *testing.T) {
	f := start(t, nil)
	c, _ := f.open(f.through("app"))
	ask(t, c, "select repeat('x', 10000) from generate_series(1, 100000)")
	until(t, c, wire.DataRow)
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
	eventually(t, "the session ends", func() bool { return len(f.gw.Sessions()) == 0 })
	eventually(t, "recorded as disconnected", func() bool {
		s := f.records.all(trefoil.KindSession)
		return len(s) == 2 && s[1].Session.Outcome == "disconnected"
	})
}

// TestHalfClosedClientStillGetsItsAnswer: a client that ends its stream after its question
// hears the answer, as from PostgreSQL.
func TestHalfClosedClientStillGetsItsAnswer(t *testing.T) {
	f := start(t, nil)
	c, _ := f.open(f.through("app"))
	ask(t, c, "select pg_sleep(0.2), 'answered'")
	_ = c.(*net.TCPConn).CloseWrite()
	all, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(all), "answered") {
		t.Fatalf("%q %v", all, err)
	}
	if strings.Contains(string(all), "57P02") {
		t.Fatal("told of a lost connection that it ended itself")
	}
}

// TestReleaseHandover: nothing but authentication is written before the runner takes over,
// and it is told how much that was.
func TestReleaseHandover(t *testing.T) {
	f := start(t, nil)
	tap := &tap{}
	addr := tap.start(t, f.gw.Addr().String())
	tg := f.through("aoife")
	tg.Address = addr
	c, o := f.open(tg)
	if len(o.Notices) != 1 || !strings.Contains(o.Notices[0], "this dataset holds nothing") {
		t.Fatalf("%v", o.Notices)
	}
	f.runner.mu.Lock()
	s := f.runner.last
	f.runner.mu.Unlock()
	first := int64(0) // bytes up to AuthenticationOk, which the runner writes
	for b := tap.bytes(); ; {
		n := int64(binary.BigEndian.Uint32(b[1:])) + 1
		if b[0] == 'R' && binary.BigEndian.Uint32(b[5:]) == 0 {
			break
		}
		first, b = first+n, b[n:]
	}
	if s.Fixed != first || first == 0 {
		t.Fatalf("handed over as %d bytes, the client's socket got %d", s.Fixed, first)
	}
	if s.Access.Session == "" || s.Access.Principal != "pseudonym-of-aoife" || len(s.Parameters) != len(s.Order) {
		t.Fatalf("%+v", s)
	}
	query(t, c, "select 1")
	if len(f.records.all(trefoil.KindSession)) != 0 {
		t.Fatal("the gateway recorded a session that the runner records")
	}
	req := f.auth.asked[0]
	if req.Database != "platform" || len(req.Places) != 3 || req.Places[2].Country != "IE" || req.Session != s.Access.Session {
		t.Fatalf("%+v", req)
	}
}

// TestTLSAnswerIsNotCounted: the byte that declines TLS is no message; the count handed over
// is the same with and without it.
func TestTLSAnswerIsNotCounted(t *testing.T) {
	f := start(t, nil)
	var fixed [2]int64
	for i, mode := range []string{"disable", "prefer"} {
		f.connect(f.url("aoife", "sslmode="+mode))
		f.runner.mu.Lock()
		fixed[i] = f.runner.last.Fixed
		f.runner.mu.Unlock()
	}
	if fixed[0] != fixed[1] || fixed[0] == 0 {
		t.Fatalf("%d bytes without a TLS request, %d with one", fixed[0], fixed[1])
	}
}

// tap is a relay that keeps what the server side sent.
type tap struct {
	wiretap chan []byte
	got     []byte
}

func (p *tap) start(t *testing.T, to string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p.wiretap = make(chan []byte, 1000)
	go func() {
		in, err := l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		go func() { _, _ = io.Copy(out, in); out.Close() }()
		b := make([]byte, 65536)
		for {
			n, err := out.Read(b)
			p.wiretap <- append([]byte(nil), b[:n]...)
			if err != nil {
				in.Close()
				return
			}
			if _, err := in.Write(b[:n]); err != nil {
				return
			}
		}
	}()
	return l.Addr().String()
}

func (p *tap) bytes() []byte {
	for {
		select {
		case b := <-p.wiretap:
			p.got = append(p.got, b...)
		default:
			return p.got
		}
	}
}

func TestConfigurationIsChecked(t *testing.T) {
	_, err := gateway.New(gateway.Config{RequireTLS: true})
	for _, want := range []string{"listener", "directory", "authoriser", "recorder", "release runner", "certificate"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("missing %s is not reported: %v", want, err)
		}
	}
}
