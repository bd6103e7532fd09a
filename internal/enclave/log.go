package enclave

import (
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/certfile"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// OpenLog opens the site's access log with the monitor and every further witness of the
// configuration. It succeeds while they are away.
func (c *Config) OpenLog(ctx context.Context, logger *slog.Logger) (*accesslog.Log, error) {
	signer, err := readSigner(c.Log.Key)
	if err != nil {
		return nil, err
	}
	if signer.Name() != c.Log.Origin {
		return nil, fmt.Errorf("open log: the key is named %q, the log's origin is %q", signer.Name(), c.Log.Origin)
	}
	keep := map[trefoil.Kind]time.Duration{}
	for kind, text := range c.Log.Retention {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("open log: retention of %s: %w", kind, err)
		}
		keep[trefoil.Kind(kind)] = d
	}
	secure, err := c.monitorTLS()
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	return accesslog.Open(ctx, accesslog.Config{TLS: secure,
		Origin: c.Log.Origin, Directory: c.Log.Directory, Signer: signer,
		Witnesses: c.witnesses(), Quorum: c.Log.Quorum, Retention: keep, Logger: logger,
	})
}

// monitorTLS is how the monitor and the other witnesses are spoken to.
func (c *Config) monitorTLS() (*tls.Config, error) {
	authorities := []string{c.Monitor.Authority}
	for _, w := range c.Log.Witnesses {
		authorities = append(authorities, w.Authority)
	}
	return certfile.Client(authorities...)
}

func (c *Config) witnesses() []accesslog.Witness {
	out := []accesslog.Witness{}
	if c.Monitor.URL != "" {
		out = append(out, accesslog.Witness{URL: c.Monitor.URL, Key: c.Monitor.Witness})
	}
	for _, w := range c.Log.Witnesses {
		out = append(out, accesslog.Witness{URL: w.URL, Key: w.Key})
	}
	return out
}

// Trust is what the gateway believes before it lets anything out: its own log's key, the
// witnesses' keys and the monitor's permit key.
func (c *Config) Trust() (*trefoil.Trust, error) {
	logKey, err := c.logVerifier()
	if err != nil {
		return nil, err
	}
	keys := []string{c.Monitor.Witness, c.Monitor.Permit}
	for _, w := range c.Log.Witnesses {
		keys = append(keys, w.Key)
	}
	t, err := trefoil.ParseTrust(logKey, keys)
	if err != nil {
		return nil, fmt.Errorf("read the monitor's keys: %w", err)
	}
	t.Quorum = c.Log.Quorum
	for _, file := range c.Monitor.Successions {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read succession: %w", err)
		}
		if err := t.Succeed(string(text)); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return t, nil
}

// OtherTrust is what releases inside the region rest on while the monitor is away: the quorum,
// from the witnesses that are not the monitor's. It is nil where the configuration needs the
// monitor for every checkpoint; then nothing is released without it.
func (c *Config) OtherTrust() (*trefoil.Trust, error) {
	if c.Log.Quorum < 1 || len(c.Log.Witnesses) < c.Log.Quorum {
		return nil, nil
	}
	all, err := c.Trust()
	if err != nil {
		return nil, err
	}
	others := &trefoil.Trust{Log: all.Log, Quorum: c.Log.Quorum}
	for _, w := range c.Log.Witnesses {
		v, err := trefoil.NewWitnessVerifier(w.Key)
		if err != nil {
			return nil, fmt.Errorf("read a witness's key: %w", err)
		}
		others.Witnesses = append(others.Witnesses, v)
	}
	return others, nil
}

// logVerifier derives the log's public key from its signing key file.
func (c *Config) logVerifier() (string, error) {
	text, err := os.ReadFile(c.Log.Key)
	if err != nil {
		return "", fmt.Errorf("read log key: %w", err)
	}
	return vkeyOf(strings.TrimSpace(string(text)))
}

// vkeyOf returns the verifier key of a note signing key ("PRIVATE+KEY+name+hash+key").
func vkeyOf(skey string) (string, error) {
	signer, err := note.NewSigner(skey)
	if err != nil {
		return "", errors.New("read log key: not a note signing key")
	}
	public, err := publicKey(skey)
	if err != nil {
		return "", err
	}
	vkey, err := note.NewEd25519VerifierKey(signer.Name(), public)
	if err != nil {
		return "", fmt.Errorf("derive log key: %w", err)
	}
	return vkey, nil
}

// readSecret reads a key file of at least 32 bytes.
func readSecret(path, what string) ([]byte, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	if len(b) < 32 {
		return nil, fmt.Errorf("read %s: %s has %d bytes, it needs 32", what, path, len(b))
	}
	return b, nil
}

// publicKey derives the Ed25519 public key of a note signing key.
func publicKey(skey string) (ed25519.PublicKey, error) {
	f := strings.SplitN(skey, "+", 5) // PRIVATE+KEY+name+hash+base64(0x01 ‖ seed)
	if len(f) == 5 {
		if b, err := base64.StdEncoding.DecodeString(f[4]); err == nil && len(b) == 1+ed25519.SeedSize && b[0] == 1 {
			return ed25519.NewKeyFromSeed(b[1:]).Public().(ed25519.PublicKey), nil
		}
	}
	return nil, errors.New("derive log key: not an Ed25519 note signing key")
}
