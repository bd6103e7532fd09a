package dataset

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// differences verifies and lists what the report names, as table kind columns.
func (f *fixture) differences() (*Verification, []string) {
	f.t.Helper()
	v, err := f.b.Verify(testContext(f.t), f.name)
	if err != nil {
		f.t.Fatal(err)
	}
	var out []string
	for _, t := range v.Tables {
		if t.Equal && (len(t.Rows) > 0 || len(t.Ranges) > 0) {
			f.t.Errorf("%s is equal and has differences", t.Table)
		}
		for _, r := range t.Rows {
			out = append(out, strings.TrimSpace(fmt.Sprint(t.Table, " ", r.Kind, " ", strings.Join(r.Columns, ","))))
			if len(r.Key) == 0 || r.Key[0] == "" {
				f.t.Errorf("a row of %s has no name", t.Table)
			}
		}
	}
	slices.Sort(out)
	return v, out
}

func TestEachWrongRowIsNamed(t *testing.T) {
	t.Parallel()
	f := setup(t, shop, shopCatalog, shopDatasets)
	f.build()
	f.verified()
	order := `(SELECT "Id" FROM "Sales"."Order" ORDER BY 1 LIMIT 1)`
	for _, c := range []struct {
		name, sql string
		want      []string
	}{
		{"a flipped bit", `UPDATE app.person SET email = overlay(email placing chr(ascii(right(email, 1)) # 1) from 24) WHERE id = (SELECT min(id) FROM app.person)`, []string{"app.person changed email"}},
		{"two swapped values", `WITH two AS (SELECT a."Id" AS i, b."Id" AS j, a.amount AS p, b.amount AS q FROM "Sales"."Order" a, "Sales"."Order" b WHERE a.amount < b.amount ORDER BY 1, 2 LIMIT 1)
			UPDATE "Sales"."Order" v SET amount = CASE v."Id" WHEN i THEN q ELSE p END FROM two WHERE v."Id" IN (i, j)`, []string{"Sales.Order changed amount", "Sales.Order changed amount"}},
		{"a doubled row", `ALTER TABLE "Sales"."Order" DROP CONSTRAINT "Order_pkey" CASCADE; INSERT INTO "Sales"."Order" SELECT * FROM "Sales"."Order" WHERE "Id" = ` + order, []string{"Sales.Order doubled"}},
		{"a missing row", `ALTER TABLE "Sales"."Order" DROP CONSTRAINT "Order_pkey" CASCADE; DELETE FROM "Sales"."Order" WHERE "Id" = ` + order, []string{"Sales.Order missing"}},
		{"a row too many", `INSERT INTO "Sales"."Order" SELECT 5, "personId", NULL, NULL, 1, 2 FROM "Sales"."Order" LIMIT 1`, []string{"Sales.Order extra"}},
		{"NULL for the empty text", `UPDATE app.country SET label = '' WHERE code = 'IE'; UPDATE app.country SET label = NULL WHERE code = 'NO'`, nil},
		{"a row in another table's place", `UPDATE app.person SET tags = ARRAY['x,y"z\', NULL] WHERE id = (SELECT max(id) FROM app.person)`, []string{"app.person changed tags"}},
	} {
		if c.want == nil {
			c.sql, c.want = `ALTER TABLE app.country ALTER label DROP NOT NULL; `+c.sql, []string{"app.country changed label", "app.country changed label"}
		}
		f.target.Exec(t, f.target.SuperuserDSN(f.name), c.sql)
		v, got := f.differences()
		if v.Equal || !slices.Equal(got, c.want) {
			t.Errorf("%s: found %v", c.name, got)
		}
		f.build()
	}
	f.verified()
}

// The report of a difference is for operators: it shows pseudonyms, and of other keys a digest.
func TestANameOfARowShowsNoValue(t *testing.T) {
	t.Parallel()
	f := setup(t, shop, shopCatalog, shopDatasets)
	f.build()
	held := f.one(`SELECT min(id) FROM app.person`)
	f.target.Exec(t, f.target.SuperuserDSN(f.name), `UPDATE app.person SET plan = CASE plan WHEN 'pro' THEN 'free' ELSE 'pro' END::app.plan WHERE id = `+held,
		`UPDATE app.country SET label = 'Eire' WHERE code = 'IE'`)
	v, _ := f.differences()
	text := fmt.Sprintf("%+v", v)
	if !strings.Contains(text, "id="+held) {
		t.Errorf("the person is not named by its pseudonym: %s", text)
	}
	for _, bad := range []string{"code=IE", "Eire", "Ireland"} {
		if strings.Contains(text, bad) {
			t.Errorf("the report shows %s: %s", bad, text)
		}
	}
}

// load writes to the source until it is stopped; done says how many statements it ran.
func (f *fixture) load(conns int, statement func(r *rand.Rand) string) (stop func(), done func() int64) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	var count atomic.Int64
	for i := range conns {
		conn := f.source.Connect(f.t, f.dsn)
		r := rand.New(rand.NewPCG(7, uint64(i)))
		all.Go(func() {
			for ctx.Err() == nil {
				if _, err := conn.PgConn().Exec(ctx, statement(r)).ReadAll(); err == nil {
					count.Add(1)
				}
			}
		})
	}
	return func() { cancel(); all.Wait() }, count.Load
}

func shopStatement(r *rand.Rand) string {
	id, order := 1+r.IntN(90), 1+r.IntN(300)
	switch r.IntN(6) {
	case 0:
		return fmt.Sprintf("UPDATE app.person SET country = '%s' WHERE id = %d", []string{"IE", "US", "NO"}[r.IntN(3)], id)
	case 1:
		return fmt.Sprintf(`INSERT INTO "Sales"."Order" VALUES (%d, %d, NULL, NULL, %d)`, 1000+r.IntN(100_000), id, r.IntN(1000))
	case 2:
		return `DELETE FROM "Sales"."Order" WHERE "Id" = (SELECT max("Id") FROM "Sales"."Order" WHERE "Id" > 1000 AND parent IS NULL)`
	case 3:
		return fmt.Sprintf("BEGIN; UPDATE app.person SET plan = 'pro', born = born + 1 WHERE id = %d; SAVEPOINT s; DELETE FROM \"Sales\".\"Order\"; ROLLBACK TO s; COMMIT", id)
	case 4:
		return fmt.Sprintf("UPDATE app.person SET email = 'mail%d@example.org' WHERE id = %d", r.IntN(1<<30), id)
	}
	return fmt.Sprintf(`UPDATE "Sales"."Order" SET amount = %d WHERE "Id" = %d`, r.IntN(100_000), order)
}

func TestASourceThatMovesVerifiesEqual(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	f.follow()
	f.caughtUp(conn)
	stop, done := f.load(3, shopStatement)
	for n := 0; n < 5 || done() < 100; n++ {
		v, named := f.differences()
		if !v.Equal || v.Position == "" {
			t.Errorf("a dataset that follows differs while its source moves: %v %+v", named, v)
		}
	}
	stop()
	f.caughtUp(conn)
	// What a moving source must not hide: a row that no statement of the load touches, of a person who does not move.
	sourceDo(t, conn, "INSERT INTO app.person (email, country) VALUES ('stays@example.org', 'IE')",
		`INSERT INTO "Sales"."Order" SELECT 999, id, NULL, NULL, 424242 FROM app.person WHERE email = 'stays@example.org'`)
	f.caughtUp(conn)
	f.target.Exec(t, f.target.SuperuserDSN(f.name), `DELETE FROM "Sales"."Order" WHERE amount = 424242`)
	stop, _ = f.load(2, shopStatement)
	v, named := f.differences()
	stop()
	if v.Equal || !slices.Contains(named, "Sales.Order missing") {
		t.Errorf("a row that is missing while the source moves is not named: %v", named)
	}
}

// A flow that somebody invited and left goes on by itself, and only its owner may invite it.
func TestALeftMeetingHoldsTheFlowForABoundedTime(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, small, smallCatalog, smallDatasets)
	f.b.hold = 300 * time.Millisecond
	f.follow()
	f.caughtUp(conn)
	f.target.Exec(t, f.target.SuperuserDSN(f.name), "INSERT INTO trefoil_info.meeting (id, asked_at) VALUES ('left', clock_timestamp())")
	watch := f.connect("")
	f.until(func() bool {
		return rows(t, watch, "SELECT count(*) FROM trefoil_info.meeting WHERE snapshot IS NOT NULL")[0] == "1"
	})
	f.until(func() bool { return rows(t, watch, "SELECT count(*) FROM trefoil_info.meeting")[0] == "0" })
	f.caughtUp(conn)
	if err := f.b.Admit(testContext(t), "p_meet", f.name); err != nil {
		t.Fatal(err)
	}
	reader := f.connect("p_meet")
	for _, sql := range []string{"INSERT INTO trefoil_info.meeting (id, asked_at) VALUES ('x', now())", "SELECT * FROM trefoil_info.meeting"} {
		if _, err := reader.Exec(testContext(t), sql); sqlState(err) != "42501" {
			t.Errorf("a reader of the dataset may %s: %v", sql, err)
		}
	}
}

// Cells of a dataset that follows may be withheld where a fresh build would not: that is no
// difference. A wrong value is one, and so is a cell below k.
func TestAWithheldCellIsToldFromAWrongValue(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, celled, celledCatalog, celledDatasets)
	stop := f.follow()
	f.caughtUp(conn)
	sourceDo(t, conn, "INSERT INTO app.person SELECT 300 + o, c, 'free' FROM unnest('{AT,BE,BG,HR,CY,CZ,DK,EE,FI,GR,HU,IT}'::text[]) WITH ORDINALITY u(c, o)")
	// FR (7 persons) is withheld; it grows beyond k, person by person, and most stay withheld.
	for i := range 8 {
		sourceDo(t, conn, fmt.Sprintf("INSERT INTO app.person VALUES (%d, 'FR', 'free')", 200+i))
		f.caughtUp(conn)
	}
	v, named := f.differences()
	if !v.Equal || v.Tables[0].Withheld == 0 {
		t.Fatalf("cells that are withheld lawfully: %v %+v", named, v)
	}
	stop()
	su := f.target.SuperuserDSN(f.name)
	f.target.Exec(t, su, "CREATE TABLE trefoil_info.kept AS SELECT * FROM app.person")
	for _, c := range []struct{ name, sql string }{
		{"a wrong value", "UPDATE app.person SET country = 'NO' WHERE id = (SELECT min(id) FROM app.person WHERE country = 'IE' AND plan = 'free')"},
		{"half of a cell", "UPDATE app.person SET country = NULL WHERE id = (SELECT min(id) FROM app.person WHERE country = 'IE' AND plan = 'pro')"},
	} {
		f.target.Exec(t, su, c.sql)
		if v, named := f.differences(); v.Equal || !slices.Equal(named, []string{"app.person changed country"}) {
			t.Errorf("%s: %v", c.name, named)
		}
		f.target.Exec(t, su, "UPDATE app.person p SET country = k.country, plan = k.plan FROM trefoil_info.kept k WHERE k.id = p.id")
	}
	if v, named := f.differences(); !v.Equal {
		t.Fatalf("it was mended, and differs: %v", named)
	}
	// Right values that stand in a cell of fewer than k.
	f.target.Exec(t, su, "UPDATE app.person SET country = NULL, plan = NULL WHERE id IN (SELECT id FROM app.person WHERE country = 'NO' ORDER BY id OFFSET 4)")
	if v, _ := f.differences(); v.Equal || v.Tables[0].SmallCells != 1 {
		t.Errorf("a cell of 4 persons is not found: %+v", v)
	}
}

func TestADatasetBuiltAgainWhileItIsComparedIsSaid(t *testing.T) {
	t.Parallel()
	f := setup(t, small, smallCatalog, smallDatasets)
	f.build()
	ctx := testContext(t)
	s, err := openSource(ctx, f.dsn, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.close()
	p, err := f.b.makePlan(f.name, s.schema)
	if err != nil {
		t.Fatal(err)
	}
	conn := f.connect("")
	if err := fix(ctx, conn); err != nil {
		t.Fatal(err)
	}
	defer func(c *pgx.Conn) { _, _ = c.Exec(ctx, "ROLLBACK") }(conn)
	b := *f.b
	b.cfg.Progress = rebuildOnce{silent{}, &sync.Once{}, func() { f.build() }}
	if _, err := b.compare(ctx, p, s, conn, compareOptions{}); err == nil || !strings.Contains(err.Error(), "built again") {
		t.Errorf("a swap in the middle of a comparison: %v", err)
	}
}

// rebuildOnce does something when reading begins.
type rebuildOnce struct {
	silent
	once *sync.Once
	do   func()
}

func (r rebuildOnce) Stage(string, int) { r.once.Do(r.do) }

// Everything that verify and cases ask of a server, asked of PostgreSQL 18.
func TestVerifyAndCasesOnPostgreSQL18(t *testing.T) {
	t.Parallel()
	bin := pgtest.Bin18()
	if bin == "" {
		if os.Getenv("TREFOIL_PG18_REQUIRED") != "" {
			t.Fatal("PostgreSQL 18 is required and not there: run scripts/install-pg18.sh")
		}
		t.Skip("PostgreSQL 18 is not there: scripts/install-pg18.sh")
	}
	source := sourceCluster(t, pgtest.WithBin(bin))
	f := setupOn(t, source, source.Database(t), datasetCluster(t), shop+"CREATE PUBLICATION trefoil FOR ALL TABLES;", shopCatalog, shopDatasets)
	conn := f.source.Connect(t, f.dsn)
	t.Cleanup(func() {
		for _, name := range f.b.Names() {
			if err := flow.DropSlot(testContext(t), conn, flow.SlotName(name)); err != nil {
				t.Error(err)
			}
		}
	})
	stop := f.follow()
	f.caughtUp(conn)
	end, _ := f.load(2, shopStatement)
	v, named := f.differences()
	end()
	if !v.Equal || v.Position == "" {
		t.Errorf("a dataset that follows differs while its source moves: %v %+v", named, v)
	}
	stop()
	f.openCase("1", "3", "4")
	f.build()
	f.verified()
	if v := f.whole(); !v.Equal {
		t.Errorf("a case is not what a reading of the whole source gives: %+v", v.Tables)
	}
}
