package acceptance

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

// scripts is where the wire scripts are.
const scripts = "../testkit/wiretest/testdata"

// through is the gateway, as the principal of a DSN.
func through(t *testing.T, dsn string) wiretest.Target {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	security, err := clientTLS()
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	return wiretest.Target{Network: "tcp", Address: u.Host, TLS: security, User: u.User.Username(), Password: secret, Database: strings.TrimPrefix(u.Path, "/")}
}

// direct is the server behind it, with the gateway's own certificate and the same role.
func direct(t *testing.T, configured, role, database string) wiretest.Target {
	t.Helper()
	u, err := url.Parse(configured)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	pair, err := tls.LoadX509KeyPair(q.Get("sslcert"), q.Get("sslkey"))
	if err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(q.Get("sslrootcert"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	config, err := pgconn.ParseConfig(configured)
	if err != nil {
		t.Fatal(err)
	}
	return wiretest.Target{Network: "tcp", Address: u.Host, User: role, Database: database,
		TLS: &tls.Config{RootCAs: pool, ServerName: config.Host, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}}
}

// sink takes a script's complaints on a goroutine of its own.
type sink struct {
	testing.TB
	fatal string
}

func (s *sink) Helper()               {}
func (s *sink) Errorf(string, ...any) {} // answers are compared with each other, not with the file
func (s *sink) Fatalf(format string, args ...any) {
	s.fatal = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// answers plays one script.
func answers(t testing.TB, s *wiretest.Script, target wiretest.Target) (lines []string, problem string) {
	out := &sink{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		lines = s.Run(out, wiretest.Dial(target))
	}()
	<-done
	return lines, out.fatal
}

// TestWireScripts: the gateway answers each script as the server behind it does when it is
// asked directly as the same role: the source on the service path, the dataset cluster on the
// release path.
func TestWireScripts(t *testing.T) {
	role := func(dsn string) (name string) {
		conn := connect(t, dsn)
		if err := conn.QueryRow(bounded(t), "SELECT current_user").Scan(&name); err != nil {
			t.Fatal(err)
		}
		return name
	}
	service, analyst := shared.env["SERVICE_DSN"], shared.dsn("hostile-cn", "analytics")
	for _, path := range []struct {
		name            string
		direct, through wiretest.Target
	}{
		{"service", direct(t, shared.config.Databases["platform"].DSN, role(service), "platform"), through(t, service)},
		{"release", direct(t, shared.config.Clusters["outside"].DSN, role(analyst), "analytics"), through(t, analyst)},
	} {
		t.Run(path.name, func(t *testing.T) {
			var running sync.WaitGroup
			limit := make(chan struct{}, 12)
			for _, s := range wiretest.Load(t, scripts) {
				running.Go(func() {
					limit <- struct{}{}
					defer func() { <-limit }()
					want, problem := answers(t, s, path.direct)
					if problem != "" {
						t.Errorf("%s, directly: %s", s.Name, problem)
						return
					}
					got, problem := answers(t, s, path.through)
					if problem != "" {
						t.Errorf("%s, through: %s", s.Name, problem)
					} else if !slices.Equal(want, got) {
						t.Errorf("%s: directly\n  %s\nthrough\n  %s", s.Name, strings.Join(want, "\n  "), strings.Join(got, "\n  "))
					}
				})
			}
			running.Wait()
		})
	}
}
