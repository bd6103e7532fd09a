package flow

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Horizon is what a transaction of the source sees, and how far its stream must be read to
// know all of that.
type Horizon struct {
	Snapshot
	At LSN       // every commit that the snapshot sees is before it
	On time.Time // the source's clock, not after the snapshot
}

// Look takes the snapshot of a repeatable read transaction: it must be its first statement.
func Look(ctx context.Context, tx *pgx.Conn) (Horizon, error) {
	var h Horizon
	var snap, at string
	var block uint64
	// The insert position, not the flushed one: under asynchronous commit a snapshot sees
	// what is not flushed yet. The clock is the statement's: read before the snapshot.
	err := tx.QueryRow(ctx, `SELECT pg_catalog.pg_current_snapshot()::text, pg_catalog.pg_current_wal_insert_lsn()::text,
		pg_catalog.statement_timestamp(), pg_catalog.current_setting('wal_block_size')::bigint`).Scan(&snap, &at, &h.On, &block)
	if err != nil {
		return h, fmt.Errorf("take snapshot: %w", safe(err))
	}
	h.On = h.On.UTC()
	if h.Snapshot, err = ParseSnapshot(snap); err != nil {
		return h, err
	}
	if h.At, err = ParseLSN(at); err != nil {
		return h, err
	}
	// At the start of a page PostgreSQL names the place after the page's header, which nothing
	// reaches before something is written there.
	if within := uint64(h.At) % block; within <= pageHeader {
		h.At -= LSN(within)
	}
	return h, nil
}

// pageHeader is the length in bytes of the longest header of a page of the log.
const pageHeader = 40
