package intake

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

const followedSource = `CREATE SCHEMA app; CREATE TABLE app.person (id int PRIMARY KEY, country text, picture oid, secret text);
	INSERT INTO app.person VALUES (1, 'IE', NULL, 'x');
	CREATE TABLE app.visit (id int, person int REFERENCES app.person, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE TABLE app.visit_2025 PARTITION OF app.visit FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');`

const followedCatalog = `version: 1
database: app
person: {table: app.person, key: id, residence: country}
tables:
  - table: app.person
    subject: {self: true}
    columns:
      - {name: id, type: integer, category: identifier, domain: person, trait: key, reviewed: true}
      - {name: country, type: text, category: location, trait: residence, reviewed: true}
      - {name: picture, type: oid, category: content, reviewed: true}
      - {name: secret, type: text, category: content, reviewed: true}
  - table: app.visit
    subject: {column: person}
    references: [{columns: [person], to: app.person, of: [id]}]
    columns:
      - {name: id, type: integer, category: identifier, reviewed: true}
      - {name: person, type: integer, category: identifier, domain: person, reviewed: true}
      - {name: at, type: date, category: behaviour, reviewed: true}
`

const followedDatasets = `version: 1
datasets:
  - name: shop
    cluster: inside
    purpose: research
    source: app
    rows: {residence: [EEA]}
    tables:
      - {table: app.person, columns: [{name: id, form: pseudonymised}, {name: country, form: clear}, {name: picture, form: clear}]}
      - {table: app.visit, columns: [{name: id, form: clear}, {name: person, form: pseudonymised}, {name: at, form: clear}]}
`

func findings(t *testing.T, conn *pgx.Conn) []Finding {
	t.Helper()
	cat, _, err := catalog.ParseCatalog("catalog.yaml", []byte(followedCatalog))
	if err != nil {
		t.Fatal(err)
	}
	ds, _, err := catalog.ParseDatasets("datasets.yaml", []byte(followedDatasets))
	if err != nil {
		t.Fatal(err)
	}
	found, err := CheckSource(testContext(t), conn, Source{Catalog: cat, Datasets: []*catalog.Dataset{&ds.Datasets[0]}})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func said(found []Finding, text string) *Finding {
	for _, f := range found {
		if strings.Contains(f.Text, text) {
			return &f
		}
	}
	return nil
}

// Each case makes a source lack something; the statement that the finding gives mends it.
func TestWhatFollowingLacksIsSaidWithTheStatementThatMendsIt(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, c *pgtest.Cluster) {
		conn := c.Connect(t, c.Database(t))
		do := func(sql string) {
			t.Helper()
			if _, err := conn.PgConn().Exec(testContext(t), sql).ReadAll(); err != nil {
				t.Fatalf("%s: %v", sql, err)
			}
		}
		do(followedSource)
		do("CREATE PUBLICATION trefoil FOR TABLE app.person, app.visit WITH (publish_via_partition_root = true)")
		t.Cleanup(func() {
			if err := flow.DropSlot(testContext(t), conn, flow.SlotName("gone")); err != nil {
				t.Error(err)
			}
		})
		for _, x := range []struct{ do, want string }{
			{"ALTER PUBLICATION trefoil DROP TABLE app.visit", "publication trefoil does not have app.visit"},
			{"ALTER PUBLICATION trefoil SET (publish = 'insert')", "leaves kinds of changes of app.person out"},
			{"ALTER PUBLICATION trefoil SET (publish_via_partition_root = false)", "names partitions of app.visit"},
			{"ALTER PUBLICATION trefoil SET TABLE app.visit, app.person WHERE (id > 5)", "filters rows of app.person"},
			{"ALTER PUBLICATION trefoil SET TABLE app.person, app.visit (id, person)", "does not send column at of the key of app.visit"},
			{"SELECT pg_create_logical_replication_slot('" + flow.SlotName("gone") + "', 'pgoutput')", "is of no dataset that is defined here"},
		} {
			if f := said(findings(t, conn), x.want); f != nil {
				t.Errorf("before %s it says %s", x.do, f)
			}
			do(x.do)
			f := said(findings(t, conn), x.want)
			if f == nil || f.SQL == "" {
				t.Fatalf("after %s: %v", x.do, findings(t, conn))
			}
			for _, sql := range strings.Split(strings.SplitN(f.SQL, " -- ", 2)[0], ";") {
				do(sql)
			}
			if f := said(findings(t, conn), x.want); f != nil {
				t.Errorf("%s does not mend it: %s", f.SQL, f)
			}
		}
		if said(findings(t, conn), "sends columns of app.person that no dataset reads") == nil {
			t.Error("that the publication sends more than datasets read is not said")
		}
		do("DROP PUBLICATION trefoil")
		if f := said(findings(t, conn), "there is no publication trefoil"); f == nil {
			t.Error("that there is no publication is not said")
		} else {
			do(strings.SplitN(f.SQL, " -- ", 2)[0])
		}
		for _, text := range []string{"sends columns of app.person", "does not send", "names partitions", "does not have"} {
			if f := said(findings(t, conn), text); f != nil {
				t.Errorf("the publication that was proposed: %s", f)
			}
		}
		if f := said(findings(t, conn), "large objects"); f != nil {
			t.Errorf("without any large object it says %s", f)
		}
		do("SELECT lo_create(0)")
		if f := said(findings(t, conn), "app.person.picture names large objects"); f == nil || f.Severity != Error {
			t.Errorf("large objects: %v", f)
		}
	})
}
