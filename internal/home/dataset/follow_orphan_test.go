package dataset

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

const friends = `CREATE SCHEMA app; CREATE TABLE app.person (id bigint PRIMARY KEY, country text, friend bigint, other bigint);
	INSERT INTO app.person SELECT i, 'IE', 1 + i % 30, NULL FROM generate_series(1, 30) i; CREATE INDEX ON app.person (friend);
	CREATE TABLE app.click (id bigint PRIMARY KEY, person bigint NOT NULL, page text); CREATE INDEX ON app.click (person);
	INSERT INTO app.click SELECT i, 1 + i % 40, 'p' FROM generate_series(1, 60) i;`

var friendsCatalog = wholeCatalog("person: {table: app.person, key: id, residence: country}\ntables:\n  - table: app.person\n    subject: {self: true}\n" +
	"    references: [{columns: [friend], to: app.person, of: [id], declared: true}]\n    columns:\n" + column("id", "bigint", "behaviour", "") + column("country", "text", "location", ", trait: residence") + column("friend", "bigint", "behaviour", "") +
	"  - table: app.click\n    subject: {column: person}\n    references: [{columns: [person], to: app.person, of: [id], declared: true}]\n    columns:\n" + column("id", "bigint", "behaviour", "") + column("person", "bigint", "behaviour", "") + column("page", "text", "behaviour", ""))

// References that no constraint guards may lead nowhere, and later somewhere: within a circle of
// references, and from a table to another.
func TestOrphansComeAndGoWithWhatTheyReferTo(t *testing.T) {
	t.Parallel()
	f, conn := flowing(t, friends, friendsCatalog, webDataset("residence: [EEA]", "person: id friend", "click: id person page"))
	f.follow()
	f.caughtUp(conn)
	f.verified()
	seed := uint64(time.Now().UnixNano())
	r := rand.New(rand.NewPCG(seed, 1))
	t.Logf("seed %d", seed)
	sourceDo(t, conn, "UPDATE app.person SET friend = 7 WHERE id = 8", "DELETE FROM app.person WHERE id = 7") // 8, and then 6, lead nowhere
	f.caughtUp(conn)
	f.verified()
	// 50 leads nowhere, until somebody outside gets the number it leads to.
	sourceDo(t, conn, "INSERT INTO app.person VALUES (50, 'IE', 60), (61, 'US', NULL), (51, 'IE', 50)")
	f.caughtUp(conn)
	f.verified()
	sourceDo(t, conn, "UPDATE app.person SET id = 60 WHERE id = 61")
	f.caughtUp(conn)
	f.verified()
	for range 4 {
		for range 8 {
			id := func() int { return 1 + r.IntN(40) }
			sourceDo(t, conn, []string{
				fmt.Sprintf("DELETE FROM app.person WHERE id = %d", id()),
				fmt.Sprintf("INSERT INTO app.person VALUES (%d, 'IE', %d) ON CONFLICT DO NOTHING", id(), id()),
				fmt.Sprintf("UPDATE app.person SET id = %d WHERE id = %d AND NOT EXISTS (SELECT FROM app.person WHERE id = %[1]d)", id(), id()),
				fmt.Sprintf("UPDATE app.person SET friend = NULLIF(%d, 3) WHERE id = %d", id(), id()),
				fmt.Sprintf("UPDATE app.person SET country = '%s' WHERE id = %d", []string{"IE", "US"}[r.IntN(2)], id()),
				fmt.Sprintf("INSERT INTO app.click VALUES (%d, %d, 'q') ON CONFLICT (id) DO UPDATE SET person = EXCLUDED.person", id(), id()),
			}[r.IntN(6)])
		}
		f.caughtUp(conn)
		f.verified()
	}
}
