package enclave

import (
	"crypto/rand"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// caseWorld is a control store, rules with one dataset and one approver, and a builder.
func caseWorld(t *testing.T) (*Rules, *control.Store, *dataset.Builder, note.Signer) {
	t.Helper()
	store, err := control.Open(t.Context(), pgtest.Start(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	def := &trefoil.Definition{Cluster: "outside", K: 10, Name: "support", Person: "app.person", Purpose: "care", Regimes: []string{"EU"}, Rows: map[string]string{"residence": "EEA"},
		Columns: []trefoil.DefinedColumn{{Table: "app.person", Column: "id", Type: "bigint", Category: "identifier", Form: "pseudonymised", Detail: "person"}}}
	dir := t.TempDir()
	b, err := dataset.Open(dataset.Config{Catalogs: []*catalog.Catalog{{Version: 1, Database: "app"}}, Purposes: &catalog.Purposes{Version: 1},
		Datasets:     &catalog.Datasets{Version: 1, Datasets: []catalog.Dataset{{Name: "support", Cluster: "outside", Purpose: "care", Source: "app"}}},
		Definitions:  map[string]*trefoil.Definition{"support": def},
		PseudonymKey: filepath.Join(dir, "ring"), DigestKey: filepath.Join(dir, "digests")})
	if err != nil {
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
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	r := &Rules{Config: &Config{}, Definitions: map[string]*trefoil.Definition{"support": def},
		Approvers: []grant.Approver{{Name: "dpo", Verifier: verifier, Purposes: []string{"care"}}}}
	return r, store, b, signer
}

var caseStart = time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)

// askGrant stores a request of four hours, and the answers of kinds.
func askGrant(t *testing.T, r *Rules, s *control.Store, signer note.Signer, digit string, kinds ...grant.Kind) string {
	t.Helper()
	hash := trefoil.DefinitionHash(r.Definitions["support"])
	e := grant.New(grant.KindRequest, grant.Request{Dataset: "support", Definition: hash, From: caseStart, Until: caseStart.Add(4 * time.Hour), ID: strings.Repeat(digit, 32),
		Policy: hash, Principal: "ann", Purpose: "care", Reason: grant.ReasonHash(make([]byte, 16), "x")}, "ann", caseStart)
	record := func(event string) *trefoil.Body {
		return &trefoil.Body{At: caseStart, Kind: trefoil.KindGrant, Grant: &trefoil.GrantBody{Dataset: "support", Event: event, Grant: e.Request.ID, Until: e.Request.Until}}
	}
	if err := s.Add(t.Context(), e, "ticket", make([]byte, 16), record("requested")); err != nil {
		t.Fatal(err)
	}
	for _, kind := range kinds {
		signed, err := grant.Sign(grant.New(kind, e.Request, "dpo", caseStart), signer)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Decide(t.Context(), e.Request.ID, control.Decision{Kind: kind, Approver: "dpo", Envelope: signed, At: caseStart}, record(string(kind))); err != nil {
			t.Fatal(err)
		}
	}
	return e.Request.ID
}

func TestACaseNeedsAGrantInForceOrAnEnd(t *testing.T) {
	r, s, b, signer := caseWorld(t)
	open := func(a AskCase, at time.Time) (*control.Case, error) {
		a.Subjects = []string{"7"}
		return r.OpenCase(t.Context(), s, b, a, at)
	}
	approved := askGrant(t, r, s, signer, "a", grant.KindApproval)
	for name, c := range map[string]struct {
		ask AskCase
		at  time.Time
	}{
		"a grant that nobody made":     {AskCase{Grant: strings.Repeat("9", 32)}, caseStart},
		"a request without an answer":  {AskCase{Grant: askGrant(t, r, s, signer, "b")}, caseStart},
		"a denied request":             {AskCase{Grant: askGrant(t, r, s, signer, "c", grant.KindDenial)}, caseStart},
		"a revoked grant":              {AskCase{Grant: askGrant(t, r, s, signer, "d", grant.KindApproval, grant.KindRevocation)}, caseStart},
		"a grant that ran out":         {AskCase{Grant: approved}, caseStart.Add(5 * time.Hour)},
		"a grant for another dataset":  {AskCase{Grant: approved, Dataset: "analytics"}, caseStart},
		"no grant and no end":          {AskCase{Name: "x", Dataset: "support"}, caseStart},
		"no grant and a dataset of no": {AskCase{Name: "x", Dataset: "none", For: time.Hour}, caseStart},
		"no grant and ten years":       {AskCase{Name: "x", Dataset: "support", For: 87600 * time.Hour}, caseStart},
	} {
		if got, err := open(c.ask, c.at); err == nil {
			t.Errorf("%s opens a case: %+v", name, got)
		}
	}
	c, err := open(AskCase{Grant: approved, For: 100 * time.Hour}, caseStart)
	if err != nil || c.Dataset != "support" || !c.Until.Equal(caseStart.Add(4*time.Hour)) {
		t.Fatalf("a case outlives its grant: %+v, %v", c, err)
	}
	if !slices.Contains(b.Cases(), c.Name) {
		t.Error("the builder does not know it")
	}
	if _, err := open(AskCase{Grant: approved}, caseStart); err == nil {
		t.Error("one grant opened two cases of one name")
	}
}

func TestACaseIsOverWithItsTimeOrItsGrant(t *testing.T) {
	r, s, b, signer := caseWorld(t)
	id := askGrant(t, r, s, signer, "a", grant.KindApproval)
	for _, a := range []AskCase{{Grant: id, Subjects: []string{"1"}}, {Name: "short", Dataset: "support", For: time.Hour, Subjects: []string{"1"}}} {
		if _, err := r.OpenCase(t.Context(), s, b, a, caseStart); err != nil {
			t.Fatal(err)
		}
	}
	over := func(at time.Time, want ...string) {
		t.Helper()
		if got, err := r.Overdue(t.Context(), s, at); err != nil || !slices.Equal(got, want) {
			t.Errorf("at %s: %v, %v", at, got, err)
		}
	}
	granted := "case_" + id[:12]
	over(caseStart)
	over(caseStart.Add(time.Hour), "case_short")
	over(caseStart.Add(4*time.Hour), granted, "case_short")
	g, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := grant.Sign(grant.New(grant.KindRevocation, g.Request, "dpo", caseStart), signer)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Decide(t.Context(), id, control.Decision{Kind: grant.KindRevocation, Approver: "dpo", Envelope: signed, At: caseStart},
		&trefoil.Body{At: caseStart, Kind: trefoil.KindGrant, Grant: &trefoil.GrantBody{Dataset: "support", Event: "revoked", Grant: id}}); err != nil {
		t.Fatal(err)
	}
	over(caseStart, granted)
}
