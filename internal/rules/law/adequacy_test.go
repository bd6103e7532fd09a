package law

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func on(day string) time.Time {
	t, err := time.Parse(time.DateOnly, day)
	if err != nil {
		panic(err)
	}
	return t
}

var today = on("2026-11-21")

func TestEmbeddedDataParse(t *testing.T) {
	d, err := Parse(embedded)
	if err != nil {
		t.Fatal(err)
	}
	if len(d.countries) != 249 || len(d.Rows()) < 40 || len(Hash()) != 64 || Hash() != d.Hash() {
		t.Errorf("%d countries, %d rows, hash %s", len(d.countries), len(d.Rows()), Hash())
	}
	if len(d.groups["EU"]) != 27+7 || len(d.groups["EEA"]) != 30+7 || !DefaultRegion().Contains("IS") {
		t.Error("the groups are not as the treaties have them")
	}
	for _, row := range d.Rows() {
		if row.Checked.Before(on("2026-11-01")) || !strings.Contains(row.Evidence, " source: ") {
			t.Errorf("%s %s: not checked, or no evidence: %q", row.Regime, row.Country, row.Evidence)
		}
	}
	for scope := range d.scopes {
		used := false
		for _, row := range d.Rows() {
			used = used || row.Scope == scope
		}
		if !used {
			t.Errorf("no decision asks for scope %s", scope)
		}
	}
}

// TestAdequacyByRegimeScopeAndDate has one case a rule; the lists differ by regime.
func TestAdequacyByRegimeScopeAndDate(t *testing.T) {
	for _, c := range []struct {
		regime  Regime
		country string
		scopes  string
		at      string
		want    string
	}{
		{EU, "IE", "", "2026-11-21", "domestic"},
		{EU, "RE", "", "2026-11-21", "domestic"},
		{UK, "GB", "", "2026-11-21", "domestic"},
		{UK, "IE", "", "2026-11-21", "adequate"},
		{CH, "NO", "", "2026-11-21", "adequate"},
		{EU, "GB", "", "2026-11-21", "adequate"},
		{EU, "GB", "", "2031-12-27", "expired"},
		{EU, "GB", "", "2021-06-27", "not-yet"},
		{EU, "CH", "", "2026-11-21", "adequate"},
		{EU, "GI", "", "2026-11-21", "no-decision"},
		{UK, "GI", "", "2026-11-21", "adequate"},
		{EU, "US", "", "2026-11-21", "scope"},
		{EU, "US", "us-dpf-uk", "2026-11-21", "scope"},
		{EU, "US", "x us-dpf", "2026-11-21", "adequate"},
		{UK, "US", "us-dpf", "2026-11-21", "scope"},
		{CH, "US", "us-dpf-ch", "2024-09-14", "not-yet"},
		{CH, "US", "us-dpf-ch", "2024-09-15", "adequate"},
		{EU, "JP", "jp-appi", "2026-11-21", "adequate"},
		{CH, "JP", "jp-appi", "2026-11-21", "no-decision"},
		{EU, "BR", "", "2026-01-25", "not-yet"},
		{EU, "BR", "", "2026-01-26", "adequate"},
		{UK, "BR", "", "2026-11-21", "no-decision"},
		{EU, "CN", "us-dpf jp-appi ca-commercial", "2026-11-21", "no-decision"},
		{EU, "", "", "2026-11-21", "unknown-country"},
		{EU, "XX", "", "2026-11-21", "unknown-country"},
		{EU, "EEA", "", "2026-11-21", "unknown-country"},
		{EU, "ie", "", "2026-11-21", "unknown-country"},
		{"", "IE", "", "2026-11-21", "unknown-regime"},
		{"US", "IE", "", "2026-11-21", "unknown-regime"},
	} {
		got := Adequate(c.regime, c.country, strings.Fields(c.scopes), on(c.at))
		wantOK := c.want == "adequate" || c.want == "domestic"
		if got.Rule != c.want || got.OK != wantOK || (c.want == "adequate" && got.Reference == "") {
			t.Errorf("%s to %q on %s with %q: %+v, want %s", c.regime, c.country, c.at, c.scopes, got, c.want)
		}
	}
}

func TestSeveralRegimesTakeTheStrictest(t *testing.T) {
	appi := []string{"jp-appi"}
	for _, c := range []struct {
		regimes []Regime
		want    bool
	}{
		{[]Regime{EU}, true}, {[]Regime{EU, UK}, true}, {[]Regime{EU, CH}, false}, {[]Regime{CH, EU}, false},
		{nil, false}, {[]Regime{}, false}, {[]Regime{"XX"}, false}, {[]Regime{EU, ""}, false},
	} {
		if got := AdequateAll(c.regimes, "JP", appi, today); got.OK != c.want {
			t.Errorf("%v: %+v", c.regimes, got)
		}
	}
	both := AdequateAll([]Regime{EU, UK}, "JP", appi, today)
	if !strings.Contains(both.Reference, "2019/419") || !strings.Contains(both.Reference, "schedule 21") {
		t.Errorf("not both decisions are named: %q", both.Reference)
	}
	if home := AdequateAll([]Regime{EU}, "IE", nil, today); !home.Domestic || home.Rule != "domestic" {
		t.Errorf("%+v", home)
	}
	if partly := AdequateAll([]Regime{EU, UK}, "IE", nil, today); partly.Domestic || !partly.OK || partly.Reference == "" {
		t.Errorf("%+v", partly)
	}
}

// TestSuspendedDecisionClosesTheDoor changes one row, as an authority or court might.
func TestSuspendedDecisionClosesTheDoor(t *testing.T) {
	gb := []byte(`"regime": "EU", "country": "GB"`)
	src := bytes.Replace(embedded, gb, append(gb, `, "suspended": "2027-01-01"`...), 1)
	d, err := Parse(src)
	if err != nil {
		t.Fatal(err)
	}
	if d.Hash() == Hash() {
		t.Error("changed data have the same hash")
	}
	if !d.Adequate(EU, "GB", nil, on("2026-12-31")).OK || d.Adequate(EU, "GB", nil, on("2027-01-01")).Rule != "suspended" {
		t.Error("the suspension does not hold from its day on")
	}
	a := staff("GB", "GB", "GB")
	if z := d.Assess(a, DefaultRegion(), on("2026-12-31")).Zone; z != ZoneRegion {
		t.Errorf("zone before: %s", z)
	}
	if got := d.Assess(a, DefaultRegion(), on("2027-01-01")); got.Open || got.Zone != ZoneElsewhere {
		t.Errorf("a suspended member of the region opens clear data: %+v", got)
	}
}

func TestBadDataAreRefused(t *testing.T) {
	good := string(embedded)
	for name, edit := range map[string][2]string{
		"unknown key":     {`"version": 1`, `"version": 1, "more": 2`},
		"version":         {`"version": 1`, `"version": 2`},
		"no months":       {`"protection_months": 24`, `"protection_months": 0`},
		"unknown regime":  {`"regime": "EU", "country": "AD"`, `"regime": "EEA", "country": "AD"`},
		"unknown country": {`"regime": "EU", "country": "AD"`, `"regime": "EU", "country": "XX"`},
		"unknown scope":   {`"scope": "us-dpf",`, `"scope": "us-dpfs",`},
		"no reference":    {`"reference": "Commission Decision 2010/625/EU"`, `"reference": ""`},
		"bad date":        {`"from": "2010-10-19"`, `"from": "2010-19-10"`},
		"no from":         {`"from": "2010-10-19", `, ``},
		"until first":     {`"until": "2031-12-27"`, `"until": "2021-06-28"`},
		"country twice":   {`"AD", "AE"`, `"AD", "AD"`},
		"bad code":        {`"AD", "AE"`, `"ad", "AE"`},
		"trailing":        {"\n}\n", "\n}\n{}"},
		"no home":         {`"UK": ["GB"], "CH": ["CH"]`, `"CH": ["CH"]`},
		"unknown member":  {`"UK": ["GB"]` + "\n", `"UK": ["XX"]` + "\n"},
		"group is code":   {`"UK": ["GB"]` + "\n", `"GB": ["GB"]` + "\n"},
	} {
		bad := strings.Replace(good, edit[0], edit[1], 1)
		if bad == good {
			t.Errorf("%s: the data do not contain %q", name, edit[0])
			continue
		}
		if _, err := Parse([]byte(bad)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"checked":"2026-01-01","protection_months":1,"countries":["IE"],"groups":{},"homes":{"EU":["IE"],"UK":["IE"],"CH":["IE"]},"scopes":{},"adequacy":[]}`))
	f.Fuzz(func(t *testing.T, src []byte) {
		d, err := Parse(src)
		if err != nil {
			return
		}
		for _, country := range []string{"", "CN", "US"} {
			dec := d.AdequateAll(nil, country, nil, today)
			if dec.OK && !d.countries[country] {
				t.Fatalf("%q is adequate and unknown", country)
			}
		}
	})
}
