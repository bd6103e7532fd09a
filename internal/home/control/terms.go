package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
)

// Seen notes that it is now, and returns the latest time that was ever noted. A clock that was
// set back gives no grant its time again.
func (s *Store) Seen(ctx context.Context, now time.Time) (time.Time, error) {
	var high time.Time
	err := s.pool.QueryRow(ctx, `insert into trefoil.clock (high) values ($1)
		on conflict (one) do update set high = greatest(trefoil.clock.high, excluded.high) returning high`, now).Scan(&high)
	if err != nil {
		return now, fmt.Errorf("note the time: %w", err)
	}
	return high.UTC(), nil
}

// Latest is the later of now and the latest time that was noted.
func (s *Store) Latest(ctx context.Context, now time.Time) (time.Time, error) {
	var high time.Time
	if err := s.pool.QueryRow(ctx, `select greatest($1::timestamptz, (select high from trefoil.clock))`, now).Scan(&high); err != nil {
		return now, fmt.Errorf("read the latest time: %w", err)
	}
	return high.UTC(), nil
}

// Expire enqueues a record for each grant whose time ended by now and that was not recorded as
// over yet, at most 100, and forgets the subjects of its case. It returns how many.
func (s *Store) Expire(ctx context.Context, now time.Time, record func(Grant) *trefoil.Body) (int, error) {
	found, err := s.query(ctx, `where g.valid_till <= $1 and not exists (select from trefoil.grants_over o where o.grant_id = g.id)
		order by g.valid_till limit 100`, now)
	if err != nil {
		return 0, err
	}
	for i, g := range found {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
			tag, err := tx.Exec(ctx, `insert into trefoil.grants_over (grant_id) values ($1) on conflict do nothing`, g.Request.ID)
			if err != nil || tag.RowsAffected() == 0 { // another gateway was quicker
				return err
			}
			if err := forgetSubjects(ctx, tx, g.Request.ID); err != nil {
				return err
			}
			return enqueue(ctx, tx, record(g))
		})
		if err != nil {
			return i, fmt.Errorf("record the end of a grant: %w", err)
		}
	}
	return len(found), nil
}

// Waiting are the grants with subjects for whom no case was opened yet.
func (s *Store) Waiting(ctx context.Context) ([]Grant, error) {
	return s.query(ctx, `join trefoil.grant_subjects w on w.grant_id = g.id order by g.at, g.id limit 1000`)
}

// Subjects are those of a grant's case: none once it was opened, or the grant ended.
func (s *Store) Subjects(ctx context.Context, id string) ([]string, error) {
	var out []string
	err := s.pool.QueryRow(ctx, `select subjects from trefoil.grant_subjects where grant_id = $1`, id).Scan(&out)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read subjects of a grant: %w", err)
	}
	return out, nil
}

// ForgetSubjects removes the list of a grant's subjects: its case has it, or it has ended.
func (s *Store) ForgetSubjects(ctx context.Context, id string) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return forgetSubjects(ctx, tx, id) })
}

func forgetSubjects(ctx context.Context, tx pgx.Tx, id string) error {
	if _, err := tx.Exec(ctx, `delete from trefoil.grant_subjects where grant_id = $1`, id); err != nil {
		return fmt.Errorf("forget subjects of a grant: %w", err)
	}
	return nil
}
