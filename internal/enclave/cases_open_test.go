package enclave_test

import (
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// withCases is ready, with cases that stand and are acknowledged.
func (s *small) withCases(t *testing.T, cases ...dataset.Case) (*world, *enclave.Authoriser) {
	t.Helper()
	w, a := s.ready()
	s.rules.Config.Keys.Digests = filepath.Join(t.TempDir(), "digests")
	s.rules.Config.Keys.Pseudonyms = filepath.Join(t.TempDir(), "ring")
	b, err := s.rules.Builder(&enclave.Clusters{Addresses: map[string]enclave.ClusterAddress{"inside": {}, "outside": {}}}, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if err := b.SetCases(cases); err != nil {
		t.Fatal(err)
	}
	a.SetCases(b)
	for _, c := range cases {
		_, hash, err := b.Define(c.Name)
		if err != nil {
			t.Fatal(err)
		}
		w.built[c.Name] = enclave.Built{Hash: hash, FreshAsOf: noon}
		a.Acknowledge(hash)
	}
	return w, a
}

// caseFor is a case of care for some, until one.
func (s *small) caseFor(name, of, grantID string, who ...string) dataset.Case {
	c := dataset.Case{ID: "00112233445566aa", Name: name, Of: of, Grant: grantID, Subjects: []string{"7"}, Until: noon.Add(time.Hour)}
	for _, id := range who {
		c.Who = append(c.Who, trefoil.CasePseudonym(s.rules.StaffKey, name, id))
	}
	return c
}

func TestACaseOpensForWhomItNamesAndForNobodyElse(t *testing.T) {
	s := load(t)
	w, a := s.withCases(t, s.caseFor("case_1", "care", "", "ie"), s.caseFor("case_2", "care", "", "jp"), s.caseFor("case_3", "care", ""), s.caseFor("case_4", "trends", "", "ie", "cn"))
	for _, c := range []struct {
		who, database, rule string
		at                  time.Time
	}{
		{"ie", "case_1", "", noon},
		{"ie", "case_2", "case-names-nobody-else", noon},
		{"ie", "case_3", "case-names-nobody-else", noon},
		{"ie", "case_4", "", noon},
		{"cn", "case_4", "floor", noon}, // the dataset is pseudonymised, its case is not
		{"ie", "case_1", "case-over", noon.Add(time.Hour)},
		{"ie", "case_9", "unknown-dataset", noon},
	} {
		q := s.ask(t, c.who, c.database)
		q.At = c.at
		d := a.Authorise(t.Context(), q)
		if (d.Path == gateway.Release) != (c.rule == "") || d.Refusal.Rule != c.rule {
			t.Errorf("%s on %s at %s: path %d, rule %q, %s", c.who, c.database, c.at, d.Path, d.Refusal.Rule, d.Refusal.Message)
		}
		if d.Path == gateway.Release && (!d.Until.Equal(noon.Add(time.Hour)) || d.Access.Dataset != c.database || d.Access.Grant != "" || d.Target.Database != c.database) {
			t.Errorf("%s is opened as %+v until %s", c.database, d.Access, d.Until)
		}
	}
	w.built["case_1"] = enclave.Built{}
	if d := a.Authorise(t.Context(), s.ask(t, "ie", "case_1")); d.Path != gateway.Deny || d.Refusal.Rule != "dataset-not-built" {
		t.Errorf("a case that does not stand: path %d, rule %s", d.Path, d.Refusal.Rule)
	}
	// Rules are read again, and the cases stay; they go when there are none.
	_, a = s.withCases(t, s.caseFor("case_1", "care", "", "ie"))
	a.Reload(s.rules)
	if d := a.Authorise(t.Context(), s.ask(t, "ie", "case_1")); d.Path != gateway.Release {
		t.Errorf("after a reload: %s", d.Refusal.Message)
	}
	none, err := s.rules.Builder(&enclave.Clusters{}, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a.SetCases(none)
	if d := a.Authorise(t.Context(), s.ask(t, "ie", "case_1")); d.Path != gateway.Deny || d.Refusal.Rule != "unknown-dataset" {
		t.Errorf("a case that ended: path %d, rule %s", d.Path, d.Refusal.Rule)
	}
	if d := a.Authorise(t.Context(), s.ask(t, "ie", "care")); d.Path != gateway.Release {
		t.Errorf("the datasets that the files define: %s", d.Refusal.Message)
	}
}

// The case of a grant is opened while the grant is in force, and each session rests on it.
func TestTheCaseOfAGrantEndsWithIt(t *testing.T) {
	s := load(t)
	g := s.approve(t, "ie", "care")
	w, a := s.withCases(t, s.caseFor("case_1", "care", g.Request.ID, "ie"))
	refused := func(name string) {
		t.Helper()
		if d := a.Authorise(t.Context(), s.ask(t, "ie", "case_1")); d.Path != gateway.Deny || d.Refusal.Rule != "case-grant" {
			t.Errorf("%s: path %d, rule %q", name, d.Path, d.Refusal.Rule)
		}
	}
	refused("without its grant")
	w.grants = []control.Grant{g}
	q := s.ask(t, "ie", "case_1")
	d := a.Authorise(t.Context(), q)
	if d.Path != gateway.Release || d.Access.Grant != g.Request.ID || len(d.Access.Approvals) != 1 || len(a.Take(q.Session).Evidence) != 1 {
		t.Fatalf("path %d, access %+v: %s", d.Path, d.Access, d.Refusal.Message)
	}
	// "ie" may open care without a grant, and that is not what the case rests on.
	other := s.approve(t, "ie", "care")
	other.Request.ID = strings.Repeat("2", 32)
	w.grants = []control.Grant{other}
	refused("with another grant")
	signed, err := grant.Sign(grant.New(grant.KindRevocation, g.Request, "dpo", noon), s.signer)
	if err != nil {
		t.Fatal(err)
	}
	g.Decisions = append(g.Decisions, control.Decision{Kind: grant.KindRevocation, Approver: "dpo", Envelope: signed})
	w.grants = []control.Grant{g}
	refused("with a grant that was revoked")
}
