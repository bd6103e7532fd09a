package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
)

// Enqueue stores a record's body for the process that owns the log, which gives it its
// origin and appends it. The record's time is the body's.
func (s *Store) Enqueue(ctx context.Context, b *trefoil.Body) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return enqueue(ctx, tx, b) })
}

func enqueue(ctx context.Context, tx pgx.Tx, b *trefoil.Body) error {
	body, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	if _, err := tx.Exec(ctx, "insert into trefoil.outbox (body) values ($1)", body); err != nil {
		return fmt.Errorf("enqueue record: %w", err)
	}
	return nil
}

// Drain hands each waiting body to appendRecord, oldest first, and removes it once that
// returned nil. It returns how many went out. A crash between the two appends a record
// twice, never none.
func (s *Store) Drain(ctx context.Context, appendRecord func(context.Context, *trefoil.Body) error) (int, error) {
	done := 0
	for {
		more, err := s.drainOne(ctx, appendRecord)
		if err != nil || !more {
			return done, err
		}
		done++
	}
}

func (s *Store) drainOne(ctx context.Context, appendRecord func(context.Context, *trefoil.Body) error) (more bool, err error) {
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		var id int64
		var body []byte
		err := tx.QueryRow(ctx, `select id, body from trefoil.outbox order by id limit 1
			for update skip locked`).Scan(&id, &body)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read outbox: %w", err)
		}
		var b trefoil.Body
		if err := json.Unmarshal(body, &b); err != nil {
			return fmt.Errorf("decode record %d of the outbox: %w", id, err)
		}
		if err := appendRecord(ctx, &b); err != nil {
			return fmt.Errorf("append record: %w", err)
		}
		more = true
		_, err = tx.Exec(ctx, "delete from trefoil.outbox where id = $1", id)
		return err
	})
	return more, err
}
