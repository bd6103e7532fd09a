package release

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// namesOfOthers asks a clean session for the names of temporary tables, with releases refused.
func namesOfOthers(t *testing.T, d *door) string {
	t.Helper()
	f := d.frontend()
	send(t, f, &pgproto3.Query{String: "SELECT relname FROM pg_catalog.pg_class WHERE relnamespace::pg_catalog.regnamespace::pg_catalog.text LIKE 'pg_temp%'"})
	all, _ := until(t, f, 1) // a refusal ends the session
	return all
}

// waitForName waits until the server has a relation of that name.
func waitForName(t *testing.T, d *door, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	for {
		var there bool
		if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_class WHERE relname = $1)", name).Scan(&there); err != nil {
			t.Fatal(err)
		}
		if there {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

const namesBlock = `DO $$ BEGIN EXECUTE format('CREATE TEMP TABLE %I ()', (SELECT secret FROM person WHERE id = 7)); COMMIT; `

// One session writes a value into the name of a table, commits inside the block and lets the
// server wait with its answer; another reads the name from the catalog meanwhile.
func TestNamesCommittedBeforeTheAnswerAreNotCovered(t *testing.T) {
	shared := new(statement.Shared)
	d := openDoor(t, func(c *Config) { c.Shared = shared })
	refuseReleases(d.log)
	f := d.frontend()
	send(t, f, &pgproto3.Query{String: namesBlock + "PERFORM pg_sleep(20); END $$"})
	waitForName(t, d, "secret-7")
	if all := namesOfOthers(t, d); strings.Contains(all, "secret-") {
		t.Errorf("the value arrived: %q", all)
	}
}

// The same, by a block that traps its cancellation and goes on when its client has gone.
func TestServerThatOutlivesItsSessionCountsOn(t *testing.T) {
	shared := new(statement.Shared)
	d := openDoor(t, func(c *Config) { c.Shared = shared })
	refuseReleases(d.log)
	conn := d.must(pgx.QueryExecModeSimpleProtocol)
	h, err := conn.PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	f := pgproto3.NewFrontend(h.Conn, h.Conn)
	send(t, f, &pgproto3.Query{String: namesBlock + `FOR i IN 1..6 LOOP BEGIN PERFORM pg_sleep(2);
		EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$`})
	waitForName(t, d, "secret-7")
	h.Conn.Close()
	d.log.end(t) // the session is over, its server is not
	waitForName(t, d, "secret-7")
	if all := namesOfOthers(t, d); strings.Contains(all, "secret-") {
		t.Errorf("the value arrived: %q", all)
	}
}

// A covered statement that still runs when another session writes names sees them: functions
// read the catalogs as they are by then. What arrives after that is not covered, nor once
// the other session has ended.
func TestStatementThatOutrunsAnotherSessionsNamesLosesItsCover(t *testing.T) {
	classifier := statement.NewClassifier(tables)
	text := func(sql string) *said { return &said{info: classifier.Analyze(sql)} }
	shared := new(statement.Shared)
	mine := newTracker(statement.NewState(shared))
	other := statement.NewState(shared)
	mine.push(&op{typ: wire.Query, said: text("SELECT g::regclass::text FROM generate_series(1, 9) g")})
	if !mine.answer(wire.RowDescription, nil).covered || !mine.answer(wire.DataRow, nil).covered {
		t.Fatal("not covered while nobody writes")
	}
	other.Forwards(classifier.Analyze("DO $$ BEGIN END $$"))
	if mine.answer(wire.DataRow, nil).covered {
		t.Error("covered while another session may have written names")
	}
	other.End()
	shared.Swept(shared.Ended())
	if mine.answer(wire.DataRow, nil).covered {
		t.Error("covered after that session ended: the row may be from before")
	}
	mine.answer(wire.CommandComplete, nil)
	mine.answer(wire.ReadyForQuery, nil)
	mine.push(&op{typ: wire.Query, said: text("SELECT relname FROM pg_class")})
	if !mine.answer(wire.RowDescription, nil).covered {
		t.Error("the next statement is not covered")
	}
	// What reads no name stays covered, in a dirty session too.
	mine.answer(wire.CommandComplete, nil)
	mine.answer(wire.ReadyForQuery, nil)
	other = statement.NewState(shared)
	other.Forwards(classifier.Analyze("DO $$ BEGIN END $$"))
	mine.push(&op{typ: wire.Query, said: text("BEGIN")})
	if !mine.answer(wire.CommandComplete, nil).covered {
		t.Error("BEGIN is not covered while another session is dirty")
	}
}

// A statement raises errors whose codes spell a value: the record names none of them.
func TestRaisedCodesAreNoFreeTextInRecords(t *testing.T) {
	d := openDoor(t, nil)
	f := d.frontend()
	for _, raise := range []string{"SECRE", "T1234", "AAAAA"} {
		send(t, f, &pgproto3.Query{String: "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '" + raise + "'; END $$"})
		if all, err := until(t, f, 1); err != nil || !strings.Contains(all, raise) {
			t.Fatalf("%v %s: the client sees the code", err, all)
		}
	}
	send(t, f, &pgproto3.Query{String: "SELECT 1/(id-id) FROM person"})
	if _, err := until(t, f, 1); err != nil {
		t.Fatal(err)
	}
	var codes []string
	for _, b := range d.log.releases() {
		codes = append(codes, b.SQLState)
	}
	if got := strings.Join(codes, " "); got != "P0001 P0001 P0001 22012" {
		t.Errorf("records say %s", got)
	}
}
