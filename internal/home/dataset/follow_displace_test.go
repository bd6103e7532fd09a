package dataset

import (
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// A value that must be unique passed to a row whose turn comes before that of the row which had it:
// as it does when rows were looked at, and the stream before that is read again.
func TestAUniqueValueWhoseHolderComesLater(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, `CREATE SCHEMA app; CREATE TABLE app.person (id int PRIMARY KEY, country text, email text UNIQUE);
		INSERT INTO app.person SELECT i, 'IE', 'm' || i FROM generate_series(1, 9) i;`,
		wholeCatalog("person: {table: app.person, key: id, residence: country}\ntables:\n  - table: app.person\n    subject: {self: true}\n    columns:\n"+
			column("id", "integer", "behaviour", "")+column("country", "text", "location", ", trait: residence")+column("email", "text", "contact", "")),
		webDataset("residence: [EEA]", "person: id email"))
	stop := f.follow()
	f.caughtUp(conn)
	stop()
	ctx := testContext(t)
	schema, err := postgres.Inspect(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	p, err := f.b.makePlan(f.name, schema)
	if err != nil {
		t.Fatal(err)
	}
	fp, err := f.b.follow(p)
	if err != nil {
		t.Fatal(err)
	}
	to, err := openTarget(ctx, f.b.cfg.Clusters["inside"], f.name)
	if err != nil {
		t.Fatal(err)
	}
	defer to.close()
	a, err := openApplier(ctx, to, fp)
	if err != nil {
		t.Fatal(err)
	}
	defer closeConn(a.conn)
	if err := a.begin(ctx); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"1\tm2", "2\tm3", "3\tm1"} {
		id, _, _ := strings.Cut(line, "\t")
		r := &changed{key: id, heldKey: []string{id}, line: []byte(line + "\n"), outcome: []byte(line + "\n"), alive: true}
		if err := a.present(ctx, fp.person, []*changed{r}); err != nil {
			t.Fatal(err)
		}
		if err := a.apply(ctx, fp.person, []*changed{r}); err != nil {
			t.Fatal(err)
		}
	}
	if a.rows != 0 || a.subjects != 0 {
		t.Errorf("it counts %d rows and %d persons more", a.rows, a.subjects)
	}
	if err := a.tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	if got := f.one("SELECT string_agg(id || email, ' ' ORDER BY id) FROM app.person"); got != "1m2 2m3 3m1 4m4 5m5 6m6 7m7 8m8 9m9" {
		t.Errorf("the dataset holds %s", got)
	}
}
