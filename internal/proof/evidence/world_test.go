package evidence

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

const origin = "example.eu/log"

const rulesText = `version: 1
name: monitor.example
token: keys/token
staff_key: keys/staff
logs:
  - { origin: example.eu/log, key: "LOGKEY", url: "LOGURL", token: keys/log-token }
exporter: { name: Example Ltd, country: IE, role: controller }
entities:
  ie: { name: Example Ltd, country: IE, role: controller }
  cn: { name: Example Beijing, country: CN, role: processor }
principals:
  - { id: aoife, employer: ie, workplace: IE, groups: [analysts] }
  - { id: chen, employer: cn, workplace: CN, groups: [analysts] }
instruments:
  - { id: scc-cn, article: "46", date: "2026-01-15", entity: cn, purposes: [product-analytics], tia: tia-3, tia_date: "2026-01-10", until: "2027-01-15" }
datasets:
  - name: analytics
    purpose: product-analytics
    cluster: outside
    regimes: [EU]
    open:
      - { groups: [analysts], where: elsewhere, class: pseudonymised }
transfer_purposes: [product-analytics]
anomalies: { lookups: 4 }
`

// world is a real access log with a real monitor as its witness, over HTTP.
type world struct {
	t      *testing.T
	dir    string // the monitor's
	site   string // the log's
	log    *accesslog.Log
	signer note.Signer
	m      *monitor.Monitor
	staff  []byte
	logKey string
	public monitor.VerifierKeys
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), site: t.TempDir(), staff: bytes.Repeat([]byte{7}, 32)}
	var err error
	if w.public, err = monitor.Init(w.dir, "monitor.example"); err != nil {
		t.Fatal(err)
	}
	w.signer, _, w.logKey = witnesstest.Key(t, origin)
	var mu sync.Mutex
	var served http.Handler = http.NotFoundHandler()
	logServer := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		h := served
		mu.Unlock()
		h.ServeHTTP(rw, r)
	}))
	t.Cleanup(logServer.Close)
	text := strings.NewReplacer("LOGKEY", w.logKey, "LOGURL", logServer.URL).Replace(rulesText)
	for path, data := range map[string][]byte{monitor.RulesFile: []byte(text), "keys/staff": w.staff, "keys/log-token": []byte("bodies\n")} {
		if err := os.WriteFile(filepath.Join(w.dir, path), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if w.m, err = monitor.New(t.Context(), monitor.Config{Dir: w.dir}); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(w.m.Handler())
	t.Cleanup(server.Close)
	if w.log, err = accesslog.Open(t.Context(), accesslog.Config{Origin: origin, Directory: w.site, Signer: w.signer,
		Witnesses: []accesslog.Witness{{URL: server.URL, Key: w.public.Witness}}}); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	served = w.log.Handler("bodies")
	mu.Unlock()
	t.Cleanup(func() {
		ctx := context.Background()
		if err := errors.Join(w.log.Close(ctx), w.m.Close(ctx)); err != nil {
			t.Error(err)
		}
	})
	w.acknowledge()
	return w
}

func definition() *trefoil.Definition {
	return &trefoil.Definition{Cluster: "outside", K: 10, Name: "analytics", Purpose: "product-analytics", Person: "app.users", Regimes: []string{"EU"},
		Rows: map[string]string{"residence": "EEA"}, Columns: []trefoil.DefinedColumn{
			{Category: "behaviour", Column: "seconds", Form: "clear", Table: "app.watches", Type: "integer"},
			{Category: "identifier", Column: "id", Detail: "user", Form: "pseudonymised", Table: "app.users", Trait: "key", Type: "bigint"}}}
}

// add logs a body and returns what a permit is asked for with.
func (w *world) add(b *trefoil.Body) *trefoil.PermitRequest {
	w.t.Helper()
	b.At, b.Origin = time.Now().UTC().Truncate(time.Microsecond), origin
	rec, err := trefoil.NewRecord(b)
	if err != nil {
		w.t.Fatal(err)
	}
	var opening []byte
	if b.Release != nil {
		opening = bytes.Repeat([]byte{5}, 64)
	}
	ticket, err := w.log.Append(w.t.Context(), rec, opening)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(w.t.Context(), time.Minute)
	defer cancel()
	proof, err := ticket.Witnessed(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return &trefoil.PermitRequest{Body: rec.Body, Salt: rec.Salt, Proof: proof.String()}
}

func (w *world) acknowledge() {
	w.t.Helper()
	d := definition()
	a, err := w.m.Acknowledge(w.add(&trefoil.Body{Kind: trefoil.KindCatalog, Catalog: &trefoil.CatalogBody{Definition: d, Event: "defined", Hash: trefoil.DefinitionHash(d)}}))
	if err != nil || a.Refusal != nil {
		w.t.Fatalf("acknowledge: %+v, %v", a, err)
	}
}

// permitted logs a body, has it permitted, and stores the permit as the gateway does.
func (w *world) permitted(b *trefoil.Body) {
	w.t.Helper()
	req := w.add(b)
	text, no, err := w.m.Permit(w.t.Context(), req)
	if err != nil || no != nil {
		w.t.Fatalf("permit: %+v, %v", no, err)
	}
	p, err := trefoil.ParseProof(req.Proof)
	if err == nil {
		err = w.log.StorePermit(p.Index, text)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// access is what an honest gateway says of a principal.
func (w *world) access(id string) trefoil.Access {
	at := time.Now().UTC()
	d := definition()
	country, importer := "IE", trefoil.Party{Entity: "Example Ltd", Country: "IE", Role: "controller"}
	session := make([]byte, 16)
	rand.Read(session)
	a := trefoil.Access{Dataset: d.Name, Purpose: d.Purpose, Exporter: importer, Forms: d.Forms(), Principal: trefoil.StaffPseudonym(w.staff, at, id),
		Session: hex.EncodeToString(session), Hashes: trefoil.Hashes{Dataset: trefoil.DefinitionHash(d)}}
	if id == "chen" {
		country, importer = "CN", trefoil.Party{Entity: "Example Beijing", Country: "CN", Role: "processor"}
		a.Instrument = trefoil.Instrument{Article: "46", ID: "scc-cn", Date: "2026-01-15", TIA: "tia-3", TIADate: "2026-01-10", Transfer: true}
	}
	a.Importer = importer
	for _, source := range []string{"employer", "network", "workplace"} {
		a.Location = append(a.Location, trefoil.Place{At: at.Truncate(time.Microsecond), By: "hr", Country: country, Evidence: "declared", Source: source})
	}
	return a
}

// look runs one session of n look-ups.
func (w *world) look(id string, n int64) {
	w.t.Helper()
	a := w.access(id)
	w.permitted(&trefoil.Body{Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Access: a, Allowance: 100, Event: "start", Path: "release"}})
	for i := range n {
		w.permitted(&trefoil.Body{Kind: trefoil.KindRelease, Release: &trefoil.ReleaseBody{Access: a, Bytes: 50, Chunk: i, Cumulative: 50 * (i + 1), Final: true,
			Outcome: "complete", Result: strings.Repeat("0", 64), Rows: 1,
			Statements: []trefoil.Statement{{Commitment: strings.Repeat("0", 64), Fingerprint: "00000000000000aa", Kind: "select", Tables: []string{"app.users"}}}}})
	}
	w.add(&trefoil.Body{Kind: trefoil.KindSession, Session: &trefoil.SessionBody{Access: a, Covered: 10, Event: "end", Outcome: "closed", Path: "release", Released: 50 * n}})
}

// follow lets the monitor catch up, and opens its archive.
func (w *world) follow() *monitor.Archive {
	w.t.Helper()
	if err := errors.Join(w.m.Sync(w.t.Context()), w.m.Watch()); err != nil {
		w.t.Fatal(err)
	}
	a, err := monitor.OpenArchive(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// reader is the site's own view of its log.
func (w *world) reader() *accesslog.Reader {
	w.t.Helper()
	r, err := accesslog.OpenReader(w.site)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = r.Close() })
	return r
}

func (w *world) siteKeys() SiteKeys {
	return SiteKeys{Signer: w.signer, Log: w.logKey, Witnesses: []string{w.public.Witness}, Permit: w.public.Permit}
}

// unheld wants a pack that verify refuses for a reason of the pack's own.
func unheld(t *testing.T, what, path string, keys ...string) {
	t.Helper()
	_, err := pack.Verify(path, keys)
	var no *trefoil.VerifyError
	if !errors.As(err, &no) {
		t.Errorf("%s: %v", what, err)
	}
}
