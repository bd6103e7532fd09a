package postgres

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
)

// scramIterations is PostgreSQL's own default.
const scramIterations = 4096

// scramVerifier makes the form in which PostgreSQL stores a SCRAM-SHA-256 password (RFC 5803),
// so that the password itself is in no statement. Only ASCII passwords: those need no SASLprep.
func scramVerifier(password string) (string, error) {
	if password == "" {
		return "", errors.New("make verifier: the password is empty")
	}
	for _, c := range []byte(password) {
		if c < 0x20 || c > 0x7e {
			return "", errors.New("make verifier: the password is not printable ASCII")
		}
	}
	var salt [16]byte
	if _, err := rand.Read(salt[:]); err != nil {
		return "", fmt.Errorf("draw salt: %w", err)
	}
	salted, err := pbkdf2.Key(sha256.New, password, salt[:], scramIterations, sha256.Size)
	if err != nil {
		return "", fmt.Errorf("make verifier: %w", err)
	}
	mac := func(text string) []byte {
		h := hmac.New(sha256.New, salted)
		h.Write([]byte(text))
		return h.Sum(nil)
	}
	stored := sha256.Sum256(mac("Client Key"))
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", scramIterations, b64(salt[:]), b64(stored[:]), b64(mac("Server Key"))), nil
}
