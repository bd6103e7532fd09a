package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil"
)

// casesSchema is applied with the rest of the schema. Subjects stand in it as the source spells
// their keys, for as long as the case stands: the store is in the region, and they go with it.
const casesSchema = `
create table if not exists trefoil.cases (
	name     text primary key,
	id       text not null unique,
	dataset  text not null,
	grant_id text not null,
	subjects text[] not null,
	until    timestamptz not null,
	at       timestamptz not null,
	ended    timestamptz
);
do $$ begin -- asked first: altering locks out whoever reads
	if not exists (select from pg_attribute where attrelid = 'trefoil.cases'::regclass and attname = 'over') then
		alter table trefoil.cases add column who text[] not null default '{}', add column over timestamptz;
	end if;
end $$;
create table if not exists trefoil.restrictions (
	source  text not null,
	subject text not null,
	purpose text not null,
	at      timestamptz not null,
	primary key (source, subject, purpose)
);`

// Case is a dataset of a few subjects for a time (internal/home/dataset). Grant is "" for none.
// Until is part of its definition and stays; Over is when it ends, sooner if somebody ends it.
// Who holds trefoil.CasePseudonym of those who may open it.
type Case struct {
	Name, ID, Dataset, Grant string
	Subjects, Who            []string
	Until, At, Over          time.Time
}

// AddCase stores a case. A name is used once, for ever: what ended is not opened again.
func (s *Store) AddCase(ctx context.Context, c Case) error {
	_, err := s.pool.Exec(ctx, `insert into trefoil.cases (name, id, dataset, grant_id, subjects, until, at, who) values ($1, $2, $3, $4, $5, $6, $7, $8)`,
		c.Name, c.ID, c.Dataset, c.Grant, c.Subjects, c.Until, c.At, append([]string{}, c.Who...))
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) && pg.SQLState() == "23505" {
		return fmt.Errorf("add case %s: there is, or was, one of this name: choose another", c.Name)
	}
	if err != nil {
		return fmt.Errorf("add case %s: %w", c.Name, withoutValues(err))
	}
	return nil
}

// Cases lists the cases that have not ended, in the order of their names.
func (s *Store) Cases(ctx context.Context) ([]Case, error) {
	rows, err := s.pool.Query(ctx, `select name, id, dataset, grant_id, subjects, until, at, who, least(until, over) from trefoil.cases where ended is null order by name`)
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", withoutValues(err))
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (Case, error) {
		var c Case
		err := r.Scan(&c.Name, &c.ID, &c.Dataset, &c.Grant, &c.Subjects, &c.Until, &c.At, &c.Who, &c.Over)
		c.Until, c.At, c.Over = c.Until.UTC(), c.At.UTC(), c.Over.UTC()
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("read cases: %w", withoutValues(err))
	}
	return all, nil
}

// ShortenCase moves the end of a case forward, never back.
func (s *Store) ShortenCase(ctx context.Context, name string, until time.Time) error {
	if _, err := s.pool.Exec(ctx, `update trefoil.cases set over = least(until, over, $2) where name = $1`, name, until); err != nil {
		return fmt.Errorf("shorten case %s: %w", name, withoutValues(err))
	}
	return nil
}

// EndCase marks a case as ended and forgets its subjects; the records given are stored in the same transaction.
func (s *Store) EndCase(ctx context.Context, name string, at time.Time, records ...*trefoil.Body) error {
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `update trefoil.cases set ended = $2, subjects = '{}' where name = $1 and ended is null`, name, at)
		if err != nil || tag.RowsAffected() == 0 {
			return err
		}
		for _, r := range records {
			if err := enqueue(ctx, tx, r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("end case %s: %w", name, withoutValues(err))
	}
	return nil
}

// Restrict says that no dataset of a source and purpose may hold a subject's rows from now on:
// a restriction (GDPR art. 18) or an objection (art. 21). Purpose "" means all of them. Twice is once.
func (s *Store) Restrict(ctx context.Context, source, subject, purpose string, at time.Time) error {
	_, err := s.pool.Exec(ctx, `insert into trefoil.restrictions (source, subject, purpose, at) values ($1, $2, $3, $4) on conflict do nothing`,
		source, subject, purpose, at)
	if err != nil {
		return fmt.Errorf("restrict a subject: %w", withoutValues(err))
	}
	return nil
}

// Lift takes back what Restrict said.
func (s *Store) Lift(ctx context.Context, source, subject, purpose string) error {
	if _, err := s.pool.Exec(ctx, `delete from trefoil.restrictions where source = $1 and subject = $2 and purpose = $3`, source, subject, purpose); err != nil {
		return fmt.Errorf("lift a restriction: %w", withoutValues(err))
	}
	return nil
}

// Restricted lists the subjects whose rows no dataset of a source and purpose may hold.
func (s *Store) Restricted(ctx context.Context, source, purpose string) ([]string, error) {
	rows, err := s.pool.Query(ctx, `select distinct subject from trefoil.restrictions where source = $1 and purpose in ('', $2) order by 1`, source, purpose)
	if err != nil {
		return nil, fmt.Errorf("read restrictions: %w", withoutValues(err))
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read restrictions: %w", withoutValues(err))
	}
	return all, nil
}

// withoutValues takes what may be a subject's key out of an error of the server.
func withoutValues(err error) error {
	var pg interface{ SQLState() string }
	if errors.As(err, &pg) {
		return fmt.Errorf("SQLSTATE %s", pg.SQLState())
	}
	return err
}
