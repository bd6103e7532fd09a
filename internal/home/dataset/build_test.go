package dataset

import (
	"slices"
	"strings"
	"testing"
)

// shop is a small platform: persons, orders that lead to them, a lookup, a mixed-case
// schema, a self-reference.
const shop = `
CREATE SCHEMA app; CREATE SCHEMA "Sales";
CREATE TYPE app.plan AS ENUM ('free', 'pro');
CREATE DOMAIN app.mail AS text CHECK (VALUE LIKE '%@%');
CREATE TABLE app.country (code char(2) PRIMARY KEY, label text NOT NULL);
INSERT INTO app.country VALUES ('IE','Ireland'),('NO','Norway'),('US','United States'),('GB','Great Britain');
CREATE TABLE app.person (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email app.mail NOT NULL UNIQUE, country char(2) REFERENCES app.country,
	moved date, moved_from char(2), born date, plan app.plan NOT NULL DEFAULT 'free', bio text, ip inet, tags text[], doc jsonb,
	created timestamptz NOT NULL DEFAULT now());
INSERT INTO app.person (email, country, moved, moved_from, born, plan, bio, ip, tags, doc)
	SELECT 'person' || i || '@example.org', (ARRAY['IE','NO','US'])[1 + i % 3], NULL, NULL, date '1980-01-15' + i * 100, CASE WHEN i % 2 = 0 THEN 'pro' ELSE 'free' END::app.plan,
	'bio ' || i, '10.0.0.1'::inet + i, ARRAY['a' || i, NULL, 'x,y"z'], jsonb_build_object('name', 'n' || i, 'age', i, 'device', jsonb_build_object('model', 'm' || i))
	FROM generate_series(1, 90) i;
UPDATE app.person SET moved = current_date - 100, moved_from = 'IE' WHERE id = 2;  -- US now, left Ireland a while ago
UPDATE app.person SET moved = current_date - 800, moved_from = 'IE' WHERE id = 5;  -- US now, left long ago
UPDATE app.person SET country = NULL WHERE id = 3;
CREATE TABLE "Sales"."Order" ("Id" int PRIMARY KEY, "personId" bigint NOT NULL REFERENCES app.person, referrer bigint REFERENCES app.person,
	parent int REFERENCES "Sales"."Order", amount numeric(10,2), total numeric GENERATED ALWAYS AS (amount * 2) STORED);
CREATE INDEX order_person ON "Sales"."Order" ("personId");
CREATE INDEX order_expr ON "Sales"."Order" ((amount + 1));
INSERT INTO "Sales"."Order" SELECT i, 1 + i % 90, CASE WHEN i % 5 = 0 THEN 1 + (i + 1) % 90 END, CASE WHEN i > 10 THEN i - 10 END, i * 1.5 FROM generate_series(1, 300) i;
`

var shopCatalog = wholeCatalog(`person: {table: app.person, key: id, residence: country, residence_changed: moved, residence_before: moved_from}
tables:
  - table: app.country
    subject: {nobody: true}
    columns:
` + column("code", "character(2)", "behaviour", ", trait: neutral") + column("label", "text", "behaviour", ", trait: neutral") + `
  - table: app.person
    subject: {self: true}
    references: [{columns: [country], to: app.country, of: [code]}]
    columns:
` + column("id", "bigint", "identifier", ", domain: person, trait: key") + column("email", "app.mail", "contact", "") +
	column("country", "character(2)", "location", ", trait: residence") + column("born", "date", "identifier", ", trait: birth") +
	column("plan", "app.plan", "behaviour", "") + column("bio", "text", "content", "") + column("ip", "inet", "device", "") +
	column("tags", "text[]", "behaviour", "") + column("doc", "jsonb", "behaviour", "") + column("created", "timestamp with time zone", "behaviour", ", trait: time") + `
  - table: Sales.Order
    subject: {column: personId}
    references: [{columns: [personId], to: app.person, of: [id]}, {columns: [referrer], to: app.person, of: [id]}, {columns: [parent], to: Sales.Order, of: [Id]}]
    columns:
` + column("Id", "integer", "identifier", ", domain: order, trait: key") + column("personId", "bigint", "identifier", ", domain: person, trait: key") +
	column("referrer", "bigint", "identifier", ", domain: person, trait: key") + column("parent", "integer", "identifier", ", domain: order, trait: key") +
	column("amount", "numeric(10,2)", "behaviour", "") + column("total", "numeric", "behaviour", ""))

const shopDatasets = `version: 1
datasets:
  - name: NAME
    cluster: inside
    purpose: research
    source: app
    rows: {residence: [EEA, GB, CH]}
    tables:
      - table: app.country
        columns: [{name: code, form: clear}, {name: label, form: clear}]
      - table: app.person
        columns:
          - {name: id, form: pseudonymised}
          - {name: email, form: pseudonymised}
          - {name: country, form: clear}
          - {name: born, form: generalised, by: year}
          - {name: plan, form: clear}
          - {name: bio, form: withheld, 'null': true}
          - {name: ip, form: generalised, by: net}
          - {name: tags, form: pseudonymised}
          - {name: doc, form: clear, paths: {/age: {form: generalised, by: 'bucket:10'}, /device/model: {form: pseudonymised}}}
          - {name: created, form: generalised, by: month}
      - table: Sales.Order
        columns:
          - {name: Id, form: pseudonymised}
          - {name: personId, form: pseudonymised}
          - {name: referrer, form: pseudonymised}
          - {name: parent, form: pseudonymised}
          - {name: amount, form: clear}
          - {name: total, form: clear}
`

func TestBuildHoldsFormsAndJoins(t *testing.T) {
	t.Parallel()
	f := setup(t, shop, shopCatalog, strings.Replace(shopDatasets, "doc, form: clear,", "doc,", 1))
	r := f.build()
	t.Logf("%+v", r)
	// 30 each of IE, NO, US; person 3 has no country; person 2 left less than 24 months ago.
	if got := f.one("SELECT count(*) FROM app.person"); got != "60" {
		t.Errorf("%s persons, not 60", got)
	}
	if r.Measured.Subjects != 60 {
		t.Errorf("measured %d subjects", r.Measured.Subjects)
	}
	if n := f.one(`SELECT count(*) FROM "Sales"."Order" o JOIN app.person p ON p.id = o."personId"`); n != f.one(`SELECT count(*) FROM "Sales"."Order"`) || n == "0" {
		t.Errorf("orders do not join persons: %s", n)
	}
	if n := f.one(`SELECT count(*) FROM app.person WHERE id BETWEEN 1 AND 1000`); n != "0" {
		t.Errorf("%s persons have small keys", n)
	}
	if n := f.one(`SELECT count(*) FROM app.person WHERE length(email) <> 24 OR bio IS NOT NULL OR extract(doy FROM born) <> 1 OR masklen(ip) <> 24 OR tags[2] IS NOT NULL OR length(tags[1]) <> 24`); n != "0" {
		t.Errorf("%s persons have values above their forms", n)
	}
	if doc := f.rows(`SELECT DISTINCT doc->>'name', length(doc#>>'{device,model}') FROM app.person`); !slices.Equal(doc, []string{"∅|24"}) {
		t.Errorf("documents hold %v", doc)
	}
	if got := f.one("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"); got != "4" {
		t.Errorf("%s foreign keys: %v", got, r.Notes)
	}
	if got := f.one("SELECT count(*) FROM pg_attribute WHERE attidentity <> '' OR attgenerated <> ''"); got != "0" {
		t.Errorf("%s columns are identity or generated", got)
	}
	f.verified()
	f.build() // again, over itself
	f.verified()
	if got := f.one("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'trefoil\\_%' AND nspname NOT IN ('trefoil_info', 'trefoil_care')"); got != "0" {
		t.Errorf("%s schemas are left over", got)
	}
}
