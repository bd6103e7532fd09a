package monitor

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// grantWorld is a world whose rules want two groups for support, and a third approver for what
// leaves the region.
type grantWorld struct {
	*world
	signers map[string]note.Signer
	d       *trefoil.Definition
}

func newGrantWorld(t *testing.T, approvals string) *grantWorld {
	g := &grantWorld{signers: map[string]note.Signer{}, d: supportDefinition()}
	lines := ""
	for _, name := range []string{"ciso", "watch", "night-desk"} {
		s, vkey := newKey(t, name)
		g.signers[name] = s
		persons := ""
		if name == "night-desk" {
			persons = ", persons: [dpo]"
		}
		lines += "  - { name: " + name + ", key: " + vkey + `, purposes: ["*"]` + persons + " }\n"
	}
	g.world = newWorld(t, "datasets:\n  - name: support", lines+approvals+"datasets:\n  - name: support")
	g.signers["dpo"] = g.approver
	g.acknowledged(g.d)
	return g
}

const twoGroups = `approvals:
  - purposes: [support]
    all_of: [ { group: privacy, of: [dpo, night-desk] }, { group: security, of: [ciso] } ]
  - { purposes: ["*"], outside: true, all_of: [ { group: monitor, of: [watch] } ] }
`

func (g *grantWorld) request(fix func(*grant.Request)) grant.Request {
	now := g.clock.now()
	r := grant.Request{Dataset: g.d.Name, Definition: trefoil.DefinitionHash(g.d), From: now.Add(-time.Hour), ID: strings.Repeat("7", 32),
		Policy: strings.Repeat("0", 64), Principal: "yuki", Purpose: g.d.Purpose, Reason: strings.Repeat("1", 64), Until: now.Add(time.Hour)}
	if fix != nil {
		fix(&r)
	}
	return r
}

// sign returns approvals of r and what a record says of them.
func (g *grantWorld) sign(r grant.Request, by ...string) (notes, keys []string) {
	g.t.Helper()
	for _, name := range by {
		text, err := grant.Sign(grant.New(grant.KindApproval, r, name, g.clock.now()), g.signers[name])
		if err != nil {
			g.t.Fatal(err)
		}
		s, err := grant.Open(text, g.m.book().grants.Approvers)
		if err != nil {
			g.t.Fatal(err)
		}
		notes, keys = append(notes, text), append(keys, s.Key)
	}
	return notes, keys
}

func (g *grantWorld) start(r grant.Request, keys []string) *trefoil.Body {
	a := g.access("yuki", g.d)
	a.Grant, a.Approvals = r.ID, keys
	return g.world.start(a)
}

// TestTheMonitorCountsApprovalsItself: the gateway lets in with fewer than the monitor's rules want.
func TestTheMonitorCountsApprovalsItself(t *testing.T) {
	g := newGrantWorld(t, twoGroups)
	r := g.request(nil)
	for name, c := range map[string]struct {
		by   []string
		rule string
	}{
		"all of them":             {[]string{"dpo", "ciso", "watch"}, ""},
		"another order":           {[]string{"watch", "night-desk", "ciso"}, ""},
		"without the second":      {[]string{"dpo", "watch"}, "grant"},
		"without the monitor":     {[]string{"dpo", "ciso"}, "grant"},
		"one person twice":        {[]string{"dpo", "night-desk", "watch"}, "grant"},
		"the monitor by itself":   {[]string{"watch"}, "grant"},
		"evidence of one":         {[]string{"ciso"}, "grant"},
		"no evidence of approval": {nil, "grant"},
	} {
		notes, keys := g.sign(r, c.by...)
		if b := g.start(r, keys); c.rule == "" {
			g.permitted(b, notes...)
		} else {
			t.Log(name)
			g.refused(c.rule, b, notes...)
		}
	}
	notes, keys := g.sign(r, "dpo", "ciso", "watch")
	g.refused("grant", g.start(r, keys[:2]), notes...) // the record leaves one out
}

// TestApprovalsOfTwoRequestsDoNotAddUp: one id, two terms, each approved by one of the groups.
func TestApprovalsOfTwoRequestsDoNotAddUp(t *testing.T) {
	g := newGrantWorld(t, twoGroups)
	r := g.request(nil)
	longer := g.request(func(r *grant.Request) { r.Until = r.Until.Add(time.Hour) })
	a, ka := g.sign(r, "dpo", "watch")
	b, kb := g.sign(longer, "ciso", "watch")
	g.refused("grant", g.start(r, append(ka, kb...)), append(a, b...)...)
}

func TestTheMonitorKnowsARetiredKey(t *testing.T) {
	g := newGrantWorld(t, "")
	r := g.request(nil)
	notes, keys := g.sign(r, "dpo")
	g.permitted(g.start(r, keys), notes...)
	g.m.book().grants.Approvers[0].Until = g.clock.now()
	g.refused("grant", g.start(r, keys), notes...)
}

// TestADenialThatTheGatewayHides: it is in the log, and the evidence has only approvals.
func TestADenialThatTheGatewayHides(t *testing.T) {
	g := newGrantWorld(t, "")
	r := g.request(nil)
	notes, keys := g.sign(r, "dpo")
	g.permitted(g.start(r, keys), notes...)
	g.log.add(&trefoil.Body{At: g.clock.now(), Kind: trefoil.KindApproval, Origin: testOrigin,
		Grant: &trefoil.GrantBody{Dataset: "support", Event: "denied", Grant: r.ID, Hash: r.Hash(), Principal: "x", Until: r.Until}})
	g.log.cosigned(g.m)
	if err := g.m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	g.refused("grant", g.start(r, keys), notes...)
}

// TestAnotherStatementThanTheApprovedOne: the record names it, whatever the gateway let out before.
func TestAnotherStatementThanTheApprovedOne(t *testing.T) {
	g := newGrantWorld(t, "")
	r := g.request(func(r *grant.Request) { r.Statement = strings.Repeat("a", 16) })
	notes, keys := g.sign(r, "dpo")
	start := g.start(r, keys)
	g.permitted(start, notes...)
	said := func(chunk int64, statements ...trefoil.Statement) *trefoil.Body {
		b := g.release(start.Session.Access, chunk, 100, 100*(chunk+1))
		b.Release.Statements = statements
		return b
	}
	st := func(kind, fingerprint string, tables ...string) trefoil.Statement {
		return trefoil.Statement{Kind: kind, Fingerprint: fingerprint, Commitment: strings.Repeat("0", 64), Tables: append([]string{}, tables...)}
	}
	begin, it, other := st("begin", strings.Repeat("c", 16)), st("select", r.Statement, "app.users"), st("select", strings.Repeat("b", 16), "app.users")
	g.permitted(said(0, begin, it), notes...)
	for _, statements := range [][]trefoil.Statement{{other}, {it, other}, {}, {st("unparsed", "")}, {st("select", strings.Repeat("b", 16))}, {st("begin", "", "app.users")}} {
		g.refused("grant", said(1, statements...), notes...)
	}
}

// TestACaseGrantDoesNotOpenTheWholeDataset at the monitor either.
func TestACaseGrantDoesNotOpenTheWholeDataset(t *testing.T) {
	g := newGrantWorld(t, "")
	r := g.request(func(r *grant.Request) { r.Subjects = strings.Repeat("5", 32) })
	notes, keys := g.sign(r, "dpo")
	g.refused("grant", g.start(r, keys), notes...)
}

// TestWhatTheMonitorDoesNotSign: its rules judge a request before anybody of it does.
func TestWhatTheMonitorDoesNotSign(t *testing.T) {
	g := newGrantWorld(t, twoGroups)
	for name, c := range map[string]struct {
		fix  func(*grant.Request)
		rule string
	}{
		"what the rules open":       {nil, ""},
		"of a case":                 {func(r *grant.Request) { r.Subjects = strings.Repeat("5", 32) }, ""},
		"for a stranger":            {func(r *grant.Request) { r.Principal = "eve" }, rulePrincipal},
		"for an unknown dataset":    {func(r *grant.Request) { r.Dataset = "all" }, ruleDataset},
		"for another purpose":       {func(r *grant.Request) { r.Purpose = "marketing" }, rulePurpose},
		"from below the floor":      {func(r *grant.Request) { r.Principal = "chen" }, "floor"},
		"for a group without rules": {func(r *grant.Request) { r.Dataset, r.Purpose = "analytics", "product-analytics" }, ruleOpening},
		"whose time is over":        {func(r *grant.Request) { r.From, r.Until = r.From.Add(-time.Hour), r.From }, ruleGrant},
	} {
		no := g.m.book().consider(g.request(c.fix), g.clock.now())
		if got := ""; no != nil || c.rule != "" {
			if no != nil {
				got = no.Rule
			}
			if got != c.rule {
				t.Errorf("%s: %q (%s), want %q", name, got, show(no), c.rule)
			}
		}
	}
	if no, err := Consider(g.dir, g.request(nil), g.clock.now()); no != nil || err != nil {
		t.Errorf("from the directory: %v, %v", no, err)
	}
}

func TestRulesOfApprovalsThatNobodySatisfies(t *testing.T) {
	src := strings.NewReplacer("APPROVERKEY", "dpo+00000000+AAAA", "SELFKEY", "x").Replace(testRules)
	src = strings.Replace(src, "datasets:\n", "approvals: [ { purposes: [support], all_of: [ { group: two, of: [dpo], count: 2 } ] } ]\ndatasets:\n", 1)
	_, err := ParseRules("rules.yaml", []byte(src))
	if err == nil || !strings.Contains(err.Error(), "asks for 2 different persons of 1") {
		t.Errorf("got %v", err)
	}
}
