package flow

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Named is a slot with its name.
type Named struct {
	Name string
	Slot
}

// Queries is a connection or a transaction.
type Queries interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Slots lists the slots of the database that conn is connected to that are named as Trefoil
// names its own, whoever made them.
func Slots(ctx context.Context, conn Queries) ([]Named, error) {
	rows, err := conn.Query(ctx, `SELECT slot_name::text, active, coalesce(wal_status, ''), coalesce(confirmed_flush_lsn, '0/0')::text,
		coalesce(pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
			ELSE pg_catalog.pg_current_wal_lsn() END, restart_lsn), 0)::bigint
		FROM pg_catalog.pg_replication_slots WHERE slot_name ~ '^trefoil_' AND plugin = 'pgoutput' AND database = pg_catalog.current_database() ORDER BY 1`)
	if err != nil {
		return nil, fmt.Errorf("list slots: %w", safe(err))
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Named, error) {
		var n Named
		var confirmed string
		if err := r.Scan(&n.Name, &n.Active, &n.WALStatus, &confirmed, &n.Retained); err != nil {
			return n, err
		}
		var err error
		n.Confirmed, err = ParseLSN(confirmed)
		return n, err
	})
	if err != nil {
		return nil, fmt.Errorf("list slots: %w", safe(err))
	}
	return out, nil
}

// SharedPrefix begins the names of slots that several datasets share; 16 digits follow.
const SharedPrefix = "trefoil_shared_"

// Shared says whether a slot is one that several datasets share.
func Shared(slot string) bool {
	return strings.HasPrefix(slot, SharedPrefix) && len(slot) == len(SharedPrefix)+16
}

// OfCase says whether a slot is that of a case dataset, which no file defines.
func OfCase(slot string) bool { return strings.HasPrefix(slot, "trefoil_case_") }
