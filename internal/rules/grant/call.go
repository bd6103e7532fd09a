package grant

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// CallHeader is the first line of a signed call, CallField the HTTP header that carries one.
const (
	CallHeader = "trefoil.eu/call/v1"
	CallField  = "Trefoil-Call"
)

// maxCall bounds the header's value, in bytes.
const maxCall = 4 << 10

// ErrCall means that a request over HTTP is not signed as it should be. Nothing was done.
var ErrCall = errors.New("request is not signed by a known key")

// Call is one request over HTTP, as its sender signs it: a note with a line for each field.
// Whoever receives it compares all of them, and takes each nonce once.
type Call struct {
	Audience string // origin of the enclave's log: a call to another enclave is none to this
	Method   string
	Path     string // with its query
	At       time.Time
	Nonce    string // 32 hex digits
	Body     string // hex SHA-256
}

// NewCall describes a request with this body.
func NewCall(audience, method, path, nonce string, body []byte, at time.Time) Call {
	sum := sha256.Sum256(body)
	return Call{Audience: audience, Method: method, Path: path, At: seconds(at), Nonce: nonce, Body: hex.EncodeToString(sum[:])}
}

func (c Call) text() string {
	return strings.Join([]string{CallHeader, c.Audience, c.Method + " " + c.Path, c.At.Format(time.RFC3339), c.Nonce, c.Body}, "\n") + "\n"
}

// SignCall returns the header's value.
func SignCall(c Call, s note.Signer) (string, error) {
	if !plain(c.Audience) || !plain(c.Method) || len(c.Path) > 1024 || strings.ContainsAny(c.Path, " \r\n\t") || !hexID.MatchString(c.Nonce) || !hexHash.MatchString(c.Body) {
		return "", fmt.Errorf("sign request: %w", ErrMalformed)
	}
	out, err := note.Sign(&note.Note{Text: c.text()}, s)
	if err != nil {
		return "", fmt.Errorf("sign request: %w", err)
	}
	return base64.StdEncoding.EncodeToString(out), nil
}

// OpenCall verifies a header's value against keys and returns what was signed, and the index of
// the key. It compares nothing with the request itself.
func OpenCall(value string, keys []note.Verifier) (Call, int, error) {
	fail := func() (Call, int, error) { return Call{}, -1, fmt.Errorf("open call: %w", ErrCall) }
	if value == "" || len(value) > maxCall || strings.ContainsAny(value, "\r\n") {
		return fail()
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(value)
	if err != nil {
		return fail()
	}
	for i, k := range keys {
		n, err := note.Open(raw, note.VerifierList(k))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSuffix(n.Text, "\n"), "\n")
		if len(lines) != 6 {
			return fail()
		}
		c := Call{Audience: lines[1], Nonce: lines[4], Body: lines[5]}
		c.Method, c.Path, _ = strings.Cut(lines[2], " ")
		if c.At, err = time.Parse(time.RFC3339, lines[3]); err != nil || c.text() != n.Text || !hexID.MatchString(c.Nonce) {
			return fail()
		}
		return c, i, nil
	}
	return fail()
}
