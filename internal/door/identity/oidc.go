package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"

	"github.com/trefoil-eu/trefoil/internal/certfile"
)

// IssuerConfig says whose ID tokens log in, and as whom (OpenID Connect Core 1.0, 3.1.3.7).
type IssuerConfig struct {
	Issuer    string    `yaml:"issuer"`   // as in the tokens' iss, to the letter
	Audience  string    `yaml:"audience"` // the client id that Trefoil has at the issuer
	Keys      string    `yaml:"keys,omitempty"`
	Authority string    `yaml:"authority,omitempty"` // PEM file of the CA behind the issuer's https; default the system's
	Users     []Pattern `yaml:"users"`               // user names that are asked for an ID token
	UserClaim string    `yaml:"user_claim"`          // the claim that is the user name
	Skew      string    `yaml:"skew,omitempty"`      // default 1m
	Stale     string    `yaml:"stale,omitempty"`     // how long keys are used while the issuer is away; default 1h
	Session   string    `yaml:"session,omitempty"`   // longest session; the token's end ends it too; default 12h
	Map       Mapping   `yaml:"map,omitempty"`
}

// CheckIssuer reports what does not hold in the configuration, by key.
func CheckIssuer(c *IssuerConfig, report func(key, format string, args ...any)) {
	for _, f := range []struct{ key, value string }{{"issuer", c.Issuer}, {"audience", c.Audience}, {"user_claim", c.UserClaim}} {
		if f.value == "" {
			report(f.key, "%s is missing", f.key)
		}
	}
	for key, address := range map[string]string{"issuer": c.Issuer, "keys": c.Keys} {
		if err := secureURL(address); address != "" && err != nil {
			report(key, "%v", err)
		}
	}
	if len(c.Users) == 0 {
		report("users", "users is missing: patterns such as *@example.com of the user names that are asked for an ID token")
	}
	for i, p := range c.Users {
		if err := p.check(); err != nil {
			report(fmt.Sprintf("users[%d]", i), "%v", err)
		}
	}
	for key, text := range map[string]string{"skew": c.Skew, "stale": c.Stale, "session": c.Session} {
		if _, err := duration(text, 0); err != nil {
			report(key, "%v", err)
		}
	}
	c.Map.check(func(key, format string, args ...any) { report("map."+key, format, args...) })
}

// OIDC verifies ID tokens. The zero value knows no issuer.
type OIDC struct{ issuers []*issuer }

type issuer struct {
	c                    IssuerConfig
	verifier             *oidc.IDTokenVerifier
	skew, stale, session time.Duration
}

// What may sign an ID token: never a shared secret, for which a public key could be taken.
var algorithms = []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA}

// maxIDToken bounds a token, in bytes.
const maxIDToken = 16 << 10

// NewOIDC makes the verifiers. It asks no issuer yet: a gateway starts while one is away.
func NewOIDC(configs []IssuerConfig, now func() time.Time, logger *slog.Logger) (*OIDC, error) {
	out := &OIDC{}
	for _, c := range configs {
		i := &issuer{c: c}
		var err1, err2, err3 error
		i.skew, err1 = duration(c.Skew, time.Minute)
		i.stale, err2 = duration(c.Stale, time.Hour)
		i.session, err3 = duration(c.Session, 12*time.Hour)
		if err := errors.Join(err1, err2, err3); err != nil {
			return nil, fmt.Errorf("read issuer: %w", err)
		}
		client, err := issuerClient(c.Authority)
		if err != nil {
			return nil, err
		}
		keys := &keySet{issuer: c.Issuer, url: c.Keys, client: client, algorithms: algorithms, stale: i.stale, now: now, logger: logger}
		var names []string
		for _, a := range algorithms {
			names = append(names, string(a))
		}
		i.verifier = oidc.NewVerifier(c.Issuer, keys, &oidc.Config{ClientID: c.Audience, SupportedSigningAlgs: names,
			SkipExpiryCheck: true}) // times are checked below, with our skew
		out.issuers = append(out.issuers, i)
	}
	return out, nil
}

// issuerClient follows no redirect: keys come from where the configuration or the issuer says.
func issuerClient(authority string) (*http.Client, error) {
	secure, err := certfile.Client(authority)
	if err != nil {
		return nil, fmt.Errorf("read the issuer's authority: %w", err)
	}
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: secure, IdleConnTimeout: time.Minute, MaxIdleConns: 2}
	return &http.Client{Transport: t, Timeout: keysTimeout, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}, nil
}

// Asks reports whether a user name is asked for an ID token: by its form, so that nothing is
// told of who exists.
func (o *OIDC) Asks(user string) bool { return o.of(user) != nil }

func (o *OIDC) of(user string) *issuer {
	if o == nil {
		return nil
	}
	for _, i := range o.issuers {
		if slices.ContainsFunc(i.c.Users, func(p Pattern) bool { _, ok := p.match(user); return ok }) {
			return i
		}
	}
	return nil
}

// ErrIDToken is wrapped by the reasons why an ID token does not log in. The client hears
// ErrPassword; the reason, which holds no claim, is for the operator's log.
var ErrIDToken = errors.New("ID token refused")

func noToken(why string) error { return fmt.Errorf("%w: %s", ErrIDToken, why) }

// idClaims are the claims that are checked beside the library's.
type idClaims struct {
	AuthorizedParty string   `json:"azp"`
	Expiry          *float64 `json:"exp"`
	IssuedAt        *float64 `json:"iat"`
	NotBefore       *float64 `json:"nbf"`
	EmailVerified   *bool    `json:"email_verified"`
}

// Verify returns who a token logs in as user, and until when.
func (o *OIDC) Verify(ctx context.Context, d *Directory, user, token string, now time.Time) (Principal, time.Time, error) {
	i := o.of(user)
	if i == nil || len(token) > maxIDToken || strings.Count(token, ".") != 2 {
		return Principal{}, time.Time{}, noToken("not a signed token")
	}
	verified, err := i.verifier.Verify(ctx, token)
	switch {
	case err != nil && strings.Contains(err.Error(), errIssuerAway.Error()):
		return Principal{}, time.Time{}, noToken(errIssuerAway.Error())
	case err != nil:
		return Principal{}, time.Time{}, noToken("signature, issuer or audience") // the library's text repeats claims
	}
	var c idClaims
	var all map[string]any
	if verified.Claims(&c) != nil || verified.Claims(&all) != nil {
		return Principal{}, time.Time{}, noToken("claims of another type than they must have")
	}
	until, err := i.inTime(&c, now)
	if err != nil {
		return Principal{}, time.Time{}, err
	}
	switch {
	case c.AuthorizedParty != "" && c.AuthorizedParty != i.c.Audience, len(verified.Audience) > 1 && c.AuthorizedParty == "":
		return Principal{}, time.Time{}, noToken("issued to another client")
	case i.c.UserClaim == "email" && (c.EmailVerified == nil || !*c.EmailVerified):
		return Principal{}, time.Time{}, noToken("the issuer has not verified the e-mail address")
	}
	attributes := claimsOf(all)
	if names := attributes[i.c.UserClaim]; len(names) != 1 || names[0] != user {
		return Principal{}, time.Time{}, noToken("another user's")
	}
	listed, known := d.Lookup(user)
	if known && (!listed.Accepts(ByOIDC) || listed.Service && len(listed.Login) == 0) {
		return Principal{}, time.Time{}, noToken("the principal does not log in this way")
	}
	by := Attestation{By: i.c.Issuer, At: now.UTC(), Evidence: EvidenceToken}
	p, err := i.c.Map.apply(listed, known, user, attributes, by)
	if err != nil {
		return Principal{}, time.Time{}, noToken("nobody in people.yaml")
	}
	return p, until, nil
}

// inTime checks the token's times and returns the session's end.
func (i *issuer) inTime(c *idClaims, now time.Time) (time.Time, error) {
	at := func(v *float64) time.Time { return time.Unix(int64(*v), 0) }
	switch {
	case c.Expiry == nil || c.IssuedAt == nil:
		return time.Time{}, noToken("it has no exp or no iat")
	case !now.Before(at(c.Expiry).Add(i.skew)):
		return time.Time{}, noToken("it has expired")
	case now.Before(at(c.IssuedAt).Add(-i.skew)), c.NotBefore != nil && now.Before(at(c.NotBefore).Add(-i.skew)):
		return time.Time{}, noToken("it is not valid yet")
	}
	return earliest(at(c.Expiry).Add(i.skew), now.Add(i.session)), nil
}

// claimsOf lists claims that are texts or lists of texts.
func claimsOf(all map[string]any) Attributes {
	a := Attributes{}
	for name, v := range all {
		switch v := v.(type) {
		case string:
			a[name] = []string{v}
		case json.Number:
			a[name] = []string{v.String()}
		case []any:
			for _, e := range v {
				if s, ok := e.(string); ok {
					a[name] = append(a[name], s)
				}
			}
		}
	}
	return a
}
