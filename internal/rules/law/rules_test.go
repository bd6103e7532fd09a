package law

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestWithin(t *testing.T) {
	forms := Forms()
	for i, held := range forms {
		for j, bound := range forms {
			if Within(held, bound) != (i >= j) {
				t.Errorf("%s within %s: %v", held, bound, i >= j)
			}
		}
		for _, unknown := range []Form{"", "masked", "Clear"} {
			if Within(held, unknown) || Within(unknown, held) || Within(unknown, unknown) {
				t.Errorf("an unknown form %q is within something", unknown)
			}
		}
	}
}

func TestZeroValuesDeny(t *testing.T) {
	if (Assessment{}).Open || (Assessment{}).Bound() != Withheld || (Decision{}).OK || (Region{}).Contains("IE") || Region.Contains(DefaultRegion(), "") {
		t.Error("a zero value allows")
	}
	if class, _ := ClassOf(nil, 100); class != NoClass {
		t.Errorf("no columns are a dataset of class %q", class)
	}
}

func TestRegion(t *testing.T) {
	r := DefaultRegion()
	for country, want := range map[string]bool{"IE": true, "NO": true, "LI": true, "CH": true, "GB": true, "RE": true,
		"GI": false, "US": false, "SJ": false, "GL": false, "XK": false, "": false, "EEA": false, "ie": false} {
		if r.Contains(country) != want {
			t.Errorf("%q: %v", country, !want)
		}
	}
	if _, err := NewRegion([]string{"EEA", "EUROPE"}); err == nil {
		t.Error("an unknown name makes a region")
	}
	if r, err := NewRegion([]string{"UK", "IE"}); err != nil || !slices.Equal(r.Countries(), []string{"GB", "IE"}) {
		t.Errorf("%v, %v", r.Countries(), err)
	}
}

func TestLeavingEndsProtectionAfter24Months(t *testing.T) {
	moved := on("2024-11-21")
	for _, c := range []struct {
		name, current, before string
		changed               time.Time
		at                    string
		resident, protected   bool
	}{
		{"lives here", "IE", "", time.Time{}, "2026-11-21", true, true},
		{"came here", "IE", "US", moved, "2024-11-22", true, true},
		{"left a day ago", "US", "IE", moved, "2024-11-22", true, true},
		{"left 24 months ago less a moment", "US", "IE", moved, "2026-11-20", true, true},
		{"left 24 months ago", "US", "IE", moved, "2026-11-21", false, false},
		{"left, date not known", "US", "IE", time.Time{}, "2046-11-21", true, true},
		{"moved, from where is not known", "US", "", moved, "2026-11-20", true, true},
		{"moved long ago, from where is not known", "US", "", moved, "2026-11-21", false, false},
		{"moved to another regime", "CH", "FR", moved, "2024-11-22", true, true},
		{"never here", "US", "", time.Time{}, "2026-11-21", false, false},
		{"moved outside", "US", "CA", moved, "2024-11-22", false, false},
		{"unknown", "", "", time.Time{}, "2026-11-21", false, true},
		{"unknown, long after leaving", "??", "IE", on("2000-01-01"), "2026-11-21", false, true},
	} {
		at := on(c.at)
		if got := Resident(c.current, c.before, c.changed, DefaultRegion(), at); got != c.resident {
			t.Errorf("%s: resident %v", c.name, got)
		}
		if got := Protected(c.current, c.before, c.changed, DefaultRegion(), at); got != c.protected {
			t.Errorf("%s: protected %v", c.name, got)
		}
	}
}

// TestDatasetHoldsNoSubjectOfAnotherRegime: whoever moved from France to Switzerland is a
// Swiss subject now, for whom other countries are adequate, and is still protected.
func TestDatasetHoldsNoSubjectOfAnotherRegime(t *testing.T) {
	eea, err := NewRegion([]string{"EEA"})
	if err != nil {
		t.Fatal(err)
	}
	moved := on("2026-10-01")
	if Resident("CH", "FR", moved, eea, today) {
		t.Error("a dataset of the EEA holds a Swiss subject")
	}
	if !Protected("CH", "FR", moved, eea, today) {
		t.Error("protection ended at once")
	}
	if !Resident("US", "FR", moved, eea, today) {
		t.Error("leaving for a country without a regime ended residence at once")
	}
}

func TestRegimesOf(t *testing.T) {
	for _, c := range []struct {
		exporter   string
		residences string
		want       string
	}{
		{"IE", "EEA", "EU"}, {"IE", "FR DE", "EU"}, {"IE", "EEA UK", "EU UK"}, {"IE", "GB", "EU UK"}, {"IE", "CH", "CH EU"},
		{"GB", "GB", "UK"}, {"IE", "BR", "EU"}, {"US", "BR", "CH EU UK"}, {"IE", "", "CH EU UK"}, {"", "FR", "CH EU UK"}, {"IE", "FR XX", "CH EU UK"},
	} {
		var got []string
		for _, r := range RegimesOf(c.exporter, strings.Fields(c.residences)) {
			got = append(got, string(r))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s, %s: %v, want %s", c.exporter, c.residences, got, c.want)
		}
	}
}

// held is a column of another table than the person's.
func held(category Category, trait Trait, form Form, detail, pgType string) Held {
	return Held{Table: "a.t", Column: "c", Category: category, Trait: trait, Form: form, Detail: detail, Type: pgType}
}

func TestPseudonymisedDatasetHoldsNoMore(t *testing.T) {
	person := held(Behaviour, NoTrait, Clear, "", "text")
	person.Person = true
	personKey := held(Behaviour, Key, Clear, "", "bigint")
	personKey.Person = true
	for _, c := range []struct {
		column Held
		k      int64
		ok     bool
	}{
		{held(Identifier, Key, Pseudonymised, "person", "bigint"), 0, true},
		{held(Identifier, Key, Clear, "", "bigint"), 0, false},
		{held(Contact, NoTrait, Pseudonymised, "email", "text"), 0, true},
		{held(Contact, NoTrait, Generalised, "prefix:1", "text"), 0, false},
		{held(Device, NoTrait, Clear, "", "text"), 0, false},
		{held(Financial, NoTrait, Generalised, "bucket:1000", "numeric"), 0, false},
		{held(Financial, NoTrait, Withheld, "null", "numeric"), 0, true},
		{held(Content, NoTrait, Pseudonymised, "x", "text"), 0, false},
		{held(Special, NoTrait, Pseudonymised, "x", "text"), 0, false},
		{held(Special, NoTrait, Withheld, "null", "text"), 0, true},
		{held(Location, NoTrait, Clear, "", "text"), 0, false},
		{held(Location, NoTrait, Generalised, "net", "inet"), 0, true},
		{held(Location, NoTrait, Generalised, "prefix:3", "text"), 0, true},
		{held(Location, NoTrait, Generalised, "prefix:9", "text"), 0, false},
		{held(Location, NoTrait, Generalised, "prefix:0", "text"), 0, false},
		{held(Location, NoTrait, Generalised, "prefix:x", "text"), 0, false},
		{held(Location, NoTrait, Generalised, "bucket:1", "double precision"), 0, true},
		{held(Location, NoTrait, Generalised, "", "text"), 0, false},
		{held(Location, NoTrait, Generalised, "lookup:0011", "text"), 0, true},
		{held(Location, NoTrait, Pseudonymised, "x", "inet"), 0, true},
		{held(Location, Residence, Clear, "", "character(2)"), 0, true},
		{held(Behaviour, Birth, Generalised, "year", "date"), 0, true},
		{held(Behaviour, Birth, Generalised, "month", "date"), 0, false},
		{held(Behaviour, Birth, Clear, "", "date"), 0, false},
		{held(Behaviour, Birth, Generalised, "bucket:5", "integer"), 0, true},
		{held(Behaviour, Birth, Generalised, "bucket:5", "double precision"), 0, false},
		{held(Behaviour, Birth, Generalised, "prefix:4", "text"), 0, true},
		{held(Behaviour, Birth, Generalised, "prefix:10", "text"), 0, false},
		{held(Contact, Birth, Generalised, "year", "date"), 0, false},
		{held(Behaviour, Time, Generalised, "hour", "timestamp with time zone"), 0, true},
		{held(Behaviour, Time, Generalised, "day", "timestamp(3) without time zone"), 0, true},
		{held(Behaviour, Time, Clear, "", "timestamp with time zone"), 0, false},
		{held(Behaviour, Time, Clear, "", "date"), 0, true},
		{held(Behaviour, Time, Clear, "", "bigint"), 0, false},
		{held(Behaviour, Time, Generalised, "bucket:3600", "bigint"), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "timestamp with time zone"), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "timestamp(0) with time zone[]"), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "tstzrange"), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "text"), 0, true},
		{held(Behaviour, NoTrait, Clear, "", ""), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "jsonb"), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "jsonb[]"), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "jsonb#/model"), 0, true},
		{held(Behaviour, NoTrait, Clear, "", "inet"), 0, false},
		{held(Behaviour, NoTrait, Clear, "", "public.hstore"), 0, false},
		{held(Behaviour, Typed, Clear, "", "text"), 0, false},
		{held(Behaviour, Typed, Pseudonymised, "x", "text"), 0, true},
		{held("", Neutral, Clear, "", "text"), 0, true},
		{held("", Neutral, Clear, "", "timestamp with time zone"), 0, false},
		{held(Contact, Neutral, Clear, "", "text"), 0, false},
		{held("", NoTrait, Clear, "", "text"), 0, false},
		{held("", NoTrait, Pseudonymised, "x", "text"), 0, false},
		{held("mystery", NoTrait, Pseudonymised, "x", "text"), 0, false},
		{held(Behaviour, "mystery", Clear, "", "text"), 0, false},
		{held(Behaviour, NoTrait, "", "", "text"), 0, false},
		{held(Behaviour, NoTrait, "masked", "", "text"), 0, false},
		{person, 0, false},
		{person, LeastK - 1, false},
		{person, LeastK, true},
		{person, DefaultK, true},
		{personKey, DefaultK, false},
	} {
		class, reasons := ClassOf([]Held{c.column}, c.k)
		if (class == ClassPseudonymised) != c.ok || (len(reasons) == 0) != c.ok {
			t.Errorf("%+v, k %d: %s %v", c.column, c.k, class, reasons)
		}
		// One column too many makes the whole dataset clear.
		class, _ = ClassOf([]Held{held(Contact, NoTrait, Pseudonymised, "e", "text"), c.column}, c.k)
		if (class == ClassPseudonymised) != c.ok {
			t.Errorf("among others: %+v: %s", c.column, class)
		}
	}
}
