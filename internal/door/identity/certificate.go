package identity

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"time"
)

// CertificateConfig says which client certificates log in, and as whom.
type CertificateConfig struct {
	Authority string            `yaml:"authority"`      // PEM file of the CAs that issue them
	CRLs      []string          `yaml:"crls,omitempty"` // PEM or DER files; with any, each issuer needs one that is in date
	Users     []CertificateUser `yaml:"users"`          // first match wins
	Map       Mapping           `yaml:"map,omitempty"`
	Session   string            `yaml:"session,omitempty"` // longest session; default until the certificate ends
}

// CertificateUser is one line of the map: all attributes that are set must fit. In User, a
// star is what the star of the attributes stands for.
type CertificateUser struct {
	User  string  `yaml:"user"`
	CN    Pattern `yaml:"cn,omitempty"`
	O     Pattern `yaml:"o,omitempty"`
	OU    Pattern `yaml:"ou,omitempty"`
	Email Pattern `yaml:"email,omitempty"` // subject alternative names
	DNS   Pattern `yaml:"dns,omitempty"`
	URI   Pattern `yaml:"uri,omitempty"`
}

// CheckCertificates reports what does not hold in the configuration, by key.
func CheckCertificates(c *CertificateConfig, report func(key, format string, args ...any)) {
	if c.Authority == "" {
		report("authority", "authority is missing: the file of the CAs that issue client certificates")
	}
	if len(c.Users) == 0 {
		report("users", "users is missing: which certificate logs in as whom")
	}
	for i, u := range c.Users {
		at := fmt.Sprintf("users[%d]", i)
		stars, set := 0, 0
		for _, p := range u.patterns() {
			if p.pattern == "" {
				continue
			}
			set++
			if err := p.pattern.check(); err != nil {
				report(at+"."+p.attribute, "%v", err)
			}
			if bytes.ContainsRune([]byte(p.pattern), '*') {
				stars++
			}
		}
		switch {
		case set == 0:
			report(at, "name at least one of cn, o, ou, email, dns, uri")
		case Pattern(u.User).check() != nil:
			report(at+".user", "user is a name, or holds one star: what the star of an attribute stands for")
		case bytes.ContainsRune([]byte(u.User), '*') && stars != 1:
			report(at+".user", "user has a star: exactly one attribute must have one too")
		}
	}
	c.Map.check(func(key, format string, args ...any) { report("map."+key, format, args...) })
	if _, err := duration(c.Session, 0); err != nil {
		report("session", "%v", err)
	}
}

type attributePattern struct {
	attribute string
	pattern   Pattern
}

func (u *CertificateUser) patterns() []attributePattern {
	return []attributePattern{{"cn", u.CN}, {"o", u.O}, {"ou", u.OU}, {"email", u.Email}, {"dns", u.DNS}, {"uri", u.URI}}
}

// Certificates verifies client certificates. Its zero value trusts none; it does not change.
type Certificates struct {
	c       CertificateConfig
	pool    *x509.CertPool
	issuers []*x509.Certificate
	crls    []*x509.RevocationList
	session time.Duration
}

// Why a certificate of our own authority is not accepted. Its holder has proved to hold its
// key, so the client is told.
var (
	ErrCertificateExpired = errors.New("the client certificate has expired or is not valid yet")
	ErrCertificateRevoked = errors.New("the client certificate was revoked")
	ErrCRL                = errors.New("the revocation list of the client certificate's issuer is missing or out of date")
)

// LoadCertificates reads the files that the configuration names.
func LoadCertificates(c CertificateConfig) (*Certificates, error) {
	out := &Certificates{c: c, pool: x509.NewCertPool()}
	var err error
	if out.session, err = duration(c.Session, 0); err != nil {
		return nil, fmt.Errorf("read session: %w", err)
	}
	src, err := os.ReadFile(c.Authority)
	if err != nil {
		return nil, fmt.Errorf("read authority of client certificates: %w", err)
	}
	for block, rest := pem.Decode(src); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil || !cert.IsCA {
			return nil, fmt.Errorf("read authority of client certificates: %s holds something else than CA certificates", c.Authority)
		}
		out.pool.AddCert(cert)
		out.issuers = append(out.issuers, cert)
	}
	if len(out.issuers) == 0 {
		return nil, fmt.Errorf("read authority of client certificates: %s holds no certificate", c.Authority)
	}
	for _, path := range c.CRLs {
		src, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read revocation list: %w", err)
		}
		if block, _ := pem.Decode(src); block != nil {
			src = block.Bytes
		}
		list, err := x509.ParseRevocationList(src)
		if err != nil {
			return nil, fmt.Errorf("read revocation list: %s is none", path)
		}
		out.crls = append(out.crls, list)
	}
	return out, nil
}

// Identify returns who a client certificate is, if it is for user. The chain is what the
// client sent, its own first; the TLS handshake has shown that it holds the key. ok is false
// for a certificate that says nothing here: of another authority, or for another user. An
// error is for one of our authority that may not be used.
func (c *Certificates) Identify(d *Directory, chain []*x509.Certificate, user string, now time.Time) (p Principal, until time.Time, ok bool, err error) {
	if c == nil || c.pool == nil || len(chain) == 0 {
		return Principal{}, time.Time{}, false, nil
	}
	leaf, between := chain[0], x509.NewCertPool()
	for _, cert := range chain[1:] {
		between.AddCert(cert)
	}
	how := x509.VerifyOptions{Roots: c.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	verified, err := leaf.Verify(how)
	if err != nil {
		// Somebody else's certificate, which libpq sends by itself, says nothing here, in date or not.
		how.CurrentTime = leaf.NotAfter.Add(-time.Second)
		if _, ours := leaf.Verify(how); ours == nil {
			err = ErrCertificateExpired
		} else {
			err = nil
		}
		return Principal{}, time.Time{}, false, err
	}
	if err := c.revoked(verified[0], now); err != nil {
		return Principal{}, time.Time{}, false, err
	}
	attributes := attributesOf(leaf)
	named, starred := c.isFor(attributes, user)
	if !named {
		return Principal{}, time.Time{}, false, nil
	}
	listed, known := d.Lookup(user)
	if known && (!listed.Accepts(ByCertificate) || listed.Service && starred) { // a person's certificate is no service's
		return Principal{}, time.Time{}, false, nil
	}
	by := Attestation{By: "certificate of " + leaf.Issuer.CommonName, At: leaf.NotBefore.UTC(), Evidence: EvidenceCertificate}
	p, err = c.c.Map.apply(listed, known, user, attributes, by)
	if err != nil {
		return Principal{}, time.Time{}, false, nil
	}
	for _, cert := range verified[0] { // a chain ends with its first certificate that ends
		until = earliest(until, cert.NotAfter)
	}
	if c.session > 0 {
		until = earliest(until, now.Add(c.session))
	}
	return p, until, true, nil
}

// isFor reports whether the first line of the map that fits the certificate names user.
// That it is the first, whoever it names, keeps a line for all from widening one for a few.
func (c *Certificates) isFor(a Attributes, user string) (named, starred bool) {
	for _, u := range c.c.Users {
		if name, fits := u.name(a); fits {
			return name == user, name != u.User
		}
	}
	return false, false
}

// name returns whom a line names for a certificate's attributes.
func (u *CertificateUser) name(a Attributes) (string, bool) {
	star := ""
	for _, p := range u.patterns() {
		if p.pattern == "" {
			continue
		}
		values := a[p.attribute]
		if len(values) != 1 { // two common names: whoever picks one may pick the wrong one
			return "", false
		}
		s, fits := p.pattern.match(values[0])
		if !fits {
			return "", false
		}
		if s != "" {
			star = s
		}
	}
	return string(bytes.Replace([]byte(u.User), []byte("*"), []byte(star), 1)), true
}

// attributesOf lists a certificate's attributes. The subject's are read from all its parts,
// so that a second common name is seen.
func attributesOf(cert *x509.Certificate) Attributes {
	a := Attributes{"email": cert.EmailAddresses, "dns": cert.DNSNames}
	for _, u := range cert.URIs {
		a["uri"] = append(a["uri"], u.String())
	}
	names := map[string]string{"2.5.4.3": "cn", "2.5.4.6": "c", "2.5.4.10": "o", "2.5.4.11": "ou"}
	for _, part := range cert.Subject.Names {
		if key, text := names[part.Type.String()], fmt.Sprint(part.Value); key != "" {
			a[key] = append(a[key], text)
		}
	}
	return a
}

// revoked looks for every certificate of a chain but its root in its issuer's list.
func (c *Certificates) revoked(chain []*x509.Certificate, now time.Time) error {
	if len(c.crls) == 0 {
		return nil
	}
	for i := 0; i+1 < len(chain); i++ {
		cert, issuer := chain[i], chain[i+1]
		covered := false
		for _, list := range c.crls {
			if !bytes.Equal(list.RawIssuer, issuer.RawSubject) || list.CheckSignatureFrom(issuer) != nil {
				continue
			}
			for _, entry := range list.RevokedCertificateEntries {
				if entry.SerialNumber.Cmp(cert.SerialNumber) == 0 {
					return ErrCertificateRevoked // in an old list too: nothing is taken back
				}
			}
			covered = covered || !list.NextUpdate.IsZero() && now.Before(list.NextUpdate) && !now.Before(list.ThisUpdate)
		}
		if !covered {
			return ErrCRL
		}
	}
	return nil
}

// earliest returns the earlier of two times; zero is no time.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
