package identity

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

const testPassword = "pencil"

func verifier(t testing.TB, password string) string {
	t.Helper()
	v, err := NewVerifier(password, 0)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func newDirectory(t testing.TB) *Directory {
	t.Helper()
	d, err := NewDirectory(&File{Version: 1,
		People:   []Person{{ID: "aoife", Verifier: verifier(t, testPassword), Employer: "acme", Workplace: "IE"}},
		Services: []Account{{ID: "app", Verifier: verifier(t, "other"), Databases: []string{"platform"}, Role: "app", Site: "dublin-1"}},
	}, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// login plays a client. mechanism and binding are what the client uses.
func login(d *Directory, user, password, mechanism string, server, client []byte) (Principal, error) {
	c, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return Principal{}, err
	}
	conv := c.NewConversation()
	if mechanism == MechanismPlus {
		conv = c.NewConversationWithChannelBinding(scram.ChannelBinding{Type: scram.ChannelBindingTLSServerEndpoint, Data: client})
	}
	first, err := conv.Step("")
	if err != nil {
		return Principal{}, err
	}
	l, answer, err := d.Begin(user, mechanism, first, server)
	if err != nil {
		return Principal{}, err
	}
	final, err := conv.Step(answer)
	if err != nil {
		return Principal{}, err
	}
	p, last, err := l.Finish(final)
	if err != nil {
		return Principal{}, err
	}
	if _, err := conv.Step(last); err != nil || !conv.Valid() {
		return Principal{}, fmt.Errorf("the server did not prove itself: %w", err)
	}
	return p, nil
}

func TestLogin(t *testing.T) {
	d := newDirectory(t)
	bind, other := []byte("certificate"), []byte("another certificate")
	for name, c := range map[string]struct {
		user, password, mechanism string
		server, client            []byte
		want                      error
	}{
		"right":                        {"aoife", testPassword, Mechanism, nil, nil, nil},
		"right, bound":                 {"aoife", testPassword, MechanismPlus, bind, bind, nil},
		"wrong password":               {"aoife", "pen", Mechanism, nil, nil, ErrPassword},
		"another's password":           {"aoife", "other", Mechanism, nil, nil, ErrPassword},
		"unknown user":                 {"nobody", testPassword, Mechanism, nil, nil, ErrPassword},
		"no user":                      {"", testPassword, Mechanism, nil, nil, ErrPassword},
		"relayed to another server":    {"aoife", testPassword, MechanismPlus, bind, other, ErrPassword},
		"bound, server has no TLS":     {"aoife", testPassword, MechanismPlus, nil, bind, ErrSASL},
		"mechanism that nobody offers": {"aoife", testPassword, "SCRAM-SHA-1", nil, nil, ErrSASL},
	} {
		p, err := login(d, c.user, c.password, c.mechanism, c.server, c.client)
		if !errors.Is(err, c.want) || (err == nil) != (p.ID == "aoife") {
			t.Errorf("%s: %+v, %v", name, p, err)
		}
	}
}

// TestDowngradeIsSeen: a client that could bind and was told that the server cannot says
// "y"; with a server that can, somebody in the middle removed the offer.
func TestDowngradeIsSeen(t *testing.T) {
	d := newDirectory(t)
	if _, _, err := d.Begin("aoife", Mechanism, "y,,n=,r=abcdefgh", []byte("certificate")); !errors.Is(err, ErrSASL) {
		t.Fatalf("downgrade: %v", err)
	}
	if _, _, err := d.Begin("aoife", Mechanism, "y,,n=,r=abcdefgh", nil); err != nil {
		t.Fatalf("a server without TLS: %v", err)
	}
	// The mechanism's name and the binding flag must agree.
	if _, _, err := d.Begin("aoife", Mechanism, "p=tls-server-end-point,,n=,r=abcdefgh", []byte("certificate")); !errors.Is(err, ErrSASL) {
		t.Fatalf("bound under the unbound name: %v", err)
	}
	if _, _, err := d.Begin("aoife", MechanismPlus, "n,,n=,r=abcdefgh", []byte("certificate")); !errors.Is(err, ErrSASL) {
		t.Fatalf("unbound under the bound name: %v", err)
	}
}

// TestMockLooksReal: the first answer for a user that does not exist has the same shape, and
// stays the same from one attempt to the next.
func TestMockLooksReal(t *testing.T) {
	d := newDirectory(t)
	salt := func(user string) (string, int) {
		_, answer, err := d.Begin(user, Mechanism, "n,,n=,r=abcdefgh", nil)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(answer, ",")
		return rest, len(answer)
	}
	real1, n1 := salt("aoife")
	mock1, n2 := salt("nobody")
	mock2, _ := salt("nobody")
	mock3, _ := salt("somebody")
	if n1 != n2 || mock1 != mock2 || mock1 == mock3 || real1 == mock1 {
		t.Fatalf("real %s (%d), mock %s (%d), again %s, other %s", real1, n1, mock1, n2, mock2, mock3)
	}
	if !strings.HasSuffix(mock1, "i=4096") {
		t.Fatalf("mock iterations: %s", mock1)
	}
}

func TestVerifier(t *testing.T) {
	// The example of RFC 7677 in PostgreSQL's form.
	const rfc = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
	c, err := ParseVerifier(rfc)
	if err != nil || c.Iters != 4096 {
		t.Fatalf("%+v %v", c, err)
	}
	client, err := scram.SHA256.NewClient("", testPassword, "")
	if err != nil {
		t.Fatal(err)
	}
	want, err := client.GetStoredCredentialsWithError(c.KeyFactors)
	if err != nil || string(want.StoredKey) != string(c.StoredKey) || string(want.ServerKey) != string(c.ServerKey) {
		t.Fatal("the password of RFC 7677 does not give its verifier")
	}
	for _, bad := range []string{"", "md5abc", "plain", rfc[:40], strings.Replace(rfc, "4096", "4095", 1), strings.Replace(rfc, "4096", "99999999", 1),
		strings.Replace(rfc, "W22Z", "!!!!", 1), strings.Replace(rfc, ":wfPL", "", 1), rfc + "AAAA"} {
		if _, err := ParseVerifier(bad); err == nil {
			t.Errorf("%.20q… is a verifier", bad)
		} else if bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("the error repeats the verifier: %v", err)
		}
	}
	if one, other := verifier(t, "x"), verifier(t, "x"); one == other {
		t.Error("two verifiers of one password are equal: no salt")
	}
	if _, err := NewVerifier("", 0); err == nil {
		t.Error("an empty password has a verifier")
	}
}

func TestDecode(t *testing.T) {
	v := verifier(t, "x")
	good := fmt.Sprintf(`version: 1
people:
  - id: aoife
    verifier: %q
    groups: [support]
    employer: acme-ie
    workplace: IE
    purposes: [support]
    attested: {by: hr, at: 2026-10-01, evidence: certificate}
services:
  - id: app
    verifier: %q
    databases: [platform]
    role: app
    site: dublin-1
    serves_humans: true
`, v, v)
	f, err := Decode("people.yaml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	d, err := NewDirectory(f, nil)
	if err != nil {
		t.Fatal(err)
	}
	p, ok := d.Lookup("aoife")
	if !ok || p.Service || p.Employer != "acme-ie" || p.AttestedBy != "hr" || p.Evidence != "certificate" || p.AttestedAt.Format(time.DateOnly) != "2026-10-01" {
		t.Fatalf("%+v", p)
	}
	if p, _ := d.Lookup("app"); !p.Service || !p.ServesHumans || p.Site != "dublin-1" || p.Evidence != "declared" || p.AttestedBy != "people.yaml" {
		t.Fatalf("%+v", p)
	}
	if list := d.Principals(); len(list) != 2 || list[0].ID != "aoife" || list[1].ID != "app" {
		t.Fatalf("%+v", list)
	}
	for what, c := range map[string]struct{ old, new, want string }{
		"unknown key":           {"employer:", "employr:", "people.yaml:6:5"},
		"id twice":              {"id: app", "id: aoife", "used twice"},
		"no id":                 {"id: app", `id: ""`, "1 to 63"},
		"bad verifier":          {fmt.Sprintf("verifier: %q\n    groups", v), "verifier: hunter2\n    groups", "trefoil passwd"},
		"country in lower case": {"workplace: IE", "workplace: ie", "people.yaml:7"},
		"bad date":              {"2026-10-01", "yesterday", "YYYY-MM-DD"},
		"bad evidence":          {"evidence: certificate", "evidence: hearsay", "evidence must be"},
		"no databases":          {"databases: [platform]", "databases: []", "needs databases"},
		"version":               {"version: 1", "version: 2", "version must be 1"},
		"site and country":      {"site: dublin-1", "site: dublin-1\n    country: IE", "not both"},
	} {
		_, err := Decode("people.yaml", []byte(strings.Replace(good, c.old, c.new, 1)))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", what, err, c.want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error repeats the verifier", what)
		}
	}
}

func FuzzPeople(f *testing.F) {
	f.Add([]byte("version: 1\npeople:\n  - id: a\n    verifier: b\n    employer: c\n"))
	f.Add([]byte("version: 1\nservices:\n  - {id: a, verifier: b, databases: [c], role: d}\n"))
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Decode("people.yaml", src)
		if err != nil {
			return
		}
		if _, err := NewDirectory(file, []byte("s")); err != nil {
			t.Fatalf("decodes, and makes no directory: %v", err)
		}
	})
}

// FuzzLogin: no bytes of a client log it in or make the exchange panic.
func FuzzLogin(f *testing.F) {
	d := newDirectory(f)
	f.Add("SCRAM-SHA-256", "n,,n=,r=abcdefgh", "c=biws,r=abcdefgh,p=AAAA")
	f.Add("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=a", "c=,r=,p=")
	f.Fuzz(func(t *testing.T, mechanism, first, final string) {
		l, _, err := d.Begin("aoife", mechanism, first, []byte("certificate"))
		if err != nil {
			return
		}
		if p, _, err := l.Finish(final); err == nil || p.ID != "" {
			t.Fatal("logged in without the password")
		}
	})
}

func TestEndPoint(t *testing.T) {
	for alg, size := range map[x509.SignatureAlgorithm]int{x509.ECDSAWithSHA256: 32, x509.SHA1WithRSA: 32, x509.SHA384WithRSA: 48, x509.ECDSAWithSHA512: 64, x509.PureEd25519: 0} {
		if got := EndPoint(&x509.Certificate{SignatureAlgorithm: alg, Raw: []byte("x")}); len(got) != size {
			t.Errorf("%v: %d bytes", alg, len(got))
		}
	}
	if EndPoint(nil) != nil {
		t.Error("no certificate has a binding")
	}
}

func TestLimiter(t *testing.T) {
	now := time.Unix(1e9, 0)
	l := NewLimiter(func() time.Time { return now })
	home, away := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.7")
	l.Succeeded("app", home)
	for i := range userBurst {
		if l.Wait("app", away) != 0 {
			t.Fatalf("limited after %d wrong passwords", i)
		}
		l.Failed("app", away)
	}
	if w := l.Wait("app", away); w <= 0 || w > userLeak {
		t.Fatalf("wait %v", w)
	}
	if l.Wait("app", netip.MustParseAddr("203.0.113.9")) == 0 {
		t.Fatal("another address is not held up: a botnet guesses without bound")
	}
	if l.Wait("app", home) != 0 {
		t.Fatal("somebody else's guesses lock out the address the user comes from")
	}
	now = now.Add(userLeak)
	if l.Wait("app", away) != 0 {
		t.Fatal("not forgotten")
	}
	for i := range 10 * addrBurst { // one address, many names
		l.Failed(fmt.Sprint("user", i), away)
	}
	w := l.Wait("fresh", away)
	if w <= 0 || w > time.Hour {
		t.Fatalf("an address that tries many names waits %v", w)
	}
	if l.Wait("fresh", home) != 0 {
		t.Fatal("another address is held up")
	}
	if got := l.Wait("fresh", netip.MustParseAddr("::ffff:198.51.100.7")); got != w {
		t.Fatal("an address in IPv6 clothes is another address")
	}
	a, b := netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	for range addrBurst {
		l.Failed("u", a)
	}
	if l.Wait("v", b) == 0 {
		t.Fatal("the same /64 is another address")
	}
}

// TestLimiterMemoryIsBounded: a flood of names makes no more entries than the bound, and
// does not wash out who is being guessed at.
func TestLimiterMemoryIsBounded(t *testing.T) {
	l := NewLimiter(func() time.Time { return time.Unix(1e9, 0) })
	victim := netip.MustParseAddr("192.0.2.1")
	for range 2 * userBurst {
		l.Failed("victim", victim)
	}
	for i := range 3 * maxTracked {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		l.Failed(fmt.Sprint("u", i), a)
		l.Succeeded(fmt.Sprint("u", i), a)
	}
	if len(l.users) > maxTracked || len(l.addrs) > maxTracked || len(l.good) > maxTracked {
		t.Fatalf("%d users, %d addresses, %d good", len(l.users), len(l.addrs), len(l.good))
	}
	if l.Wait("victim", netip.MustParseAddr("198.51.100.7")) == 0 {
		t.Fatal("a flood of other names washed out the limit")
	}
}
