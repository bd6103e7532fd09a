package identity

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
)

// ErrServer means that the server's side of an exchange is malformed, or that it did not
// prove that it knows the verifier. The caller should close the connection.
var ErrServer = errors.New("server failed the SCRAM exchange")

// Relogin is the client's side of SCRAM-SHA-256 (RFC 5802) with Keys in place of a
// password: neither salt nor iterations are needed.
type Relogin struct {
	keys  *Keys
	first string
	nonce string
	auth  string
}

// Begin returns the client's first message.
func (k *Keys) Begin() (*Relogin, string, error) {
	raw := make([]byte, 18)
	if _, err := rand.Read(raw); err != nil {
		return nil, "", fmt.Errorf("draw nonce: %w", err)
	}
	r := &Relogin{keys: k, nonce: base64.StdEncoding.EncodeToString(raw)}
	r.first = "n=,r=" + r.nonce
	return r, "n,," + r.first, nil
}

// Prove takes the server's first message and returns the client's final one.
func (r *Relogin) Prove(serverFirst string) (string, error) {
	nonce, _, ok := strings.Cut(strings.TrimPrefix(serverFirst, "r="), ",")
	if !ok || !strings.HasPrefix(serverFirst, "r=") || !strings.HasPrefix(nonce, r.nonce) || len(nonce) <= len(r.nonce) {
		return "", ErrServer
	}
	bare := "c=biws,r=" + nonce // biws: the GS2 header "n,,"
	r.auth = r.first + "," + serverFirst + "," + bare
	stored := sha256.Sum256(r.keys.Client)
	proof := sign(stored[:], r.auth)
	for i := range proof {
		proof[i] ^= r.keys.Client[i]
	}
	return bare + ",p=" + base64.StdEncoding.EncodeToString(proof), nil
}

// Check takes the server's final message.
func (r *Relogin) Check(serverFinal string) error {
	text, ok := strings.CutPrefix(serverFinal, "v=")
	text, _, _ = strings.Cut(text, ",")
	got, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || r.auth == "" || !hmac.Equal(got, sign(r.keys.Server, r.auth)) {
		return ErrServer
	}
	return nil
}

func sign(key []byte, text string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(text))
	return mac.Sum(nil)
}
