package monitor

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"golang.org/x/mod/sumdb/note"
)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// world is a monitor's directory, a log it watches, and what both sides know.
type world struct {
	t        testing.TB
	dir      string
	clock    *clock
	log      *testLog
	m        *Monitor
	approver note.Signer
	staff    []byte
	trust    *trefoil.Trust
	officers map[string]note.Signer // ada and adele are one person, ben another
}

const testRules = `version: 1
name: monitor.example
token: keys/token
bodies_token: keys/bodies-token
staff_key: keys/staff
logs:
  - { origin: ORIGIN, key: LOGKEY, url: "LOGURL", token: keys/log-token }
exporter: { name: Example Ltd, country: IE, role: controller }
entities:
  ie: { name: Example Ltd, country: IE, role: controller }
  cn: { name: Example Beijing, country: CN, role: processor }
  jp: { name: Example Japan, country: JP, role: processor, scopes: [jp-appi] }
principals:
  - { id: aoife, employer: ie, workplace: IE, groups: [support] }
  - { id: chen, employer: cn, workplace: CN, groups: [analysts, support] }
  - { id: yuki, employer: jp, workplace: JP, groups: [support] }
instruments:
  - { id: scc-cn, article: "46", date: "2026-01-15", entity: cn, purposes: [product-analytics], tia: tia-3, tia_date: "2026-01-10", until: "2027-01-15" }
approvers:
  - { name: dpo, key: APPROVERKEY, purposes: [support] }
  - { name: yuki, key: SELFKEY, purposes: ["*"] }
datasets:
  - name: support
    purpose: support
    cluster: inside
    regimes: [EU]
    open:
      - { groups: [support], where: region, class: clear }
      - { groups: [support], where: adequate, class: clear }
  - name: analytics
    purpose: product-analytics
    cluster: outside
    regimes: [EU]
    open:
      - { groups: [analysts], where: elsewhere, class: pseudonymised }
transfer_purposes: [support, product-analytics]
officers:
  - { name: ada, person: Ada Quinn, key: ADAKEY }
  - { name: adele, person: "ada  quinn", key: ADELEKEY }
  - { name: ben, person: Ben Roche, key: BENKEY }
ceilings: { chunk_bytes: 1000000, chunk_rows: 1000, session_bytes: 3000000, allowance: 50000 }
`

const testOrigin = "example.eu/log"

func newKey(t testing.TB, name string) (note.Signer, string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return s, vkey
}

// newWorld sets a monitor up and opens it. Rules may be edited by pairs old, new.
func newWorld(t testing.TB, edits ...string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), clock: &clock{t: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)},
		log: newTestLog(t, testOrigin), officers: map[string]note.Signer{}, staff: bytes.Repeat([]byte{7}, 32)}
	keys, err := Init(w.dir, "monitor.example")
	if err != nil {
		t.Fatal(err)
	}
	var approverKey, selfKey string
	w.approver, approverKey = newKey(t, "dpo")
	_, selfKey = newKey(t, "yuki")
	text := strings.NewReplacer("ORIGIN", testOrigin, "LOGKEY", w.log.vkey, "LOGURL", w.log.server.URL,
		"APPROVERKEY", approverKey, "SELFKEY", selfKey).Replace(testRules)
	for _, name := range []string{"ada", "adele", "ben"} {
		s, vkey := newKey(t, name)
		w.officers[name] = s
		text = strings.Replace(text, strings.ToUpper(name)+"KEY", vkey, 1)
	}
	text = strings.NewReplacer(edits...).Replace(text)
	for path, data := range map[string][]byte{RulesFile: []byte(text), "keys/staff": w.staff, "keys/log-token": []byte(w.log.token + "\n")} {
		if err := os.WriteFile(filepath.Join(w.dir, path), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if w.trust, err = trefoil.ParseTrust(w.log.vkey, strings.Split(keys.String(), ",")); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.m, err = New(context.Background(), Config{Dir: w.dir, Now: w.clock.now}); err != nil {
		w.t.Fatal(err)
	}
}

// quiet ends the own log's goroutines: a fuzzer would take what they do for news.
func (w *world) quiet() {
	w.t.Helper()
	if err := w.m.diary.drain(context.Background(), w.m); err != nil {
		w.t.Fatal(err)
	}
	if err := w.m.diary.log.Close(context.Background()); err != nil {
		w.t.Fatal(err)
	}
	w.m.diary.log = nil
}

func (w *world) close() {
	w.t.Helper()
	if err := w.m.Close(context.Background()); err != nil {
		w.t.Error(err)
	}
}

func siteBody(origin string) *trefoil.Body {
	return &trefoil.Body{At: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC), Kind: trefoil.KindSite, Origin: origin,
		Site: &trefoil.SiteBody{Country: "IE", Event: "started", Part: "gateway", Site: "dublin-1"}}
}

// supportDefinition holds a clear column; analyticsDefinition nothing above pseudonymised.
func supportDefinition() *trefoil.Definition {
	return &trefoil.Definition{Cluster: "inside", Name: "support", Purpose: "support", Person: "app.users", Regimes: []string{"EU"},
		Rows: map[string]string{"residence": "EEA"}, Columns: []trefoil.DefinedColumn{
			{Category: "contact", Column: "email", Form: "clear", Table: "app.users", Type: "text"},
			{Category: "identifier", Column: "id", Detail: "user", Form: "pseudonymised", Table: "app.users", Trait: "key", Type: "bigint"}}}
}

func analyticsDefinition() *trefoil.Definition {
	return &trefoil.Definition{Cluster: "outside", K: 10, Name: "analytics", Purpose: "product-analytics", Person: "app.users", Regimes: []string{"EU"},
		Rows: map[string]string{"residence": "EEA"}, Columns: []trefoil.DefinedColumn{
			{Category: "behaviour", Column: "seconds", Form: "clear", Table: "app.watches", Type: "integer"},
			{Category: "identifier", Column: "id", Detail: "user", Form: "pseudonymised", Table: "app.users", Trait: "key", Type: "bigint"}}}
}

// access is what an honest gateway would say of principal on a definition.
func (w *world) access(principal string, d *trefoil.Definition) trefoil.Access {
	r := w.m.rules
	var who Principal
	for _, p := range r.Principals {
		if p.ID == principal {
			who = p
		}
	}
	e := r.Entities[who.Employer]
	at := w.clock.now()
	session := make([]byte, 16)
	rand.Read(session)
	a := trefoil.Access{Dataset: d.Name, Purpose: d.Purpose, Exporter: party("", r.Exporter), Importer: party(who.Employer, e),
		Forms: d.Forms(), Principal: trefoil.StaffPseudonym(w.staff, at, principal), Session: hex.EncodeToString(session),
		Hashes: trefoil.Hashes{Dataset: trefoil.DefinitionHash(d)},
		Location: []trefoil.Place{{At: at, By: "hr", Country: e.Country, Evidence: "declared", Source: "employer"},
			{At: at, By: "mmdb", Country: e.Country, Evidence: "network", Source: "network"},
			{At: at, By: "hr", Country: who.Workplace, Evidence: "declared", Source: "workplace"}}}
	switch e.Country {
	case "CN":
		a.Instrument = trefoil.Instrument{Article: "46", ID: "scc-cn", Date: "2026-01-15", TIA: "tia-3", TIADate: "2026-01-10", Transfer: true}
	case "JP":
		a.Instrument = trefoil.Instrument{Article: "45", Transfer: true}
	}
	return a
}

func (w *world) start(a trefoil.Access) *trefoil.Body {
	return &trefoil.Body{At: w.clock.now(), Kind: trefoil.KindSession, Origin: w.log.origin,
		Session: &trefoil.SessionBody{Access: a, Allowance: 10000, Event: "start", Path: "release"}}
}

func (w *world) release(a trefoil.Access, chunk, bytes, cumulative int64) *trefoil.Body {
	return &trefoil.Body{At: w.clock.now(), Kind: trefoil.KindRelease, Origin: w.log.origin,
		Release: &trefoil.ReleaseBody{Access: a, Bytes: bytes, Chunk: chunk, Cumulative: cumulative, Final: true, Outcome: "complete",
			Result: strings.Repeat("0", 64), Rows: 1, Statements: []trefoil.Statement{}}}
}

// ask logs a body, has it cosigned, and asks for its permit.
func (w *world) ask(b *trefoil.Body, evidence ...string) (string, *refusal, *trefoil.PermitRequest) {
	w.t.Helper()
	index := w.log.add(b)
	req := w.log.request(index, w.log.cosigned(w.m), evidence...)
	text, no, err := w.m.Permit(context.Background(), req)
	if err != nil {
		w.t.Fatalf("Permit: %v", err)
	}
	return text, no, req
}

// permitted is ask that must be granted.
func (w *world) permitted(b *trefoil.Body, evidence ...string) string {
	w.t.Helper()
	text, no, _ := w.ask(b, evidence...)
	if no != nil {
		w.t.Fatalf("refused: %+v", *no)
	}
	return text
}

// refused is ask that must be refused by rule.
func (w *world) refused(rule string, b *trefoil.Body, evidence ...string) {
	w.t.Helper()
	text, no, _ := w.ask(b, evidence...)
	if text != "" || no == nil || no.Rule != rule {
		w.t.Fatalf("got permit %q and refusal %s, want refusal %q", text, show(no), rule)
	}
}

func show(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(b)
}

// acknowledge logs a definition and has it acknowledged.
func (w *world) acknowledge(d *trefoil.Definition) *trefoil.AcknowledgeAnswer {
	w.t.Helper()
	index := w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindCatalog, Origin: w.log.origin,
		Catalog: &trefoil.CatalogBody{Definition: d, Event: "defined", Hash: trefoil.DefinitionHash(d)}})
	answer, err := w.m.Acknowledge(w.log.request(index, w.log.cosigned(w.m)))
	if err != nil {
		w.t.Fatal(err)
	}
	return answer
}

func (w *world) acknowledged(ds ...*trefoil.Definition) {
	w.t.Helper()
	for _, d := range ds {
		if a := w.acknowledge(d); a.Refusal != nil {
			w.t.Fatalf("acknowledge %s: %s", d.Name, show(a.Refusal))
		}
	}
}

// found reports how many findings of rule there are.
func (w *world) found(rule string) int {
	_, byRule := w.m.findings.summary()
	return byRule[rule]
}

// approve signs an approval of principal's request for d.
func (w *world) approve(by string, s note.Signer, principal string, d *trefoil.Definition, term time.Duration) (id, text string) {
	w.t.Helper()
	raw := make([]byte, 16)
	rand.Read(raw)
	id = hex.EncodeToString(raw)
	now := w.clock.now()
	e := grant.New(grant.KindApproval, grant.Request{Dataset: d.Name, Definition: trefoil.DefinitionHash(d), From: now.Add(-time.Hour), ID: id,
		Policy: strings.Repeat("0", 64), Principal: principal, Purpose: d.Purpose, Reason: strings.Repeat("1", 64), Until: now.Add(term)}, by, now)
	text, err := grant.Sign(e, s)
	if err != nil {
		w.t.Fatal(err)
	}
	return id, text
}

func replaced(text []byte, old, new string) []byte {
	return bytes.ReplaceAll(text, []byte(old), []byte(new))
}
