package gateway_test

import (
	"crypto/tls"
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
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

// refused connects and returns the refusal; it fails the test when there is a session.
func (f *fixture) refused(target wiretest.Target) *wiretest.Refused {
	f.t.Helper()
	c, _, err := wiretest.Open(target)
	var r *wiretest.Refused
	if !errors.As(err, &r) {
		if c != nil {
			c.Close()
		}
		f.t.Fatalf("not refused: %v", err)
	}
	return r
}

func TestWrongPasswordAndUnknownUserLookAlike(t *testing.T) {
	f := start(t, nil)
	wrong, unknown := f.through("app"), f.through("nobody")
	wrong.Password = "guess"
	a, b := f.refused(wrong), f.refused(unknown)
	if a.Fields != b.Fields || a.SQLState != "28P01" {
		t.Fatalf("wrong password: %+v; unknown user: %+v", a, b)
	}
	if strings.Contains(b.Error(), "nobody") {
		t.Fatal("the error repeats the user name")
	}
	eventually(t, "both are recorded", func() bool { return len(f.records.all(trefoil.KindRefusal)) == 2 })
	for _, r := range f.records.all(trefoil.KindRefusal) {
		if r.Refusal.Stage != "authentication" || r.Refusal.Reason != "password" || r.Refusal.Access.Principal != "" {
			t.Errorf("recorded %+v", r.Refusal)
		}
	}
	if len(f.auth.asked) != 0 {
		t.Fatal("authorised before authenticated")
	}
}

func TestWrongPasswordsAreLimited(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.Now = func() time.Time { return now } })
	bad := f.through("aoife")
	bad.Password = "guess"
	var last *wiretest.Refused
	for range 12 {
		last = f.refused(bad)
	}
	if last.SQLState != "53300" || !strings.Contains(last.Hint, "Try again in") {
		t.Fatalf("after 12 wrong passwords: %+v", last)
	}
	if r := f.refused(f.through("aoife")); r.SQLState != "53300" {
		t.Fatalf("the right password is looked at while limited: %+v", r)
	}
	f.open(f.through("app")) // another user is not held up
}

func TestMalformedStartups(t *testing.T) {
	f := start(t, nil)
	be := binary.BigEndian.AppendUint32
	params := "user\x00app\x00database\x00platform\x00\x00"
	packet := func(code uint32, rest string) []byte {
		return append(be(be(nil, uint32(8+len(rest))), code), rest...)
	}
	for name, c := range map[string]struct {
		send  []byte
		state string // "" = closed without a word
	}{
		"negative length":      {be(nil, 0xfffffff0), "08P01"},
		"oversized":            {be(nil, 10001), "08P01"},
		"length zero":          {be(nil, 0), "08P01"},
		"protocol 2":           {packet(2<<16, params), "0A000"},
		"protocol 4":           {packet(4<<16, params), "0A000"},
		"no terminator":        {packet(3<<16, "user\x00app\x00database\x00platform\x00"), "08P01"},
		"no user":              {packet(3<<16, "database\x00platform\x00\x00"), "08P01"},
		"parameter twice":      {packet(3<<16, "user\x00app\x00user\x00aoife\x00\x00"), "08P01"},
		"invalid UTF-8":        {packet(3<<16, "user\x00\xff\xfe\x00\x00"), "08P01"},
		"bytes after the end":  {packet(3<<16, params+"x"), "08P01"},
		"cancel without key":   {packet(80877102, "\x00\x00\x00\x01"), "08P01"},
		"TLS request and more": {packet(80877103, "x"), "08P01"},
		"HTTP":                 {[]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), "08P01"},
		"half a packet":        {packet(3<<16, params)[:20], ""},
		"TLS hello, no TLS":    {[]byte{0x16, 3, 1, 2, 0, 1, 0}, "08P01"},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", f.gw.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(time.Minute))
			if _, err := conn.Write(c.send); err != nil {
				t.Fatal(err)
			}
			_ = conn.(*net.TCPConn).CloseWrite()
			all, _ := io.ReadAll(conn)
			if c.state == "" {
				if len(all) != 0 {
					t.Fatalf("answered %q", all)
				}
				return
			}
			if len(all) == 0 || all[0] != 'E' || !strings.Contains(string(all), "\x00C"+c.state+"\x00") {
				t.Fatalf("answered %q, want an error %s", all, c.state)
			}
		})
	}
	f.open(f.through("app")) // and the door still works
}

func TestNewerProtocolIsNegotiatedDown(t *testing.T) {
	f := start(t, nil)
	for _, c := range []struct {
		minor, spoken uint32
		option        string
		secret        int
	}{{0, 0, "", 4}, {2, 2, "", 32}, {9999, 2, "_pq_.grease", 32}, {0, 0, "_pq_.x", 4}, {1, 0, "", 4}} {
		conn, err := net.Dial("tcp", f.gw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		params := map[string]string{"user": "app", "database": "platform"}
		if c.option != "" {
			params[c.option] = "1"
		}
		packet := wire.AppendStartup(nil, params)
		binary.BigEndian.PutUint32(packet[4:], 3<<16|c.minor)
		if _, err := conn.Write(packet); err != nil {
			t.Fatal(err)
		}
		typ, p, err := wiretest.ReadMessage(conn)
		if err != nil {
			t.Fatal(err)
		}
		if negotiated := typ == 'v'; negotiated != (c.minor != c.spoken || c.option != "") {
			t.Errorf("minor %d option %q: first message %c", c.minor, c.option, typ)
		} else if negotiated && (binary.BigEndian.Uint32(p) != 3<<16|c.spoken || strings.Contains(string(p), "_pq_") != (c.option != "")) {
			t.Errorf("minor %d: negotiated %x", c.minor, p)
		}
	}
}

func TestRequireTLS(t *testing.T) {
	server, client := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.TLS, c.RequireTLS = server, true })
	if r := f.refused(f.through("app")); r.SQLState != "28000" || !strings.Contains(r.Message, "TLS") {
		t.Fatalf("%+v", r)
	}
	over := f.through("app")
	over.TLS = client
	f.open(over)
	eventually(t, "the refusal is recorded", func() bool { return len(f.records.all(trefoil.KindRefusal)) == 1 })
}

// faraway shows its connections as coming from another machine.
type faraway struct{ net.Listener }

type farConn struct{ net.Conn }

func (farConn) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 0, 0, 9), Port: 4000} }

func (l faraway) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return farConn{c}, nil
}

// TestStrippedTLSOpensNoDataset: somebody in the middle answers "no TLS" to a client that only
// prefers it, and reads along. A dataset is not opened over a line without TLS.
func TestStrippedTLSOpensNoDataset(t *testing.T) {
	server, client := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.TLS, c.Listen, c.Listeners = server, nil, []net.Listener{faraway{l}}
	})
	if r := f.refused(f.through("aoife")); r.SQLState != "28000" || !strings.Contains(r.Message, "TLS") {
		t.Errorf("%+v", r)
	}
	over := f.through("aoife")
	over.TLS = client
	f.open(over)
	f.open(f.through("app")) // an application of the operator's own network
	eventually(t, "the refusal is recorded", func() bool { return len(f.records.all(trefoil.KindRefusal)) == 1 })
}

// TestPlaintextBeforeTLSIsNotTakenForEncrypted: bytes put behind the TLS request by somebody
// in the middle must not be read as the session's.
func TestPlaintextBeforeTLSIsNotTakenForEncrypted(t *testing.T) {
	server, client := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.TLS = server })
	conn, err := net.Dial("tcp", f.gw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	injected := wire.AppendStartup(wire.AppendSSLRequest(nil), map[string]string{"user": "app"})
	if _, err := conn.Write(injected); err != nil {
		t.Fatal(err)
	}
	if err := tls.Client(&skipByte{Conn: conn}, client).Handshake(); err == nil {
		t.Fatal("the handshake went well over injected bytes")
	}
}

// skipByte hides the server's one-byte answer to the TLS request.
type skipByte struct {
	net.Conn
	done bool
}

func (s *skipByte) Read(p []byte) (int, error) {
	if !s.done {
		s.done = true
		var b [1]byte
		if _, err := io.ReadFull(s.Conn, b[:]); err != nil {
			return 0, err
		}
	}
	return s.Conn.Read(p)
}

func TestDirectTLS(t *testing.T) {
	server, client := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) { c.TLS = server })
	for proto, want := range map[string]bool{"postgresql": true, "": false} {
		cfg := client.Clone()
		if proto != "" {
			cfg.NextProtos = []string{proto}
		}
		conn, err := tls.Dial("tcp", f.gw.Addr().String(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(time.Minute))
		_, _ = conn.Write(wire.AppendStartup(nil, map[string]string{"user": "app"}))
		typ, _, err := wiretest.ReadMessage(conn)
		if got := err == nil && typ == 'R'; got != want {
			t.Errorf("ALPN %q: asked to authenticate %v, want %v", proto, got, want)
		}
		conn.Close()
	}
}

func TestHalfOpenConnectionsAreBounded(t *testing.T) {
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.Limits.HalfOpen, c.Limits.HalfOpenPer, c.Limits.Startup = 8, 8, time.Second
	})
	var conns []net.Conn
	for range 8 {
		c, err := net.Dial("tcp", f.gw.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	extra, err := net.Dial("tcp", f.gw.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer extra.Close()
	_ = extra.SetDeadline(time.Now().Add(time.Minute))
	if n, err := extra.Read(make([]byte, 1)); err == nil {
		t.Fatalf("the ninth half-open connection got %d bytes", n)
	}
	for _, c := range conns { // the others are closed at the deadline, and there is room again
		_ = c.SetDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadAll(c); err != nil {
			t.Fatalf("half-open connection outlives the deadline: %v", err)
		}
	}
	f.open(f.through("app"))
}

func TestRefusalNamesRuleArticleAndCommand(t *testing.T) {
	f := start(t, func(_ *gateway.Config, a *authoriser) {
		a.decide = func(gateway.Request) gateway.Decision {
			return gateway.Decision{Access: trefoil.Access{Principal: "p", Dataset: "support"}, Refusal: gateway.Refusal{SQLState: "42501",
				Message: "not open to you", Rule: "floor", Law: "GDPR art. 44", Detail: "rule floor, GDPR art. 44", Hint: "trefoil request support", Reason: "floor"}}
		}
	})
	r := f.refused(f.through("aoife"))
	if r.SQLState != "42501" || !strings.Contains(r.Detail, "art. 44") || !strings.Contains(r.Hint, "trefoil request") {
		t.Fatalf("%+v", r)
	}
	eventually(t, "recorded", func() bool { return len(f.records.all(trefoil.KindRefusal)) == 1 })
	b := f.records.all(trefoil.KindRefusal)[0].Refusal
	if b.Rule != "floor" || b.Law != "GDPR art. 44" || b.Reason != "floor" || b.Stage != "open" ||
		b.Access.Dataset != "support" || len(b.Access.Session) != 32 {
		t.Fatalf("recorded %+v", b)
	}
}

// TestZeroDecisionDenies: an authoriser that says nothing opens nothing, and neither does one
// that says something unknown.
func TestZeroDecisionDenies(t *testing.T) {
	var d gateway.Decision
	f := start(t, func(_ *gateway.Config, a *authoriser) {
		a.decide = func(gateway.Request) gateway.Decision { return d }
	})
	if r := f.refused(f.through("app")); r.SQLState != "28000" {
		t.Fatalf("%+v", r)
	}
	d.Path = 7
	if r := f.refused(f.through("app")); r.SQLState != "28000" {
		t.Fatalf("%+v", r)
	}
}

func TestRefusedEvenIfRecordingFails(t *testing.T) {
	f := start(t, func(_ *gateway.Config, a *authoriser) {
		a.decide = func(gateway.Request) gateway.Decision { return gateway.Decision{} }
	})
	f.records.setFail(true)
	if r := f.refused(f.through("app")); r.SQLState != "28000" {
		t.Fatalf("%+v", r)
	}
	f.records.setFail(false)
}

func TestReplicationIsRefused(t *testing.T) {
	f := start(t, nil)
	for _, v := range []string{"true", "database", "1", "on", "yes", "whatever"} {
		for _, name := range []string{"replication", "REPLICATION"} {
			tg := f.through("app")
			tg.Params = map[string]string{name: v}
			if r := f.refused(tg); r.SQLState != "28000" {
				t.Errorf("%s=%s: %+v", name, v, r)
			}
		}
	}
	tg := f.through("app")
	tg.Params = map[string]string{"replication": "false"}
	f.open(tg)
}

func TestStartupParameters(t *testing.T) {
	f := start(t, nil)
	tg := f.through("app")
	tg.Params = map[string]string{"application_name": "wire", "options": "-c search_path=pg_catalog -c work_mem=5MB", "TimeZone": "Europe/Oslo"}
	c, o := f.open(tg)
	if o.Params["application_name"] != "wire" || o.Params["TimeZone"] != "Europe/Oslo" {
		t.Fatalf("%v", o.Params)
	}
	c.Close()
	for _, bad := range []map[string]string{{"work_mem": "1GB"}, {"options": "-c work_mem=1GB"}, {"options": "-c role=postgres"}, {"role": "x"},
		{"session_authorization": "x"}, {"options": "-B 1000"}, {"options": "--row-security=off"}, {"options": "-c search_path"}} {
		tg := f.through("aoife")
		tg.Params = bad
		if r := f.refused(tg); r.SQLState != "0A000" {
			t.Errorf("%v: %+v", bad, r)
		}
	}
	tg = f.through("aoife")
	tg.Params = map[string]string{"options": `-c search_path=pg_catalog\ --timezone=UTC --statement-timeout=0 -cDateStyle=ISO`}
	if r := f.refused(tg); r.SQLState == "0A000" { // reaches PostgreSQL, which does not know such a path's value
		t.Errorf("%+v", r)
	}
}

func TestDatabaseRefusals(t *testing.T) {
	var change func(*gateway.Target)
	f := start(t, func(_ *gateway.Config, a *authoriser) {
		decide := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			d := decide(r)
			change(&d.Target)
			return d
		}
	})
	for name, c := range map[string]struct {
		change func(*gateway.Target)
		state  string
	}{
		"no such database": {func(t *gateway.Target) { t.Database = "nosuch" }, "3D000"},
		"other role":       {func(t *gateway.Target) { t.Role = "postgres" }, "57P03"},
		"nobody there":     {func(t *gateway.Target) { t.Address = "127.0.0.1:1" }, "57P03"},
		"wrong authority":  {func(t *gateway.Target) { t.TLS = t.TLS.Clone(); t.TLS.RootCAs = nil }, "57P03"},
		"wrong password":   {func(t *gateway.Target) { t.TLS, t.Password = nil, "guess" }, "28P01"},
	} {
		change = c.change
		if r := f.refused(f.through("app")); r.SQLState != c.state {
			t.Errorf("%s: %+v", name, r)
		}
		if r := f.refused(f.through("aoife")); r.SQLState != c.state || strings.Contains(r.Message+r.Detail, "nosuch") {
			t.Errorf("%s, release path: %+v", name, r)
		}
	}
	change = func(t *gateway.Target) { t.TLS, t.Password = nil, password }
	f.open(f.through("app"))
}
