package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var issueTime = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// ca issues client certificates.
type ca struct {
	t      *testing.T
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
	file   string
}

func newCA(t *testing.T, name string) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: issueTime.Add(-24 * time.Hour),
		NotAfter: issueTime.AddDate(5, 0, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	c := &ca{t: t, cert: cert, key: key, serial: 1, file: filepath.Join(t.TempDir(), "ca.crt")}
	c.write(c.file, "CERTIFICATE", der)
	return c
}

func (c *ca) write(path, kind string, der []byte) {
	c.t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		c.t.Fatal(err)
	}
}

// issue makes a certificate that lasts a month.
func (c *ca) issue(subject pkix.Name, change func(*x509.Certificate)) *x509.Certificate {
	c.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		c.t.Fatal(err)
	}
	c.serial++
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(c.serial), Subject: subject, NotBefore: issueTime, NotAfter: issueTime.AddDate(0, 1, 0),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}, KeyUsage: x509.KeyUsageDigitalSignature}
	if change != nil {
		change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, c.cert, key.Public(), c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return cert
}

// revoke writes a list with serials, in date for a week.
func (c *ca) revoke(from time.Time, serials ...*big.Int) string {
	c.t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: from, NextUpdate: from.AddDate(0, 0, 7)}
	for _, s := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: s, RevocationTime: from})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.cert, c.key)
	if err != nil {
		c.t.Fatal(err)
	}
	path := filepath.Join(c.t.TempDir(), "crl")
	c.write(path, "X509 CRL", der)
	return path
}

func loadCertificates(t *testing.T, c CertificateConfig) *Certificates {
	t.Helper()
	CheckCertificates(&c, func(key, format string, args ...any) { t.Errorf("%s: "+format, append([]any{key}, args...)...) })
	out, err := LoadCertificates(c)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func certDirectory(t *testing.T) *Directory {
	t.Helper()
	d, err := NewDirectory(&File{Version: 1, People: []Person{{ID: "aoife", Login: []string{ByCertificate}, Employer: "acme", Workplace: "IE"},
		{ID: "brian", Login: []string{ByToken}, Employer: "acme"}},
		Services: []Account{{ID: "app", Verifier: verifier(t, "x"), Databases: []string{"platform"}, Role: "app"}}}, []byte("s"))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestCertificateLogsIn(t *testing.T) {
	authority, other := newCA(t, "Acme People"), newCA(t, "Acme People")
	certs := loadCertificates(t, CertificateConfig{Authority: authority.file, Users: []CertificateUser{
		{User: "app", CN: "app.service", OU: "services"},
		{User: "*", CN: "*", O: "Acme", OU: "people"},
	}, Map: Mapping{Workplace: &Claim{From: "c"}}})
	d, now := certDirectory(t), issueTime.AddDate(0, 0, 3)
	person := pkix.Name{CommonName: "aoife", Organization: []string{"Acme"}, OrganizationalUnit: []string{"people"}, Country: []string{"IE"}}
	named := func(change func(*pkix.Name)) pkix.Name { n := person; change(&n); return n }
	for name, c := range map[string]struct {
		user string
		cert *x509.Certificate
		ok   bool
		err  error
	}{
		"right":                            {"aoife", authority.issue(person, nil), true, nil},
		"service":                          {"app", authority.issue(pkix.Name{CommonName: "app.service", OrganizationalUnit: []string{"services"}}, nil), true, nil},
		"for somebody else":                {"ciara", authority.issue(person, nil), false, nil},
		"of an authority of the same name": {"aoife", other.issue(person, nil), false, nil},
		"of another organisation":          {"aoife", authority.issue(named(func(n *pkix.Name) { n.Organization = []string{"Acme Evil"} }), nil), false, nil},
		"a person's cn is a service's":     {"app", authority.issue(named(func(n *pkix.Name) { n.CommonName = "app" }), nil), false, nil},
		"a second common name": {"aoife", authority.issue(named(func(n *pkix.Name) {
			n.CommonName = "mallory"
			n.ExtraNames = []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "aoife"}, {Type: []int{2, 5, 4, 3}, Value: "mallory"}}
		}), nil), false, nil},
		"a star as a name":        {"*", authority.issue(named(func(n *pkix.Name) { n.CommonName = "*" }), nil), false, nil},
		"an empty name":           {"", authority.issue(named(func(n *pkix.Name) { n.CommonName = "" }), nil), false, nil},
		"a zero byte in the name": {"aoife", authority.issue(named(func(n *pkix.Name) { n.CommonName = "aoife\x00.evil" }), nil), false, nil},
		"a server's certificate": {"aoife", authority.issue(person, func(x *x509.Certificate) {
			x.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}), false, nil},
		"somebody who logs in otherwise": {"brian", authority.issue(named(func(n *pkix.Name) { n.CommonName = "brian" }), nil), false, nil},
		"expired":                        {"aoife", authority.issue(person, func(x *x509.Certificate) { x.NotAfter = now.Add(-time.Hour) }), false, ErrCertificateExpired},
		"not yet valid":                  {"aoife", authority.issue(person, func(x *x509.Certificate) { x.NotBefore = now.Add(time.Hour) }), false, ErrCertificateExpired},
		"expired, of another CA":         {"aoife", other.issue(person, func(x *x509.Certificate) { x.NotAfter = now.Add(-time.Hour) }), false, nil},
	} {
		p, until, ok, err := certs.Identify(d, []*x509.Certificate{c.cert}, c.user, now)
		if ok != c.ok || !errors.Is(err, c.err) || ok != (p.ID == c.user && p.ID != "") {
			t.Errorf("%s: %+v, %v, %v", name, p, ok, err)
		}
		if ok && !until.Equal(c.cert.NotAfter) {
			t.Errorf("%s: until %v", name, until)
		}
		if ok && !p.Service && (p.WorkplaceBy == nil || p.WorkplaceBy.Evidence != EvidenceCertificate || p.Workplace != "IE") {
			t.Errorf("%s: %+v", name, p)
		}
	}
	abroad := authority.issue(named(func(n *pkix.Name) { n.Country = []string{"CN"} }), nil)
	if p, _, ok, _ := certs.Identify(d, []*x509.Certificate{abroad}, "aoife", now); !ok || p.Workplace != "" {
		t.Errorf("people.yaml says IE, the certificate CN: %q", p.Workplace)
	}
}

func TestRevokedCertificates(t *testing.T) {
	authority, other := newCA(t, "Acme People"), newCA(t, "Other")
	subject := pkix.Name{CommonName: "aoife"}
	lost, fine := authority.issue(subject, nil), authority.issue(subject, nil)
	now := issueTime.AddDate(0, 0, 3)
	users := []CertificateUser{{User: "aoife", CN: "aoife"}}
	d := certDirectory(t)
	try := func(crls []string, cert *x509.Certificate, at time.Time) error {
		t.Helper()
		_, _, ok, err := loadCertificates(t, CertificateConfig{Authority: authority.file, CRLs: crls, Users: users}).Identify(d, []*x509.Certificate{cert}, "aoife", at)
		if ok != (err == nil) {
			t.Fatalf("ok %v with %v", ok, err)
		}
		return err
	}
	list := []string{authority.revoke(issueTime, lost.SerialNumber)}
	for name, c := range map[string]struct {
		crls []string
		cert *x509.Certificate
		at   time.Time
		want error
	}{
		"no list asked for":               {nil, lost, now, nil},
		"revoked":                         {list, lost, now, ErrCertificateRevoked},
		"not revoked":                     {list, fine, now, nil},
		"list out of date":                {list, fine, issueTime.AddDate(0, 0, 8), ErrCRL},
		"revoked by a list out of date":   {list, lost, issueTime.AddDate(0, 0, 8), ErrCertificateRevoked},
		"list of another authority alone": {[]string{other.revoke(issueTime)}, fine, now, ErrCRL},
		"a list that another authority signed": {[]string{func() string {
			forged := *other
			forged.cert = &x509.Certificate{Subject: authority.cert.Subject, RawSubject: authority.cert.RawSubject, SubjectKeyId: authority.cert.SubjectKeyId, KeyUsage: x509.KeyUsageCRLSign,
				PublicKey: other.key.Public(), PublicKeyAlgorithm: x509.ECDSA}
			return forged.revoke(issueTime)
		}()}, fine, now, ErrCRL},
	} {
		if err := try(c.crls, c.cert, c.at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestCertificateMapIsChecked(t *testing.T) {
	for name, c := range map[string]CertificateConfig{
		"empty":                     {},
		"no attribute":              {Authority: "x", Users: []CertificateUser{{User: "aoife"}}},
		"two stars":                 {Authority: "x", Users: []CertificateUser{{User: "*", CN: "*.*"}}},
		"a star for nothing":        {Authority: "x", Users: []CertificateUser{{User: "*", CN: "aoife"}}},
		"stars in two attributes":   {Authority: "x", Users: []CertificateUser{{User: "*", CN: "*", O: "*"}}},
		"unlisted without employer": {Authority: "x", Users: []CertificateUser{{User: "*", CN: "*"}}, Map: Mapping{Unlisted: true}},
	} {
		found := 0
		CheckCertificates(&c, func(string, string, ...any) { found++ })
		if found == 0 {
			t.Errorf("%s: nothing is found", name)
		}
	}
	if _, _, ok, err := (*Certificates)(nil).Identify(certDirectory(t), nil, "aoife", issueTime); ok || err != nil {
		t.Errorf("no certificates configured: %v %v", ok, err)
	}
}
