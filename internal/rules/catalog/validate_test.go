package catalog

import (
	"strings"
	"testing"
)

func TestSamplesAreValid(t *testing.T) {
	for _, e := range Validate(parseSamples(t)) {
		t.Error(e)
	}
}

// TestWrongFilesAreRefused holds one case a rule: the edit, and what the error must say.
func TestWrongFilesAreRefused(t *testing.T) {
	const people, watched = "app.people\n        columns:\n", "app.watched\n        columns:\n"
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown table", "- table: app.videos\n        columns", "- table: app.video\n        columns", `datasets.yaml:38:16: dataset analytics: table "app.video" is not in the catalog`},
		{"unknown column", "{name: email, form: clear}", "{name: mail, form: clear}", `column app.people.mail is not in the catalog`},
		{"unreviewed column used", people + "          - {name: id, form: clear}", people + "          - {name: note, form: clear}\n          - {name: id, form: clear}", "column app.people.note is not reviewed"},
		{"aggregate form", "{name: email, form: clear}", "{name: email, form: aggregate}", "aggregate form is not held"},
		{"no form", "{name: email, form: clear}", "{name: email, form: \"\"}", "no form is given"},
		{"unknown form", "{name: email, form: clear}", "{name: email, form: masked}", `unknown form "masked"`},
		{"document held whole", watched, watched + "          - {name: id, form: withheld}\n          - {name: device2, form: clear}\n", "device2 is not in the catalog"},
		{"jsonb clear", "            paths:\n              /model: {form: clear}\n              /os/version: {form: generalised, by: \"prefix:2\"}\n", "", "a document is not held whole"},
		{"jsonb pseudonymised", "            form: clear\n            paths:\n              /model: {form: clear}\n              /os/version: {form: generalised, by: \"prefix:2\"}\n", "            form: pseudonymised\n", "a document has forms at its paths"},
		{"path not a pointer", "/model:", "model:", "is no JSON pointer"},
		{"path to the whole document", "/model:", "\"\":", "is no JSON pointer"},
		{"path inside a path", "/model:", "/os:", "holds another path"},
		{"paths on text", "- {name: title, form: clear}", "- {name: title, form: clear, paths: {/a: {form: clear}}}", "paths are for json"},
		{"pseudonym of a boolean", "{name: email, form: clear}", "{name: adult, form: pseudonymised}", "too few values"},
		{"pseudonym of a date", "{name: email, form: clear}", "{name: born, form: pseudonymised}", "too few values"},
		{"pseudonym of a short text", "{name: country, form: clear}\n  - name", "{name: country, form: pseudonymised}\n  - name", "too short"},
		{"pseudonym of a float", "{name: email, form: clear}", "{name: score, form: pseudonymised}", "no pseudonym"},
		{"generalised without by", "form: generalised, by: hour", "form: generalised", "needs by"},
		{"generalised by unknown", "by: hour", "by: minute", "is not known"},
		{"date by day", "form: generalised, by: year", "form: generalised, by: day", "cannot be generalised by day"},
		{"bucket without number", "by: hour", "by: bucket", "needs a whole number"},
		{"net with number", "by: net", "by: \"net:8\"", "takes no number"},
		{"lookup without table", ", lookup: {pro: paid, plus: paid, free: free}", "", "belong together"},
		{"by on clear", "{name: email, form: clear}", "{name: email, form: clear, by: year}", "belong to the generalised form"},
		{"null on clear", "{name: email, form: clear}", "{name: email, form: clear, \"null\": true}", "belongs to the withheld form"},
		{"two forms in one domain", "{name: person_id, form: pseudonymised}", "{name: person_id, form: clear}", "one form per domain"},
		{"ends of a reference differ", "person_id, type: bigint, category: identifier, trait: key, domain: person", "person_id, type: bigint, category: identifier, trait: key, domain: other", "in different domains"},
		{"typed column in an identifier's domain", "category: content, trait: typed, reviewed: true}", "category: content, trait: typed, domain: email, reviewed: true}", "shares the domain email"},
		{"subject unknown", "- table: app.videos\n        columns:\n          - {name: id, form: clear}\n          - {name: title, form: clear}", "- table: app.lost\n        columns:\n          - {name: x, form: withheld}", "nobody has said whose"},
		{"reference to nowhere", "to: app.watched", "to: app.watch", "is not in the catalog"},
		{"path in a circle", "- {columns: [watched_id], to: app.watched, of: [id]}", "- {columns: [watched_id], to: app.comments, of: [watched_id]}", "circle"},
		{"two subjects", "subject: {nobody: true}", "subject: {nobody: true, column: id}", "exactly one"},
		{"second person table", "subject: {nobody: true}", "subject: {self: true}", "that is app.people"},
		{"person table missing", "person: {table: app.people,", "person: {table: app.persons,", "is not in the catalog"},
		{"residence column missing", "residence: country,", "residence: land,", `no column "land"`},
		{"reviewed without category", `category: "", trait: neutral`, `category: ""`, "has no category"},
		{"unknown category", "category: contact", "category: contacts", "unknown category"},
		{"unknown trait", "trait: birth", "trait: birthday", "unknown trait"},
		{"outside not pseudonymised: location", "form: generalised, by: net", "form: clear", "outside holds pseudonymised datasets only"},
		{"outside not pseudonymised: birth by month", "form: generalised, by: year", "form: generalised, by: month", "year or coarser"},
		{"outside not pseudonymised: time", "{name: at, form: generalised, by: hour}", "{name: at, form: clear}", "times must be coarsened"},
		{"outside with a small cell", "purpose: analytics\n    source: platform", "purpose: analytics\n    k: 2\n    source: platform", "smallest cell is 2"},
		{"freshness that is no duration", "purpose: analytics\n    source: platform", "purpose: analytics\n    fresh: {warn: soon}\n    source: platform", "datasets.yaml:17:19: dataset analytics: fresh.warn: want a duration"},
		{"freshness below what rest gives", "purpose: analytics\n    source: platform", "purpose: analytics\n    fresh: {refuse: 100ms}\n    source: platform", "want at least 2s"},
		{"freshness refused before it is warned of", "purpose: analytics\n    source: platform", "purpose: analytics\n    fresh: {warn: 5m, refuse: 10s}\n    source: platform", "must be longer than fresh.warn"},
		{"negative k", "purpose: analytics\n    source: platform", "purpose: analytics\n    k: -1\n    source: platform", "k is a number"},
		{"cluster unknown", "cluster: inside", "cluster: between", "inside or outside"},
		{"purpose unknown", "purpose: analytics\n", "purpose: analysis\n", "not in purposes.yaml"},
		{"source unknown", "purpose: analytics\n    source: platform", "purpose: analytics\n    source: platforms", "has no catalog"},
		{"name not a database's", "name: support\n", "name: Support\n", "a name is a database's"},
		{"name reserved", "name: support\n", "name: trefoil\n", "reserved"},
		{"name of a source", "name: support\n", "name: platform\n", "same name"},
		{"name twice", "- name: analytics\n", "- name: support\n", "listed twice"},
		{"rows choose nobody", "rows: {residence: [EEA, CH]}", "rows: {}", "chooses nobody"},
		{"residence unknown", "residence: [EEA, CH]", "residence: [EEA, XX]", `unknown country or group "XX"`},
		{"condition of wrong type", `person.plan == "pro" && person.adult`, `person.plan`, "not true or false"},
		{"condition on unknown column", `person.plan == "pro" && person.adult`, `person.plans == "pro"`, "undeclared reference"},
		{"condition on unreviewed column", `person.plan == "pro" && person.adult`, `person.note == "x"`, "undeclared reference"},
		{"condition without a column", `person.plan == "pro" && person.adult`, `1 == 1`, "no column of the person table"},
		{"purpose without French", ", fr: Compter", "", `no text in "fr"`},
		{"purpose without basis", "basis: GDPR art. 6(1)(f)", `basis: ""`, "no legal basis"},
		{"purpose name", "{name: support, text", "{name: Support!, text", "a name is small letters"},
		{"version", "version: 1\ndatabase", "version: 2\ndatabase", "want 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := parseSamples(t, c.old, c.new)
			for _, e := range Validate(f) {
				if strings.Contains(e.Error(), c.want) {
					if e.Line == 0 {
						t.Errorf("no line: %v", e)
					}
					return
				}
			}
			t.Errorf("no error says %q: %v", c.want, Validate(f))
		})
	}
}

func TestAllErrorsAreReportedAtOnce(t *testing.T) {
	f := parseSamples(t, "category: contact", "category: contacts", "cluster: inside", "cluster: between", ", fr: Compter", "")
	files := map[string]bool{}
	for _, e := range Validate(f) {
		files[e.File] = true
	}
	if len(files) != 3 {
		t.Errorf("errors of %d files, want 3", len(files))
	}
}

func TestPathLeadsToThePerson(t *testing.T) {
	cat := parseSamples(t).Catalogs[0]
	steps, err := cat.Path("app.comments")
	if err != nil || len(steps) != 2 || steps[0].To != "app.watched" || steps[1].To != "app.people" || steps[1].Columns[0] != "person_id" {
		t.Errorf("%v, %v", steps, err)
	}
	if steps, err := cat.Path("app.people"); err != nil || len(steps) != 0 {
		t.Errorf("%v, %v", steps, err)
	}
	if _, err := cat.Path("app.videos"); err != ErrNobody {
		t.Errorf("%v", err)
	}
}
