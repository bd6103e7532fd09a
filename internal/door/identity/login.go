package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"github.com/xdg-go/scram"
)

// SASL mechanisms.
const (
	Mechanism     = "SCRAM-SHA-256"
	MechanismPlus = "SCRAM-SHA-256-PLUS"
)

// ErrPassword is returned when a login fails, whatever the reason: the client learns no
// more than SQLSTATE 28P01 and one fixed text.
var ErrPassword = errors.New("password authentication failed")

// ErrSASL is wrapped when a client breaks the exchange itself (SQLSTATE 08P01).
var ErrSASL = errors.New("malformed SCRAM message")

// Login is one SCRAM-SHA-256 exchange. The user name is the start-up packet's; the one
// inside SCRAM is ignored, as PostgreSQL does.
//
// A principal's password and tokens answer to one salt, so the server's first message does
// not depend on which of them the client holds: each has a conversation of its own with the
// same nonce, and the one whose proof fits wins.
type Login struct {
	principal Principal
	known     bool
	tries     []try
	won       *try
	bound     bool
	first     string // the client's first message without its GS2 header
	answer    string
	final     string
}

// try is one secret that the client may hold.
type try struct {
	conv   *scram.ServerConversation
	stored scram.StoredCredentials
	opens  bool
	token  *Token
}

// Begin starts an exchange for user with the client's first message. binding is the server's
// tls-server-end-point value, nil without TLS. It returns the server's first message.
func (d *Directory) Begin(user, mechanism, first string, binding []byte) (*Login, string, error) {
	e, known := d.credentials(user)
	l := &Login{principal: e.principal, known: known,
		tries: []try{{stored: e.stored, opens: e.password && e.principal.Accepts(ByPassword)}}}
	for i := range e.tokens {
		l.tries = append(l.tries, try{stored: e.tokens[i].stored, opens: true, token: &e.tokens[i].token})
	}
	return l.begin(mechanism, first, binding)
}

// BeginSource starts an exchange for a user whose verifier is the source database's own;
// "" for one it does not know, who is answered from a mock.
func (d *Directory) BeginSource(user, verifier string, who Principal, mechanism, first string, binding []byte) (*Login, string, error) {
	stored := d.mock(user)
	c, err := ParseVerifier(verifier)
	if err == nil {
		stored = c
	} else {
		stored.Iters = DefaultIterations // as the source's own are
	}
	l := &Login{principal: who, known: err == nil, tries: []try{{stored: stored, opens: err == nil}}}
	return l.begin(mechanism, first, binding)
}

func (l *Login) begin(mechanism, first string, binding []byte) (*Login, string, error) {
	plus := strings.HasPrefix(first, "p=")
	switch {
	case mechanism == MechanismPlus && len(binding) > 0 && plus:
	case mechanism == Mechanism && !plus:
	default:
		return nil, "", fmt.Errorf("%w: mechanism and channel binding do not fit", ErrSASL)
	}
	l.bound = plus
	raw := make([]byte, 18)
	if _, err := rand.Read(raw); err != nil {
		return nil, "", fmt.Errorf("draw nonce: %w", err)
	}
	nonce := base64.StdEncoding.EncodeToString(raw)
	for i := range l.tries {
		t := &l.tries[i]
		server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return t.stored, nil })
		if err != nil {
			return nil, "", fmt.Errorf("start SCRAM: %w", err)
		}
		server.WithNonceGenerator(func() string { return nonce })
		if len(binding) > 0 {
			t.conv = server.NewConversationWithChannelBinding(scram.ChannelBinding{
				Type: scram.ChannelBindingTLSServerEndpoint, Data: binding})
		} else {
			t.conv = server.NewConversation()
		}
		if l.answer, err = t.conv.Step(first); err != nil {
			return nil, "", ErrSASL // the library's text may repeat the client's bytes
		}
	}
	l.first = first
	if parts := strings.SplitN(first, ",", 3); len(parts) == 3 {
		l.first = parts[2]
	}
	return l, l.answer, nil
}

// Finish takes the client's final message and returns the principal with the server's final
// message, or ErrPassword. Every secret is tried, whichever fits.
func (l *Login) Finish(final string) (Principal, string, error) {
	l.final = final
	out := ""
	for i := range l.tries {
		t := &l.tries[i]
		answer, err := t.conv.Step(final)
		if err == nil && t.conv.Valid() && t.opens && l.won == nil {
			l.won, out = t, answer
		}
	}
	if l.won == nil || !l.known {
		return Principal{}, "", ErrPassword
	}
	return l.principal, out, nil
}

// Bound reports whether the exchange is bound to the TLS channel.
func (l *Login) Bound() bool { return l.bound }

// Token is the token that logged in, after Finish; nil for a password.
func (l *Login) Token() *Token {
	if l.won == nil {
		return nil
	}
	return l.won.token
}

// Keys are what a login at a server that holds the same verifier needs: the client's key,
// which its proof gives away to whoever holds the verifier, and the server's, to know the
// server by. They are worth the password there, so they stay in memory and are written
// nowhere; for one password they are always the same.
type Keys struct {
	Client, Server []byte // 32 bytes each
}

// Keys returns the exchange's keys after Finish; nil if it failed.
func (l *Login) Keys() *Keys {
	at := strings.LastIndex(l.final, ",p=")
	if l.won == nil || at < 0 {
		return nil
	}
	proof, err := base64.StdEncoding.DecodeString(l.final[at+3:])
	if err != nil || len(proof) != sha256.Size {
		return nil
	}
	mac := hmac.New(sha256.New, l.won.stored.StoredKey)
	mac.Write([]byte(l.first + "," + l.answer + "," + l.final[:at]))
	client := mac.Sum(nil)
	for i := range client {
		client[i] ^= proof[i]
	}
	return &Keys{Client: client, Server: l.won.stored.ServerKey}
}

// EndPoint returns the tls-server-end-point binding (RFC 5929, section 4) of a certificate,
// or nil if its signature algorithm has no single hash (Ed25519): PLUS is not offered then.
func EndPoint(cert *x509.Certificate) []byte {
	if cert == nil {
		return nil
	}
	switch cert.SignatureAlgorithm {
	case x509.MD5WithRSA, x509.SHA1WithRSA, x509.ECDSAWithSHA1,
		x509.SHA256WithRSA, x509.SHA256WithRSAPSS, x509.ECDSAWithSHA256:
		sum := sha256.Sum256(cert.Raw)
		return sum[:]
	case x509.SHA384WithRSA, x509.SHA384WithRSAPSS, x509.ECDSAWithSHA384:
		sum := sha512.Sum384(cert.Raw)
		return sum[:]
	case x509.SHA512WithRSA, x509.SHA512WithRSAPSS, x509.ECDSAWithSHA512:
		sum := sha512.Sum512(cert.Raw)
		return sum[:]
	}
	return nil
}
