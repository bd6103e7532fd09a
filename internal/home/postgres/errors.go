package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"
)

// insufficientPrivilege is SQLSTATE 42501.
const insufficientPrivilege = "42501"

// isPermission reports whether the server refused for want of rights.
func isPermission(err error) bool { return SQLState(err) == insufficientPrivilege }

// SQLState is the SQLSTATE of a server's error, "" for other errors.
func SQLState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}
