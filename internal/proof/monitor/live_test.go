package monitor

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// TestWithARealLog runs the access log with this monitor as its only witness: append, cosign,
// permit, receipt, mirror, over HTTP and with the clock of the machine.
func TestWithARealLog(t *testing.T) {
	w := newWorld(t)
	w.close()
	var mu sync.Mutex
	var log http.Handler = http.NotFoundHandler()
	logServer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := log
		mu.Unlock()
		h.ServeHTTP(rw, r)
	}))
	defer logServer.Close()
	rules := filepath.Join(w.dir, RulesFile)
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rules, replaced(text, w.log.server.URL, logServer.URL), 0o600); err != nil {
		t.Fatal(err)
	}
	w.clock.t = time.Now().UTC()
	m, err := New(t.Context(), Config{Dir: w.dir})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	keys, err := PublicKeys(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := accesslog.Open(ctx, accesslog.Config{Origin: testOrigin, Directory: t.TempDir(), Signer: w.log.signer,
		Witnesses: []accesslog.Witness{{URL: server.URL, Key: keys.Witness}}})
	if err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	log = l.Handler(w.log.token)
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
