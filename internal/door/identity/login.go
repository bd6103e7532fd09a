package identity

import (
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
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
type Login struct {
	entry entry
	known bool
	conv  *scram.ServerConversation
	bound bool
}

// Begin starts an exchange for user with the client's first message. binding is the server's
// tls-server-end-point value, nil without TLS. It returns the server's first message.
func (d *Directory) Begin(user, mechanism, first string, binding []byte) (*Login, string, error) {
	plus := strings.HasPrefix(first, "p=")
	switch {
	case mechanism == MechanismPlus && len(binding) > 0 && plus:
	case mechanism == Mechanism && !plus:
	default:
		return nil, "", fmt.Errorf("%w: mechanism and channel binding do not fit", ErrSASL)
	}
	l := &Login{bound: plus}
	l.entry, l.known = d.credentials(user)
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return l.entry.stored, nil })
	if err != nil {
		return nil, "", fmt.Errorf("start SCRAM: %w", err)
	}
	if len(binding) > 0 {
		l.conv = server.NewConversationWithChannelBinding(scram.ChannelBinding{
			Type: scram.ChannelBindingTLSServerEndpoint, Data: binding})
	} else {
		l.conv = server.NewConversation()
	}
	answer, err := l.conv.Step(first)
	if err != nil {
		return nil, "", ErrSASL // the library's text may repeat the client's bytes
	}
	return l, answer, nil
}

// Finish takes the client's final message and returns the principal with the server's final
// message, or ErrPassword.
func (l *Login) Finish(final string) (Principal, string, error) {
	answer, err := l.conv.Step(final)
	if err != nil || !l.conv.Valid() || !l.known {
		return Principal{}, "", ErrPassword
	}
	return l.entry.principal, answer, nil
}

// Bound reports whether the exchange is bound to the TLS channel.
func (l *Login) Bound() bool { return l.bound }

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
