package enclave_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// office is an enclave with four approvers, a ticket system, rules for their approvals, and a
// control store; its clock stands.
type office struct {
	*small
	t     *testing.T
	store *control.Store
	keys  map[string]string // files of signing keys
	dir   string
	now   time.Time
}

const officeRules = `
approvals:
  - purposes: [support]
    all_of: [{group: privacy, of: [dpo2, deputy]}, {group: security, of: [ciso]}]
  - purposes: ["*"]
    outside: true
    all_of: [{group: monitor, of: [watch]}]
callers:
  - {name: tickets, key: "KEY-tickets", principals: [ie, jp]}
`

// newOffice loads it; text is appended to the configuration after its approvers, officeRules by default.
func newOffice(t *testing.T, edits ...string) *office {
	t.Helper()
	store, err := control.Open(t.Context(), pgtest.Start(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := &office{small: load(t), t: t, store: store, keys: map[string]string{}, now: noon}
	o.dir = filepath.Dir(o.rules.Config.People)
	replace := []string{}
	for _, name := range []string{"dpo2", "deputy", "ciso", "watch", "tickets", "stranger"} {
		skey, vkey, err := note.GenerateKey(rand.Reader, name)
		if err != nil {
			t.Fatal(err)
		}
		o.keys[name] = filepath.Join(o.dir, "keys", name)
		if err := os.WriteFile(o.keys[name], []byte(skey+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		replace = append(replace, "KEY-"+name, vkey)
	}
	path := filepath.Join(o.dir, "enclave.yaml")
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text, _, _ := strings.Cut(string(config), "approvers: ")
	text += `approvers:
  - {name: dpo2, key: "KEY-dpo2", purposes: [support]}
  - {name: deputy, key: "KEY-deputy", purposes: [support], principal: jp}
  - {name: ciso, key: "KEY-ciso", purposes: ["*"]}
  - {name: watch, key: "KEY-watch", purposes: ["*"], monitor: true}
` + officeRules
	text = strings.NewReplacer(edits...).Replace(text)
	text = strings.NewReplacer(replace...).Replace(text)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.WriteFile(filepath.Join(o.dir, "keys", "digests"), bytes.Repeat([]byte{3}, 32), 0o600),
		os.WriteFile(filepath.Join(o.dir, "keys", "statements"), bytes.Repeat([]byte{4}, 32), 0o600)); err != nil {
		t.Fatal(err)
	}
	o.reload()
	return o
}

func (o *office) reload() {
	o.t.Helper()
	c, err := enclave.Load(filepath.Join(o.dir, "enclave.yaml"))
	if err != nil {
		o.t.Fatal(err)
	}
	if o.rules, err = enclave.LoadRules(c); err != nil {
		o.t.Fatal(err)
	}
}

// edit changes the configuration and reads it again.
func (o *office) edit(old, new string) {
	o.t.Helper()
	path := filepath.Join(o.dir, "enclave.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		o.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		o.t.Fatalf("the configuration has no %q", old)
	}
	if err := os.WriteFile(path, []byte(strings.Replace(string(text), old, new, 1)), 0o600); err != nil {
		o.t.Fatal(err)
	}
	o.reload()
}

func (o *office) request(principal string, more ...func(*enclave.Ask)) *grant.Request {
	o.t.Helper()
	a := enclave.Ask{Principal: principal, Dataset: "care", For: 4 * time.Hour, Reason: "ticket 7"}
	for _, f := range more {
		f(&a)
	}
	q, err := o.rules.Request(o.t.Context(), o.store, a, o.now)
	if err != nil {
		o.t.Fatal(err)
	}
	return q
}

func (o *office) decide(id string, kind grant.Kind, by string) (*enclave.Answered, error) {
	return o.rules.Decide(o.t.Context(), o.store, id, kind, o.keys[by], o.now)
}

func (o *office) must(id string, kind grant.Kind, by ...string) *enclave.Answered {
	o.t.Helper()
	var a *enclave.Answered
	for _, name := range by {
		var err error
		if a, err = o.decide(id, kind, name); err != nil {
			o.t.Fatalf("%s by %s: %v", kind, name, err)
		}
	}
	return a
}

// opens asks the gateway's authoriser, with the grants of the store.
func (o *office) opens(principal string) gateway.Decision {
	o.t.Helper()
	w, a := o.ready()
	var err error
	if w.grants, err = o.store.Current(o.t.Context(), principal, "care", o.now); err != nil {
		o.t.Fatal(err)
	}
	q := o.ask(o.t, principal, "care")
	q.At = o.now
	return a.Authorise(o.t.Context(), q)
}

func (o *office) events() (out []string) {
	o.t.Helper()
	if _, err := o.store.Drain(o.t.Context(), func(_ context.Context, b *trefoil.Body) error {
		out = append(out, string(b.Kind)+" "+b.Grant.Event)
		return nil
	}); err != nil {
		o.t.Fatal(err)
	}
	return out
}

// TestTwoGroupsAndTheMonitorApprove in any order; until the last of them nothing opens, and who
// is missing is said.
func TestTwoGroupsAndTheMonitorApprove(t *testing.T) {
	for _, order := range [][]string{{"dpo2", "ciso", "watch"}, {"watch", "ciso", "dpo2"}, {"ciso", "watch", "dpo2"}} {
		o := newOffice(t)
		q := o.request("jp")
		for i, by := range order {
			if d := o.opens("jp"); d.Path != gateway.Deny || !strings.Contains(d.Refusal.Hint, "request "+q.ID+" waits for 1 of") {
				t.Fatalf("%v: after %d approvals: path %v, %+v", order, i, d.Path, d.Refusal)
			}
			a := o.must(q.ID, grant.KindApproval, by)
			if last := i == len(order)-1; a.Granted != last || (len(a.Missing) == 0) != last {
				t.Fatalf("%v: after %s: %+v", order, by, a)
			}
		}
		d := o.opens("jp")
		if d.Path != gateway.Release || d.Access.Grant != q.ID || len(d.Access.Approvals) != 3 || !d.Until.Equal(q.Until) {
			t.Errorf("%v: approved by all: path %v, grant %q, approvals %v, until %v; %+v", order, d.Path, d.Access.Grant, d.Access.Approvals, d.Until, d.Refusal)
		}
		if got := strings.Join(o.events(), ", "); got != "grant requested, approval approved, approval approved, approval approved" {
			t.Errorf("records: %s", got)
		}
	}
}

// TestSelfApprovalInAGroup: the deputy is jp under another name and with another key.
func TestSelfApprovalInAGroup(t *testing.T) {
	o := newOffice(t)
	q := o.request("jp")
	if _, err := o.decide(q.ID, grant.KindApproval, "deputy"); !errors.Is(err, grant.ErrSelf) {
		t.Errorf("their own request: %v", err)
	}
	o.must(q.ID, grant.KindApproval, "ciso", "watch")
	if d := o.opens("jp"); d.Path != gateway.Deny {
		t.Error("opened without the privacy group")
	}
}

func TestApprovalAfterDenial(t *testing.T) {
	o := newOffice(t)
	q := o.request("jp")
	o.must(q.ID, grant.KindApproval, "dpo2", "watch")
	o.must(q.ID, grant.KindDenial, "ciso")
	if _, err := o.decide(q.ID, grant.KindApproval, "ciso"); !errors.Is(err, grant.ErrDenied) {
		t.Errorf("approved after it was denied: %v", err)
	}
	// Who denied is no approver any more: that does not undo it.
	o.edit("of: [ciso]", "of: [watch]")
	o.edit("  - {name: ciso, key:", "  - {name: somebody, key:")
	if d := o.opens("jp"); d.Path != gateway.Deny {
		t.Error("opened after a denial whose approver was removed")
	}
	if got := o.events(); got[len(got)-1] != "approval denied" {
		t.Errorf("records: %v", got)
	}
}

func TestApproverRemoved(t *testing.T) {
	o := newOffice(t)
	q := o.request("jp")
	o.must(q.ID, grant.KindApproval, "dpo2", "ciso", "watch")
	if d := o.opens("jp"); d.Path != gateway.Release {
		t.Fatalf("%+v", d.Refusal)
	}
	o.edit("of: [dpo2, deputy]", "of: [deputy]")
	o.edit("{name: dpo2, key", "{name: dpo3, key")
	if d := o.opens("jp"); d.Path != gateway.Deny {
		t.Error("opened by the approval of somebody who is no approver any more")
	}
}

func TestApprovalByARetiredKey(t *testing.T) {
	o := newOffice(t)
	q := o.request("jp")
	o.must(q.ID, grant.KindApproval, "dpo2", "ciso", "watch")
	o.edit(`purposes: [support]}`, `purposes: [support], until: "2026-05-04T13:00:00Z"}`)
	if d := o.opens("jp"); d.Path != gateway.Release {
		t.Fatalf("before the key is retired: %+v", d.Refusal)
	}
	o.now = noon.Add(time.Hour)
	if d := o.opens("jp"); d.Path != gateway.Deny {
		t.Error("opened by a key that was retired")
	}
	if _, err := o.decide(o.request("jp").ID, grant.KindApproval, "dpo2"); !errors.Is(err, grant.ErrRetired) {
		t.Errorf("a retired key approves: %v", err)
	}
}

// TestPolicyChangedBetweenApprovalAndUse: no further approval counts, and what the policy of now
// forbids stays shut.
func TestPolicyChangedBetweenApprovalAndUse(t *testing.T) {
	o := newOffice(t)
	half, whole := o.request("jp"), o.request("jp")
	o.must(half.ID, grant.KindApproval, "dpo2", "watch")
	o.must(whole.ID, grant.KindApproval, "dpo2", "watch", "ciso")
	path := filepath.Join(o.dir, "policy", "zz-closed.cedar")
	if err := os.WriteFile(path, []byte("@id(\"closed\") @law(\"GDPR art. 18\")\nforbid (principal, action == Action::\"open\", resource == Dataset::\"care\");\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.reload()
	if _, err := o.decide(half.ID, grant.KindApproval, "ciso"); !errors.Is(err, enclave.ErrRefused) {
		t.Errorf("approved under another policy than it was asked under: %v", err)
	}
	if d := o.opens("jp"); d.Path != gateway.Deny || d.Refusal.Rule != "closed" {
		t.Errorf("opened with a grant that the policy of now forbids: %v %+v", d.Path, d.Refusal)
	}
}

// TestClockSetBack: a grant that ran out does not come back with the time.
func TestClockSetBack(t *testing.T) {
	o := newOffice(t)
	q, pending := o.request("jp"), o.request("jp")
	o.must(q.ID, grant.KindApproval, "dpo2", "ciso", "watch")
	o.must(pending.ID, grant.KindApproval, "dpo2", "watch")
	if _, err := o.store.Seen(t.Context(), q.Until.Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if d := o.opens("jp"); d.Path != gateway.Deny {
		t.Error("a grant that had run out opened after the clock was set back")
	}
	if _, err := o.decide(pending.ID, grant.KindApproval, "ciso"); !errors.Is(err, grant.ErrExpired) {
		t.Errorf("an approval of what had run out: %v", err)
	}
}

// TestAGrantsEndIsARecord, once, however many gateways look.
func TestAGrantsEndIsARecord(t *testing.T) {
	o := newOffice(t)
	q := o.request("jp", func(a *enclave.Ask) { a.Subjects = []string{"1", "2"} })
	o.events()
	record := func(g control.Grant) *trefoil.Body {
		return &trefoil.Body{At: o.now, Kind: trefoil.KindGrant, Grant: &trefoil.GrantBody{Dataset: "care", Event: "expired", Grant: g.Request.ID, Hash: g.Request.Hash(), Until: q.Until}}
	}
	if n, err := o.store.Expire(t.Context(), q.Until.Add(-time.Second), record); n != 0 || err != nil {
		t.Errorf("before its end: %d, %v", n, err)
	}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if _, err := o.store.Expire(t.Context(), q.Until, record); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if got := o.events(); len(got) != 1 || got[0] != "grant expired" {
		t.Errorf("records: %v", got)
	}
	if left, err := o.store.Subjects(t.Context(), q.ID); len(left) != 0 || err != nil {
		t.Errorf("the list of subjects stayed: %d, %v", len(left), err)
	}
}

// TestACaseGrantDoesNotOpenTheDataset: it is for the rows of its subjects alone.
func TestACaseGrantDoesNotOpenTheDataset(t *testing.T) {
	o := newOffice(t)
	q := o.request("jp", func(a *enclave.Ask) { a.Subjects = []string{"1", "2"} })
	o.must(q.ID, grant.KindApproval, "dpo2", "ciso", "watch")
	if q.Subjects == "" {
		t.Fatal("the request does not bind its subjects")
	}
	if d := o.opens("jp"); d.Path != gateway.Deny {
		t.Error("a grant for two subjects opened the dataset of all")
	}
	again := o.request("jp", func(a *enclave.Ask) { a.Subjects = []string{"2", "1", "2"} })
	other := o.request("jp", func(a *enclave.Ask) { a.Subjects = []string{"1", "3"} })
	if again.Subjects != q.Subjects || other.Subjects == q.Subjects {
		t.Error("the digest is not that of the list")
	}
}

// TestAGrantForOneStatement reaches the release path, and one for all goes before it.
func TestAGrantForOneStatement(t *testing.T) {
	o := newOffice(t)
	only := func(text string) func(*enclave.Ask) { return func(a *enclave.Ask) { a.Statement = text } }
	q := o.request("jp", only("SELECT plan FROM person WHERE id = 7"))
	same := o.request("jp", only("select  plan from person where id = $1;"))
	other := o.request("jp", only("SELECT name FROM person WHERE id = 7"))
	if q.Statement == "" || same.Statement != q.Statement || other.Statement == q.Statement {
		t.Errorf("fingerprints: %s %s %s", q.Statement, same.Statement, other.Statement)
	}
	for _, bad := range []string{"SELEC", "SELECT 1; SELECT 2", ""} {
		a := enclave.Ask{Principal: "jp", Dataset: "care", For: time.Hour, Reason: "x", Statement: bad + " "}
		if _, err := o.rules.Request(t.Context(), o.store, a, o.now); !errors.Is(err, enclave.ErrAsk) {
			t.Errorf("%q was taken for a statement: %v", bad, err)
		}
	}
	statement := func() string {
		w, a := o.ready()
		var err error
		if w.grants, err = o.store.Current(t.Context(), "jp", "care", o.now); err != nil {
			t.Fatal(err)
		}
		r := o.ask(t, "jp", "care")
		if d := a.Authorise(t.Context(), r); d.Path != gateway.Release {
			t.Fatalf("%+v", d.Refusal)
		}
		return a.Take(r.Session).Statement
	}
	o.must(q.ID, grant.KindApproval, "dpo2", "ciso", "watch")
	if got := statement(); got != q.Statement {
		t.Errorf("the session is bound to %q, not to %q", got, q.Statement)
	}
	o.must(o.request("jp").ID, grant.KindApproval, "dpo2", "ciso", "watch")
	if got := statement(); got != "" {
		t.Error("a grant for any statement is there, and the session is bound to one")
	}
}

// api is the HTTP API with a client for it.
type api struct {
	*office
	server *httptest.Server
	clock  func() time.Time
}

const apiAudience = "shop.example/log"

func newAPI(t *testing.T) *api {
	o := newOffice(t)
	a := &api{office: o}
	a.clock = func() time.Time { return o.now }
	a.server = httptest.NewServer(enclave.GrantsHandler(func() *enclave.Rules { return o.rules }, o.store, apiAudience, a.clock, slog.New(slog.DiscardHandler)))
	t.Cleanup(a.server.Close)
	return a
}

// header signs a call; fix may spoil it.
func (a *api) header(by, method, path string, body []byte, fix func(*grant.Call)) string {
	a.t.Helper()
	text, err := os.ReadFile(a.keys[by])
	if err != nil {
		a.t.Fatal(err)
	}
	s, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		a.t.Fatal(err)
	}
	nonce := make([]byte, 16)
	if _, err := rand.Read(nonce); err != nil {
		a.t.Fatal(err)
	}
	c := grant.NewCall(apiAudience, method, path, hex.EncodeToString(nonce), body, a.now)
	if fix != nil {
		fix(&c)
	}
	value, err := grant.SignCall(c, s)
	if err != nil {
		a.t.Fatal(err)
	}
	return value
}

func (a *api) send(header, method, path string, body []byte, out any) (int, string) {
	a.t.Helper()
	req, err := http.NewRequestWithContext(a.t.Context(), method, a.server.URL+path, bytes.NewReader(body))
	if err != nil {
		a.t.Fatal(err)
	}
	if header != "" {
		req.Header.Set(grant.CallField, header)
	}
	resp, err := a.server.Client().Do(req)
	if err != nil {
		a.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		a.t.Fatal(err)
	}
	if out != nil {
		if err := json.Unmarshal(raw, out); err != nil {
			a.t.Fatalf("%s: %v", raw, err)
		}
	}
	return resp.StatusCode, string(raw)
}

func (a *api) call(by, method, path string, body []byte, out any) (int, string) {
	a.t.Helper()
	return a.send(a.header(by, method, path, body, nil), method, path, body, out)
}

func askJSON(principal string) []byte {
	return fmt.Appendf(nil, `{"principal":%q,"dataset":"care","for":"4h","reason":"ticket 7"}`, principal)
}

// TestRequestAndApprovalsOverHTTP: a ticket system asks, approvers answer with keys that stay theirs.
func TestRequestAndApprovalsOverHTTP(t *testing.T) {
	a := newAPI(t)
	var v enclave.GrantView
	if status, said := a.call("tickets", "POST", "/grants", askJSON("jp"), &v); status != 200 || v.State != enclave.StateWaiting || len(v.Missing) != 3 {
		t.Fatalf("%d %s", status, said)
	}
	path := "/grants/" + v.Request.ID
	for i, by := range []string{"ciso", "watch", "dpo2"} {
		var seen enclave.GrantView
		if status, said := a.call(by, "GET", path, nil, &seen); status != 200 || seen.Hash != v.Request.Hash() || (seen.Reason == "") != (by == "watch") {
			t.Fatalf("%s sees: %d %s", by, status, said)
		}
		var done enclave.Answered
		if status, said := a.call(by, "POST", path+"/answers", a.envelope(by, grant.KindApproval, seen.Request), &done); status != 200 || done.Granted != (i == 2) {
			t.Fatalf("%s approves: %d %s", by, status, said)
		}
	}
	if d := a.opens("jp"); d.Path != gateway.Release {
		t.Errorf("approved over HTTP: %+v", d.Refusal)
	}
	var list []enclave.GrantView
	if status, said := a.call("dpo2", "GET", "/grants?limit=5", nil, &list); status != 200 || len(list) != 1 || list[0].State != enclave.StateGranted {
		t.Errorf("list: %d %s", status, said)
	}
}

func (a *api) envelope(by string, kind grant.Kind, q grant.Request) []byte {
	a.t.Helper()
	text, err := os.ReadFile(a.keys[by])
	if err != nil {
		a.t.Fatal(err)
	}
	s, err := note.NewSigner(strings.TrimSpace(string(text)))
	if err != nil {
		a.t.Fatal(err)
	}
	signed, err := grant.Sign(grant.New(kind, q, by, a.now), s)
	if err != nil {
		a.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]string{"envelope": signed})
	if err != nil {
		a.t.Fatal(err)
	}
	return body
}

// TestHTTPWithoutARightSignature: nothing is done, nothing is told.
func TestHTTPWithoutARightSignature(t *testing.T) {
	a := newAPI(t)
	body := askJSON("jp")
	good := a.header("tickets", "POST", "/grants", body, nil)
	for name, c := range map[string]struct {
		header, method, path string
		body                 []byte
	}{
		"none":                 {"", "POST", "/grants", body},
		"garbage":              {"AAAA", "POST", "/grants", body},
		"unknown key":          {a.header("stranger", "POST", "/grants", body, nil), "POST", "/grants", body},
		"another body":         {good, "POST", "/grants", askJSON("ie")},
		"another path":         {good, "POST", "/grants?limit=1", body},
		"another method":       {good, "GET", "/grants", body},
		"another enclave":      {a.header("tickets", "POST", "/grants", body, func(c *grant.Call) { c.Audience = "other.example/log" }), "POST", "/grants", body},
		"an hour old":          {a.header("tickets", "POST", "/grants", body, func(c *grant.Call) { c.At = c.At.Add(-time.Hour) }), "POST", "/grants", body},
		"of the future":        {a.header("tickets", "POST", "/grants", body, func(c *grant.Call) { c.At = c.At.Add(time.Hour) }), "POST", "/grants", body},
		"of before this start": {a.header("tickets", "POST", "/grants", body, func(c *grant.Call) { c.At = c.At.Add(-time.Second) }), "POST", "/grants", body},
	} {
		if status, said := a.send(c.header, c.method, c.path, c.body, nil); status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", name, status, said)
		}
	}
	if found, err := a.store.List(t.Context(), 10); len(found) != 0 || err != nil {
		t.Errorf("%d requests were stored: %v", len(found), err)
	}
	if status, said := a.send(good, "POST", "/grants", body, nil); status != 200 {
		t.Fatalf("%d %s", status, said)
	}
	if status, said := a.send(good, "POST", "/grants", body, nil); status != http.StatusUnauthorized {
		t.Errorf("the same call again: %d %s", status, said)
	}
}

// TestHTTPBodiesThatAreNotStrict, too large, or ask for what the key may not.
func TestHTTPBodiesThatAreNotStrict(t *testing.T) {
	a := newAPI(t)
	large := fmt.Appendf(nil, `{"principal":"jp","dataset":"care","for":"4h","reason":%q}`, strings.Repeat("a", 1<<20))
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"not JSON":         {`principal=jp`, 400},
		"unknown key":      {`{"principal":"jp","dataset":"care","for":"4h","reason":"x","approved":true}`, 400},
		"key twice":        {`{"principal":"ie","principal":"jp","dataset":"care","for":"4h","reason":"x"}`, 400},
		"another case":     {`{"Principal":"jp","dataset":"care","for":"4h","reason":"x"}`, 400},
		"two values":       {string(askJSON("jp")) + "{}", 400},
		"a list":           {`[1]`, 400},
		"no term":          {`{"principal":"jp","dataset":"care","for":"","reason":"x"}`, 400},
		"endless":          {`{"principal":"jp","dataset":"care","for":"9000h","reason":"x"}`, 400},
		"no reason":        {`{"principal":"jp","dataset":"care","for":"4h","reason":" "}`, 400},
		"long reason":      {fmt.Sprintf(`{"principal":"jp","dataset":"care","for":"4h","reason":%q}`, strings.Repeat("a", 5000)), 400},
		"zero in reason":   {`{"principal":"jp","dataset":"care","for":"4h","reason":"a\u0000"}`, 400},
		"unknown dataset":  {`{"principal":"jp","dataset":"cares","for":"4h","reason":"x"}`, 400},
		"another purpose":  {`{"principal":"jp","dataset":"care","purpose":"analytics","for":"4h","reason":"x"}`, 400},
		"many subjects":    {fmt.Sprintf(`{"principal":"jp","dataset":"care","for":"4h","reason":"x","subjects":["1"%s]}`, strings.Repeat(`,"1"`, 10_000)), 400},
		"not its people":   {string(askJSON("cn")), 403},
		"larger than read": {string(large), 413},
	} {
		if status, said := a.call("tickets", "POST", "/grants", []byte(c.body), nil); status != c.status || strings.Contains(said, "pq:") {
			t.Errorf("%s: %d %.200s, want %d", name, status, said, c.status)
		}
	}
	if status, said := a.call("ciso", "POST", "/grants", askJSON("jp"), nil); status != 403 {
		t.Errorf("an approver asks: %d %s", status, said)
	}
	if found, err := a.store.List(t.Context(), 10); len(found) != 0 || err != nil {
		t.Errorf("%d requests were stored: %v", len(found), err)
	}
}

// TestHTTPAnswersThatAreNotTheirs: somebody else's, to another request, of an altered one.
func TestHTTPAnswersThatAreNotTheirs(t *testing.T) {
	a := newAPI(t)
	q, other := a.request("jp"), a.request("jp")
	longer := *q
	longer.Until = longer.Until.Add(time.Hour)
	path := "/grants/" + q.ID + "/answers"
	for name, c := range map[string]struct {
		by     string
		body   []byte
		status int
	}{
		"a ticket system's":  {"tickets", a.envelope("ciso", grant.KindApproval, *q), 403},
		"somebody else's":    {"dpo2", a.envelope("ciso", grant.KindApproval, *q), 403},
		"replayed":           {"ciso", a.envelope("ciso", grant.KindApproval, *other), 403},
		"an altered request": {"ciso", a.envelope("ciso", grant.KindApproval, longer), 403},
		"their own":          {"deputy", a.envelope("deputy", grant.KindApproval, *q), 403},
		"no envelope":        {"ciso", []byte(`{"envelope":""}`), 403},
		"oversized":          {"ciso", fmt.Appendf(nil, `{"envelope":%q}`, strings.Repeat("x", grant.MaxSize+1)), 400},
	} {
		if status, said := a.call(c.by, "POST", path, c.body, nil); status != c.status {
			t.Errorf("%s: %d %s, want %d", name, status, said, c.status)
		}
	}
	for _, id := range []string{strings.Repeat("0", 32), "x", "%00", q.ID + "0"} {
		if status, said := a.call("ciso", "GET", "/grants/"+id, nil, nil); status != 404 {
			t.Errorf("%s: %d %s", id, status, said)
		}
	}
	if g, err := a.store.Get(t.Context(), q.ID); err != nil || len(g.Decisions) != 0 {
		t.Errorf("%d answers were stored: %v", len(g.Decisions), err)
	}
}
