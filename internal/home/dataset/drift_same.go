package dataset

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// errMoved says that a table or column changed its name between planning and reading.
var errMoved = errors.New("the table changed at the source since it was planned")

// sameTable locks a table as a plain reader does, until the session's transaction ends, and
// makes sure that each name still means the column that was planned: under a snapshot, names
// are resolved as of now, not as of the snapshot. Without it a column that takes another's
// name while a build runs would be read in the other's form.
func sameTable(ctx context.Context, conn *pgconn.PgConn, t *table) error {
	rr := conn.ExecParams(ctx, fmt.Sprintf("SELECT %s FROM %s LIMIT 0", quotedList("", t.read), t.src.Name.Quoted()), nil, nil, nil, nil)
	fields := append([]pgconn.FieldDescription(nil), rr.FieldDescriptions()...)
	if _, err := rr.Close(); err != nil {
		if code := sqlState(err); code == "42P01" || code == "42703" || code == "3F000" {
			return fmt.Errorf("read %s from the source: %w", t.name, errMoved)
		}
		return fmt.Errorf("read %s from the source: %w", t.name, safe(err))
	}
	if !t.sameFields(fields) {
		return fmt.Errorf("read %s from the source: %w", t.name, errMoved)
	}
	return nil
}

// sameFields says whether a statement that asked for what the table reads was given these
// columns and no others.
func (t *table) sameFields(fields []pgconn.FieldDescription) bool {
	if len(fields) != len(t.read) {
		return false
	}
	for i, name := range t.read {
		c := t.src.Column(name)
		if c == nil || fields[i].TableOID != t.src.OID || fields[i].TableAttributeNumber != uint16(c.Number) || fields[i].DataTypeOID != typeOfField(c.TypeOID, c.BaseOID, c.TypeKind) {
			return false
		}
	}
	return true
}

// typeOfField is the type that the protocol names for a column: of a domain, what it is over.
func typeOfField(typ, base uint32, kind string) uint32 {
	if kind == "domain" {
		return base
	}
	return typ
}
