package monitor

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/certfile"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// TestWithARealLog runs the access log with this monitor as its only witness: append, cosign,
// permit, receipt, mirror, over https and with the clock of the machine.
func TestWithARealLog(t *testing.T) {
	w := newWorld(t)
	w.close()
	var mu sync.Mutex
	var served http.Handler = http.NotFoundHandler()
	certificate, key := selfSigned(t)
	logServer := secured(t, certificate, key, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := served
		mu.Unlock()
		h.ServeHTTP(rw, r)
	}))
	defer logServer.Close()
	if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil { // other rules, so another beginning
		t.Fatal(err)
	}
	rules := filepath.Join(w.dir, RulesFile)
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	text = replaced(text, w.log.server.URL, logServer.URL+"\", authority: \""+certificate)
	if err := os.WriteFile(rules, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.clock.t = time.Now().UTC()
	m, err := New(t.Context(), Config{Dir: w.dir})
	if err != nil {
		t.Fatal(err)
	}
	server := secured(t, certificate, key, m.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	keys, err := PublicKeys(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	secure, err := certfile.Client(certificate)
	if err != nil {
		t.Fatal(err)
	}
	l, err := accesslog.Open(ctx, accesslog.Config{TLS: secure, Origin: testOrigin, Directory: t.TempDir(), Signer: w.log.signer,
		Witnesses: []accesslog.Witness{{URL: server.URL, Key: keys.Witness}}})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	served = l.Handler(w.log.token)
	mu.Unlock()
	w.m = m
	defer func() {
		if err := l.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := m.Close(ctx); err != nil {
			t.Error(err)
		}
	}()

	request := func(b *trefoil.Body) *trefoil.PermitRequest {
		t.Helper()
		b.At = time.Now().UTC().Truncate(time.Microsecond)
		rec, err := trefoil.NewRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		ticket, err := l.Append(ctx, rec, nil)
		if err != nil {
			t.Fatal(err)
		}
		proof, err := ticket.Witnessed(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return &trefoil.PermitRequest{Body: rec.Body, Salt: rec.Salt, Proof: proof.String()}
	}
	d := analyticsDefinition()
	answer, err := m.Acknowledge(request(&trefoil.Body{Kind: trefoil.KindCatalog, Origin: testOrigin,
		Catalog: &trefoil.CatalogBody{Definition: d, Event: "defined", Hash: trefoil.DefinitionHash(d)}}))
	if err != nil || answer.Refusal != nil {
		t.Fatalf("acknowledge: %s, %v", show(answer), err)
	}
	a := w.access("chen", d)
	for _, b := range []*trefoil.Body{w.start(a), w.release(a, 0, 42, 42)} {
		req := request(b)
		permit, no, err := m.Permit(ctx, req)
		if err != nil || no != nil {
			t.Fatalf("permit: %s, %v", show(no), err)
		}
		if _, err := w.trust.VerifyReceipt(&trefoil.Receipt{Record: trefoil.Record{Body: req.Body, Salt: req.Salt}, Proof: req.Proof, Permit: permit}); err != nil {
			t.Errorf("receipt: %v", err)
		}
	}
	end := &trefoil.Body{Kind: trefoil.KindSession, Origin: testOrigin, Session: &trefoil.SessionBody{Access: a, Event: "end", Path: "release",
		Outcome: "closed", Released: 42}}
	request(end)
	if err := m.Sync(ctx); err != nil {
		t.Fatal(err)
	}
	s := m.Status(true)
	if n, byRule := m.findings.summary(); n != 0 || s.Logs[0].Bodies != 4 || s.Logs[0].Permitted != 42 || !s.Sessions[0].Closed {
		t.Errorf("findings %v, status %s; want none, 4 bodies, 42 bytes and a closed session", byRule, show(s))
	}
	if _, err := Verify(ctx, w.dir, nil); err != nil {
		t.Error(err)
	}
}

// selfSigned writes a certificate for this machine, its own authority.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	form := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	raw, err := x509.CreateCertificate(rand.Reader, form, form, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	certificate, key = filepath.Join(t.TempDir(), "certificate"), filepath.Join(t.TempDir(), "key")
	for path, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: raw}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certificate, key
}

// secured serves over https with the certificate in a file.
func secured(t *testing.T, certificate, key string, h http.Handler) *httptest.Server {
	t.Helper()
	c, err := certfile.Server(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // handshakes that fail are the point
	s.Listener = tls.NewListener(s.Listener, c)
	s.Start()
	s.URL = strings.Replace(s.URL, "http:", "https:", 1)
	t.Cleanup(s.Close)
	return s
}

// TestAnImpostorOfTheMonitorHearsNothing: somebody on the way answers in the monitor's place
// with a certificate of another authority. Neither a checkpoint nor a token reaches them.
func TestAnImpostorOfTheMonitorHearsNothing(t *testing.T) {
	certificate, key := selfSigned(t)
	other, _ := selfSigned(t)
	impostor := secured(t, certificate, key, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the impostor was spoken to")
	}))
	c, err := certfile.Client(other)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
	resp, err := client.Get(impostor.URL)
	if err == nil {
		resp.Body.Close()
		t.Error("its certificate was believed")
	}
}

// TestARenewedCertificateIsServed without a restart; one that cannot be read is not.
func TestARenewedCertificateIsServed(t *testing.T) {
	certificate, key := selfSigned(t)
	c, err := certfile.Server(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	served := func() []byte {
		t.Helper()
		pair, err := c.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		return pair.Certificate[0]
	}
	first := served()
	if err := os.WriteFile(certificate, []byte("half a file"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(served(), first) {
		t.Error("a certificate that cannot be read took the former's place")
	}
	next, nextKey := selfSigned(t)
	for to, from := range map[string]string{certificate: next, key: nextKey} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(to, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(certificate, later, later); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(served(), first) {
		t.Error("the renewed certificate is not served")
	}
}
