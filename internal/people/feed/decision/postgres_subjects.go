package decision

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Expire implements Store: a day that has run out is dropped as a table, so that nothing of
// it stays in the database's files.
func (p *Postgres) Expire(ctx context.Context, before time.Time) (int, error) {
	limit, dropped := Day(before), 0
	err := p.locked(ctx, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid
			where i.inhparent = 'trefoil_feed.decisions'::regclass order by 1`)
		if err != nil {
			return err
		}
		names, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		for _, name := range names {
			day, err := time.Parse("20060102", strings.TrimPrefix(name, partitionPrefix))
			if err != nil || !day.Before(limit) {
				continue // not a partition that this store made
			}
			if _, err := tx.Exec(ctx, "drop table "+partition(day)); err != nil {
				return err
			}
			p.mu.Lock()
			delete(p.days, day)
			p.mu.Unlock()
			dropped++
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("drop old decisions: %w", safe(err))
	}
	return dropped, nil
}

// Access implements Subjects.
func (p *Postgres) Access(ctx context.Context, subject string) ([]*Decision, error) {
	return p.query(ctx, "where subject = $1 order by day, id", subject)
}

// Erase implements Subjects. A mark of restriction goes too: it names the subject.
func (p *Postgres) Erase(ctx context.Context, subject string) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, "delete from trefoil_feed.decisions where subject = $1", subject)
		if err != nil {
			return err
		}
		n = int(tag.RowsAffected())
		_, err = tx.Exec(ctx, "delete from trefoil_feed.restricted where subject = $1", subject)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("erase decisions: %w", safe(err))
	}
	return n, nil
}

// Restrict implements Subjects.
func (p *Postgres) Restrict(ctx context.Context, subject string, on bool) error {
	statement := "delete from trefoil_feed.restricted where subject = $1"
	if on {
		statement = "insert into trefoil_feed.restricted (subject) values ($1) on conflict do nothing"
	}
	if _, err := p.pool.Exec(ctx, statement, subject); err != nil {
		return fmt.Errorf("restrict decisions: %w", safe(err))
	}
	return nil
}

// Restricted implements Subjects.
func (p *Postgres) Restricted(ctx context.Context, subject string) (bool, error) {
	var yes bool
	err := p.pool.QueryRow(ctx, "select exists (select from trefoil_feed.restricted where subject = $1)", subject).Scan(&yes)
	if err != nil {
		return false, fmt.Errorf("read restriction: %w", safe(err))
	}
	return yes, nil
}
