package policy

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

func shippedEngine(t *testing.T) *Engine {
	t.Helper()
	e, err := Load(Shipped())
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestShippedPoliciesLoad(t *testing.T) {
	e := shippedEngine(t)
	if len(e.Hash()) != 64 || len(e.Policies()) < 12 {
		t.Errorf("hash %q, %d policies", e.Hash(), len(e.Policies()))
	}
	for id, law := range e.Policies() {
		if !strings.HasPrefix(law, "GDPR art. ") {
			t.Errorf("%s names no article: %q", id, law)
		}
	}
}

func TestBadPoliciesAreRefused(t *testing.T) {
	const good = `@id("a") @law("GDPR art. 6") permit (principal, action == Action::"open", resource);`
	for name, c := range map[string]struct{ text, want string }{
		"none":                {"", "there is none"},
		"syntax":              {good + "permit (", "p.cedar"},
		"no id":               {`@law("GDPR art. 6") permit (principal, action, resource);`, "needs @id"},
		"no law":              {`@id("a") permit (principal, action, resource);`, "needs @law"},
		"same id twice":       {good + "\n" + good, "p.cedar:2: policy id a is used twice"},
		"blank in the id":     {`@id("a b") @law("x") permit (principal, action, resource);`, "without blanks"},
		"unknown attribute":   {`@id("a") @law("x") permit (principal, action == Action::"open", resource) when { resource.klass == "x" };`, "policy a"},
		"unknown action":      {`@id("a") @law("x") permit (principal, action == Action::"peek", resource);`, "policy a"},
		"unknown entity type": {`@id("a") @law("x") permit (principal is Robot, action, resource);`, "policy a"},
		"types that differ":   {`@id("a") @law("x") permit (principal, action == Action::"open", resource) when { context.zone == 1 };`, "policy a"},
	} {
		e, err := Load(fstest.MapFS{"p.cedar": {Data: []byte(c.text)}})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		if e != nil {
			t.Errorf("%s: an engine all the same", name)
		}
	}
	if _, err := Load(fstest.MapFS{"a.cedar": {Data: []byte("permit (")}, "b.cedar": {Data: []byte("forbid (")}}); err == nil ||
		!strings.Contains(err.Error(), "a.cedar") || !strings.Contains(err.Error(), "b.cedar") {
		t.Errorf("not all errors at once: %v", err)
	}
}

// chinaClear is the request that nothing may open.
func chinaClear() OpenRequest {
	return OpenRequest{
		Principal: Principal{ID: "x", Purposes: []string{"support"}},
		Dataset:   Dataset{Name: "support", Class: law.ClassClear, Cluster: "inside", Purpose: "support", Regimes: []law.Regime{law.EU}},
		Access: law.Access{Exporter: law.Entity{Name: "P", Country: "IE"}, Importer: law.Entity{Name: "C", Country: "CN"},
			Places: []law.Place{{Source: law.Employer, Country: "CN"}, {Source: law.Workplace, Country: "CN"}, {Source: law.Network, Country: "CN"}},
			Instruments: []law.Instrument{{ID: "i", Article: "46", Entity: "C", Purposes: []string{"support"},
				From: time.Unix(0, 0), TIA: "1", TIADate: time.Unix(0, 0)}}},
		Region: law.DefaultRegion(), Grant: true, At: time.Date(2026, 11, 21, 0, 0, 0, 0, time.UTC),
	}
}

// TestNoPolicyLiftsTheFloor gives the engine nothing but a policy that permits everything.
func TestNoPolicyLiftsTheFloor(t *testing.T) {
	e, err := Load(fstest.MapFS{"p.cedar": {Data: []byte(careless)}})
	if err != nil {
		t.Fatal(err)
	}
	d := e.Open(chinaClear())
	if d.Allow || !d.Permits || d.Rule != "floor" || !strings.Contains(d.Law[0], "art. 44") || !strings.Contains(d.Hint, "no grant lifts the floor") {
		t.Errorf("%+v", d)
	}
	// What the caller writes into Access does not count: the dataset's class does.
	r := chinaClear()
	r.Access.Class, r.Access.Regimes = law.ClassPseudonymised, []law.Regime{law.EU}
	if d := e.Open(r); d.Allow {
		t.Errorf("a lying access opens: %+v", d)
	}
	if d := e.Operate(OperateRequest{Principal: Principal{ID: "s", Service: true, Databases: []string{"p"}}, Database: "p",
		Access: r.Access, Region: r.Region, At: r.At}); d.Allow {
		t.Errorf("a service in China operates: %+v", d)
	}
	outside := &trefoil.Definition{Name: "a", Cluster: "outside", Purpose: "x", Person: "t.p",
		Columns: []trefoil.DefinedColumn{{Table: "t.p", Column: "c", Category: "contact", Form: "clear", Type: "text"}}}
	if err := e.HoldDefinition(outside, law.ClassClear, []string{"contact must be pseudonymised"}); err == nil ||
		!strings.Contains(err.Error(), "pseudonymised datasets only") {
		t.Errorf("clear data outside: %v", err)
	}
}

// TestZeroDenies: whoever forgets to load policies opens nothing.
func TestZeroDenies(t *testing.T) {
	region := chinaClear()
	region.Access.Importer = region.Access.Exporter
	for i := range region.Access.Places {
		region.Access.Places[i].Country = "IE"
	}
	for _, e := range []*Engine{nil, {}} {
		for _, d := range []Decision{e.Open(region), e.Operate(OperateRequest{Principal: Principal{Service: true}, Access: region.Access, Region: region.Region, At: region.At}),
			e.Hold(HoldRequest{Form: law.Clear, Category: law.Behaviour, Cluster: "inside"}), e.Approve(ApproveRequest{}), {}} {
			if d.Allow || d.Permits {
				t.Errorf("allows: %+v", d)
			}
		}
		if e.HoldDefinition(nil, "", nil) == nil {
			t.Error("holds nothing at all")
		}
	}
	if (shippedEngine(t)).Open(OpenRequest{}).Allow {
		t.Error("the empty request opens")
	}
}

// TestFailingPolicyDenies: a forbid must not fall away because it cannot be evaluated.
func TestFailingPolicyDenies(t *testing.T) {
	e, err := Load(fstest.MapFS{"p.cedar": {Data: []byte(careless + `
		@id("overflow") @law("x") forbid (principal, action == Action::"approve", resource) when { 9223372036854775807 + 1 > 0 && context.self };`)}})
	if err != nil {
		t.Fatal(err)
	}
	if d := e.Approve(ApproveRequest{Approver: "o", Self: true}); d.Allow || d.Rule != RuleError || d.Policies[0] != "overflow" {
		t.Errorf("%+v", d)
	}
}

func TestRefusalsSayHowToAsk(t *testing.T) {
	e := shippedEngine(t)
	r := chinaClear()
	r.Grant, r.Access.Importer = false, law.Entity{Name: "J", Country: "JP", Scopes: []string{"jp-appi"}}
	for i := range r.Access.Places {
		r.Access.Places[i].Country = "JP"
	}
	d := e.Open(r)
	if d.Allow || d.Rule != RuleDefault || d.Hint != "ask with: trefoil request --dataset support --for 4h --reason '…'" {
		t.Errorf("%+v", d)
	}
	r.Grant = true
	if d := e.Open(r); !d.Allow || d.Floor.Article != "45" || !d.Floor.Transfer {
		t.Errorf("%+v", d)
	}
}

func TestHoldDefinitionNamesEveryColumn(t *testing.T) {
	def := &trefoil.Definition{Name: "a", Cluster: "inside", Purpose: "x", Person: "t.p", Columns: []trefoil.DefinedColumn{
		{Table: "t.p", Column: "a", Category: "special", Form: "clear", Type: "text"},
		{Table: "t.p", Column: "b", Category: "contact", Form: "clear", Type: "text"},
		{Table: "t.p", Column: "c", Category: "", Form: "clear", Type: "text"}}}
	err := shippedEngine(t).HoldDefinition(def, law.ClassClear, nil)
	if err == nil || !strings.Contains(err.Error(), "t.p.a:") || !strings.Contains(err.Error(), "t.p.c:") || strings.Contains(err.Error(), "t.p.b:") {
		t.Errorf("%v", err)
	}
	def.Columns = def.Columns[1:2]
	if err := shippedEngine(t).HoldDefinition(def, law.ClassClear, nil); err != nil {
		t.Error(err)
	}
}

func TestHashFollowsTheText(t *testing.T) {
	one, err := Load(fstest.MapFS{"p.cedar": {Data: []byte(careless)}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := Load(fstest.MapFS{"p.cedar": {Data: []byte(careless + " ")}})
	if err != nil || one.Hash() == two.Hash() {
		t.Errorf("the same hash for other text: %v", err)
	}
}

func TestWrongCorpusIsAnError(t *testing.T) {
	for text, want := range map[string]string{
		"version: 1\ncases: [{name: a, action: open, want: maybe}]":     "1:39: want and policy",
		"version: 1\ncases: [{name: a, action: peek, want: deny}]":      "action is open",
		"version: 1\ncases: [{name: a, action: open, wants: deny}]":     `did you mean "want"`,
		"version: 1\ncases: [{action: open, want: deny, at: tomorrow}]": "YYYY-MM-DD",
		"version: 2": "want 1",
	} {
		_, _, err := ParseCorpus("c", []byte(text))
		want = strings.TrimPrefix(want, "1:39: ")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
	e := shippedEngine(t)
	_, failures, err := RunCorpus(e, fstest.MapFS{"corpus/x.yaml": {Data: []byte("version: 1\ncases:\n  - {name: a, action: approve, want: allow}")}})
	if err != nil || len(failures) != 1 || failures[0].Line != 3 {
		t.Errorf("%v, %v", failures, err)
	}
	if _, _, err := RunCorpus(nil, Shipped()); err == nil {
		t.Error("a nil engine runs the corpus")
	}
}

func FuzzPolicies(f *testing.F) {
	f.Add([]byte(careless), []byte("version: 1\ncases: [{name: a, action: open, want: deny}]"))
	f.Fuzz(func(t *testing.T, text, corpus []byte) {
		e, err := Load(fstest.MapFS{"p.cedar": {Data: text}})
		if (err == nil) == (e == nil) {
			t.Fatal("an engine and an error, or neither")
		}
		if e.Open(chinaClear()).Allow {
			t.Fatal("a clear dataset is open to China")
		}
		if err == nil {
			_, _, _ = RunCorpus(e, fstest.MapFS{"corpus/c.yaml": {Data: corpus}})
		}
	})
}
