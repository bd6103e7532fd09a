package dataset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// This file lets a verification meet a running flow at one snapshot of the source. Whoever
// verifies writes an invitation into the dataset. The flow exports the source snapshot of its
// next batch, writes its name in the transaction that writes the rows, and writes nothing more
// until the other has opened the dataset and the source as of it. Source and dataset are then
// the same moment, exactly, whatever else is written at the source.
//
// The table of invitations belongs to the dataset's owner: no reader of the dataset can see
// it or make a flow wait.

// meetTable is where invitations stand. It is made by the flow that answers them.
const meetTable = `CREATE TABLE IF NOT EXISTS trefoil_info.meeting (id text PRIMARY KEY, asked_at timestamptz NOT NULL,
	snapshot text, at timestamptz, position pg_lsn)`

const (
	meetHold    = 8 * time.Second // a flow waits no longer for whoever invited it
	meetPoll    = 10 * time.Millisecond
	meetStaleIn = "1 minute" // older invitations are of those who died
)

// guest is a flow's part in one meeting. A nil guest has none, and its methods do nothing.
type guest struct {
	id       string
	snapshot string
}

// invited asks whether somebody waits for this flow. It is called before the snapshot of a
// batch is taken, outside a transaction.
func invited(ctx context.Context, dataset *pgx.Conn) (*guest, error) {
	var id string
	err := dataset.QueryRow(ctx, `SELECT id FROM trefoil_info.meeting WHERE snapshot IS NULL
		AND asked_at > pg_catalog.clock_timestamp() - interval '`+meetStaleIn+`' ORDER BY asked_at LIMIT 1`).Scan(&id)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for a verification that waits: %w", safe(err))
	}
	return &guest{id: id}, nil
}

// export makes the batch's snapshot, which conn holds, one that others can take.
func (g *guest) export(ctx context.Context, conn *pgx.Conn) error {
	if g == nil {
		return nil
	}
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot()").Scan(&g.snapshot); err != nil {
		return fmt.Errorf("export a snapshot to verify by: %w", safe(err))
	}
	return nil
}

// arrive says in the batch's own transaction which snapshot it brings the dataset to.
func (g *guest) arrive(ctx context.Context, tx pgx.Tx, h flow.Horizon, position flow.LSN) error {
	if g == nil {
		return nil
	}
	_, err := tx.Exec(ctx, "UPDATE trefoil_info.meeting SET snapshot = $2, at = $3, position = $4::text::pg_lsn WHERE id = $1", g.id, g.snapshot, h.On, position.String())
	if err != nil {
		return fmt.Errorf("say what to verify by: %w", safe(err))
	}
	return nil
}

// wait holds the flow where it is, after the batch's commit and before its source snapshot
// ends, until the other has opened both sides. It never waits longer than hold.
func (g *guest) wait(ctx context.Context, dataset *pgx.Conn, hold time.Duration) error {
	if g == nil {
		return nil
	}
	for deadline := time.Now().Add(hold); ; {
		var open bool
		if err := dataset.QueryRow(ctx, "SELECT EXISTS (SELECT FROM trefoil_info.meeting WHERE id = $1)", g.id).Scan(&open); err != nil {
			return fmt.Errorf("wait for a verification: %w", safe(err))
		}
		if !open {
			return nil
		}
		if time.Now().After(deadline) {
			_, err := dataset.Exec(ctx, "DELETE FROM trefoil_info.meeting WHERE id = $1", g.id)
			return safe(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(meetPoll):
		}
	}
}
