package postgres

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// ServerTLS names the files a server shows and trusts. They are copied into the cluster's
// tls/ directory at every start, owned by the server's user.
type ServerTLS struct {
	Authority string  // certificates that clients' certificates are verified against
	Server    KeyPair // what the server shows
}

// KeyPair names a certificate and its key, both PEM files; the key is 0600.
type KeyPair struct {
	Certificate string
	Key         string
}

// Authority is a small certificate authority kept in files: the gateway's own, or a demo's.
type Authority struct {
	File string // its certificate
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

// certificateLife is how long certificates made here are valid.
const certificateLife = 397 * 24 * time.Hour

// NewAuthority makes a P-256 certificate authority and writes dir/NAME.crt and NAME.key, or
// reads them when they are there. now is the clock, nil for the system's.
func NewAuthority(dir, name string, now func() time.Time) (*Authority, error) {
	if now == nil {
		now = time.Now
	}
	pair := KeyPair{Certificate: filepath.Join(dir, name+".crt"), Key: filepath.Join(dir, name+".key")}
	a := &Authority{File: pair.Certificate, now: now}
	if cert, key, err := readPair(pair); err == nil {
		a.cert, a.key = cert, key
		return a, nil
	} else if !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read authority %s: %w", name, err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, MaxPathLenZero: true,
	}
	if _, err := a.issue(pair, template); err != nil {
		return nil, err
	}
	var err error
	a.cert, a.key, err = readPair(pair)
	return a, err
}

// Server issues dir/NAME.crt and NAME.key for hosts (names or addresses), unless they are there.
func (a *Authority) Server(dir, name string, hosts ...string) (KeyPair, error) {
	template := &x509.Certificate{
		Subject:  pkix.Name{CommonName: name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	return a.issue(KeyPair{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}, template)
}

// Client issues dir/NAME.crt and NAME.key with the common name NAME, unless they are there.
func (a *Authority) Client(dir, name string) (KeyPair, error) {
	return a.issue(KeyPair{filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")}, &x509.Certificate{
		Subject:  pkix.Name{CommonName: name},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// issue makes a key and a certificate signed by the authority (by itself while it has none).
func (a *Authority) issue(pair KeyPair, template *x509.Certificate) (KeyPair, error) {
	if _, _, err := readPair(pair); err == nil {
		return pair, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair, fmt.Errorf("make key: %w", err)
	}
	template.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return pair, fmt.Errorf("draw serial: %w", err)
	}
	template.NotBefore, template.NotAfter = a.now().Add(-time.Hour), a.now().Add(certificateLife)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return pair, fmt.Errorf("issue certificate: %w", err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair, fmt.Errorf("encode key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(pair.Key), 0o755); err != nil {
		return pair, fmt.Errorf("make certificate directory: %w", err)
	}
	if err := os.WriteFile(pair.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600); err != nil {
		return pair, fmt.Errorf("write key: %w", err)
	}
	if err := os.WriteFile(pair.Certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return pair, fmt.Errorf("write certificate: %w", err)
	}
	return pair, nil
}

// readPair reads a P-256 certificate and its key.
func readPair(pair KeyPair) (*x509.Certificate, *ecdsa.PrivateKey, error) {
	certPEM, err := os.ReadFile(pair.Certificate)
	if err != nil {
		return nil, nil, err
	}
	keyPEM, err := os.ReadFile(pair.Key)
	if err != nil {
		return nil, nil, err
	}
	certBlock, _ := pem.Decode(certPEM)
	keyBlock, _ := pem.Decode(keyPEM)
	if certBlock == nil || keyBlock == nil {
		return nil, nil, fmt.Errorf("%s or its key is not PEM", pair.Certificate)
	}
	cert, err := x509.ParseCertificate(certBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("parse %s: %w", pair.Certificate, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(keyBlock.Bytes)
	if err != nil {
		return nil, nil, fmt.Errorf("parse %s: %w", pair.Key, err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, nil, fmt.Errorf("%s is not an elliptic-curve key", pair.Key)
	}
	return cert, key, nil
}

func (c *Cluster) tlsDir() string { return filepath.Join(c.o.Directory, "tls") }

// copyTLS gives the server its own copies: it may not be able to read the originals, and
// refuses keys that others own.
func (c *Cluster) copyTLS() error {
	t := c.o.TLS
	if t == nil {
		return nil
	}
	for to, from := range map[string]string{"ca.crt": t.Authority, "server.crt": t.Server.Certificate, "server.key": t.Server.Key} {
		b, err := os.ReadFile(from)
		if err != nil {
			return fmt.Errorf("read TLS file of cluster %s: %w", c.o.Name, err)
		}
		if err := c.writeOwned(filepath.Join(c.tlsDir(), to), b, 0o600); err != nil {
			return err
		}
	}
	return nil
}
