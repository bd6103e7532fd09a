package law

import (
	"strings"
	"testing"
)

var irish = Entity{Name: "Platform Ltd", Country: "IE"}

// staff is an access to a clear dataset of EU subjects; employed by the exporter if the
// employer is in Ireland, else by a company of the employer's country.
func staff(employer, workplace, network string) Access {
	importer := irish
	if employer != "IE" {
		importer = Entity{Name: "Company " + employer, Country: employer}
	}
	return Access{Regimes: []Regime{EU}, Exporter: irish, Importer: importer, Class: ClassClear, Purpose: "analytics",
		Places: []Place{{Employer, employer}, {Workplace, workplace}, {Network, network}}}
}

// chinaTool is the registered instrument of the company in China.
func chinaTool() Instrument {
	return Instrument{ID: "scc-1", Article: "46", Entity: "Company CN", Purposes: []string{"analytics"},
		From: on("2026-01-01"), Until: on("2027-01-01"), TIA: "3", TIADate: on("2026-01-01")}
}

func TestFloor(t *testing.T) {
	tool := []Instrument{chinaTool()}
	for _, c := range []struct {
		name    string
		access  Access
		class   Class
		tools   []Instrument
		scopes  []string
		open    bool
		zone    Zone
		mayHold Class
		article string
		rule    string
	}{
		{"home", staff("IE", "IE", "IE"), ClassClear, nil, nil, true, ZoneRegion, ClassClear, "", RuleOpen},
		{"another entity at home", staff("FR", "FR", "FR"), ClassClear, nil, nil, true, ZoneRegion, ClassClear, "", RuleOpen},
		{"a member of the region that is a third country in law", staff("GB", "GB", "GB"), ClassClear, nil, nil, true, ZoneRegion, ClassClear, "45", RuleOpen},
		{"adequate", staff("NZ", "NZ", "NZ"), ClassClear, nil, nil, true, ZoneAdequate, ClassClear, "45", RuleOpen},
		{"adequate without its scope", staff("JP", "JP", "JP"), ClassClear, nil, nil, false, ZoneElsewhere, ClassAggregate, "", RuleForm},
		{"adequate with its scope", staff("JP", "JP", "JP"), ClassClear, nil, []string{"jp-appi"}, true, ZoneAdequate, ClassClear, "45", RuleOpen},
		{"elsewhere, clear", staff("CN", "CN", "CN"), ClassClear, tool, nil, false, ZoneElsewhere, ClassPseudonymised, "46", RuleForm},
		{"elsewhere, pseudonymised", staff("CN", "CN", "CN"), ClassPseudonymised, tool, nil, true, ZoneElsewhere, ClassPseudonymised, "46", RuleOpen},
		{"elsewhere without an instrument", staff("CN", "CN", "CN"), ClassPseudonymised, nil, nil, false, ZoneElsewhere, ClassAggregate, "", RuleInstrument},
		{"elsewhere, aggregates", staff("CN", "CN", "CN"), ClassAggregate, nil, nil, true, ZoneElsewhere, ClassAggregate, "", RuleOpen},
		{"works in Ireland for a company in China", staff("CN", "IE", "IE"), ClassClear, tool, nil, false, ZoneElsewhere, ClassPseudonymised, "46", RuleForm},
		{"traveller: not a transfer, but the place bounds the form", staff("IE", "IE", "CN"), ClassClear, nil, nil, false, ZoneElsewhere, ClassPseudonymised, "", RuleForm},
		{"traveller and pseudonyms", staff("IE", "IE", "CN"), ClassPseudonymised, nil, nil, true, ZoneElsewhere, ClassPseudonymised, "", RuleOpen},
		{"adequate employer, network in China, no instrument", staff("NZ", "NZ", "CN"), ClassPseudonymised, tool, nil, false, ZoneElsewhere, ClassAggregate, "", RuleInstrument},
		{"unknown network", staff("IE", "IE", ""), ClassClear, nil, nil, false, ZoneUnknown, ClassPseudonymised, "", RuleForm},
		{"unknown employer", staff("", "IE", "IE"), ClassPseudonymised, nil, nil, false, ZoneUnknown, ClassAggregate, "", RuleInstrument},
		{"no class", staff("IE", "IE", "IE"), NoClass, nil, nil, false, ZoneRegion, ClassClear, "", RuleClass},
		{"invented class", staff("IE", "IE", "IE"), "masked", nil, nil, false, ZoneRegion, ClassClear, "", RuleClass},
	} {
		c.access.Class, c.access.Instruments, c.access.Importer.Scopes = c.class, c.tools, c.scopes
		got := Assess(c.access, DefaultRegion(), today)
		if got.Open != c.open || got.Zone != c.zone || got.MayHold != c.mayHold || got.Article != c.article || got.Rule != c.rule {
			t.Errorf("%s: %+v", c.name, got)
		}
		if !got.Open && (len(got.Reasons) == 0 || got.Law == "") {
			t.Errorf("%s: a refusal without reason or article: %+v", c.name, got)
		}
	}
}

// TestFloorCannotBeWidened lets an attacker fill every field of an access from China; only
// the class and a true instrument may matter.
func TestFloorCannotBeWidened(t *testing.T) {
	for _, exporter := range []Entity{irish, {}, {Name: "Company CN", Country: "CN"}, {Name: "Company CN", Country: "IE"}} {
		for _, scopes := range [][]string{nil, {"us-dpf", "us-dpf-uk", "us-dpf-ch", "jp-appi", "kr-pipa", "ca-commercial", ""}} {
			for _, regimes := range [][]Regime{nil, {EU}, {UK}, {CH}, {"CN"}, {""}} {
				for _, region := range []Region{{}, DefaultRegion()} {
					a := staff("CN", "CN", "CN")
					a.Exporter, a.Importer.Scopes, a.Regimes, a.Instruments = exporter, scopes, regimes, []Instrument{chinaTool()}
					if got := Assess(a, region, today); got.Open || Within(Clear, got.Bound()) {
						t.Fatalf("clear data are open to China: %+v", got)
					}
				}
			}
		}
	}
	// Nor by declaring China a part of the region.
	wide, err := NewRegion([]string{"EEA", "CN"})
	if err != nil {
		t.Fatal(err)
	}
	if got := Assess(staff("CN", "CN", "CN"), wide, today); got.Open || got.Zone == ZoneRegion {
		t.Errorf("a region that the law does not know: %+v", got)
	}
}

// TestPlacesCannotBeLeftOut: a source that is not given is unknown.
func TestPlacesCannotBeLeftOut(t *testing.T) {
	full := staff("IE", "IE", "IE")
	for i := range full.Places {
		a := full
		a.Places = append(append([]Place(nil), full.Places[:i]...), full.Places[i+1:]...)
		got := Assess(a, DefaultRegion(), today)
		if i > 0 && (got.Open || got.Zone != ZoneUnknown) {
			t.Errorf("without %s: %+v", full.Places[i].Source, got)
		}
	}
	a := full
	a.Places = append(append([]Place(nil), full.Places...), Place{Network, "CN"})
	if got := Assess(a, DefaultRegion(), today); got.Open || got.Zone != ZoneElsewhere {
		t.Errorf("a second network is not looked at: %+v", got)
	}
	a.Places = []Place{{Employer, "IE"}, {Workplace, "IE"}, {Network, "IE"}}
	a.Importer = Entity{Name: "Company CN", Country: "CN"}
	if got := Assess(a, DefaultRegion(), today); got.Open {
		t.Errorf("the importer's own country is not looked at: %+v", got)
	}
	a.Importer = Entity{Country: "IE"}
	if got := Assess(a, DefaultRegion(), today); got.Open {
		t.Errorf("an importer without a name: %+v", got)
	}
	if got := Assess(Access{}, Region{}, today); got.Open || got.Bound() == Clear {
		t.Errorf("the empty access: %+v", got)
	}
}

func TestInstrumentMustCoverTheAccess(t *testing.T) {
	change := map[string]func(*Instrument){
		"other article":    func(i *Instrument) { i.Article = "49" },
		"no id":            func(i *Instrument) { i.ID = "" },
		"other importer":   func(i *Instrument) { i.Entity = "Company IN" },
		"other purpose":    func(i *Instrument) { i.Purposes = []string{"support"} },
		"no purposes":      func(i *Instrument) { i.Purposes = nil },
		"no date":          func(i *Instrument) { i.From = on("0001-01-01") },
		"not yet":          func(i *Instrument) { i.From = on("2026-11-22") },
		"run out":          func(i *Instrument) { i.Until = on("2026-11-21") },
		"no assessment":    func(i *Instrument) { i.TIA = "" },
		"assessed later":   func(i *Instrument) { i.TIADate = on("2026-11-22") },
		"assessed at none": func(i *Instrument) { i.TIADate = on("0001-01-01") },
	}
	for name, f := range change {
		tool := chinaTool()
		f(&tool)
		a := staff("CN", "CN", "CN")
		a.Class, a.Instruments = ClassPseudonymised, []Instrument{tool}
		if got := Assess(a, DefaultRegion(), today); got.Open || got.Rule != RuleInstrument {
			t.Errorf("%s: %+v", name, got)
		}
	}
	bad, good := chinaTool(), chinaTool()
	bad.Until = on("2026-02-01")
	a := staff("CN", "CN", "CN")
	a.Class, a.Instruments = ClassPseudonymised, []Instrument{bad, good}
	if got := Assess(a, DefaultRegion(), today); !got.Open || got.Found == nil || got.Found.Until != good.Until || got.Instrument != "scc-1" {
		t.Errorf("the second instrument is not found: %+v", got)
	}
}

func TestReasonsNameCountryAndRegime(t *testing.T) {
	a := staff("US", "US", "US")
	got := Assess(a, DefaultRegion(), today)
	if text := strings.Join(got.Reasons, "; "); !strings.Contains(text, "US is not adequate under EU law") || !strings.Contains(text, "us-dpf") {
		t.Error(text)
	}
}
