package dataset

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// FlowState is what a dataset that follows its source says of that. It stands in the dataset
// itself, written in the transaction that writes the rows, and nobody but its owner reads it.
type FlowState struct {
	State     string // following, or stale: it stands as it was, and is to be built again
	Reason    string // why it is stale
	Slot      string
	Position  string    // of the source's log; everything before it is in the dataset
	FreshAsOf time.Time // the source's clock at the newest snapshot
	AppliedAt time.Time // our clock
	Batches   int64
	Rows      int64 // written or looked at
	Orphans   int64 // rows that lead to no row of the source, each time they were looked at

	system  string
	through string // what came before it may be in the dataset too, in part
	stamp   stamp
	hash    string
	shape   map[string]string
	swept   time.Time
}

const (
	following = "following"
	stale     = "stale"
)

// staleError says that a dataset cannot go on following and is to be built again.
type staleError struct{ why string }

func (e *staleError) Error() string { return e.why }

// errTooFew ends a dataset's rows: no cell of its persons can be large enough.
var errTooFew = fmt.Errorf("%w: the dataset is emptied", ErrFewSubjects)

// readFlow reads the state; nil when the dataset was not built to follow.
func readFlow(ctx context.Context, conn *pgx.Conn) (*FlowState, error) {
	var s FlowState
	var shape []byte
	err := conn.QueryRow(ctx, `SELECT f.state, f.reason, f.slot, f.position::text, f.through::text, f.altered_keys, f.altered, d.snapshot_at, f.applied_at, f.batches, f.rows, f.orphans,
		f.system, d.definition_hash, f.shape, f.swept_at FROM trefoil_info.flow f CROSS JOIN trefoil_info.dataset d`).Scan(&s.State, &s.Reason, &s.Slot,
		&s.Position, &s.through, &s.stamp.keys, &s.stamp.columns, &s.FreshAsOf, &s.AppliedAt, &s.Batches, &s.Rows, &s.Orphans, &s.system, &s.hash, &shape, &s.swept)
	switch {
	case sqlState(err) == "42703":
		return &FlowState{State: stale, Reason: "it followed in the way of an older version", Position: "0/0", through: "0/0"}, nil
	case sqlState(err) == "42P01" || sqlState(err) == "3F000" || errors.Is(err, pgx.ErrNoRows):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("read the flow's state: %w", safe(err))
	}
	if err := json.Unmarshal(shape, &s.shape); err != nil {
		return nil, fmt.Errorf("read the flow's state: %w", err)
	}
	s.FreshAsOf, s.AppliedAt = s.FreshAsOf.UTC(), s.AppliedAt.UTC()
	return &s, nil
}

// Flow tells how a dataset follows its source: nil when it was not built to.
func (b *Builder) Flow(ctx context.Context, name string) (*FlowState, error) {
	conn, err := b.open(ctx, name)
	if errors.Is(err, ErrNotBuilt) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	return readFlow(ctx, conn)
}

// hand gives a dataset that was just built to the flow: its foreign keys are checked at the
// end of a transaction from now on, columns that a later row may hold as NULL allow it, and
// the position is where the change stream must be read from; what came before through may be
// in the dataset already.
func (t *target) hand(ctx context.Context, p *followPlan, s *FlowState, at, through flow.LSN) error {
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	shape, err := json.Marshal(s.shape)
	if err != nil {
		return fmt.Errorf("hand the dataset to the flow: %w", err)
	}
	if _, err := conn.Exec(ctx, "SET synchronous_commit = on"); err != nil {
		return fmt.Errorf("hand the dataset to the flow: %w", safe(err))
	}
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		if err := errors.Join(forgetMarker(ctx, tx), loosen(ctx, tx, p)); err != nil {
			return err
		}
		if err := execAll(ctx, tx, `CREATE TABLE trefoil_info.flow (state text NOT NULL, reason text NOT NULL, slot text NOT NULL, system text NOT NULL,
			position pg_lsn NOT NULL, through pg_lsn NOT NULL, altered_keys text NOT NULL, altered text NOT NULL, shape jsonb NOT NULL, swept_at timestamptz NOT NULL, applied_at timestamptz NOT NULL,
			batches bigint NOT NULL, rows bigint NOT NULL, orphans bigint NOT NULL)`, meetTable); err != nil {
			return fmt.Errorf("hand the dataset to the flow: %w", safe(err))
		}
		_, err := tx.Exec(ctx, `INSERT INTO trefoil_info.flow SELECT 'following', '', $1, $2, $3::text::pg_lsn, $5::text::pg_lsn, $6, $7, $4::text::jsonb, snapshot_at,
			pg_catalog.clock_timestamp(), 0, 0, orphans FROM trefoil_info.dataset`, s.Slot, s.system, at.String(), string(shape), through.String(), s.stamp.keys, s.stamp.columns)
		if err != nil {
			return fmt.Errorf("hand the dataset to the flow: %w", safe(err))
		}
		return nil
	})
}

// loosen makes a built dataset fit to be written row by row, and checks that each table has
// the key its rows are found by.
func loosen(ctx context.Context, tx pgx.Tx, p *followPlan) error {
	for _, f := range p.all {
		if !f.held {
			continue
		}
		var keyed bool
		var foreign []string
		if err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_catalog.pg_constraint WHERE conrelid = $1::text::pg_catalog.regclass AND contype = 'p'),
			coalesce((SELECT pg_catalog.array_agg(conname::text) FROM pg_catalog.pg_constraint
				WHERE conrelid = $1::text::pg_catalog.regclass AND contype = 'f' AND conparentid = 0), '{}')`, f.quoted()).Scan(&keyed, &foreign); err != nil {
			return fmt.Errorf("read the keys of %s: %w", f.name, safe(err))
		}
		if !keyed {
			return fmt.Errorf("table %s cannot be followed: it has no primary key in the dataset", f.name)
		}
		var sql []string
		for _, name := range foreign {
			sql = append(sql, "ALTER TABLE "+f.quoted()+" ALTER CONSTRAINT "+postgres.Quote(name)+" DEFERRABLE INITIALLY IMMEDIATE")
		}
		for i, c := range f.out {
			if (!c.tr.Clear || c.cell) && !slices.Contains(f.order, i) {
				sql = append(sql, "ALTER TABLE "+f.quoted()+" ALTER COLUMN "+postgres.Quote(c.name)+" DROP NOT NULL")
			}
		}
		if err := execAll(ctx, tx, sql...); err != nil {
			return fmt.Errorf("prepare %s for following: %w", f.name, safe(err))
		}
	}
	return nil
}

// save writes the position and the freshness in the transaction that writes the rows. Without
// a horizon the dataset is as fresh as it was.
func (a *applier) save(ctx context.Context, at, through flow.LSN, h *flow.Horizon, swept time.Time, orphans int64, s stamp) error {
	smallest, fresh := any(nil), any(nil)
	if a.cells != nil && a.written > 0 {
		smallest = a.cells.smallest()
	}
	if h != nil {
		fresh = h.On
	}
	_, err := a.tx.Exec(ctx, `UPDATE trefoil_info.flow SET position = $1::text::pg_lsn, applied_at = pg_catalog.clock_timestamp(), swept_at = $2,
		batches = batches + 1, rows = rows + $3, orphans = orphans + $4, through = $5::text::pg_lsn, altered_keys = $6, altered = $7`,
		at.String(), swept, a.written, orphans, through.String(), s.keys, s.columns)
	if err == nil {
		_, err = a.tx.Exec(ctx, `UPDATE trefoil_info.dataset SET snapshot_at = coalesce($1::timestamptz, snapshot_at), rows = rows + $2, subjects = subjects + $3,
			smallest_cell = coalesce($4, smallest_cell), orphans = orphans + $5`, fresh, a.rows, a.subjects, smallest, orphans)
	}
	if err != nil {
		return fmt.Errorf("save the position: %w", safe(err))
	}
	return nil
}

// setStale marks the dataset: what it holds stands as it was. Where its rows may not stand
// any more they go, all of them, in the same transaction.
func (t *target) setStale(ctx context.Context, why string, tables []*followed) error {
	conn, err := t.session(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	return inTx(ctx, conn, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE trefoil_info.flow SET state = 'stale', reason = $1", why)
		if err == nil && len(tables) > 0 {
			names := make([]string, len(tables))
			for i, f := range tables {
				names[i] = f.quoted()
			}
			err = execAll(ctx, tx, "TRUNCATE "+strings.Join(names, ", "), "UPDATE trefoil_info.dataset SET rows = 0, subjects = 0, smallest_cell = 0")
		}
		if err != nil {
			return fmt.Errorf("mark the dataset stale: %w", safe(err))
		}
		return nil
	})
}
