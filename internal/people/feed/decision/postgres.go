package decision

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Schema is the schema of the database in the enclave that holds decisions.
const Schema = "trefoil_feed"

// lockKey serialises changes to the store's tables between processes.
const lockKey = 7305727

// schema is applied at every Prepare. It only ever adds.
//
// draw is a random number a row: an index on it makes a fair sample cheap, however many
// decisions a day has.
const schema = `
create schema if not exists trefoil_feed;
create table if not exists trefoil_feed.decisions (
	day     date not null,
	id      uuid not null,
	surface text not null,
	subject text not null,
	draw    integer not null,
	payload bytea not null,
	primary key (day, id)
) partition by range (day);
create index if not exists decisions_subject on trefoil_feed.decisions (subject);
create index if not exists decisions_draw on trefoil_feed.decisions (surface, draw);
create table if not exists trefoil_feed.restricted (
	subject text primary key,
	at      timestamptz not null default now()
);`

// Postgres is a store in a PostgreSQL database of the enclave, a partition a day. Its methods
// may be called concurrently.
type Postgres struct {
	pool *pgxpool.Pool

	mu   sync.Mutex
	days map[time.Time]bool // partitions known to exist
}

// NewPostgres makes a store on a pool that the caller owns and closes.
func NewPostgres(pool *pgxpool.Pool) *Postgres {
	return &Postgres{pool: pool, days: map[time.Time]bool{}}
}

// Prepare creates the store's tables where they are missing.
func (p *Postgres) Prepare(ctx context.Context) error {
	err := p.locked(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, schema)
		return err
	})
	if err != nil {
		return fmt.Errorf("prepare decisions: %w", err)
	}
	return nil
}

func (p *Postgres) locked(ctx context.Context, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, p.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock($1)", lockKey); err != nil {
			return err
		}
		return do(tx)
	})
}

// EnsureDay makes the partition of a day. Save does it by itself; called ahead of midnight
// it spares the first decision of a day the wait.
func (p *Postgres) EnsureDay(ctx context.Context, at time.Time) error {
	day := Day(at)
	p.mu.Lock()
	known := p.days[day]
	p.mu.Unlock()
	if known {
		return nil
	}
	// The name and the bounds are made from a date: there is nothing to quote.
	statement := fmt.Sprintf("create table if not exists %s partition of trefoil_feed.decisions for values from ('%s') to ('%s')",
		partition(day), day.Format(time.DateOnly), day.AddDate(0, 0, 1).Format(time.DateOnly))
	err := p.locked(ctx, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, statement)
		return err
	})
	if err != nil {
		return fmt.Errorf("make the day's partition: %w", err)
	}
	p.mu.Lock()
	p.days[day] = true
	p.mu.Unlock()
	return nil
}

const partitionPrefix = "decisions_"

func partition(day time.Time) string {
	return "trefoil_feed." + partitionPrefix + day.Format("20060102")
}

// Save implements Store.
func (p *Postgres) Save(ctx context.Context, d *Decision) error {
	payload, err := d.Encode()
	if err != nil {
		return fmt.Errorf("save decision: %w", err)
	}
	if err := p.EnsureDay(ctx, d.At()); err != nil {
		return fmt.Errorf("save decision: %w", err)
	}
	insert := func() error {
		_, err := p.pool.Exec(ctx, `insert into trefoil_feed.decisions (day, id, surface, subject, draw, payload)
			values ($1, $2, $3, $4, $5, $6)`, Day(d.At()), [16]byte(d.ID), d.Surface, d.Subject, drawOf(d.ID), payload)
		return err
	}
	err = insert()
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "23514" { // no partition: another process dropped it
		p.mu.Lock()
		delete(p.days, Day(d.At()))
		p.mu.Unlock()
		if err = p.EnsureDay(ctx, d.At()); err == nil {
			err = insert()
		}
	}
	if err != nil {
		return fmt.Errorf("save decision: %w", safe(err))
	}
	return nil
}

// drawOf takes 31 of an id's random bits.
func drawOf(id ID) int32 { return int32(binary.BigEndian.Uint32(id[12:]) >> 1) }

// safe keeps a server's error text, which may quote a value, out of errors.
func safe(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return fmt.Errorf("the database answered SQLSTATE %s", pg.Code)
	}
	return err
}

// Get implements Store.
func (p *Postgres) Get(ctx context.Context, id ID) (*Decision, error) {
	found, err := p.query(ctx, "where day = $1 and id = $2", Day(id.At()), [16]byte(id))
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, ErrNotFound
	}
	if found[0].Unreadable {
		return nil, errMalformed
	}
	return found[0], nil
}

func (p *Postgres) query(ctx context.Context, tail string, args ...any) ([]*Decision, error) {
	rows, err := p.pool.Query(ctx, "select id, surface, subject, payload from trefoil_feed.decisions d "+tail, args...)
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", safe(err))
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (*Decision, error) {
		var d Decision
		var payload []byte
		if err := row.Scan((*[16]byte)(&d.ID), &d.Surface, &d.Subject, &payload); err != nil {
			return nil, err
		}
		if d.Decode(payload) != nil {
			d = Decision{ID: d.ID, Surface: d.Surface, Subject: d.Subject, Unreadable: true}
		}
		return &d, nil
	})
	if err != nil {
		return nil, fmt.Errorf("read decisions: %w", safe(err))
	}
	return found, nil
}

// Sample implements Store: the rows whose draw follows a random number, round the end.
func (p *Postgres) Sample(ctx context.Context, surface string, day time.Time, n int) ([]*Decision, error) {
	const usable = `where day = $1 and surface = $2 and not exists (select from trefoil_feed.restricted r where r.subject = d.subject)`
	from := rand.Int32()
	found, err := p.query(ctx, usable+" and draw >= $3 order by draw limit $4", Day(day), surface, from, n)
	if err != nil || len(found) == n {
		return found, err
	}
	rest, err := p.query(ctx, usable+" and draw < $3 order by draw limit $4", Day(day), surface, from, n-len(found))
	return append(found, rest...), err
}
