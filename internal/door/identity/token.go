package identity

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base32"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/xdg-go/scram"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

// TokenPrefix begins every personal access token, so that scanners of source code and logs
// find one that leaked. The token's id follows, then its secret.
const TokenPrefix = "trefoil_pat_"

// MaxTokens bounds the tokens of one principal that are not revoked: each is tried at a login.
const MaxTokens = 20

// TokenFile is tokens.yaml. It holds verifiers only: a token is shown once, when it is made.
type TokenFile struct {
	Version int     `yaml:"version"`
	Tokens  []Token `yaml:"tokens,omitempty"`
}

// Token is a password with an end and a scope, beside the principal's own.
type Token struct {
	ID        string   `yaml:"id"`
	Principal string   `yaml:"principal"`
	Name      string   `yaml:"name,omitempty"` // what it is for
	Verifier  string   `yaml:"verifier"`       // SCRAM-SHA-256, with the salt that the principal's name answers with
	Databases []string `yaml:"databases"`      // datasets and source databases it opens; "*" for all of the principal's
	Created   string   `yaml:"created"`        // RFC 3339
	Until     string   `yaml:"until"`          // RFC 3339
	Revoked   string   `yaml:"revoked,omitempty"`
}

var tokenID = regexp.MustCompile(`^[a-z2-7]{12}$`)

// DecodeTokens reads tokens.yaml strictly. All errors are reported at once.
func DecodeTokens(name string, src []byte) (*TokenFile, error) {
	var f TokenFile
	pos, err := strict.DecodeWithPositions(name, src, &f)
	if err != nil {
		return nil, err
	}
	var found strict.Errors
	if f.Version != 1 {
		found = append(found, pos.Errorf("version", "version must be 1"))
	}
	seen := map[string]bool{}
	for i, t := range f.Tokens {
		at := fmt.Sprintf("tokens[%d]", i)
		bad := func(key, format string, args ...any) { found = append(found, pos.Errorf(at+key, format, args...)) }
		if !tokenID.MatchString(t.ID) || seen[t.ID] {
			bad(".id", "id must be 12 letters and digits, and used once")
		}
		seen[t.ID] = true
		if t.Principal == "" {
			bad("", "a token needs a principal")
		}
		if len(t.Databases) == 0 {
			bad("", "a token needs databases: datasets or source databases, or \"*\"")
		}
		if _, err := ParseVerifier(t.Verifier); err != nil {
			bad(".verifier", "%v; `trefoil token create` makes one", err)
		}
		for _, d := range []struct{ key, text string }{{".created", t.Created}, {".until", t.Until}, {".revoked", t.Revoked}} {
			if _, err := time.Parse(time.RFC3339, d.text); err != nil && (d.key != ".revoked" || d.text != "") {
				bad(d.key, "not a time such as 2026-01-31T12:00:00Z")
			}
		}
	}
	if err := found.Err(); err != nil {
		return nil, err
	}
	return &f, nil
}

// End returns when the token ends: its revocation if there is one, and what to tell its
// holder then.
func (t *Token) End() (at time.Time, why string) {
	at, _ = time.Parse(time.RFC3339, t.Until) // checked by DecodeTokens; the zero time has ended
	if t.Revoked == "" {
		return at, "the access token has expired"
	}
	return time.Time{}, "the access token was revoked"
}

// Opens reports whether the token's scope holds a database.
func (t *Token) Opens(database string) bool {
	return slices.Contains(t.Databases, "*") || slices.Contains(t.Databases, database)
}

// ErrNobody means that the principal is not in people.yaml, or does not log in by token.
var ErrNobody = errors.New("no principal of this id logs in with a token")

// NewToken makes a token of a principal and returns it with the secret text, which is
// kept nowhere. The tokens that exist already decide its salt, as the password does: all of
// a principal's must answer to one.
func (d *Directory) NewToken(principal, name string, databases []string, from, until time.Time) (Token, string, error) {
	e, known := d.entries[principal]
	if !known || !e.principal.Accepts(ByToken) {
		return Token{}, "", ErrNobody
	}
	live := 0
	for _, t := range e.tokens {
		if end, _ := t.token.End(); end.After(from) {
			live++
		}
	}
	if live >= MaxTokens {
		return Token{}, "", fmt.Errorf("make token: the principal has %d already: revoke one", live)
	}
	raw := make([]byte, 8+25)
	if _, err := rand.Read(raw); err != nil {
		return Token{}, "", fmt.Errorf("draw token: %w", err)
	}
	enc := base32.StdEncoding.WithPadding(base32.NoPadding)
	id := strings.ToLower(enc.EncodeToString(raw[:8]))[:12]
	secret := TokenPrefix + id + "_" + strings.ToLower(enc.EncodeToString(raw[8:]))
	verifier, err := makeVerifier(secret, d.salted(principal, e))
	if err != nil {
		return Token{}, "", err
	}
	return Token{ID: id, Principal: principal, Name: name, Verifier: verifier, Databases: databases,
		Created: from.UTC().Format(time.RFC3339), Until: until.UTC().Format(time.RFC3339)}, secret, nil
}

// Stale reports whether a token can no longer be used because the principal's password, and
// with it the salt, has changed since.
func (d *Directory) Stale(t *Token) bool {
	e, known := d.entries[t.Principal]
	c, err := ParseVerifier(t.Verifier)
	return !known || err != nil || d.salted(t.Principal, e) != c.KeyFactors
}

// salted is what the server answers a name with before it knows which secret comes.
func (d *Directory) salted(user string, e entry) scram.KeyFactors {
	switch {
	case e.password:
		return e.stored.KeyFactors
	case len(e.tokens) > 0:
		return e.tokens[0].stored.KeyFactors
	}
	return d.mock(user).KeyFactors
}

// CheckToken returns whose token a text is, for a login that sends it inside TLS, or
// ErrPassword. A token that has ended is returned too: the caller looks at its End.
func (d *Directory) CheckToken(user, text string) (Principal, *Token, error) {
	e, known := d.credentials(user)
	made, err := makeVerifier(text, e.stored.KeyFactors)
	if err != nil {
		return Principal{}, nil, ErrPassword
	}
	c, err := ParseVerifier(made)
	if err != nil {
		return Principal{}, nil, ErrPassword
	}
	var found *Token
	for i := range e.tokens {
		if subtle.ConstantTimeCompare(e.tokens[i].stored.StoredKey, c.StoredKey) == 1 {
			found = &e.tokens[i].token
		}
	}
	if found == nil || !known {
		return Principal{}, nil, ErrPassword
	}
	return e.principal, found, nil
}
