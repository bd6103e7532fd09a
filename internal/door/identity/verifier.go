package identity

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

// Bounds of a verifier's iteration count. RFC 7677 asks for at least 4096; the upper bound
// keeps a typing error from stalling every client.
const (
	MinIterations     = 4096
	MaxIterations     = 1 << 20
	DefaultIterations = 4096 // PostgreSQL's own default: what drivers are fast enough for
)

const scheme = "SCRAM-SHA-256$"

// errVerifier never repeats the verifier: it is as good as a password to a brute force.
var errVerifier = errors.New("not a SCRAM-SHA-256 verifier")

// ParseVerifier parses PostgreSQL's form of a SCRAM-SHA-256 verifier.
func ParseVerifier(s string) (scram.StoredCredentials, error) {
	var c scram.StoredCredentials
	rest, ok := strings.CutPrefix(s, scheme)
	factors, keys, ok2 := strings.Cut(rest, "$")
	count, salt, ok3 := strings.Cut(factors, ":")
	stored, server, ok4 := strings.Cut(keys, ":")
	if !ok || !ok2 || !ok3 || !ok4 {
		return c, errVerifier
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < MinIterations || n > MaxIterations {
		return c, fmt.Errorf("%w: iterations must be %d to %d", errVerifier, MinIterations, MaxIterations)
	}
	rawSalt, err1 := base64.StdEncoding.Strict().DecodeString(salt)
	rawStored, err2 := base64.StdEncoding.Strict().DecodeString(stored)
	rawServer, err3 := base64.StdEncoding.Strict().DecodeString(server)
	if errors.Join(err1, err2, err3) != nil || len(rawSalt) < 8 || len(rawStored) != 32 || len(rawServer) != 32 {
		return c, errVerifier
	}
	c.Iters, c.Salt, c.StoredKey, c.ServerKey = n, string(rawSalt), rawStored, rawServer
	return c, nil
}

// NewVerifier makes a verifier of a password with a fresh salt of 16 bytes. Iterations 0
// means DefaultIterations. Password is prepared after RFC 4013 as clients do it.
func NewVerifier(password string, iterations int) (string, error) {
	if iterations == 0 {
		iterations = DefaultIterations
	}
	if password == "" || iterations < MinIterations || iterations > MaxIterations {
		return "", fmt.Errorf("make verifier: an empty password, or iterations not in %d to %d", MinIterations, MaxIterations)
	}
	salt := make([]byte, 16)
	if _, err := rand.Read(salt); err != nil {
		return "", fmt.Errorf("draw salt: %w", err)
	}
	return makeVerifier(password, scram.KeyFactors{Salt: string(salt), Iters: iterations})
}

// makeVerifier makes a verifier of a password with a given salt and iterations.
func makeVerifier(password string, with scram.KeyFactors) (string, error) {
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		// What SASLprep refuses, PostgreSQL and its clients use as it is.
		if client, err = scram.SHA256.NewClientUnprepped("", password, ""); err != nil {
			return "", fmt.Errorf("make verifier: %w", err)
		}
	}
	c, err := client.GetStoredCredentialsWithError(with)
	if err != nil {
		return "", fmt.Errorf("make verifier: %w", err)
	}
	enc := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s%d:%s$%s:%s", scheme, with.Iters, enc([]byte(with.Salt)), enc(c.StoredKey), enc(c.ServerKey)), nil
}
