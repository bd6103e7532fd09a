package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

var update = flag.Bool("update", false, "rewrite the expectations of wire scripts from PostgreSQL's answers")

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const password = "correct horse"

// portableEnv has the tests run on the portable loop.
const portableEnv = "TREFOIL_TEST_PORTABLE"

// fixture is a PostgreSQL with a database, and a gateway in front of it.
type fixture struct {
	t        *testing.T
	cluster  *pgtest.Cluster
	dsn      string // superuser, direct
	database string
	gw       *gateway.Gateway
	records  *records
	auth     *authoriser
	runner   *runner
	stop     func() // ends Run and waits for it
	tls      *tls.Config
}

// startPostgres gives a cluster with TLS, a role app that logs in by the gateway's
// certificate or its password, and a database.
func startPostgres(t *testing.T) (*pgtest.Cluster, string, string) {
	t.Helper()
	c := pgtest.Start(t, pgtest.WithTLS(), pgtest.WithAccess(postgres.Access{
		GatewayName: "gateway", GatewayUsers: []string{"app"}, PasswordTCP: true}))
	dsn := c.Database(t)
	conn := c.Connect(t, dsn)
	var name string
	if err := conn.QueryRow(t.Context(), "select current_database()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	c.Exec(t, dsn, fmt.Sprintf(`do $$ begin if not exists (select from pg_roles where rolname = 'app') then
		create role app login superuser password '%s'; end if; end $$`, password))
	return c, dsn, name
}

// target is how the gateway reaches the cluster with its certificate.
func target(t *testing.T, c *pgtest.Cluster, database string) gateway.Target {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(c.TLS.Client.Certificate, c.TLS.Client.Key)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(c.TLS.Authority.File)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	return gateway.Target{Network: "tcp", Address: c.Addr(), Role: "app", Database: database,
		TLS: &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: pool, ServerName: "127.0.0.1"}}
}

// start brings up a gateway with a service "app" and a person "aoife".
func start(t *testing.T, change func(*gateway.Config, *authoriser)) *fixture {
	t.Helper()
	c, dsn, name := startPostgres(t)
	f := &fixture{t: t, cluster: c, dsn: dsn, database: name, records: &records{}, runner: &runner{}}
	f.auth = &authoriser{decide: func(r gateway.Request) gateway.Decision {
		d := gateway.Decision{Path: gateway.Release, Target: target(t, c, name), Notice: "this dataset holds nothing"}
		if r.Principal.Service {
			d.Path, d.Notice = gateway.Service, ""
		}
		d.Access.Principal = "pseudonym-of-" + r.Principal.ID
		return d
	}}
	cfg := gateway.Config{Listen: []string{"127.0.0.1:0"}, Directory: directory(t), Authoriser: f.auth, Recorder: f.records,
		Releases: f.runner, Accountant: accountant{}, Locator: &identity.Locator{Networks: []identity.Network{
			{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Country: "IE"}}},
		Limits: gateway.Limits{Drain: 2 * time.Second}}
	if change != nil {
		change(&cfg, f.auth)
	}
	f.tls = cfg.TLS
	f.gw, f.stop = run(t, cfg)
	return f
}

// run starts a gateway; stop may be called early, and is called at the test's end.
func run(t *testing.T, cfg gateway.Config) (*gateway.Gateway, func()) {
	t.Helper()
	cfg.Portable = cfg.Portable || os.Getenv(portableEnv) != ""
	g, err := gateway.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	stop := sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("gateway: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("gateway did not stop")
		}
	})
	t.Cleanup(stop)
	return g, stop
}

func verifier(t *testing.T) string {
	t.Helper()
	v, err := identity.NewVerifier(password, 0)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func directory(t *testing.T) *identity.Directory {
	t.Helper()
	v := verifier(t)
	d, err := identity.NewDirectory(&identity.File{Version: 1,
		People: []identity.Person{{ID: "aoife", Verifier: v, Employer: "acme", Workplace: "IE"}},
		Services: []identity.Account{{ID: "app", Verifier: v, Databases: []string{"platform"}, Role: "app"},
			{ID: "batch", Verifier: v, Databases: []string{"platform"}, Role: "app"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// through is the gateway as a target, direct the database itself.
func (f *fixture) through(user string) wiretest.Target {
	return wiretest.Target{Network: "tcp", Address: f.gw.Addr().String(), User: user, Password: password, Database: "platform"}
}

func (f *fixture) direct() wiretest.Target {
	return wiretest.Target{Network: "tcp", Address: f.cluster.Addr(), User: "app", Password: password, Database: f.database}
}

func (f *fixture) url(user, options string) string {
	return fmt.Sprintf("postgres://%s:correct%%20horse@%s/platform?%s", user, f.gw.Addr(), options)
}

// open connects through the gateway, or fails the test.
func (f *fixture) open(target wiretest.Target) (net.Conn, *wiretest.Opened) {
	f.t.Helper()
	c, o, err := wiretest.Open(target)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	return c, o
}

// authoriser decides by a function that tests change.
type authoriser struct {
	mu     sync.Mutex
	decide func(gateway.Request) gateway.Decision
	asked  []gateway.Request
}

func (a *authoriser) Authorise(_ context.Context, r gateway.Request) gateway.Decision {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r)
	return a.decide(r)
}

// records keeps what was recorded. fail makes Record fail while it is set.
type records struct {
	mu   sync.Mutex
	list []*trefoil.Body
	fail bool
	asks int // calls that recorded something
}

func (r *records) Record(_ context.Context, bodies ...*trefoil.Body) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail {
		return errors.New("disk full")
	}
	r.asks++
	r.list = append(r.list, bodies...)
	return nil
}

func (r *records) setFail(v bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fail = v
}

func (r *records) all(kind trefoil.Kind) []*trefoil.Body {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(r.list), func(b *trefoil.Body) bool { return b.Kind != kind })
}

// accountant fingerprints by length, and cannot parse what contains "unparsable".
type accountant struct{}

func (accountant) Account(text []byte) (string, string, bool) {
	return fmt.Sprintf("%016x", len(text)), "select", len(text) > 0
}

// runner plays the release path: it greets, then forwards, and shows what it was given.
type runner struct {
	mu   sync.Mutex
	last gateway.ReleaseSession
	ends []error
}

func (r *runner) Run(ctx context.Context, s gateway.ReleaseSession) error {
	r.mu.Lock()
	r.last = s
	r.mu.Unlock()
	out := wire.AppendAuthenticationOk(nil)
	for _, n := range s.Order {
		out = wire.AppendParameterStatus(out, n, s.Parameters[n])
	}
	out = append(append(out, s.KeyData...), s.Notice...)
	if _, err := s.Client.Write(wire.AppendReadyForQuery(out, s.TxStatus)); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		var e *gateway.End
		errors.As(context.Cause(ctx), &e)
		r.mu.Lock()
		r.ends = append(r.ends, e)
		r.mu.Unlock()
		s.Client.Close()
		s.Server.Close()
	})
	defer stop()
	go func() {
		_, _ = io.Copy(s.Server, s.Client)
		s.Server.Close()
	}()
	_, err := io.Copy(s.Client, s.Server)
	return err
}

// certificate makes a self-signed certificate for 127.0.0.1.
func certificate(t *testing.T) (*tls.Config, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gateway"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}},
		&tls.Config{RootCAs: pool, ServerName: "localhost"}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("did not happen: %s", what)
}
