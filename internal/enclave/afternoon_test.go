package enclave_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

// afternoon is an operator's first one: a PostgreSQL with users and passwords of its own, a
// gateway before it, and no monitor yet.
type afternoon struct {
	t    *testing.T
	pg   *pgtest.Cluster
	dsn  string // superuser, of the database shop's stand-in
	name string
	dir  string
	port int
	hup  chan os.Signal
	said *safeBuffer
	stop func()
}

// safeBuffer is a log that tests read while the gateway writes.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// setUp makes the database's users and the enclave's files, and starts nothing.
func setUp(t *testing.T) *afternoon {
	t.Helper()
	a := &afternoon{t: t, dir: t.TempDir(), hup: make(chan os.Signal, 1), said: &safeBuffer{}}
	a.pg = pgtest.Start(t, pgtest.WithAccess(postgres.Access{PasswordTCP: true}))
	a.dsn = a.pg.Database(t)
	conn := a.pg.Connect(t, a.dsn)
	if err := conn.QueryRow(t.Context(), "select current_database()").Scan(&a.name); err != nil {
		t.Fatal(err)
	}
	a.sql("drop role if exists legacy, second, old, boss, app, trefoil_auth",
		"set password_encryption = 'scram-sha-256'",
		"create role legacy login password 'legacy pw'", "create role second login password 'second pw'",
		"create role boss superuser login password 'boss pw'", "create role app login password 'app pw'",
		"create role trefoil_auth login password 'auth pw'",
		"set password_encryption = 'md5'", "create role old login password 'old pw'", "reset password_encryption")
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), a.pg.SuperuserDSN("postgres"))
		if err == nil {
			_, _ = c.Exec(context.Background(), fmt.Sprintf("drop database if exists %s with (force)", a.name))
			for _, r := range []string{"legacy", "second", "old", "boss", "app", "trefoil_auth"} {
				_, _ = c.Exec(context.Background(), "drop role if exists "+r)
			}
			_ = c.Close(context.Background())
		}
	})
	a.files()
	return a
}

func (a *afternoon) sql(statements ...string) {
	a.t.Helper()
	a.pg.Exec(a.t, a.dsn, statements...)
}

// files writes the enclave's configuration and keys.
func (a *afternoon) files() {
	t := a.t
	t.Helper()
	var err error
	if a.port, err = postgres.FreePort("127.0.0.1"); err != nil {
		t.Fatal(err)
	}
	logKey, logVerifier, err := note.GenerateKey(rand.Reader, "log.shop.example")
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := note.NewVerifier(logVerifier)
	if err != nil {
		t.Fatal(err)
	}
	// A witness and no monitor: nothing on this path asks for permits.
	witness := witnesstest.Start(t, "monitor.example/witness", verifier)
	_, _, permit := witnesstest.Key(t, "monitor.example/permit")
	if err := errors.Join(os.CopyFS(a.dir, os.DirFS("testdata/small")), os.CopyFS(filepath.Join(a.dir, "policy"), policy.Shipped()),
		os.Mkdir(filepath.Join(a.dir, "keys"), 0o700)); err != nil {
		t.Fatal(err)
	}
	a.write("keys/log", logKey)
	a.write("keys/token", strings.Repeat("t", 40))
	for _, k := range []string{"staff", "statements"} {
		a.write("keys/"+k, strings.Repeat("k", 32))
	}
	a.write("pgpass", "*:*:*:app:app pw\n*:*:*:trefoil_auth:auth pw\n")
	host, port, _ := strings.Cut(a.pg.Addr(), ":")
	at := func(user string) string {
		return fmt.Sprintf("postgres://%s@%s:%s/%s?sslmode=disable&passfile=%s", user, host, port, a.name, url.QueryEscape(filepath.Join(a.dir, "pgpass")))
	}
	a.edit("enclave.yaml", "version: 1", "version: 1\nmode: enforce",
		`dsn: "postgres://gateway@127.0.0.1:1/shop?sslmode=disable"`, fmt.Sprintf("dsn: %q, dbname: %s, auth: %q", at("gateway"), a.name, at("trefoil_auth")),
		`gateway: {listen: "127.0.0.1:0"}`, fmt.Sprintf(`gateway: {listen: "127.0.0.1:%d", status: gateway.sock}`, a.port),
		`url: "http://127.0.0.1:3", witness: "", permit: ""`, fmt.Sprintf("url: %q, witness: %q, permit: %q", witness.URL, witness.VKey, permit))
	a.people("legacy", "old")
}

// people lists services that log in with the database's passwords, beside app with one of
// its own.
func (a *afternoon) people(source ...string) {
	a.t.Helper()
	verifier, err := identity.NewVerifier("app's own", 0)
	if err != nil {
		a.t.Fatal(err)
	}
	text := fmt.Sprintf("version: 1\nservices:\n  - {id: app, verifier: %q, databases: [shop], role: app, site: dublin-1}\n", verifier)
	for _, id := range source {
		text += fmt.Sprintf("  - {id: %s, login: [source], databases: [shop], site: dublin-1}\n", id)
	}
	a.write("people.yaml", text)
}

func (a *afternoon) write(name, text string) {
	a.t.Helper()
	if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o600); err != nil {
		a.t.Fatal(err)
	}
}

// edit replaces pairs of texts in a file.
func (a *afternoon) edit(name string, pairs ...string) {
	a.t.Helper()
	src, err := os.ReadFile(filepath.Join(a.dir, name))
	if err != nil {
		a.t.Fatal(err)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if !strings.Contains(string(src), pairs[i]) {
			a.t.Fatalf("%s has no %q", name, pairs[i])
		}
		src = []byte(strings.Replace(string(src), pairs[i], pairs[i+1], 1))
	}
	a.write(name, string(src))
}

func (a *afternoon) config() *enclave.Config {
	a.t.Helper()
	c, err := enclave.Load(filepath.Join(a.dir, "enclave.yaml"))
	if err != nil {
		a.t.Fatal(err)
	}
	return c
}

// run starts the gateway and waits until it is ready.
func (a *afternoon) run() {
	a.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	level := new(slog.LevelVar)
	c := a.config().WithRuntime(enclave.Runtime{Hangup: a.hup, Level: level})
	go func() {
		done <- enclave.RunGateway(ctx, c, slog.New(slog.NewTextHandler(a.said, &slog.HandlerOptions{Level: level})))
	}()
	a.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				a.t.Errorf("gateway: %v", err)
			}
		case <-time.After(60 * time.Second):
			a.t.Error("the gateway does not stop")
		}
	})
	a.t.Cleanup(a.stop)
	a.until("the gateway is ready", func() bool { return strings.Contains(a.said.String(), "gateway is ready") })
}

func (a *afternoon) until(what string, ok func() bool) {
	a.t.Helper()
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if ok() {
			return
		}
	}
	a.t.Fatalf("did not happen: %s\n%s", what, a.said)
}

// reload sends a hangup and waits for what the gateway says of it.
func (a *afternoon) reload(says string) {
	a.t.Helper()
	before := len(a.said.String())
	a.hup <- syscall.SIGHUP
	a.until("the reload says "+says, func() bool { return strings.Contains(a.said.String()[before:], says) })
}

// open connects through the gateway and returns the notices too.
func (a *afternoon) open(user, password string) (*pgx.Conn, []string, error) {
	a.t.Helper()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("postgres://127.0.0.1:%d/shop?sslmode=disable", a.port))
	if err != nil {
		a.t.Fatal(err)
	}
	var notices []string
	cfg.User, cfg.Password = user, password
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Message) }
	ctx, cancel := context.WithTimeout(a.t.Context(), 30*time.Second)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		a.t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, notices, err
}

// in fails the test unless the user gets in as itself.
func (a *afternoon) in(user, password string) *pgx.Conn {
	a.t.Helper()
	c, _, err := a.open(user, password)
	if err != nil {
		a.t.Fatalf("%s: %v\n%s", user, err, a.said)
	}
	var who string
	if err := c.QueryRow(a.t.Context(), "select session_user").Scan(&who); err != nil || who != user {
		a.t.Fatalf("%s is %q at the database: %v", user, who, err)
	}
	return c
}

// out fails the test unless the user is refused with a state.
func (a *afternoon) out(user, password, state string) *pgconn.PgError {
	a.t.Helper()
	_, _, err := a.open(user, password)
	var e *pgconn.PgError
	if !errors.As(err, &e) || e.Code != state {
		a.t.Fatalf("%s: %v, want %s", user, err, state)
	}
	return e
}

// ended waits until a session is over.
func (a *afternoon) ended(c *pgx.Conn, within time.Duration) {
	a.t.Helper()
	began := time.Now()
	a.until("the session ends", func() bool { return c.Ping(context.Background()) != nil })
	if took := time.Since(began); took > within {
		a.t.Errorf("it took %v", took)
	}
}

// records are all bodies in the site's log.
func (a *afternoon) records() []*trefoil.Body {
	a.t.Helper()
	r, err := accesslog.OpenReader(filepath.Join(a.dir, "log"))
	if err != nil {
		a.t.Fatal(err)
	}
	defer r.Close()
	var out []*trefoil.Body
	for i := uint64(0); ; i++ {
		rec, _, err := r.Body(i)
		if err != nil {
			return out
		}
		b, err := trefoil.DecodeBody(rec.Body)
		if err != nil {
			a.t.Fatal(err)
		}
		out = append(out, b)
	}
}

func findings(r *enclave.CheckReport) string {
	out := ""
	for _, f := range r.Findings {
		out += fmt.Sprintf("%s %s\n", f.Text, f.SQL)
	}
	return out
}

// TestFirstAfternoon: what an operator does on the first day, with nothing but what trefoil
// check prints. The auth role is no superuser.
func TestFirstAfternoon(t *testing.T) {
	a := setUp(t)
	path := filepath.Join(a.dir, "enclave.yaml")
	if got := findings(enclave.Check(t.Context(), path, false)); !strings.Contains(got, "CREATE FUNCTION trefoil_auth.verifier") {
		t.Fatalf("check does not print what the database needs:\n%s", got)
	}
	a.sql(fmt.Sprintf(enclave.SourceAuthSQL, `"trefoil_auth"`))
	got := findings(enclave.Check(t.Context(), path, false))
	if strings.Contains(got, "CREATE FUNCTION") || !strings.Contains(got, "service old is held as MD5") || strings.Contains(got, "service legacy") {
		t.Fatalf("after the statement:\n%s", got)
	}
	a.run()
	a.in("legacy", "legacy pw")
	wrong, md5, unknown := a.out("legacy", "guess", "28P01"), a.out("old", "old pw", "28P01"), a.out("nobody", "x", "28P01")
	if wrong.Hint == "" || wrong.Hint != md5.Hint || wrong.Hint != unknown.Hint || !strings.Contains(wrong.Hint, "MD5") || wrong.Message != unknown.Message {
		t.Errorf("wrong %+v\nMD5 %+v\nunknown %+v", wrong, md5, unknown)
	}
	a.in("app", "app's own") // its role's password comes from the passfile: no certificate, no superuser
	a.out("second", "second pw", "28P01")
	a.out("boss", "boss pw", "28P01")
	if strings.Contains(a.said.String(), "legacy pw") || strings.Contains(a.said.String(), "SCRAM-SHA-256$") {
		t.Error("the log repeats a password or a verifier")
	}
}

// TestObserve: everybody whom the database itself knows is let in from near by, recorded,
// told, and out again when the operator begins to decide.
func TestObserve(t *testing.T) {
	a := setUp(t)
	a.sql(fmt.Sprintf(enclave.SourceAuthSQL, `"trefoil_auth"`))
	a.run()
	a.out("second", "second pw", "28P01")
	a.edit("enclave.yaml", "mode: enforce", "mode: observe")
	if got := findings(enclave.Check(t.Context(), filepath.Join(a.dir, "enclave.yaml"), true)); !strings.Contains(got, "nobody is protected") {
		t.Errorf("check does not warn of mode observe:\n%s", got)
	}
	a.reload("reloaded")
	if !strings.Contains(a.said.String(), "mode observe") {
		t.Error("the log does not say so")
	}
	second, notices, err := a.open("second", "second pw")
	if err != nil {
		t.Fatalf("%v\n%s", err, a.said)
	}
	if len(notices) != 1 || !strings.Contains(notices[0], "nobody is protected") {
		t.Errorf("notices %q", notices)
	}
	a.out("boss", "boss pw", "28P01") // superusers are not told of
	a.out("second", "guess", "28P01")
	a.edit("enclave.yaml", "mode: observe", "mode: enforce")
	a.reload("reloaded")
	a.ended(second, time.Minute)
	a.out("second", "second pw", "28P01")
	a.stop()
	events := map[string]int{}
	for _, b := range a.records() {
		if b.Site != nil {
			events[b.Site.Event]++
		}
		if b.Session != nil {
			events["session "+b.Session.Event]++
		}
	}
	if events["observing"] != 1 || events["enforcing"] != 1 || events["session start"] != 1 || events["session end"] != 1 {
		t.Errorf("recorded %v", events)
	}
}

// TestReload: all of the configuration or nothing, the difference said in names alone.
func TestReload(t *testing.T) {
	a := setUp(t)
	a.sql(fmt.Sprintf(enclave.SourceAuthSQL, `"trefoil_auth"`))
	a.run()
	legacy, app := a.in("legacy", "legacy pw"), a.in("app", "app's own")
	people, err := os.ReadFile(filepath.Join(a.dir, "people.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	a.write("people.yaml", "version: 1\npeople: [{id: x}]\n")
	a.reload("what was in force stays in force")
	a.in("legacy", "legacy pw")
	a.write("people.yaml", strings.Replace(string(people), "  - {id: legacy, login: [source], databases: [shop], site: dublin-1}\n", "", 1))
	a.edit("enclave.yaml", "gateway: {", "gateway: {log_level: debug, max_sessions: 7, metrics: \"127.0.0.1:1\", ")
	a.reload("reloaded")
	a.ended(legacy, time.Minute)
	a.out("legacy", "legacy pw", "28P01")
	if err := app.Ping(t.Context()); err != nil {
		t.Errorf("a session that nothing changed for: %v", err)
	}
	said := a.said.String()
	for _, want := range []string{"0 added, 1 removed, 0 changed", "gateway.max_sessions", "gateway.log_level", "only a restart", "gateway.metrics"} {
		if !strings.Contains(said, want) {
			t.Errorf("the log does not say %q:\n%s", want, said)
		}
	}
	last := said[strings.LastIndex(said, "reloaded"):]
	if strings.Contains(last, "legacy") {
		t.Errorf("the log names who is gone: %s", last)
	}
	// A policy that forbids what it allowed ends the sessions under it.
	a.write("policy/forbid.cedar", `@id("closed") @law("GDPR art. 25(2)") forbid (principal, action == Action::"operate", resource);`)
	a.reload("reloaded")
	a.ended(app, time.Minute)
	if e := a.out("app", "app's own", "28000"); !strings.Contains(e.Detail, "closed") {
		t.Errorf("%+v", e)
	}
	a.stop()
	policies := map[string]bool{}
	for _, b := range a.records() {
		if b.Policy != nil {
			policies[b.Policy.Hashes.Policy] = true
		}
	}
	if len(policies) != 2 {
		t.Errorf("%d policies are recorded, want the first and the changed one", len(policies))
	}
}

// TestAccessTokensFromFileToLog: made, recorded, used, listed as used, revoked.
func TestAccessTokensFromFileToLog(t *testing.T) {
	a := setUp(t)
	a.run()
	if _, _, err := a.config().NewToken("app", "", []string{"nothing"}, time.Hour, time.Now()); err == nil {
		t.Error("a token for a database that is not there")
	}
	token, secret, err := a.config().NewToken("app", "job", []string{"shop"}, time.Hour, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	var conn *pgx.Conn
	a.until("the gateway takes the token up", func() bool {
		c, _, err := a.open("app", secret)
		conn = c
		return err == nil
	})
	a.in("app", "app's own") // the password goes on beside it
	if text, err := os.ReadFile(filepath.Join(a.dir, "tokens.yaml")); err != nil || strings.Contains(string(text), secret[len(identity.TokenPrefix)+13:]) {
		t.Errorf("the file holds the secret: %v", err)
	}
	if err := a.config().ChangeTokens(func(all []identity.Token) ([]identity.Token, error) {
		all[0].Revoked = time.Now().UTC().Format(time.RFC3339)
		return all, nil
	}); err != nil {
		t.Fatal(err)
	}
	a.ended(conn, time.Minute)
	if e := a.out("app", secret, "28000"); !strings.Contains(e.Message, "revoked") {
		t.Errorf("%+v", e)
	}
	a.stop()
	uses, err := a.config().TokenUses()
	if err != nil || uses[token.ID].Used.IsZero() || !uses[token.ID].Recorded || !uses[token.ID].Retired {
		t.Errorf("%+v %v", uses, err)
	}
	var events []string
	for _, b := range a.records() {
		if b.Key != nil && b.Key.Use == "token" && b.Key.Key == token.ID {
			events = append(events, b.Key.Event)
		}
	}
	if strings.Join(events, " ") != "announced retired" {
		t.Errorf("recorded %v", events)
	}
}
