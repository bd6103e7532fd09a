package monitor

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// TestTighterRulesCountAtOnce: one officer, no wait, and permits of before are void.
func TestTighterRulesCountAtOnce(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	_, _, start := w.ask(w.start(a))
	answer := w.rewritten([]string{"ben"}, "transfer_purposes: [support, product-analytics]", "transfer_purposes: [support]")
	if !answer.Done || len(answer.Looser) != 0 {
		t.Fatalf("answer %s", show(answer))
	}
	w.refused(rulePurpose, w.release(a, 0, 1, 1))
	if _, no, err := w.m.Permit(t.Context(), start); err != nil || no == nil {
		t.Errorf("the permit of before still stands: %s, %v", show(no), err)
	}
	w.close()
	w.open()
	w.refused(rulePurpose, w.release(a, 0, 1, 1))
}

// TestLooserRulesWaitAndArePublished: two officers, 72 h, and everybody may read what comes.
func TestLooserRulesWaitAndArePublished(t *testing.T) {
	w := newWorld(t, "transfer_purposes: [support, product-analytics]", "transfer_purposes: [support]")
	d := analyticsDefinition()
	w.acknowledged(d)
	loosen := []string{"transfer_purposes: [support]", "transfer_purposes: [support, product-analytics]"}
	if answer := w.rewritten([]string{"ada", "adele"}, loosen...); answer.Done {
		t.Errorf("one person loosened the rules: %s", show(answer))
	}
	answer := w.rewritten([]string{"ada", "ben"}, loosen...)
	if want := w.clock.now().Add(LooseningWait).Truncate(time.Second); !answer.Done || !answer.From.Equal(want) || !slices.Equal(answer.Looser, []string{"transfer_purposes: names more"}) {
		t.Fatalf("answer %s", show(answer))
	}
	if p := w.m.Ordered(false).Pending; p == nil || p.Rules != w.m.state.orders.pending.hash || len(p.Looser) != 1 {
		t.Errorf("published: %s", show(p))
	}
	w.refused(rulePurpose, w.start(w.access("chen", d)))
	w.clock.add(LooseningWait - time.Minute)
	w.close()
	w.open()
	if err := w.m.Watch(); err != nil {
		t.Fatal(err)
	}
	w.refused(rulePurpose, w.start(w.access("chen", d)))
	w.clock.add(time.Minute)
	if err := w.m.Watch(); err != nil {
		t.Fatal(err)
	}
	w.permitted(w.start(w.access("chen", d)))
	w.close()
	w.open() // rules.yaml is the new file
	w.permitted(w.start(w.access("chen", d)))
}

// TestTighteningDropsTheRulesThatWait: they were weighed against other rules.
func TestTighteningDropsTheRulesThatWait(t *testing.T) {
	w := newWorld(t)
	if a := w.rewritten([]string{"ada", "ben"}, "session_bytes: 3000000", "session_bytes: 4000000"); !a.Done {
		t.Fatal(show(a))
	}
	if a := w.rewritten([]string{"ada"}, "chunk_rows: 1000", "chunk_rows: 999"); !a.Done {
		t.Fatal(show(a))
	}
	w.clock.add(LooseningWait + time.Hour)
	if err := w.m.Watch(); err != nil {
		t.Fatal(err)
	}
	if c := w.m.book().rules.Ceilings; c.SessionBytes != 3000000 || c.ChunkRows != 999 {
		t.Errorf("ceilings %+v", c)
	}
	if a := w.rewritten([]string{"ada", "ben"}, "session_bytes: 3000000", "session_bytes: 4000000"); !a.Done {
		t.Fatal(show(a))
	}
	hash := w.m.state.orders.pending.hash
	w.ordered(officers.Withdraw, func(o *officers.Order) { o.Rules = hash }, "ben")
	if w.m.state.orders.pending != nil {
		t.Error("withdrawn rules wait on")
	}
}

// TestRulesFileEditedByHand: once officers are named, the file alone changes nothing.
func TestRulesFileEditedByHand(t *testing.T) {
	w := newWorld(t)
	w.close()
	path := filepath.Join(w.dir, RulesFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	begin := strings.Index(string(text), "officers:\n")
	end := strings.Index(string(text), "ceilings:")
	for name, edited := range map[string]string{"higher ceiling": strings.Replace(string(text), "1000000", "2000000", 1),
		"no officers": string(text[:begin]) + string(text[end:])} {
		if err := os.WriteFile(path, []byte(edited), 0o600); err != nil {
			t.Fatal(err)
		}
		if m, err := New(t.Context(), Config{Dir: w.dir, Now: w.clock.now}); !errors.Is(err, errRulesUnsigned) {
			t.Errorf("%s: %v, want %v", name, err, errRulesUnsigned)
			if m != nil {
				_ = m.Close(t.Context())
			}
		}
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
}

// TestLooseningDressedAsTightening: changes that look like less and allow more.
func TestLooseningDressedAsTightening(t *testing.T) {
	base := strings.NewReplacer("ORIGIN", testOrigin, "LOGURL", "http://127.0.0.1:1").Replace(testRules)
	for _, name := range []string{"LOGKEY", "APPROVERKEY", "SELFKEY", "ADAKEY", "ADELEKEY", "BENKEY"} {
		_, vkey := newKey(t, map[string]string{"LOGKEY": testOrigin}[name]+strings.TrimSuffix(strings.ToLower(name), "key")[:0]+nameOf(name))
		base = strings.Replace(base, name, vkey, 1)
	}
	hash := strings.Repeat("a", 64)
	base = strings.NewReplacer(
		"      - { groups: [support], where: region, class: clear }\n", "      - { groups: [chiefs], where: region, class: clear, grant: true }\n      - { groups: [support], where: region, class: clear }\n",
		"allowance: 50000 }", "allowance: 50000, day_bytes: 1000 }\npolicies: ["+hash+"]\nbinaries: ["+hash+"]\noffice_hours: { zone: UTC, days: [mon], from: \"08:00\", until: \"18:00\" }",
		"    cluster: outside\n", "    cluster: outside\n    definition: "+hash+"\n").Replace(base)
	parse := func(text string) *Rules {
		t.Helper()
		r, err := ParseRules("rules.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	old := parse(base)
	if got := Looser(old, parse(base)); len(got) != 0 {
		t.Fatalf("the same rules are looser by %v", got)
	}
	for _, c := range []struct {
		name, from, to string
		looser         bool
	}{
		{"a ceiling of none is not a low one", "day_bytes: 1000", "day_bytes: 0", true},
		{"lower ceiling", "day_bytes: 1000", "day_bytes: 999", false},
		{"an empty list of policies is not checked", "policies: [" + hash + "]", "policies: []", true},
		{"an empty list of binaries is not checked", "binaries: [" + hash + "]", "binaries: []", true},
		{"a demanding opening taken away uncovers the next", "      - { groups: [chiefs], where: region, class: clear, grant: true }\n", "", true},
		{"a demanding opening narrowed uncovers the next", "groups: [chiefs], where", "groups: [nobody], where", true},
		{"a demanding opening moved behind", "", "", true},
		{"another pin", "definition: " + hash, "definition: " + strings.Repeat("b", 64), true},
		{"no pin", "    definition: " + hash + "\n", "", true},
		{"an opening less", "      - { groups: [support], where: adequate, class: clear }\n", "", false},
		{"an opening nearer", "groups: [analysts], where: elsewhere", "groups: [analysts], where: region", false},
		{"an opening farther", "groups: [support], where: region, class: clear", "groups: [support], where: adequate, class: clear", true},
		{"officers asked no more", "    cluster: inside\n", "    cluster: inside\n    acknowledge: auto\n", true},
		{"an approver's own person forgotten", "name: dpo, ", "name: dpo, persons: [chen], ", false},
		{"a principal less", "  - { id: yuki, employer: jp, workplace: JP, groups: [support] }\n", "", false},
		{"a principal elsewhere", "id: chen, employer: cn, workplace: CN", "id: chen, employer: cn, workplace: IE", true},
		{"an employer's country", "name: Example Beijing, country: CN", "name: Example Beijing, country: IE", true},
		{"a larger region", "version: 1\n", "version: 1\nregion: [EEA, GB, CH, JP]\n", true},
		{"a smaller region", "version: 1\n", "version: 1\nregion: [EEA]\n", true},
		{"a log less", "url: \"http://127.0.0.1:1\"", "url: \"\"", true},
		{"an officer less", "  - { name: adele, person: \"ada  quinn\", key: ", "  - { name: eve, person: \"ada  quinn\", key: ", true},
		{"an instrument for longer", `until: "2027-01-15"`, `until: "2028-01-15"`, true},
		{"an instrument without end", `, until: "2027-01-15"`, "", true},
		{"an instrument for less long", `until: "2027-01-15"`, `until: "2026-12-15"`, false},
		{"a wider clock", "version: 1\n", "version: 1\nclock_doubt: 3m\n", true},
		{"a narrower clock", "version: 1\n", "version: 1\nclock_doubt: 1m\n", false},
		{"other office hours", "days: [mon]", "days: [tue]", true},
		{"another staff key", "staff_key: keys/staff", "staff_key: keys/other", true},
		{"a required valve", "version: 1\n", "version: 1\nvalve_token: keys/v\nvalve: required\n", true}, // its token is a field nobody compares
	} {
		text := strings.Replace(base, c.from, c.to, 1)
		if c.name == "a demanding opening moved behind" {
			lines := strings.Split(base, "\n")
			i := slices.IndexFunc(lines, func(l string) bool { return strings.Contains(l, "chiefs") })
			lines[i], lines[i+1] = lines[i+1], lines[i]
			text = strings.Join(lines, "\n")
		}
		if text == base {
			t.Fatalf("%s: nothing was changed", c.name)
		}
		got := Looser(old, parse(text))
		if (len(got) > 0) != c.looser {
			t.Errorf("%s: looser by %v, want %v", c.name, got, c.looser)
		}
		if back := Looser(parse(text), old); len(back) == 0 && !c.looser {
			t.Errorf("%s: neither it nor its opposite loosens", c.name)
		}
	}
}

func nameOf(placeholder string) string {
	if placeholder == "LOGKEY" {
		return ""
	}
	return strings.ToLower(strings.TrimSuffix(placeholder, "KEY"))
}

// TestAnotherDefinitionNeedsAnOfficer: the first acknowledged definition pins, also through a
// drop; an officer's order lets one other count.
func TestAnotherDefinitionNeedsAnOfficer(t *testing.T) {
	w := newWorld(t)
	d := supportDefinition()
	w.acknowledged(d)
	wide := supportDefinition()
	wide.Columns = append(wide.Columns, trefoil.DefinedColumn{Category: "contact", Column: "phone", Form: "clear", Table: "app.users", Type: "text"})
	hash := trefoil.DefinitionHash(wide)
	refusedOffer := func(when string) {
		t.Helper()
		if a := w.acknowledge(wide); a.Refusal == nil || a.Refusal.Rule != ruleDefinition || !strings.Contains(a.Refusal.Reason, "trefoil monitor acknowledge support "+hash) {
			t.Fatalf("%s: %s", when, show(a))
		}
	}
	refusedOffer("another definition")
	w.m.state.mu.Lock()
	_, err := w.m.step(&entry{Type: entryDropped, At: w.clock.now().UnixMicro(), Name: "support"}, nil)
	w.m.state.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	refusedOffer("after a drop")
	w.close()
	w.open()
	refusedOffer("after a restart")
	if w.found("definition-offered") != 1 {
		t.Errorf("%d findings, want 1", w.found("definition-offered"))
	}
	w.ordered(officers.Acknowledge, func(o *officers.Order) { o.Dataset, o.Definition = "support", hash }, "ben")
	w.acknowledged(wide)
	changes, err := DefinitionChanges(w.dir)
	if err != nil || len(changes) != 4 {
		t.Fatalf("changes %s, %v", show(changes), err)
	}
	if last := changes[3]; last.Event != "acknowledged" || last.Order == "" || !slices.Equal(last.Widened, []string{"app.users.phone: new, clear"}) {
		t.Errorf("last change %s", show(last))
	}
	if w.found("definition-widened") != 1 {
		t.Error("the wider definition is no finding")
	}
}
