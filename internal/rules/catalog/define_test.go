package catalog

import (
	"reflect"
	"slices"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

func define(t *testing.T, f *Files, name string) *trefoil.Definition {
	t.Helper()
	def, err := Definition(f.Datasets.Dataset(name), f.Catalogs[0], f.Purposes, law.EU)
	if err != nil {
		t.Fatal(err)
	}
	return def
}

func TestDefinitionIsTheSameForTheSameMeaning(t *testing.T) {
	f := parseSamples(t)
	a := define(t, f, "analytics")
	ds := f.Datasets.Dataset("analytics")
	slices.Reverse(ds.Tables)
	for i := range ds.Tables {
		slices.Reverse(ds.Tables[i].Columns)
	}
	b := define(t, f, "analytics")
	if !reflect.DeepEqual(a, b) || trefoil.DefinitionHash(a) != trefoil.DefinitionHash(b) {
		t.Error("the order in the file changes the definition")
	}
}

// How late a dataset may be says nothing of what it holds: a new bound needs no new build
// and no new acknowledgement.
func TestBoundsOfFreshnessAreNoPartOfTheDefinition(t *testing.T) {
	f := parseSamples(t)
	before := trefoil.DefinitionHash(define(t, f, "analytics"))
	f.Datasets.Dataset("analytics").Fresh = Fresh{Warn: "10s", Refuse: "5m"}
	if trefoil.DefinitionHash(define(t, f, "analytics")) != before {
		t.Error("a bound of freshness changes the definition's hash")
	}
}

func TestDefinitionChangesWithEveryPart(t *testing.T) {
	base := trefoil.DefinitionHash(define(t, parseSamples(t), "analytics"))
	for _, edit := range [][]string{
		{"by: year", "by: \"lookup\", lookup: {\"1970-01-01\": \"1970-01-01\"}"}, {"plus: paid", "plus: free"}, {"by: hour", "by: day"},
		{"rows: {residence: [EEA],", "rows: {residence: [EU],"}, {"prefix:2", "prefix:1"}, {"{name: title, form: clear}", "{name: title, form: withheld}"},
		{"purpose: analytics\n    source", "purpose: analytics\n    k: 12\n    source"}, {`person.plan == "pro"`, `person.plan == "plus"`},
	} {
		if got := trefoil.DefinitionHash(define(t, parseSamples(t, edit...), "analytics")); got == base {
			t.Errorf("%q does not change the hash", edit)
		}
	}
}

func TestDefinitionHoldsWhatTheDatasetHolds(t *testing.T) {
	def := define(t, parseSamples(t), "analytics")
	if def.K != law.DefaultK || def.Person != "app.people" || !slices.Equal(def.Regimes, []string{"EU"}) {
		t.Errorf("k %d, person %s, regimes %v", def.K, def.Person, def.Regimes)
	}
	details := map[string]string{}
	for _, c := range def.Columns {
		details[c.Column+" "+c.Type] = c.Form + " " + c.Detail
	}
	for column, want := range map[string]string{
		"id bigint": "clear ", "email text": "withheld null", "person_id bigint": "pseudonymised person",
		"device jsonb#/model": "clear ", "device jsonb#/os/version": "generalised prefix:2", "born date": "generalised year",
	} {
		if details[column] != want {
			t.Errorf("%s: %q, want %q", column, details[column], want)
		}
	}
	if _, listed := details["note text"]; listed {
		t.Error("a withheld column is listed")
	}
	if class, why := ClassOf(def); class != law.ClassPseudonymised {
		t.Errorf("class %q: %v", class, why)
	}
}

func TestUnknownRegimeCountsAsAll(t *testing.T) {
	f := parseSamples(t)
	for _, regimes := range [][]law.Regime{nil, {"XX"}, {law.EU, "XX"}} {
		def, err := Definition(f.Datasets.Dataset("support"), f.Catalogs[0], f.Purposes, regimes...)
		if err != nil || !slices.Equal(def.Regimes, []string{"CH", "EU", "UK"}) {
			t.Errorf("%v: %v, %v", regimes, def.Regimes, err)
		}
	}
}

// TestUnreviewedColumnIsNeverDefined tries to slip a column past validation.
func TestUnreviewedColumnIsNeverDefined(t *testing.T) {
	f := parseSamples(t, "{name: email, form: clear}", "{name: note, form: clear}")
	for _, c := range define(t, f, "support").Columns {
		if c.Column == "note" {
			t.Errorf("an unreviewed column is held as %s", c.Form)
		}
	}
}

func TestDefinitionOfNothingFails(t *testing.T) {
	f := parseSamples(t)
	if _, err := Definition(nil, nil, nil); err == nil {
		t.Error("no error")
	}
	if _, err := Definition(&Dataset{Name: "x", Source: "platform", Purpose: "none"}, f.Catalogs[0], f.Purposes); err == nil {
		t.Error("no error for an unknown purpose")
	}
}

// TestDomainIsWhatItStandsOn tries to hide a time behind a domain's name.
func TestDomainIsWhatItStandsOn(t *testing.T) {
	f := parseSamples(t, "{name: video_id, type: bigint, category: behaviour, domain: video, reviewed: true}",
		"{name: video_id, type: app.moment, base: timestamp with time zone, category: behaviour, domain: video, reviewed: true}")
	if class, why := ClassOf(define(t, f, "analytics")); class != law.ClassClear || len(why) != 1 {
		t.Errorf("class %q: %v", class, why)
	}
}
