package dataset

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// chained is how many persons are each other's friends, one after the other.
const chained = 20_000

// decided decides about persons of a source as of a snapshot, and writes it: it says how many rows
// came, how many statements asked the source, and how many rows were looked at.
func (f *fixture) decided(conn *pgx.Conn, touch flow.Touch, ids ...string) (rows, subjects int64, asked, steps int) {
	f.t.Helper()
	ctx := testContext(f.t)
	schema, err := postgres.Inspect(ctx, conn)
	if err != nil {
		f.t.Fatal(err)
	}
	p, err := f.b.makePlan(f.name, schema)
	if err != nil {
		f.t.Fatal(err)
	}
	fp, err := f.b.follow(p)
	if err != nil {
		f.t.Fatal(err)
	}
	to, err := openTarget(ctx, f.b.cfg.Clusters["inside"], f.name)
	if err != nil {
		f.t.Fatal(err)
	}
	defer to.close()
	a, err := openApplier(ctx, to, fp)
	if err != nil {
		f.t.Fatal(err)
	}
	defer closeConn(a.conn)
	v, err := openView(ctx, f.dsn)
	if err != nil {
		f.t.Fatal(err)
	}
	defer v.close()
	if err := a.begin(ctx); err != nil {
		f.t.Fatal(err)
	}
	h, _, err := v.begin(ctx, fp)
	if err != nil {
		f.t.Fatal(err)
	}
	s := &settler{p: fp, v: v, peek: v, a: a, thorough: true, dirty: map[*followed]*dirty{}}
	for _, t := range fp.all {
		s.dirty[t] = newDirty(nil, false)
		if t.choose != nil {
			t.choose.at = h.On
		}
	}
	fp.resetMembers()
	c := newCircleOf(s)
	for _, id := range ids {
		c.add(fp.person, &changed{key: id, touch: touch})
	}
	if err := s.chunk(ctx, []*followed{fp.person}, c); err != nil {
		f.t.Fatal(err)
	}
	if err := a.tx.Commit(ctx); err != nil {
		f.t.Fatal(err)
	}
	return a.rows, a.subjects, v.asked, c.steps
}

// A chain of rows that refer to each other goes when its first goes, and comes when its last comes:
// with a few statements, each row looked at a few times, however long it is.
func TestALongChainOfRowsThatReferToEachOtherIsDecidedInFewSteps(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, "CREATE SCHEMA app; CREATE TABLE app.person (id bigint PRIMARY KEY, country text, friend bigint NOT NULL); CREATE INDEX ON app.person (friend);"+
		fmt.Sprintf("INSERT INTO app.person SELECT i, 'IE', greatest(1, i - 1) FROM generate_series(1, %d) i; ANALYZE;", chained)+
		"CREATE TABLE app.click (id bigint PRIMARY KEY, person bigint, page text);", friendsCatalog, webDataset("residence: [EEA]", "person: id friend"))
	f.build()
	want := func(what string, n int64, touch flow.Touch, ids ...string) {
		t.Helper()
		rows, subjects, asked, steps := f.decided(conn, touch, ids...)
		if rows != n || subjects != n {
			t.Errorf("%s: %d rows and %d persons more, not %d", what, rows, subjects, n)
		}
		if asked > 200 || steps > 40*chained {
			t.Errorf("%s: %d statements, %d steps", what, asked, steps)
		}
		t.Logf("%s: %d statements, %d steps", what, asked, steps)
	}
	sourceDo(t, conn, "DELETE FROM app.person WHERE id = 1")
	want("the first goes", -chained, flow.Deleted, "1")
	sourceDo(t, conn, "INSERT INTO app.person VALUES (1, 'IE', 1)")
	want("the last comes", chained, 0, fmt.Sprint(chained))
	if got := f.one("SELECT count(*) || ' ' || count(friend) FROM app.person"); got != fmt.Sprintf("%d %d", chained, chained) {
		t.Errorf("the dataset holds %s", got)
	}
	// A ring has no end.
	sourceDo(t, conn, fmt.Sprintf("UPDATE app.person SET friend = %d WHERE id = 1", chained), "UPDATE app.person SET country = 'US' WHERE id = 77")
	want("a ring breaks", -chained, flow.Updated, "1", "77")
	sourceDo(t, conn, "UPDATE app.person SET country = 'IE' WHERE id = 77")
	want("a ring closes", chained, flow.Updated, "77")
}
