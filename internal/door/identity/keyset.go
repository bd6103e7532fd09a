package identity

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of a keySet.
const (
	keysFresh   = 5 * time.Minute  // after so long a key that the issuer withdrew is not used any more
	keysAttempt = 10 * time.Second // between two fetches, whatever key ids tokens name
	keysPatient = time.Minute      // between two while the issuer is away and the keys at hand still serve
	keysSize    = 1 << 20          // bytes of a key set or discovery document
	keysTimeout = 5 * time.Second
)

var (
	errIssuerAway = errors.New("the issuer's keys cannot be had")
	errSignature  = errors.New("no key of the issuer signed the token")
)

// keySet holds an issuer's keys. It implements oidc.KeySet. Keys are fetched again when they
// are not fresh or a token names one that is not known, at a bounded rate; while the issuer
// is away they are used until they are stale.
type keySet struct {
	issuer, url string // url "" is found by discovery
	client      *http.Client
	algorithms  []jose.SignatureAlgorithm
	stale       time.Duration
	now         func() time.Time
	logger      *slog.Logger

	mu      sync.Mutex // held while fetching: whoever waits needs the answer
	keys    []jose.JSONWebKey
	fetched time.Time
	tried   time.Time
	away    bool // the last fetch failed
}

// VerifySignature implements oidc.KeySet.
func (k *keySet) VerifySignature(ctx context.Context, token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, k.algorithms)
	if err != nil || len(jws.Signatures) != 1 {
		return nil, errSignature
	}
	if typ, ok := jws.Signatures[0].Header.ExtraHeaders[jose.HeaderType]; ok {
		if text, _ := typ.(string); !strings.EqualFold(text, "JWT") { // an access token or a logout token is no ID token
			return nil, errSignature
		}
	}
	id := jws.Signatures[0].Header.KeyID
	keys, err := k.current(ctx, id)
	if err != nil {
		return nil, err
	}
	for i := range keys {
		if id != "" && keys[i].KeyID != id {
			continue
		}
		if keys[i].Algorithm != "" && keys[i].Algorithm != jws.Signatures[0].Header.Algorithm {
			continue // a key that says what it is for is used for that alone
		}
		if payload, err := jws.Verify(&keys[i]); err == nil {
			return payload, nil
		}
	}
	return nil, errSignature
}

// current returns the keys to verify with, fetched again if they have to be.
func (k *keySet) current(ctx context.Context, id string) ([]jose.JSONWebKey, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := id == ""
	for i := range k.keys {
		known = known || k.keys[i].KeyID == id
	}
	now := k.now()
	age, since := now.Sub(k.fetched), now.Sub(k.tried)
	old := k.fetched.IsZero() || age > keysFresh || age < 0 // a clock that went back says nothing of age
	pause := keysAttempt
	if k.away && known && age <= k.stale {
		pause = keysPatient
	}
	if (old || !known) && (k.tried.IsZero() || since >= pause || since < 0) {
		k.tried = now
		keys, err := k.fetch(ctx)
		if k.away = err != nil; k.away {
			k.logger.Warn("keys of an issuer of ID tokens not fetched", "issuer", k.issuer, "error", err)
		} else {
			k.keys, k.fetched = keys, now
		}
	}
	if k.fetched.IsZero() || now.Sub(k.fetched) > k.stale {
		return nil, errIssuerAway
	}
	return k.keys, nil
}

// fetch reads the key set, and where it is if that is not configured. Keys that cannot
// verify a signature by a public key are left out.
func (k *keySet) fetch(ctx context.Context) ([]jose.JSONWebKey, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keysTimeout)
	defer cancel()
	at := k.url
	if at == "" {
		var found struct {
			Issuer string `json:"issuer"`
			Keys   string `json:"jwks_uri"`
		}
		if err := k.get(ctx, strings.TrimSuffix(k.issuer, "/")+"/.well-known/openid-configuration", &found); err != nil {
			return nil, err
		}
		if found.Issuer != k.issuer {
			return nil, errors.New("the discovery document is another issuer's")
		}
		at = found.Keys
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := k.get(ctx, at, &raw); err != nil {
		return nil, err
	}
	var keys []jose.JSONWebKey
	for _, src := range raw.Keys {
		var key jose.JSONWebKey
		if json.Unmarshal(src, &key) == nil && key.IsPublic() && key.Valid() && (key.Use == "" || key.Use == "sig") {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New("the key set holds no public signing key")
	}
	return keys, nil
}

// get reads a JSON document over a line that nobody can change.
func (k *keySet) get(ctx context.Context, address string, into any) error {
	if err := secureURL(address); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return fmt.Errorf("read from issuer: %w", err)
	}
	resp, err := k.client.Do(req)
	if err != nil {
		return fmt.Errorf("read from issuer: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("read from issuer: status %d", resp.StatusCode)
	}
	src, err := io.ReadAll(io.LimitReader(resp.Body, keysSize+1))
	if err != nil || len(src) > keysSize {
		return errors.New("read from issuer: the document does not end in time or is too large")
	}
	if err := json.Unmarshal(src, into); err != nil {
		return errors.New("read from issuer: not the JSON that was expected")
	}
	return nil
}

// secureURL accepts https, and http on this machine alone.
func secureURL(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return errors.New("not the address of an issuer")
	}
	a, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme == "https" || u.Scheme == "http" && (u.Hostname() == "localhost" || a.IsLoopback()) {
		return nil
	}
	return errors.New("an issuer is asked over https only")
}
