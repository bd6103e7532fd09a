package monitor

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// TestRetiringAnApproversKeyCountsAtOnce: one officer, no wait; what the key approved gives nothing.
func TestRetiringAnApproversKeyCountsAtOnce(t *testing.T) {
	g := newGrantWorld(t, "")
	r := g.request(nil)
	notes, keys := g.sign(r, "ciso")
	g.permitted(g.start(r, keys), notes...)
	vkey := g.m.book().grants.Approvers[2].Verifier.Name()
	if vkey != "ciso" {
		t.Fatalf("the third approver is %s", vkey)
	}
	at := g.clock.now().UTC().Truncate(time.Second)
	retired := "  - { name: ciso, until: \"" + at.Format(time.RFC3339) + "\", key: "
	answer := g.rewritten([]string{"ben"}, "  - { name: ciso, key: ", retired)
	if !answer.Done || len(answer.Looser) != 0 {
		t.Fatalf("answer %s", show(answer))
	}
	g.refused("grant", g.start(r, keys), notes...)
	back := g.rewritten([]string{"ada", "ben"}, retired, "  - { name: ciso, key: ")
	if !back.Done || !slices.Equal(back.Looser, []string{"approvers.until: later"}) || !back.From.After(g.clock.now()) {
		t.Fatalf("a key that comes back: %s", show(back))
	}
	g.refused("grant", g.start(r, keys), notes...)
}

// TestMoreApprovalsCountAtOnce: an approver more is asked for, by one officer's order.
func TestMoreApprovalsCountAtOnce(t *testing.T) {
	g := newGrantWorld(t, "")
	r := g.request(nil)
	notes, keys := g.sign(r, "dpo", "ciso")
	g.permitted(g.start(r, keys), notes...)
	if a := g.rewritten([]string{"ada"}, "datasets:\n", twoGroups+"datasets:\n"); !a.Done || len(a.Looser) != 0 {
		t.Fatalf("answer %s", show(a))
	}
	g.refused("grant", g.start(r, keys), notes...)
	notes, keys = g.sign(r, "dpo", "ciso", "watch")
	g.permitted(g.start(r, keys), notes...)
	if a := g.rewritten([]string{"ada", "ben"}, twoGroups, ""); !a.Done || !a.From.After(g.clock.now()) || !slices.Equal(a.Looser, []string{"approvals: ask for less, or for something else"}) {
		t.Fatalf("back: %s", show(a))
	}
	if p := g.m.Ordered(false).Pending; p == nil {
		t.Fatal("nothing waits")
	}
	g.ordered(officers.Withdraw, func(o *officers.Order) { o.Rules = g.m.state.orders.pending.hash }, "ben")
}

// approvalRules are rules in which a and a2 share a person through link, and nobody else does.
func approvalRules(t *testing.T) (string, func(string) *Rules) {
	t.Helper()
	base := strings.NewReplacer("ORIGIN", testOrigin, "LOGURL", "http://127.0.0.1:1").Replace(testRules)
	for _, name := range []string{"LOGKEY", "APPROVERKEY", "SELFKEY", "ADAKEY", "ADELEKEY", "BENKEY"} {
		_, vkey := newKey(t, map[bool]string{true: testOrigin, false: nameOf(name)}[name == "LOGKEY"])
		base = strings.Replace(base, name, vkey, 1)
	}
	lines := ""
	for _, a := range []string{"a", "a2", "b", "c", "link"} {
		_, vkey := newKey(t, a)
		more := map[string]string{"a": ", from: 2026-01-01", "a2": ", persons: [ann]", "b": ", until: 2027-01-01", "link": ", persons: [a, a2]"}[a]
		purposes := map[string]string{"c": `["*"]`}[a]
		if purposes == "" {
			purposes = "[support, product-analytics]"
		}
		lines += fmt.Sprintf("  - { name: %s, key: %s, purposes: %s%s }\n", a, vkey, purposes, more)
	}
	base = strings.Replace(base, "datasets:\n", lines+`approvals:
  - { purposes: [support], all_of: [ { group: one, of: [a, b] }, { group: two, of: [c] } ] }
  - { purposes: [product-analytics], any_of: [ { group: one, of: [a, b, c], count: 2 }, { group: two, of: [c] } ] }
  - { purposes: ["*"], outside: true, all_of: [ { group: three, of: [b, c] } ] }
datasets:
`, 1)
	return base, func(text string) *Rules {
		t.Helper()
		r, err := ParseRules("rules.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
}

// TestFewerApprovalsDressedAsMore: changes of who has to approve, in both directions.
func TestFewerApprovalsDressedAsMore(t *testing.T) {
	base, parse := approvalRules(t)
	old := parse(base)
	one, two, three := "all_of: [ { group: one, of: [a, b] }, { group: two, of: [c] } ]", "any_of: [ { group: one, of: [a, b, c], count: 2 }, { group: two, of: [c] } ]", "all_of: [ { group: three, of: [b, c] } ]"
	line := func(name string) string {
		for _, l := range strings.SplitAfter(base, "\n") {
			if strings.HasPrefix(l, "  - { name: "+name+", ") {
				return l
			}
		}
		t.Fatalf("no approver %s", name)
		return ""
	}
	for _, c := range []struct {
		name, from, to string
		looser         bool
	}{
		{"a rule more", "approvals:\n", "approvals:\n  - { purposes: [support], all_of: [ { group: four, of: [b] } ] }\n", false},
		{"a group more", one, strings.Replace(one, "{ group: two", "{ group: four, of: [b] }, { group: two", 1), false},
		{"a group less", one, "all_of: [ { group: one, of: [a, b] } ]", true},
		{"a group of fewer", "group: one, of: [a, b] }", "group: one, of: [a] }", false},
		{"a group of others", "group: one, of: [a, b] }", "group: one, of: [a, link] }", true},
		{"all of a group", "group: one, of: [a, b] }", "group: one, of: [a, b], count: 2 }", false},
		{"one place for two groups", one, "all_of: [ { group: two, of: [c] } ]", true},
		{"any in place of all", one, "any_of: [ { group: one, of: [a, b] }, { group: two, of: [c] } ]", true},
		{"all in place of any", two, strings.Replace(two, "any_of", "all_of", 1), false},
		{"a choice less", two, "any_of: [ { group: two, of: [c] } ]", false},
		{"a choice more", two, strings.Replace(two, "any_of: [ ", "any_of: [ { group: four, of: [link] }, ", 1), true},
		{"a choice of fewer persons", "of: [a, b, c], count: 2", "of: [a, b, c]", true},
		{"for those outside alone", "purposes: [support], all_of", "purposes: [support], outside: true, all_of", true},
		{"for those inside too", "outside: true, ", "", false},
		{"for one purpose in place of all", `purposes: ["*"], outside`, "purposes: [support], outside", true},
		{"for all purposes", "purposes: [support], all_of", `purposes: ["*"], all_of`, false},
		{"for another purpose", "purposes: [support], all_of", "purposes: [product-analytics], all_of", true},
		{"in two rules", "  - { purposes: [\"*\"], outside: true, " + three + " }\n", "  - { purposes: [\"*\"], outside: true, all_of: [ { group: x, of: [b] } ] }\n  - { purposes: [support], " + three + " }\n", false},
		{"a name for a group", "group: three", "group: trio", false},
		{"a key for longer", "until: 2027-01-01", "until: 2028-01-01", true},
		{"a key without end", ", until: 2027-01-01", "", true},
		{"a key for less long", "until: 2027-01-01", "until: 2026-12-01", false},
		{"a key from earlier", "from: 2026-01-01", "from: 2025-01-01", true},
		{"a key from ever", ", from: 2026-01-01", "", true},
		{"a key from later", "from: 2026-01-01", "from: 2026-02-01", false},
		{"who linked two names is gone", line("link"), "", true},
		{"who linked two names links them no more", "persons: [a, a2]", "persons: [a]", true},
		{"a person less", "persons: [ann]", "persons: []", true},
		{"a star is no person", "persons: [ann]", `persons: ["*"]`, true},
		{"a person more", "persons: [ann]", "persons: [ann, bo]", false},
		{"an approver less", line("a2"), "", false},
		{"an approver more", line("a2"), line("a2") + strings.Replace(line("b"), "name: b", "name: b2", 1), true},
		{"every purpose", line("b"), strings.Replace(line("b"), "[support, product-analytics]", `["*"]`, 1), true},
		{"a purpose less", line("b"), strings.Replace(line("b"), "[support, product-analytics]", "[support]", 1), false},
		{"of every purpose, one", line("c"), strings.Replace(line("c"), `["*"]`, "[support]", 1), false},
	} {
		text := strings.Replace(base, c.from, c.to, 1)
		if text == base {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		if got := Looser(old, parse(text)); (len(got) > 0) != c.looser {
			t.Errorf("%s: looser by %v, want %v", c.name, got, c.looser)
		}
	}
	star := parse(strings.Replace(base, "transfer_purposes: [support, product-analytics]", `transfer_purposes: ["*"]`, 1))
	if got := Looser(star, old); !slices.Equal(got, []string{"transfer_purposes: names more"}) {
		t.Errorf("a purpose of the name * allowed no other: looser by %v", got)
	}
	shared := strings.Replace(base, line("b"), line("b")+strings.Replace(line("b"), "name: b", "name: b2", 1), 1)
	if got := Looser(parse(shared), old); len(got) == 0 {
		t.Error("of two names of one key the first was heard: without it the other one is")
	}
}

// TestWhatIsNotLooserGrantsNothingNew: whatever set of approvers satisfies rules that the comparer
// calls tighter satisfied the rules of before.
func TestWhatIsNotLooserGrantsNothingNew(t *testing.T) {
	names := []string{"a", "b", "c", "d"}
	var all []grant.Approver
	notes := map[string]string{}
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	hash := strings.Repeat("1", 64)
	q := grant.Request{Dataset: "support", Definition: hash, From: now, ID: strings.Repeat("7", 32), Policy: hash, Principal: "yuki", Purpose: "support", Reason: hash, Until: now.Add(time.Hour)}
	for _, n := range names {
		s, vkey := newKey(t, n)
		v, err := note.NewVerifier(vkey)
		if err != nil {
			t.Fatal(err)
		}
		a := grant.Approver{Name: n, Verifier: v, Purposes: []string{"*"}}
		if n == "d" {
			a.Persons = []string{"c"} // the same person
		}
		all = append(all, a)
		if notes[n], err = grant.Sign(grant.New(grant.KindApproval, q, n, now), s); err != nil {
			t.Fatal(err)
		}
	}
	rnd := rand.New(rand.NewPCG(1, 2))
	groups := func(least int) (out []grant.Group) {
		for range least + rnd.IntN(2) {
			g := grant.Group{Name: "g", Count: rnd.IntN(3)}
			for _, n := range names {
				if rnd.IntN(2) == 0 {
					g.Of = append(g.Of, n)
				}
			}
			out = append(out, g)
		}
		return out
	}
	rules := func(n int) (out []grant.Rule) {
		for range n {
			r := grant.Rule{Purposes: [][]string{{"support"}, {"*"}, {"other"}}[rnd.IntN(3)], Outside: rnd.IntN(3) == 0, AllOf: groups(0), AnyOf: groups(0)}
			if len(r.AllOf)+len(r.AnyOf) == 0 {
				r.AllOf = groups(1)
			}
			out = append(out, r)
		}
		return out
	}
	compared, granted := 0, 0
	for compared < 60 {
		was, is := rules(1), rules(1+rnd.IntN(3))
		l := &looser{}
		l.approvals("approvals", was, is)
		if len(l.found) > 0 {
			continue
		}
		compared++
		for set := range 1 << len(names) {
			var answers []string
			for i, n := range names {
				if set>>i&1 == 1 {
					answers = append(answers, notes[n])
				}
			}
			outside := rnd.IntN(2) == 0
			if (grant.Book{Approvers: all, Rules: is}).Weigh(q, answers, outside, now).Held() != nil {
				continue
			}
			granted++
			if err := (grant.Book{Approvers: all, Rules: was}).Weigh(q, answers, outside, now).Held(); err != nil {
				t.Fatalf("%v is called tighter than %v, and set %b satisfies it alone: %v", is, was, set, err)
			}
		}
	}
	if granted < 50 {
		t.Errorf("%d sets satisfied the tighter rules: this compares nothing", granted)
	}
}
