package enclave

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/release"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// lookFor bounds a look at a session's server.
const lookFor = 5 * time.Second

// lookSQL counts the settings that the session has from its role, which the principal itself
// can write and which stay, and the temporary objects of all sessions in the database.
const lookSQL = `SELECT (SELECT pg_catalog.count(*) FROM pg_catalog.pg_settings WHERE source IN ('user', 'database user')), ` +
	`(SELECT pg_catalog.count(*) FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_namespace n ` +
	`ON d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.refobjid = n.oid AND n.nspname LIKE 'pg\_temp\_%')`

// own is the reason to end a session whose role brings settings of its own. A value written
// there in one session would be read in the next as a setting, without a record of its own.
var own = release.StopReason{
	Outcome: "error", SQLState: "55000", Refusal: "parameter",
	Message: "settings were stored with your role; they have been removed",
	Detail:  "ALTER ROLE … SET does not last in a dataset: what is stored there would leave without a record of its own.",
	Hint:    "connect again; give settings at connect (PGOPTIONS) or with SET",
}

// unseen is the reason to end a session that could not be looked at.
var unseen = release.StopReason{
	Outcome: "error", SQLState: "57P03", Refusal: "dataset-away", Message: "the dataset's server did not answer", Hint: "try again",
}

// look asks a fresh session's server what it brings, before the client is told of it. A nil
// reason lets the session go on; empty says that no session of the database has left
// temporary objects.
func look(server net.Conn) (reason *release.StopReason, empty bool) {
	if err := server.SetDeadline(time.Now().Add(lookFor)); err != nil {
		return &unseen, false
	}
	row, err := ask(server, lookSQL)
	if err != nil || len(row) != 2 {
		// Settings that stop the look itself, as a time-out does, are removed all the same.
		forget(server)
		return &unseen, false
	}
	if row[0] != "0" {
		forget(server)
		return &own, false
	}
	if err := server.SetDeadline(time.Time{}); err != nil {
		return &unseen, false
	}
	return nil, row[1] == "0"
}

// forget removes the role's settings, by the role's own right, as far as it can.
func forget(server net.Conn) {
	for _, sql := range []string{"SET statement_timeout = 0", "SET default_transaction_read_only = off",
		"ALTER ROLE CURRENT_USER RESET ALL", `DO $$ BEGIN EXECUTE pg_catalog.format('ALTER ROLE CURRENT_USER IN DATABASE %I RESET ALL', pg_catalog.current_database()); END $$`} {
		_, _ = ask(server, sql) // what fails shows at the next login again
	}
}

var errLook = errors.New("look at the dataset's server")

// ask runs one statement and returns its last row as text.
func ask(server net.Conn, sql string) (row []string, err error) {
	if _, err := server.Write(wire.AppendMessage(nil, wire.Query, append([]byte(sql), 0))); err != nil {
		return nil, fmt.Errorf("%w: %w", errLook, err)
	}
	var head [5]byte
	for {
		if _, err := io.ReadFull(server, head[:]); err != nil {
			return nil, fmt.Errorf("%w: %w", errLook, err)
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n < 4 || n > wire.DefaultSmall {
			return nil, errLook
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(server, body); err != nil {
			return nil, fmt.Errorf("%w: %w", errLook, err)
		}
		switch head[0] {
		case wire.ErrorResponse:
			err = errLook
		case wire.DataRow:
			row = fields(body)
		case wire.ReadyForQuery:
			return row, err
		}
	}
}

// fields are a DataRow's values as text; nil if it is malformed.
func fields(body []byte) []string {
	if len(body) < 2 {
		return nil
	}
	var out []string
	for rest := body[2:]; len(rest) >= 4; {
		n := int(int32(binary.BigEndian.Uint32(rest)))
		if n < 0 || n > len(rest)-4 {
			return nil
		}
		out = append(out, string(rest[4:4+n]))
		rest = rest[4+n:]
	}
	return out
}
