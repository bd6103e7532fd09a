// Package certfile makes TLS configurations of the PEM files that a configuration names.
//
// The invariant it keeps: TLS 1.2 or later, and where authorities are named, those and no other
// are trusted. It holds no rule of either side of the house.
package certfile

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sync"
	"time"
)

// Client trusts the authorities in the PEM files, or the system's where none is named: empty
// names count as none.
func Client(authorities ...string) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	for _, path := range authorities {
		if path == "" {
			continue
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read authority: %w", err)
		}
		if c.RootCAs == nil {
			c.RootCAs = x509.NewCertPool()
		}
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("read authority: %s holds no certificate", path)
		}
	}
	return c, nil
}

// Server serves the certificate in a file, and reads it again when the file changes: a renewed
// certificate needs no restart. Nil without a certificate.
func Server(certificate, key string) (*tls.Config, error) {
	if certificate == "" {
		return nil, nil
	}
	k := &keyPair{certificate: certificate, key: key}
	if _, err := k.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.get}, nil
}

// keyPair is a certificate as it was read last.
type keyPair struct {
	certificate, key string

	mu   sync.Mutex
	at   time.Time // modification time of what is held
	held *tls.Certificate
}

// get returns the certificate. One that cannot be read leaves the former in use.
func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	info, err := os.Stat(k.certificate)
	if err == nil && k.held != nil && info.ModTime().Equal(k.at) {
		return k.held, nil
	}
	pair, loadErr := tls.LoadX509KeyPair(k.certificate, k.key)
	switch {
	case err == nil && loadErr == nil:
		k.held, k.at = &pair, info.ModTime()
	case k.held == nil:
		return nil, fmt.Errorf("read certificate: %w", loadErr)
	}
	return k.held, nil
}
