package dataset

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// Transactions that are larger than what may be held come in parts. Whatever they do, and in
// whatever order, the dataset shows all of one or nothing, and is what a build gives.
func TestTransactionsInPartsGiveWhatBuildingGives(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, web, webCatalog, webDataset("residence: [EEA]", "person: id plan favourite", "account: tenant no owner", "entry: id tenant no other parent", "video: id maker"))
	f.b.cfg.MemoryBytes = 16 << 10 // some dozen rows
	f.follow()
	f.caughtUp(conn)
	built := f.builtAt()
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	for round := range 6 {
		tx, err := conn.Begin(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		for range 150 {
			sub, err := tx.Begin(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			end := sub.Commit
			if _, err := sub.Exec(testContext(t), act(r)); err != nil || r.IntN(10) == 0 {
				end = sub.Rollback
			}
			if err := end(testContext(t)); err != nil {
				t.Fatal(err)
			}
		}
		if round == 3 {
			err = tx.Rollback(testContext(t))
		} else {
			err = tx.Commit(testContext(t))
		}
		if err != nil {
			t.Fatal(err)
		}
		f.caughtUp(conn)
		if v, err := f.b.Verify(testContext(t), f.name); err != nil || !v.Equal {
			t.Fatalf("seed %d, round %d: %+v, %v", seed, round, v, err)
		}
	}
	if f.builtAt() != built {
		t.Error("it was built again, not followed")
	}
}

// Persons, and all that leads to them, come in one transaction, the rows before what they
// refer to: the keys are checked when it commits.
func TestALargeTransactionWhoseChildrenComeFirst(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, shop, shopCatalog, shopDatasets)
	f.b.cfg.MemoryBytes = 64 << 10
	sourceDo(t, conn, `DO $$ DECLARE c record; BEGIN FOR c IN SELECT conrelid::regclass t, conname FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 LOOP
		EXECUTE format('ALTER TABLE %s ALTER CONSTRAINT %I DEFERRABLE', c.t, c.conname); END LOOP; END $$`)
	f.follow()
	f.caughtUp(conn)
	before := f.one("SELECT count(*) FROM app.person")
	fill := func(end string) {
		sourceDo(t, conn, "BEGIN", "SET CONSTRAINTS ALL DEFERRED",
			`INSERT INTO "Sales"."Order" SELECT 100000 + i, 50000 + i % 500, NULL, NULL, 3 FROM generate_series(1, 4000) i`,
			"INSERT INTO app.person (id, email, country) OVERRIDING SYSTEM VALUE SELECT 50000 + i, 'large' || i || '@example.org', CASE WHEN i % 5 = 0 THEN 'US' ELSE 'IE' END FROM generate_series(0, 499) i", end)
	}
	fill("ROLLBACK")
	f.caughtUp(conn)
	if now := f.one("SELECT count(*) FROM app.person"); now != before {
		t.Fatalf("of a transaction that was rolled back, %s persons are there, not %s", now, before)
	}
	fill("COMMIT")
	f.caughtUp(conn)
	f.verified()
	if now := f.one(fmt.Sprintf("SELECT count(*) - %s FROM app.person", before)); now != "400" {
		t.Errorf("%s persons came", now)
	}
	sourceDo(t, conn, "BEGIN", `DELETE FROM "Sales"."Order" WHERE "Id" > 100000`, "DELETE FROM app.person WHERE id >= 50000", "COMMIT")
	f.caughtUp(conn)
	f.verified()
	if now := f.one("SELECT count(*) FROM app.person"); now != before {
		t.Errorf("%s persons are left, not %s", now, before)
	}
}
