package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// idp is a small issuer of ID tokens.
type idp struct {
	t      *testing.T
	server *httptest.Server
	key    *rsa.PrivateKey
	kid    atomic.Value
	down   atomic.Bool
	asked  atomic.Int32
}

func newIDP(t *testing.T) *idp {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := &idp{t: t, key: key}
	p.kid.Store("one")
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		if p.down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		p.asked.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: &key.PublicKey, KeyID: p.kid.Load().(string), Algorithm: "RS256", Use: "sig"}}})
	})
	p.server = httptest.NewServer(mux)
	t.Cleanup(p.server.Close)
	return p
}

// claims of a good token at a time, changed by pairs of name and value; nil removes.
func (p *idp) claims(now time.Time, change ...any) map[string]any {
	c := map[string]any{"iss": p.server.URL, "aud": "trefoil", "sub": "123", "upn": "aoife@acme.example", "email": "aoife@acme.example",
		"email_verified": true, "iat": now.Add(-time.Minute).Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		"groups": []string{"acme-support", "acme-everyone"}, "org": "Acme", "ctry": "IE"}
	for i := 0; i+1 < len(change); i += 2 {
		if change[i+1] == nil {
			delete(c, change[i].(string))
			continue
		}
		c[change[i].(string)] = change[i+1]
	}
	return c
}

// sign signs claims with any key.
func (p *idp) sign(alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	p.t.Helper()
	return p.signAs("JWT", alg, key, kid, claims)
}

func (p *idp) signAs(typ string, alg jose.SignatureAlgorithm, key any, kid string, claims map[string]any) string {
	p.t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, (&jose.SignerOptions{}).WithHeader("kid", kid).WithType(jose.ContentType(typ)))
	if err != nil {
		p.t.Fatal(err)
	}
	payload, err := json.Marshal(claims)
	if err != nil {
		p.t.Fatal(err)
	}
	jws, err := signer.Sign(payload)
	if err != nil {
		p.t.Fatal(err)
	}
	text, err := jws.CompactSerialize()
	if err != nil {
		p.t.Fatal(err)
	}
	return text
}

func (p *idp) token(now time.Time, change ...any) string {
	return p.sign(jose.RS256, p.key, p.kid.Load().(string), p.claims(now, change...))
}

func (p *idp) config() IssuerConfig {
	return IssuerConfig{Issuer: p.server.URL, Audience: "trefoil", Users: []Pattern{"*@acme.example"}, UserClaim: "upn", Session: "8h",
		Map: Mapping{Unlisted: true,
			Groups:    &Claim{From: "groups", Values: map[string][]string{"acme-support": {"support"}}},
			Employer:  &Claim{From: "org", Values: map[string][]string{"Acme": {"acme"}, "Acme KK": {"acme-jp"}}},
			Workplace: &Claim{From: "ctry"}}}
}

// clocked is an OIDC with a clock that the test moves.
func (p *idp) clocked(c IssuerConfig) (*OIDC, *time.Time) {
	p.t.Helper()
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	o, err := NewOIDC([]IssuerConfig{c}, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if err != nil {
		p.t.Fatal(err)
	}
	return o, &now
}

const upn = "aoife@acme.example"

func oidcDirectory(t *testing.T) *Directory {
	t.Helper()
	d, err := NewDirectory(&File{Version: 1, People: []Person{
		{ID: "ciara@acme.example", Login: []string{ByOIDC}, Employer: "acme", Workplace: "CN", Groups: []string{"old"}},
		{ID: "dara@acme.example", Login: []string{ByToken}, Employer: "acme"}},
		Services: []Account{{ID: "batch@acme.example", Verifier: verifier(t, "x"), Databases: []string{"platform"}, Role: "app"}}}, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestIDTokenLogsIn(t *testing.T) {
	p := newIDP(t)
	o, now := p.clocked(p.config())
	who, until, err := o.Verify(t.Context(), oidcDirectory(t), upn, p.token(*now), *now)
	if err != nil {
		t.Fatal(err)
	}
	if who.ID != upn || who.Service || strings.Join(who.Groups, " ") != "support" || who.Employer != "acme" || who.Workplace != "IE" ||
		who.WorkplaceBy.Evidence != EvidenceToken || who.EmployerBy.By != p.server.URL {
		t.Errorf("%+v", who)
	}
	if want := now.Add(11 * time.Minute); !until.Equal(want) { // exp and the skew
		t.Errorf("until %v, want %v", until, want)
	}
	short := p.config()
	short.Session = "1m"
	o, now = p.clocked(short)
	if _, until, err = o.Verify(t.Context(), oidcDirectory(t), upn, p.token(*now), *now); err != nil || !until.Equal(now.Add(time.Minute)) {
		t.Errorf("a session of a minute ends at %v: %v", until, err)
	}
}

// TestForgedIDTokens: every token that an attacker could make, steal or bend.
func TestForgedIDTokens(t *testing.T) {
	p := newIDP(t)
	o, now := p.clocked(p.config())
	d := oidcDirectory(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&p.key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	b64 := base64.RawURLEncoding.EncodeToString
	payload, err := json.Marshal(p.claims(*now))
	if err != nil {
		t.Fatal(err)
	}
	good := p.token(*now)
	parts := strings.Split(good, ".")
	embedded, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: other}, &jose.SignerOptions{EmbedJWK: true})
	if err != nil {
		t.Fatal(err)
	}
	jws, err := embedded.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	withJWK, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct{ user, token string }{
		"alg none":                             {upn, b64([]byte(`{"alg":"none","kid":"one"}`)) + "." + b64(payload) + "."},
		"HS256 with the public key, PEM":       {upn, p.sign(jose.HS256, public, "one", p.claims(*now))},
		"HS256 with the public key, DER":       {upn, p.sign(jose.HS256, der, "one", p.claims(*now))},
		"another key under a known id":         {upn, p.sign(jose.RS256, other, "one", p.claims(*now))},
		"a key that the token brings along":    {upn, withJWK},
		"another kind of key":                  {upn, p.sign(jose.ES256, ec, "one", p.claims(*now))},
		"another algorithm than the key's":     {upn, p.sign(jose.PS256, p.key, "one", p.claims(*now))},
		"payload exchanged":                    {upn, parts[0] + "." + b64(payload) + "x." + parts[2]},
		"an access token":                      {upn, p.signAs("at+jwt", jose.RS256, p.key, "one", p.claims(*now))},
		"signature cut off":                    {upn, parts[0] + "." + parts[1] + "."},
		"not a token":                          {upn, "correct horse"},
		"endless":                              {upn, strings.Repeat("a", maxIDToken) + "." + parts[1] + "." + parts[2]},
		"wrong audience":                       {upn, p.token(*now, "aud", "payroll")},
		"no audience":                          {upn, p.token(*now, "aud", nil)},
		"another client among the audience":    {upn, p.token(*now, "aud", []string{"trefoil", "payroll"})},
		"issued to another client":             {upn, p.token(*now, "aud", []string{"trefoil", "payroll"}, "azp", "payroll")},
		"another issuer":                       {upn, p.token(*now, "iss", "https://evil.example")},
		"replayed for another user":            {"ciara@acme.example", good},
		"user in other letters":                {"Aoife@acme.example", good},
		"two users":                            {upn, p.token(*now, "upn", []string{upn, "ciara@acme.example"})},
		"no user":                              {upn, p.token(*now, "upn", nil)},
		"expired":                              {upn, p.token(*now, "exp", now.Add(-2*time.Minute).Unix())},
		"without end":                          {upn, p.token(*now, "exp", nil)},
		"from the future":                      {upn, p.token(*now, "iat", now.Add(2*time.Minute).Unix())},
		"not yet":                              {upn, p.token(*now, "nbf", now.Add(2*time.Minute).Unix())},
		"somebody who logs in otherwise":       {"dara@acme.example", p.token(*now, "upn", "dara@acme.example")},
		"a service that does not say oidc":     {"batch@acme.example", p.token(*now, "upn", "batch@acme.example")},
		"a name that no issuer is asked about": {"root", p.token(*now, "upn", "root")},
	} {
		if who, _, err := o.Verify(t.Context(), d, c.user, c.token, *now); err == nil {
			t.Errorf("%s: logged in as %s", name, who.ID)
		} else if strings.Contains(err.Error(), "acme.example") || strings.Contains(err.Error(), "123") {
			t.Errorf("%s: the error repeats a claim: %v", name, err)
		}
	}
	if _, _, err := o.Verify(t.Context(), d, upn, good, *now); err != nil {
		t.Fatalf("and the good one: %v", err)
	}
}

// TestUnverifiedMailIsNobody: an issuer lets people type in any address.
func TestUnverifiedMailIsNobody(t *testing.T) {
	p := newIDP(t)
	c := p.config()
	c.UserClaim = "email"
	o, now := p.clocked(c)
	d := oidcDirectory(t)
	for _, verified := range []any{nil, false} {
		if _, _, err := o.Verify(t.Context(), d, upn, p.token(*now, "email_verified", verified), *now); err == nil {
			t.Errorf("email_verified %v logs in", verified)
		}
	}
	if _, _, err := o.Verify(t.Context(), d, upn, p.token(*now), *now); err != nil {
		t.Error(err)
	}
}

// TestClaimsDoNotWiden: what is not mapped means nothing, and a token that says another
// place than people.yaml makes it unknown, never better.
func TestClaimsDoNotWiden(t *testing.T) {
	p := newIDP(t)
	o, now := p.clocked(p.config())
	d := oidcDirectory(t)
	listed := "ciara@acme.example"
	for name, c := range map[string]struct {
		user                        string
		change                      []any
		groups, employer, workplace string
	}{
		"unmapped values":            {upn, []any{"groups", []string{"admins"}, "org", "Evil", "ctry", "Ireland"}, "", "", ""},
		"two employers":              {upn, []any{"org", []string{"Acme", "Acme KK"}}, "support", "", "IE"},
		"claims missing":             {upn, []any{"groups", nil, "org", nil, "ctry", nil}, "", "", ""},
		"claims of other types":      {upn, []any{"groups", map[string]any{"a": 1}, "org", 7, "ctry", true}, "", "", ""},
		"file says CN, token IE":     {listed, []any{"upn", listed}, "support", "acme", ""},
		"file and token both CN":     {listed, []any{"upn", listed, "ctry", "CN"}, "support", "acme", "CN"},
		"token names another entity": {listed, []any{"upn", listed, "org", "Acme KK", "ctry", "CN"}, "support", "", "CN"},
	} {
		who, _, err := o.Verify(t.Context(), d, c.user, p.token(*now, c.change...), *now)
		if err != nil || strings.Join(who.Groups, " ") != c.groups || who.Employer != c.employer || who.Workplace != c.workplace {
			t.Errorf("%s: %v %q %q: %v", name, who.Groups, who.Employer, who.Workplace, err)
		}
	}
	closed := p.config()
	closed.Map.Unlisted = false
	o, now = p.clocked(closed)
	if _, _, err := o.Verify(t.Context(), d, upn, p.token(*now), *now); !errors.Is(err, ErrIDToken) {
		t.Errorf("somebody who is not listed logs in: %v", err)
	}
}

// TestKeysRotateAtABoundedRate: a new key is found, guessed key ids do not make the gateway
// hammer the issuer, a withdrawn key ends, and an issuer that is away stops nobody for a while.
func TestKeysRotateAtABoundedRate(t *testing.T) {
	p := newIDP(t)
	o, now := p.clocked(p.config())
	d := oidcDirectory(t)
	try := func(token string) error {
		_, _, err := o.Verify(context.Background(), d, upn, token, *now)
		return err
	}
	if err := try(p.token(*now)); err != nil {
		t.Fatal(err)
	}
	for range 50 {
		if try(p.sign(jose.RS256, p.key, "guess", p.claims(*now))) == nil {
			t.Fatal("an unknown key id is accepted")
		}
	}
	if n := p.asked.Load(); n > 1 {
		t.Fatalf("the issuer was asked %d times within a moment", n)
	}
	old := p.token(*now)
	p.kid.Store("two")
	*now = now.Add(keysAttempt)
	if err := try(p.token(*now)); err != nil {
		t.Fatalf("after rotation: %v", err)
	}
	if try(old) == nil {
		t.Fatal("a key that the issuer withdrew is still used")
	}
	p.down.Store(true)
	*now = now.Add(50 * time.Minute)
	if err := try(p.token(*now)); err != nil {
		t.Fatalf("the issuer is away for 50 minutes: %v", err)
	}
	*now = now.Add(11 * time.Minute)
	if err := try(p.token(*now)); err == nil || !strings.Contains(err.Error(), errIssuerAway.Error()) {
		t.Fatalf("keys are used for ever while the issuer is away: %v", err)
	}
	p.down.Store(false)
	*now = now.Add(keysAttempt)
	if err := try(p.token(*now)); err != nil {
		t.Fatalf("the issuer is back: %v", err)
	}
}

// TestIssuerIsAskedSafely: no clear line, no other issuer's document, no redirect.
func TestIssuerIsAskedSafely(t *testing.T) {
	p := newIDP(t)
	for _, bad := range []string{"http://idp.example", "ftp://idp.example", "idp.example", ""} {
		if secureURL(bad) == nil {
			t.Errorf("%q is asked", bad)
		}
	}
	c := p.config()
	impostor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": p.server.URL, "jwks_uri": p.server.URL + "/keys"})
	}))
	defer impostor.Close()
	c.Issuer = impostor.URL
	o, now := p.clocked(c)
	if _, _, err := o.Verify(t.Context(), oidcDirectory(t), upn, p.token(*now, "iss", impostor.URL), *now); err == nil {
		t.Error("a discovery document of another issuer is believed")
	}
	moved := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, p.server.URL+"/keys", http.StatusFound)
	}))
	defer moved.Close()
	c = p.config()
	c.Keys = moved.URL
	o, now = p.clocked(c)
	if _, _, err := o.Verify(t.Context(), oidcDirectory(t), upn, p.token(*now), *now); err == nil {
		t.Error("a redirect is followed to other keys")
	}
}

func FuzzClaims(f *testing.F) {
	f.Add([]byte(`{"groups":["a"],"org":"b","ctry":"IE"}`), "aoife")
	f.Fuzz(func(t *testing.T, src []byte, user string) {
		var all map[string]any
		if json.Unmarshal(src, &all) != nil {
			return
		}
		m := (&idp{server: &httptest.Server{}}).config().Map
		p, err := m.apply(Principal{}, false, user, claimsOf(all), Attestation{})
		if err != nil || p.Service || !isCountry(p.Workplace) || p.Employer != "" && p.Employer != "acme" && p.Employer != "acme-jp" {
			t.Fatalf("%+v %v", p, err)
		}
	})
}
