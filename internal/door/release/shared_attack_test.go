package release

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/trefoil-eu/trefoil/internal/door/statement"
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
	ctx, cancel := context.WithTimeout(context.Background(), 15*time.Second)
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
