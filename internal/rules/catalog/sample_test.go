package catalog

import (
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

const sampleCatalog = `version: 1
database: platform
person: {table: app.people, key: id, residence: country, residence_changed: moved, residence_before: country_before}
tables:
  - table: app.people
    subject: {self: true}
    columns:
      - {name: id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: email, type: text, category: contact, domain: email, reviewed: true}
      - {name: born, type: date, category: behaviour, trait: birth, reviewed: true}
      - {name: country, type: character(2), category: location, trait: residence, reviewed: true}
      - {name: moved, type: date, category: location, trait: time, reviewed: true}
      - {name: country_before, type: character(2), category: location, trait: residence, reviewed: true}
      - {name: plan, type: text, category: behaviour, reviewed: true}
      - {name: adult, type: boolean, category: behaviour, reviewed: true}
      - {name: score, type: double precision, category: behaviour, reviewed: true}
      - {name: note, type: text, category: content, trait: typed, reviewed: false, why: free text}
  - table: app.watched
    subject: {column: person_id}
    references:
      - {columns: [person_id], to: app.people, of: [id]}
      - {columns: [video_id], to: app.videos, of: [id]}
    columns:
      - {name: id, type: bigint, category: identifier, trait: key, reviewed: true}
      - {name: person_id, type: bigint, category: identifier, trait: key, domain: person, reviewed: true}
      - {name: video_id, type: bigint, category: behaviour, domain: video, reviewed: true}
      - {name: at, type: timestamp with time zone, category: behaviour, trait: time, reviewed: true}
      - {name: device, type: jsonb, category: behaviour, reviewed: true}
      - {name: address, type: inet, category: location, reviewed: true}
  - table: app.comments
    subject: {via: watched_id}
    references:
      - {columns: [watched_id], to: app.watched, of: [id]}
    columns:
      - {name: watched_id, type: bigint, category: identifier, trait: key, reviewed: true}
      - {name: body, type: text, category: content, trait: typed, reviewed: true}
  - table: app.videos
    subject: {nobody: true}
    columns:
      - {name: id, type: bigint, category: behaviour, domain: video, reviewed: true}
      - {name: title, type: text, category: "", trait: neutral, reviewed: true}
  - table: app.lost
    subject: {}
    columns:
      - {name: x, type: integer, category: "", reviewed: false}
`

const samplePurposes = `version: 1
purposes:
  - {name: support, text: {en: Answer people, fr: Répondre}, basis: GDPR art. 6(1)(b), epoch: 1}
  - {name: analytics, text: {en: Count, fr: Compter}, basis: GDPR art. 6(1)(f), epoch: 1}
`

const sampleDatasets = `version: 1
datasets:
  - name: support
    cluster: inside
    purpose: support
    source: platform
    rows: {residence: [EEA, CH]}
    tables:
      - table: app.people
        columns:
          - {name: id, form: clear}
          - {name: email, form: clear}
          - {name: country, form: clear}
  - name: analytics
    cluster: outside
    purpose: analytics
    source: platform
    rows: {residence: [EEA], condition: person.plan == "pro" && person.adult}
    tables:
      - table: app.people
        columns:
          - {name: id, form: pseudonymised}
          - {name: born, form: generalised, by: year}
          - {name: country, form: clear}
          - {name: email, form: withheld, "null": true}
          - {name: plan, form: generalised, by: lookup, lookup: {pro: paid, plus: paid, free: free}}
      - table: app.watched
        columns:
          - {name: person_id, form: pseudonymised}
          - {name: video_id, form: clear}
          - {name: at, form: generalised, by: hour}
          - {name: address, form: generalised, by: net}
          - name: device
            form: clear
            paths:
              /model: {form: clear}
              /os/version: {form: generalised, by: "prefix:2"}
      - table: app.videos
        columns:
          - {name: id, form: clear}
          - {name: title, form: clear}
`

// parseSamples parses the three files; edit is old, new pairs applied to all of them.
func parseSamples(t *testing.T, edit ...string) *Files {
	t.Helper()
	replace := strings.NewReplacer(edit...)
	for i := 0; i < len(edit); i += 2 {
		if !strings.Contains(sampleCatalog+samplePurposes+sampleDatasets, edit[i]) {
			t.Fatalf("the samples do not contain %q", edit[i])
		}
	}
	f := &Files{}
	cat, pos, err := ParseCatalog("catalog.yaml", []byte(replace.Replace(sampleCatalog)))
	if err != nil {
		t.Fatal(err)
	}
	f.Catalogs, f.CatalogPositions = []*Catalog{cat}, []*strict.Positions{pos}
	if f.Datasets, f.DatasetsPositions, err = ParseDatasets("datasets.yaml", []byte(replace.Replace(sampleDatasets))); err != nil {
		t.Fatal(err)
	}
	if f.Purposes, f.PurposesPositions, err = ParsePurposes("purposes.yaml", []byte(replace.Replace(samplePurposes))); err != nil {
		t.Fatal(err)
	}
	return f
}
