package enclave_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// small copies testdata/small with people and an approver, and loads it.
type small struct {
	rules  *enclave.Rules
	signer note.Signer
}

func load(t *testing.T) *small {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.CopyFS(dir, os.DirFS("testdata/small")), os.CopyFS(filepath.Join(dir, "policy"), policy.Shipped())); err != nil {
		t.Fatal(err)
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, "dpo")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := identity.NewVerifier("not a real password", identity.MinIterations)
	if err != nil {
		t.Fatal(err)
	}
	people := fmt.Sprintf(`version: 1
people:
  - {id: ie, verifier: %[1]q, employer: shop-ie, workplace: IE, purposes: [support, analytics]}
  - {id: jp, verifier: %[1]q, employer: shop-jp, workplace: JP, purposes: [support]}
  - {id: cn, verifier: %[1]q, employer: shop-cn, workplace: CN, purposes: [support, analytics]}
  - {id: nowhere, verifier: %[1]q, employer: shop-cn, purposes: [analytics]}
services:
  - {id: app, verifier: %[1]q, databases: [shop], role: app, site: dublin-1}
  - {id: abroad, verifier: %[1]q, databases: [shop], role: app, country: CN}
  - {id: farm, verifier: %[1]q, databases: [shop], serves_humans: true, employer: shop-cn, site: dublin-1}
  - {id: desk, verifier: %[1]q, databases: [shop], serves_humans: true, site: dublin-1}
`, verifier)
	config, err := os.ReadFile(filepath.Join(dir, "enclave.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	config = fmt.Appendf(config, "approvers: [{name: dpo, key: %q, purposes: [support, analytics]}]\n", vkey)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "keys"), 0o700),
		os.WriteFile(filepath.Join(dir, "keys", "staff"), make([]byte, 32), 0o600),
		os.WriteFile(filepath.Join(dir, "people.yaml"), []byte(people), 0o600),
		os.WriteFile(filepath.Join(dir, "enclave.yaml"), config, 0o600)); err != nil {
		t.Fatal(err)
	}
	c, err := enclave.Load(filepath.Join(dir, "enclave.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	r, err := enclave.LoadRules(c)
	if err != nil {
		t.Fatal(err)
	}
	return &small{r, signer}
}

// world is what the authoriser asks: what stands, and which grants there are.
type world struct {
	built  map[string]enclave.Built
	err    error
	grants []control.Grant
	roles  []string
}

func (w *world) Built(_ context.Context, name string) (enclave.Built, error) {
	return w.built[name], w.err
}

func (w *world) Admit(_ context.Context, principal, dataset string) (string, error) {
	w.roles = append(w.roles, principal+" on "+dataset)
	return "p_" + principal, nil
}

func (w *world) Current(context.Context, string, string, time.Time) ([]control.Grant, error) {
	return w.grants, w.err
}

// ready is a world in which every dataset stands as it is defined and is acknowledged.
func (s *small) ready() (*world, *enclave.Authoriser) {
	w := &world{built: map[string]enclave.Built{}}
	a := s.authoriser(w)
	for name, def := range s.rules.Definitions {
		w.built[name] = enclave.Built{Hash: trefoil.DefinitionHash(def), FreshAsOf: noon.Add(-time.Minute)}
		a.Acknowledge(trefoil.DefinitionHash(def))
	}
	return w, a
}

func (s *small) authoriser(w *world) *enclave.Authoriser {
	return enclave.NewAuthoriser(s.rules, &enclave.Clusters{Addresses: map[string]enclave.ClusterAddress{
		"inside":  {Gateway: s.rules.Config.Clusters["inside"].DSN},
		"outside": {Gateway: s.rules.Config.Clusters["outside"].DSN}}}, w, w, strings.Repeat("0", 64))
}

// ask is what the gateway asks for a principal, from the loopback network.
func (s *small) ask(t *testing.T, id, database string) gateway.Request {
	t.Helper()
	p, ok := s.rules.People.Directory.Lookup(id)
	if !ok {
		t.Fatalf("nobody is called %s", id)
	}
	l, err := s.rules.Config.Locator(noon)
	if err != nil {
		t.Fatal(err)
	}
	return gateway.Request{Principal: p, Places: l.Places(p, loopback, noon), Database: database, Params: map[string]string{},
		Session: strings.Repeat("ab", 16), At: noon}
}

// approve makes a grant that the approver really signed.
func (s *small) approve(t *testing.T, principal, dataset string) control.Grant {
	t.Helper()
	r := grant.Request{Dataset: dataset, Definition: trefoil.DefinitionHash(s.rules.Definitions[dataset]), Policy: s.rules.PolicyHash,
		From: noon.Add(-time.Hour), Until: noon.Add(time.Hour), ID: strings.Repeat("1", 32), Principal: principal,
		Purpose: s.rules.Definitions[dataset].Purpose, Reason: strings.Repeat("ab", 32)}
	e := grant.New(grant.KindApproval, r, "dpo", noon.Add(-time.Hour))
	signed, err := grant.Sign(e, s.signer)
	if err != nil {
		t.Fatal(err)
	}
	return control.Grant{Request: e.Request, Decisions: []control.Decision{{Kind: grant.KindApproval, Approver: "dpo", Envelope: signed}}}
}

func TestWhoOpensWhat(t *testing.T) {
	s := load(t)
	_, a := s.ready()
	for _, c := range []struct {
		who, database string
		path          gateway.Path
		rule          string
	}{
		{"app", "shop", gateway.Service, ""},
		{"abroad", "shop", gateway.Deny, ""},
		{"ie", "shop", gateway.Deny, ""},
		{"desk", "shop", gateway.Deny, "serves-humans"},
		{"ie", "care", gateway.Release, ""},
		{"ie", "trends", gateway.Release, ""},
		{"jp", "care", gateway.Deny, "default-deny"},
		{"cn", "care", gateway.Deny, "floor"},
		{"cn", "trends", gateway.Release, ""},
		{"nowhere", "trends", gateway.Release, ""}, // unknown counts as not adequate: pseudonymised, with its instrument
		{"ie", "template1", gateway.Deny, "unknown-dataset"},
	} {
		d := a.Authorise(t.Context(), s.ask(t, c.who, c.database))
		if d.Path != c.path || c.rule != "" && d.Refusal.Rule != c.rule {
			t.Errorf("%s on %s: path %d, rule %q, %s", c.who, c.database, d.Path, d.Refusal.Rule, d.Refusal.Message)
		}
		if d.Path == gateway.Deny && (d.Refusal.SQLState == "" || d.Refusal.Message == "" || d.Refusal.Hint == "") {
			t.Errorf("%s on %s: refused without saying why and how to ask: %+v", c.who, c.database, d.Refusal)
		}
	}
}

func TestAnApprovedRequestDoesNotLiftTheFloor(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	w.grants = []control.Grant{s.approve(t, "cn", "care")}
	if d := a.Authorise(t.Context(), s.ask(t, "cn", "care")); d.Path != gateway.Deny || d.Refusal.Rule != "floor" {
		t.Errorf("path %d, rule %q", d.Path, d.Refusal.Rule)
	}
}

func TestAGrantOpensAndEndsTheSession(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	w.grants = []control.Grant{s.approve(t, "jp", "care")}
	q := s.ask(t, "jp", "care")
	d := a.Authorise(t.Context(), q)
	if d.Path != gateway.Release || !d.Until.Equal(noon.Add(time.Hour)) || d.Access.Grant == "" || len(d.Access.Approvals) != 1 {
		t.Fatalf("path %d until %v: %s", d.Path, d.Until, d.Refusal.Message)
	}
	if o := a.Take(q.Session); len(o.Evidence) != 1 || o.InRegion {
		t.Errorf("for the monitor %d notes; in the region %t", len(o.Evidence), o.InRegion)
	}
	if o := a.Take(q.Session); len(o.Evidence) != 0 || o.InRegion {
		t.Error("what was decided was handed out twice")
	}
}

func TestAGrantOfAnotherPrincipalOpensNothing(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	w.grants = []control.Grant{s.approve(t, "ie", "care")}
	if d := a.Authorise(t.Context(), s.ask(t, "jp", "care")); d.Path != gateway.Deny {
		t.Error("opened with somebody else's grant")
	}
}

func TestTheControlStoreAwayGivesNoGrant(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	w.grants, w.err = []control.Grant{s.approve(t, "jp", "care")}, errors.New("away")
	if d := a.Authorise(t.Context(), s.ask(t, "jp", "care")); d.Path != gateway.Deny {
		t.Error("opened while grants could not be read")
	}
}

func TestADatasetThatIsNotAsDefinedOpensToNobody(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	w.built["care"] = enclave.Built{Hash: strings.Repeat("0", 64)}
	if d := a.Authorise(t.Context(), s.ask(t, "ie", "care")); d.Path != gateway.Deny || d.Refusal.SQLState != "57P03" {
		t.Errorf("built with another definition: path %d, %s", d.Path, d.Refusal.SQLState)
	}
	delete(w.built, "care")
	if d := a.Authorise(t.Context(), s.ask(t, "ie", "care")); d.Path != gateway.Deny || d.Refusal.Rule != "dataset-not-built" {
		t.Errorf("not built: path %d, rule %s", d.Path, d.Refusal.Rule)
	}
}

func TestAnUnacknowledgedDefinitionStaysInTheRegion(t *testing.T) {
	s := load(t)
	w, _ := s.ready()
	a := s.authoriser(w) // nothing acknowledged
	if d := a.Authorise(t.Context(), s.ask(t, "cn", "trends")); d.Path != gateway.Deny || d.Refusal.Rule != "dataset-not-acknowledged" {
		t.Errorf("path %d, rule %q", d.Path, d.Refusal.Rule)
	}
	if d := a.Authorise(t.Context(), s.ask(t, "ie", "trends")); d.Path != gateway.Release {
		t.Errorf("in the region: %s", d.Refusal.Message)
	}
}

// A dashboard in the region is used by somebody in China.
func TestAServiceThatServesPeopleIsTheOneBehindIt(t *testing.T) {
	s := load(t)
	w, a := s.ready()
	q := s.ask(t, "desk", "care")
	q.Params[gateway.ActorParameter] = "cn"
	if d := a.Authorise(t.Context(), q); d.Path != gateway.Deny || d.Refusal.Rule != "floor" {
		t.Errorf("for somebody in China: path %d, rule %q", d.Path, d.Refusal.Rule)
	}
	q = s.ask(t, "desk", "care")
	q.Params[gateway.ActorParameter] = "ie"
	d := a.Authorise(t.Context(), q)
	if d.Path != gateway.Release || d.Access.Principal != trefoil.StaffPseudonym(s.rules.StaffKey, noon, "ie") {
		t.Errorf("for somebody in Ireland: path %d, %s", d.Path, d.Refusal.Message)
	}
	if len(w.roles) != 1 || w.roles[0] != "ie on care" {
		t.Errorf("roles %v", w.roles)
	}
	q.Params[gateway.ActorParameter] = "app"
	if d := a.Authorise(t.Context(), q); d.Path != gateway.Deny {
		t.Error("a service is no actor")
	}
}

// A dashboard that a company in China runs in Ireland names a colleague in Ireland.
func TestAServiceFromOutsideIsNotTheOneBehindIt(t *testing.T) {
	s := load(t)
	_, a := s.ready()
	q := s.ask(t, "farm", "care")
	q.Params[gateway.ActorParameter] = "ie"
	if d := a.Authorise(t.Context(), q); d.Path != gateway.Deny || d.Refusal.Rule != "serves-humans" {
		t.Errorf("path %d, rule %q", d.Path, d.Refusal.Rule)
	}
}

func TestRecordsNameNoStaff(t *testing.T) {
	s := load(t)
	_, a := s.ready()
	d := a.Authorise(t.Context(), s.ask(t, "cn", "trends"))
	enc, err := trefoil.EncodeBody(&trefoil.Body{At: noon, Kind: trefoil.KindSession, Origin: "log.shop.example",
		Session: &trefoil.SessionBody{Access: d.Access, Event: "start", Path: "release"}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(enc), `"cn"`) {
		t.Errorf("the record names its principal: %s", enc)
	}
	if d.Access.Instrument.ID != "scc-1" || d.Access.Instrument.TIA != "1" || !d.Access.Instrument.Transfer {
		t.Errorf("instrument %+v", d.Access.Instrument)
	}
}

func TestTheGatewayShowsItsCertificateToDatabases(t *testing.T) {
	s := load(t)
	authority, err := postgres.NewAuthority(t.TempDir(), "ca", nil)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.Client(t.TempDir(), "gateway")
	if err != nil {
		t.Fatal(err)
	}
	s.rules.Config.Gateway.ClientCertificate, s.rules.Config.Gateway.ClientKey = pair.Certificate, pair.Key
	db := s.rules.Config.Databases["shop"]
	db.DSN = strings.Replace(db.DSN, "sslmode=disable", "sslmode=require", 1)
	s.rules.Config.Databases["shop"] = db
	_, a := s.ready()
	d := a.Authorise(t.Context(), s.ask(t, "app", "shop"))
	if d.Path != gateway.Service || d.Target.TLS == nil || len(d.Target.TLS.Certificates) != 1 || d.Target.Role != "app" {
		t.Errorf("path %d, target %+v", d.Path, d.Target)
	}
	s.rules.Config.Gateway.ClientKey = "nothing"
	if d := a.Authorise(t.Context(), s.ask(t, "app", "shop")); d.Path != gateway.Deny || d.Refusal.Rule != "configuration" {
		t.Error("opened with a certificate that cannot be read")
	}
}
