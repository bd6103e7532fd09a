package dataset

import (
	"strings"
	"testing"
)

const parted = `CREATE SCHEMA app; CREATE TABLE app.person (id bigint PRIMARY KEY, country text);
	INSERT INTO app.person SELECT i, 'IE' FROM generate_series(1, 40) i;
	CREATE TABLE app.event (id bigint NOT NULL, at timestamptz NOT NULL, person bigint NOT NULL REFERENCES app.person, n int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
	CREATE INDEX ON app.event (person);
	CREATE TABLE app.event_24 PARTITION OF app.event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01'); CREATE TABLE app.event_rest PARTITION OF app.event DEFAULT;
	INSERT INTO app.event SELECT i, timestamptz '2024-03-01 00:00:01' + i * interval '7 minutes', 1 + i % 40, i FROM generate_series(1, 400) i;`

var partedCatalog = wholeCatalog("person: {table: app.person, key: id, residence: country}\ntables:\n  - table: app.person\n    subject: {self: true}\n    columns:\n" +
	column("id", "bigint", "identifier", ", domain: person, trait: key") + column("country", "text", "location", ", trait: residence") +
	"  - table: app.event\n    subject: {column: person}\n    key: [id]\n    columns:\n" + column("id", "bigint", "identifier", ", domain: event, trait: key") +
	column("at", "timestamp with time zone", "behaviour", ", trait: time") + column("person", "bigint", "identifier", ", domain: person") + column("n", "integer", "behaviour", ""))

const partedDatasets = "version: 1\ndatasets:\n  - name: NAME\n    cluster: outside\n    purpose: research\n    source: app\n    rows: {residence: [EEA]}\n    tables:\n" +
	"      - {table: app.person, columns: [{name: id, form: pseudonymised}]}\n" +
	"      - {table: app.event, columns: [{name: id, form: pseudonymised}, {name: at, form: generalised, by: day}, {name: person, form: pseudonymised}, {name: n, form: clear}]}\n"

// The primary key of a partitioned table holds the time, which a pseudonymised dataset coarsens.
func TestATableWhoseKeyHoldsACoarsenedTimeFollowsByTheRest(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, parted, strings.Replace(partedCatalog, "    key: [id]\n", "", 1), partedDatasets)
	sourceDo(t, conn, "ALTER PUBLICATION trefoil SET (publish_via_partition_root = true)")
	if err := f.b.Follow(testContext(t), f.name); err == nil || !strings.Contains(err.Error(), "give the table a key in the catalog") {
		t.Fatalf("without a key of its own it follows, or does not say how it could: %v", err)
	}
	f.b = f.open(partedCatalog, partedDatasets, nil)
	f.follow()
	f.caughtUp(conn)
	for _, sql := range []string{
		"INSERT INTO app.event SELECT i, timestamptz '2025-06-01' + i * interval '1 hour', 1 + i % 40, i FROM generate_series(1000, 1100) i",
		"UPDATE app.event SET at = at + interval '3 hours', n = n + 1 WHERE id % 7 = 0",
		"UPDATE app.event SET at = at + interval '10 months' WHERE id % 11 = 0", // to another partition
		"UPDATE app.event SET id = id + 5000 WHERE id % 13 = 0", "DELETE FROM app.event WHERE id % 5 = 0", "DELETE FROM app.event WHERE person = 3; DELETE FROM app.person WHERE id = 3",
	} {
		if _, err := conn.PgConn().Exec(testContext(t), sql).ReadAll(); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		f.caughtUp(conn)
		f.verified()
	}
	if got := f.one("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = 'app.event'::regclass"); got != "PRIMARY KEY (id)" {
		t.Errorf("the dataset's key is %s", got)
	}
	// The catalog's word was wrong: that is said, and no row is taken for another.
	sourceDo(t, conn, "INSERT INTO app.event VALUES (1, '2024-01-01 00:00:00', 1, 77)")
	f.until(func() bool {
		s, err := f.b.Flow(testContext(t), f.name)
		return err == nil && s != nil && s.State == stale && strings.Contains(s.Reason, "app.event")
	})
}
