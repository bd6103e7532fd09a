package intake

import (
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// The primary key of a partitioned table has the time in it. What is proposed as its key is what
// counts or is random beside it, and is marked for review; nothing where the schema does not say so.
func TestAKeyIsProposedForTablesWhoseKeyHoldsATime(t *testing.T) {
	c := pgtest.Start(t)
	dsn := c.Database(t)
	conn := c.Connect(t, dsn)
	ctx := t.Context()
	if _, err := conn.Exec(ctx, `CREATE SCHEMA app; CREATE TABLE app.person (id bigint PRIMARY KEY, email text, country text);
		CREATE TABLE app.counted (id bigint GENERATED ALWAYS AS IDENTITY, at timestamptz NOT NULL, person bigint NOT NULL REFERENCES app.person, PRIMARY KEY (id, at));
		CREATE TABLE app.serial (id bigserial, at date NOT NULL, person bigint NOT NULL REFERENCES app.person, PRIMARY KEY (at, id)) PARTITION BY RANGE (at);
		CREATE TABLE app.random (id uuid DEFAULT gen_random_uuid(), at timestamp NOT NULL, person bigint NOT NULL REFERENCES app.person, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
		CREATE TABLE app.plain (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, person bigint NOT NULL REFERENCES app.person, at timestamptz);
		CREATE TABLE app.written (id bigint, at timestamptz NOT NULL, person bigint NOT NULL REFERENCES app.person, PRIMARY KEY (id, at));
		CREATE TABLE app.daily (person bigint REFERENCES app.person, at date, n int, PRIMARY KEY (person, at));
		CREATE TABLE app.tenant (tenant int, id bigint GENERATED ALWAYS AS IDENTITY, at date, person bigint NOT NULL REFERENCES app.person, PRIMARY KEY (tenant, id, at));`); err != nil {
		t.Fatal(err)
	}
	p, err := Propose(ctx, conn, Options{Database: "app"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"app.counted": "id", "app.serial": "id", "app.random": "id"}
	for _, table := range p.Catalog.Tables {
		if got := strings.Join(table.Key, " "); got != want[table.Table] {
			t.Errorf("%s: key %q, not %q", table.Table, got, want[table.Table])
		}
		if (len(table.Key) > 0) != strings.Contains(table.Note, "Make sure that id alone") {
			t.Errorf("%s: its note is %q", table.Table, table.Note)
		}
	}
}
