package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

// people makes a directory; tokens may be given.
func people(t *testing.T, tokens ...identity.Token) *identity.Directory {
	t.Helper()
	d, err := identity.NewDirectory(peopleFile(t), []byte("secret"), tokens...)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var peopleVerifier = func() string {
	v, err := identity.NewVerifier(password, 0)
	if err != nil {
		panic(err)
	}
	return v
}()

func peopleFile(t *testing.T) *identity.File {
	t.Helper()
	return &identity.File{Version: 1,
		People: []identity.Person{{ID: "aoife", Verifier: peopleVerifier, Employer: "acme", Workplace: "IE"},
			{ID: "ciara@acme.example", Login: []string{identity.ByOIDC, identity.ByToken}, Employer: "acme", Workplace: "IE"}},
		Services: []identity.Account{{ID: "app", Verifier: peopleVerifier, Databases: []string{"platform"}, Role: "app"}}}
}

// issuer is a small OpenID issuer with one key.
type issuer struct {
	url string
	key *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1"}}})
	}))
	t.Cleanup(s.Close)
	return &issuer{s.URL, key}
}

func (i *issuer) token(t *testing.T, user string, exp time.Time) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: i.key}, (&jose.SignerOptions{}).WithHeader("kid", "1"))
	if err != nil {
		t.Fatal(err)
	}
	payload, err := json.Marshal(map[string]any{"iss": i.url, "aud": "trefoil", "upn": user, "iat": time.Now().Add(-time.Minute).Unix(), "exp": exp.Unix()})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i *issuer) oidc(t *testing.T, now func() time.Time) *identity.OIDC {
	t.Helper()
	o, err := identity.NewOIDC([]identity.IssuerConfig{{Issuer: i.url, Audience: "trefoil", Keys: i.url, Users: []identity.Pattern{"*@acme.example"},
		UserClaim: "upn", Skew: "0s"}}, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// pgxOver connects as pgx does, over TLS.
func (f *fixture) pgxOver(user, password string, client *tls.Config) (*pgx.Conn, error) {
	f.t.Helper()
	cfg, err := pgx.ParseConfig(fmt.Sprintf("postgres://%s/platform?sslmode=require", f.gw.Addr()))
	if err != nil {
		f.t.Fatal(err)
	}
	cfg.User, cfg.Password, cfg.TLSConfig, cfg.Fallbacks = user, password, client, nil
	if client == nil {
		cfg.TLSConfig = nil
	}
	ctx, cancel := context.WithTimeout(f.t.Context(), 30*time.Second)
	defer cancel()
	c, err := pgx.ConnectConfig(ctx, cfg)
	if err == nil {
		f.t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

func TestIDTokenAsPassword(t *testing.T) {
	server, client := certificate(t)
	i := newIssuer(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.TLS, c.OIDC, c.Directory = server, i.oidc(t, time.Now), people(t)
	})
	user := "ciara@acme.example"
	good := i.token(t, user, time.Now().Add(time.Hour))
	conn, err := f.pgxOver(user, good, client)
	if err != nil {
		t.Fatal(err)
	}
	var one int
	if err := conn.QueryRow(t.Context(), "select 1").Scan(&one); err != nil || one != 1 {
		t.Fatal(err)
	}
	var until time.Time
	for _, s := range f.gw.Sessions() {
		until = s.Until
	}
	if left := time.Until(until); left <= 0 || left > time.Hour {
		t.Errorf("the session ends in %v", left)
	}
	for name, c := range map[string]struct{ user, password string }{
		"replayed for another user":    {"dara@acme.example", good},
		"a password":                   {user, password},
		"expired":                      {user, i.token(t, user, time.Now().Add(-time.Minute))},
		"an unknown user of this form": {"nobody@acme.example", i.token(t, "nobody@acme.example", time.Now().Add(time.Hour))},
	} {
		if _, err := f.pgxOver(c.user, c.password, client); err == nil || !strings.Contains(err.Error(), "28P01") {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, r := range f.records.all(trefoil.KindRefusal) {
		text, _ := json.Marshal(r)
		if strings.Contains(string(text), "eyJ") || strings.Contains(string(text), "acme.example") {
			t.Errorf("a record repeats a token or a name: %s", text)
		}
	}
}

// TestNoTokenIsAskedForOverAClearLine: the client would send it to anybody on the way.
func TestNoTokenIsAskedForOverAClearLine(t *testing.T) {
	server, _ := certificate(t)
	i := newIssuer(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.TLS, c.OIDC, c.Directory = server, i.oidc(t, time.Now), people(t)
	})
	for _, user := range []string{"ciara@acme.example", "nobody@acme.example"} {
		c, err := net.Dial("tcp", f.gw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := c.Write(wire.AppendStartup(nil, map[string]string{"user": user, "database": "platform"})); err != nil {
			t.Fatal(err)
		}
		all, _ := io.ReadAll(c)
		if len(all) == 0 || all[0] != 'E' || !strings.Contains(string(all), "TLS") {
			t.Errorf("%s is answered %q", user, all)
		}
	}
}

// TestSessionEndsWithItsToken: an ID token and an access token that run out within a session.
func TestSessionEndsWithItsToken(t *testing.T) {
	server, client := certificate(t)
	i := newIssuer(t)
	token, secret, err := people(t).NewToken("aoife", "", []string{"platform"}, time.Now(), time.Now().Add(12*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.TLS, c.OIDC, c.Directory = server, i.oidc(t, time.Now), people(t, token)
	})
	user := "ciara@acme.example"
	byID, err := f.pgxOver(user, i.token(t, user, time.Now().Add(12*time.Second)), client)
	if err != nil {
		t.Fatal(err)
	}
	byPAT, err := f.pgxOver("aoife", secret, client)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "both sessions end", func() bool { return len(f.gw.Sessions()) == 0 })
	for _, c := range []*pgx.Conn{byID, byPAT} {
		if err := c.Ping(t.Context()); err == nil {
			t.Error("a session goes on without its token")
		}
	}
	if _, err := f.pgxOver("aoife", secret, client); err == nil || !strings.Contains(err.Error(), "expired") {
		t.Errorf("an expired access token: %v", err)
	}
}

// TestAccessTokenOpensItsScopeAlone: the principal may open more than the token.
func TestAccessTokenOpensItsScopeAlone(t *testing.T) {
	var used []string
	token, secret, err := people(t).NewToken("aoife", "", []string{"analytics"}, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.Directory = people(t, token)
		c.TokenUsed = func(id string, _ time.Time) { used = append(used, id) }
	})
	with := f.through("aoife")
	with.Password = secret
	if r := f.refused(with); r.SQLState != "42501" {
		t.Errorf("%+v", r)
	}
	if len(f.auth.asked) != 0 {
		t.Error("policy is asked for what the token does not open")
	}
	eventually(t, "the refusal is recorded", func() bool {
		all := f.records.all(trefoil.KindRefusal)
		return len(all) == 1 && all[0].Refusal.Rule == "token-scope"
	})
	with.Database = "analytics"
	f.open(with)
	if len(used) != 1 || used[0] != token.ID {
		t.Errorf("used: %v", used)
	}
	if s := f.gw.Sessions(); len(s) != 1 || s[0].Way != identity.ByToken || s[0].Token != token.ID {
		t.Errorf("%+v", s)
	}
}

// clientCA issues certificates for client authentication.
type clientCA struct {
	file string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newClientCA(t *testing.T) *clientCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "people"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &clientCA{file, cert, key}
}

func (a *clientCA) issue(t *testing.T, cn string, until time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: cn}, NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func (a *clientCA) certificates(t *testing.T, crls ...string) *identity.Certificates {
	t.Helper()
	c, err := identity.LoadCertificates(identity.CertificateConfig{Authority: a.file, CRLs: crls,
		Users: []identity.CertificateUser{{User: "*", CN: "*"}}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// crl revokes the certificates that issue made.
func (a *clientCA) crl(t *testing.T) string {
	t.Helper()
	der, err := x509.CreateRevocationList(rand.Reader, &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute),
		NextUpdate: time.Now().Add(time.Hour), RevokedCertificateEntries: []x509.RevocationListEntry{{SerialNumber: big.NewInt(2), RevocationTime: time.Now()}}}, a.cert, a.key)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "crl")
	if err := os.WriteFile(path, der, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestClientCertificate(t *testing.T) {
	server, client := certificate(t)
	ours, theirs := newClientCA(t), newClientCA(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.TLS, c.Certificates, c.Directory = server, ours.certificates(t), people(t)
	})
	with := func(cert tls.Certificate) *tls.Config {
		c := client.Clone()
		c.Certificates = []tls.Certificate{cert}
		return c
	}
	later := time.Now().Add(30 * time.Minute)
	if _, err := f.pgxOver("aoife", "", with(ours.issue(t, "aoife", later))); err != nil {
		t.Fatalf("the right certificate and no password: %v", err)
	}
	if s := f.gw.Sessions(); len(s) != 1 || s[0].Way != identity.ByCertificate || s[0].Until.After(later.Add(time.Second)) {
		t.Errorf("%+v", s)
	}
	for name, c := range map[string]struct {
		user, password string
		cert           tls.Certificate
		want           string // in the error; "" logs in
	}{
		"another's certificate":             {"aoife", "guess", ours.issue(t, "ciara", later), "28P01"},
		"wrong authority":                   {"aoife", "guess", theirs.issue(t, "aoife", later), "28P01"},
		"wrong authority, right password":   {"aoife", password, theirs.issue(t, "aoife", later), ""},
		"another's certificate, a password": {"aoife", password, ours.issue(t, "ciara", later), ""},
		"expired, right password":           {"aoife", password, ours.issue(t, "aoife", time.Now().Add(-time.Minute)), "expired"},
		"a service by a person's line":      {"app", "guess", ours.issue(t, "app", later), "28P01"},
	} {
		_, err := f.pgxOver(c.user, c.password, with(c.cert))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The certificate is revoked while its session is open.
	live := gateway.Live{Directory: people(t), Locator: &identity.Locator{}, TLS: server, Certificates: ours.certificates(t, ours.crl(t))}
	conn, err := f.pgxOver("aoife", "", with(ours.issue(t, "aoife", later)))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.gw.Reload(live); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the session of a revoked certificate ends", func() bool {
		for _, s := range f.gw.Sessions() {
			if s.Way == identity.ByCertificate {
				return false
			}
		}
		return true
	})
	if conn.Ping(t.Context()) == nil {
		t.Error("it goes on")
	}
	if _, err := f.pgxOver("aoife", "", with(ours.issue(t, "aoife", later))); err == nil || !strings.Contains(err.Error(), "revoked") {
		t.Errorf("a revoked certificate: %v", err)
	}
}

// fakeSources answers for the database's own users.
type fakeSources struct {
	verifier  string
	err       error
	forgotten int
}

func (s *fakeSources) Verifier(_ context.Context, c gateway.Caller) (gateway.SourceUser, bool, error) {
	v := s.verifier
	if c.User != "legacy" {
		v = ""
	}
	who := identity.Principal{ID: c.User, Service: true, Role: c.User, Databases: []string{c.Database}, Login: []string{identity.BySource}}
	return gateway.SourceUser{Verifier: v, Principal: who}, c.User != "app", s.err
}

func (s *fakeSources) Forget(gateway.Caller) { s.forgotten++ }

func (s *fakeSources) Hint(string) string { return "the same hint" }

// TestTheDatabasesOwnPassword: user and password of an application that was never
// configured here; the database sees that user log in, and nobody keeps the password.
func TestTheDatabasesOwnPassword(t *testing.T) {
	s := &fakeSources{}
	f := start(t, func(c *gateway.Config, a *authoriser) {
		c.Sources = s
		inner := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			d := inner(r)
			if r.BySource { // as the user itself, without the gateway's certificate
				d.Target.Role, d.Target.TLS = r.Principal.Role, nil
			}
			return d
		}
	})
	f.cluster.Exec(t, f.dsn, "drop role if exists legacy", "set password_encryption = 'scram-sha-256'",
		fmt.Sprintf("create role legacy login password '%s'", password))
	super := f.cluster.Connect(t, f.dsn)
	if err := super.QueryRow(t.Context(), "select rolpassword from pg_authid where rolname = 'legacy'").Scan(&s.verifier); err != nil {
		t.Fatal(err)
	}
	c, _ := f.open(f.through("legacy"))
	if got := simple(t, c, "select session_user"); !strings.Contains(got, "legacy") {
		t.Errorf("the database sees %q", got)
	}
	wrong, unknown := f.through("legacy"), f.through("nobody")
	wrong.Password = "guess"
	a, b := f.refused(wrong), f.refused(unknown)
	if a.Fields != b.Fields || a.SQLState != "28P01" || s.forgotten != 2 {
		t.Errorf("wrong %+v, unknown %+v, %d forgotten", a, b, s.forgotten)
	}
	f.open(f.through("app")) // people.yaml's go on as before
	s.err = errors.New("away")
	if r := f.refused(f.through("legacy")); r.SQLState != "57P03" {
		t.Errorf("the source is away: %+v", r)
	}
	// A password changed at the database: the keys of the old one log in nowhere.
	s.err = nil
	f.cluster.Exec(t, f.dsn, "alter role legacy password 'changed'")
	if r := f.refused(f.through("legacy")); r.SQLState == "" {
		t.Errorf("%+v", r)
	}
}

// simple runs one simple statement and returns all that came back, as bytes.
func simple(t *testing.T, c net.Conn, sql string) string {
	t.Helper()
	if _, err := c.Write(wire.AppendMessage(nil, wire.Query, append([]byte(sql), 0))); err != nil {
		t.Fatal(err)
	}
	out := ""
	for {
		typ, p, err := wiretest.ReadMessage(c)
		if err != nil {
			t.Fatalf("after %q: %v", out, err)
		}
		if typ == 'Z' {
			return out
		}
		out += string(typ) + string(p)
	}
}

// TestReloadEndsTheSessionsOfThoseWhoAreGone, and of those whom the rules now refuse.
func TestReloadEndsTheSessionsOfThoseWhoAreGone(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Directory = people(t) })
	app, _ := f.open(f.through("app"))
	f.open(f.through("aoife"))
	file := peopleFile(t)
	file.People = file.People[1:]
	without, err := identity.NewDirectory(file, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.gw.Reload(gateway.Live{Locator: &identity.Locator{}}); err == nil {
		t.Error("a reload without people is put in force")
	}
	began := time.Now()
	if n, err := f.gw.Reload(gateway.Live{Directory: without, Locator: &identity.Locator{}}); err != nil || n != 1 {
		t.Fatalf("%d ended: %v", n, err)
	}
	eventually(t, "the session ends", func() bool { return len(f.gw.Sessions()) == 1 })
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v", took)
	}
	if r := f.refused(f.through("aoife")); r.SQLState != "28P01" {
		t.Errorf("who is gone logs in: %+v", r)
	}
	if got := simple(t, app, "select 1"); !strings.Contains(got, "SELECT 1") {
		t.Errorf("the others are disturbed: %q", got)
	}
	if n := f.gw.Recheck(t.Context()); n != 0 {
		t.Errorf("%d sessions end though nothing has changed", n)
	}
	f.auth.mu.Lock()
	f.auth.decide = func(gateway.Request) gateway.Decision {
		return gateway.Decision{Refusal: gateway.Refusal{Reason: "dataset-away"}}
	}
	f.auth.mu.Unlock()
	if n := f.gw.Recheck(t.Context()); n != 0 {
		t.Errorf("%d sessions end because something is away for a moment", n)
	}
	f.auth.mu.Lock()
	f.auth.decide = func(gateway.Request) gateway.Decision {
		return gateway.Decision{Refusal: gateway.Refusal{Reason: "policy"}}
	}
	f.auth.mu.Unlock()
	if n := f.gw.Recheck(t.Context()); n != 1 {
		t.Errorf("%d sessions end after the policy forbids them", n)
	}
	eventually(t, "it ends", func() bool { return len(f.gw.Sessions()) == 0 })
}

// TestReloadRevokesAnAccessToken within its session.
func TestReloadRevokesAnAccessToken(t *testing.T) {
	token, secret, err := people(t).NewToken("aoife", "", []string{"*"}, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Directory = people(t, token) })
	with := f.through("aoife")
	with.Password = secret
	f.open(with)
	f.open(f.through("aoife"))
	token.Revoked = time.Now().UTC().Format(time.RFC3339)
	if n, err := f.gw.Reload(gateway.Live{Directory: people(t, token), Locator: &identity.Locator{}}); err != nil || n != 1 {
		t.Fatalf("%d sessions ended: %v", n, err)
	}
	if r := f.refused(with); r.SQLState != "28000" || !strings.Contains(r.Message, "revoked") {
		t.Errorf("%+v", r)
	}
	eventually(t, "the password's session goes on alone", func() bool {
		s := f.gw.Sessions()
		return len(s) == 1 && s[0].Way == identity.ByPassword
	})
}

// TestOnePersonCannotFillTheDoor: sessions at once, sessions a second, and refusals after
// the login are bounded for one principal, and nobody else notices.
func TestOnePersonCannotFillTheDoor(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	f := start(t, func(c *gateway.Config, a *authoriser) {
		c.Now = func() time.Time { return now }
		c.Limits.PersonSessions, c.Limits.PersonPerSec, c.Limits.RefusedPerMinute = 2, 1, 5
		inner := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			if r.Database == "forbidden" {
				return gateway.Decision{Refusal: gateway.Refusal{SQLState: "42501", Message: "no", Reason: "policy"}}
			}
			return inner(r)
		}
	})
	for range 2 {
		f.open(f.through("aoife"))
	}
	if r := f.refused(f.through("aoife")); r.SQLState != "53300" {
		t.Errorf("a third session: %+v", r)
	}
	for range 4 {
		f.open(f.through("app")) // a service has other bounds
	}
	loud := f.through("batch")
	loud.Database = "forbidden"
	for range 5 {
		if r := f.refused(loud); r.SQLState != "42501" {
			t.Fatalf("%+v", r)
		}
	}
	if r := f.refused(loud); r.SQLState != "53300" || !strings.Contains(r.Hint, "Try again in") {
		t.Errorf("the sixth refusal within a minute: %+v", r)
	}
	for range 17 { // three of the burst of 20 are used
		f.refused(f.through("aoife"))
	}
	if r := f.refused(f.through("aoife")); !strings.Contains(r.Message, "too often") {
		t.Errorf("beyond the rate: %+v", r)
	}
}

// TestGuessesInParallel: hundreds of logins are begun before the first is answered.
func TestGuessesInParallel(t *testing.T) {
	f := start(t, nil)
	target := f.through("aoife")
	target.Password = "guess"
	answers := make(chan string, 100)
	for range cap(answers) {
		go func() {
			c, _, err := wiretest.Open(target)
			var r *wiretest.Refused
			switch {
			case errors.As(err, &r):
				answers <- r.SQLState
			case err != nil:
				answers <- err.Error()
			default:
				c.Close()
				answers <- "in"
			}
		}()
	}
	looked := 0
	for range cap(answers) {
		switch a := <-answers; a {
		case "28P01":
			looked++
		case "53300":
		default:
			t.Errorf("answered %s", a)
		}
	}
	if looked > 14 { // ten, and what leaks away meanwhile
		t.Errorf("%d passwords were looked at", looked)
	}
}

// TestReloadDuringALogin: somebody is removed between their password and their session.
func TestReloadDuringALogin(t *testing.T) {
	asked, answer := make(chan bool, 1), make(chan bool)
	f := start(t, func(c *gateway.Config, a *authoriser) {
		c.Directory = people(t)
		inner := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			if r.Principal.ID == "aoife" {
				asked <- true
				<-answer
			}
			return inner(r)
		}
	})
	out := make(chan error, 1)
	go func() {
		c, _, err := wiretest.Open(f.through("aoife"))
		if err == nil {
			c.Close()
		}
		out <- err
	}()
	<-asked
	file := peopleFile(t)
	file.People = file.People[1:]
	without, err := identity.NewDirectory(file, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if n, err := f.gw.Reload(gateway.Live{Directory: without, Locator: &identity.Locator{}}); err != nil || n != 0 {
		t.Fatalf("%d ended: %v", n, err)
	}
	close(answer)
	var r *wiretest.Refused
	if err := <-out; !errors.As(err, &r) || r.SQLState != "57P01" {
		t.Errorf("%v", err)
	}
	eventually(t, "nothing is left of it", func() bool { return len(f.gw.Sessions()) == 0 })
}

// TestReloadRenewsTheCertificate: new clients see the new one, and are bound to it.
func TestReloadRenewsTheCertificate(t *testing.T) {
	first, client := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.TLS, c.Directory = first, people(t) })
	old, err := f.pgxOver("aoife", password, client)
	if err != nil {
		t.Fatal(err)
	}
	second, renewed := certificate(t)
	if _, err := f.gw.Reload(gateway.Live{Directory: people(t), Locator: &identity.Locator{}, TLS: second}); err != nil {
		t.Fatal(err)
	}
	if _, err := f.pgxOver("aoife", password, client); err == nil {
		t.Error("the old certificate is still shown")
	}
	if _, err := f.pgxOver("aoife", password, renewed); err != nil {
		t.Errorf("the new one: %v", err)
	}
	if err := old.Ping(t.Context()); err != nil {
		t.Errorf("the session under the old certificate: %v", err)
	}
}

// TestPsqlWithAToken: libpq sends an ID token as it sends any password, and binds an access
// token to the channel.
func TestPsqlWithAToken(t *testing.T) {
	server, _ := certificate(t)
	i := newIssuer(t)
	token, secret, err := people(t).NewToken("aoife", "", []string{"platform"}, time.Now(), time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.TLS, c.OIDC, c.Directory = server, i.oidc(t, time.Now), people(t, token)
	})
	host, port, _ := net.SplitHostPort(f.gw.Addr().String())
	user := "ciara@acme.example"
	for _, c := range []struct{ user, password, binding, want string }{
		{user, i.token(t, user, time.Now().Add(time.Hour)), "prefer", "7"},
		{user, i.token(t, "dara@acme.example", time.Now().Add(time.Hour)), "prefer", "password authentication failed"},
		{"aoife", secret, "require", "7"},
		{user, i.token(t, user, time.Now().Add(time.Hour)), "require", "channel binding"},
	} {
		cmd := exec.CommandContext(t.Context(), "psql", "-XAtw", "-h", host, "-p", port, "-U", c.user, "-d", "platform", "-c", "select 3+4")
		cmd.Env = append(os.Environ(), "PGPASSWORD="+c.password, "PGSSLMODE=require", "PGCHANNELBINDING="+c.binding, "PGSSLROOTCERT=/nonexistent")
		got, _ := cmd.CombinedOutput()
		if !strings.Contains(string(got), c.want) {
			t.Errorf("%s, channel binding %s: %q", c.user, c.binding, got)
		}
	}
}
