// Package control is the control store: a database named trefoil on the primary, synchronous
// like the rest, that holds grants, what was decided about them, and records that other
// processes than the log's own have to write.
//
// The invariant it keeps: the store decides nothing. Whoever reads a grant checks its
// signed envelopes again (rules/grant), so a row written by hand gives nobody anything, and
// the store can be rebuilt from the signed texts alone.
package control

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrNotFound means that no grant has that id. The caller should list grants.
var ErrNotFound = errors.New("no such grant")

// schema is applied at every Open. It only ever adds.
const schema = `
create schema if not exists trefoil;
create table if not exists trefoil.grants (
	id         text primary key,
	principal  text not null,
	dataset    text not null,
	definition text not null,
	purpose    text not null,
	valid_from timestamptz not null,
	valid_till timestamptz not null,
	envelope   text not null,
	reason     text not null,
	salt       bytea not null,
	at         timestamptz not null
);
create index if not exists grants_principal on trefoil.grants (principal, dataset, valid_till);
create table if not exists trefoil.decisions (
	grant_id text not null references trefoil.grants (id),
	kind     text not null check (kind in ('approval', 'denial', 'revocation')),
	approver text not null,
	envelope text not null,
	at       timestamptz not null,
	primary key (grant_id, kind, approver)
);
create table if not exists trefoil.grant_subjects (
	grant_id text primary key references trefoil.grants (id),
	subjects text[] not null
);
create table if not exists trefoil.grants_over (
	grant_id text primary key references trefoil.grants (id)
);
create table if not exists trefoil.clock (
	one  boolean primary key default true check (one),
	high timestamptz not null
);
create table if not exists trefoil.outbox (
	id   bigint generated always as identity primary key,
	body bytea not null,
	at   timestamptz not null default now()
);`

// Store is an open control store. Its methods may be called concurrently.
type Store struct{ pool *pgxpool.Pool }

// Open makes a pool for the control store by DSN. It connects when first used, so that the
// gateway starts while the store is away.
func Open(ctx context.Context, dsn string) (*Store, error) {
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("open control store: the DSN does not parse")
	}
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("open control store: %w", err)
	}
	return &Store{pool: pool}, nil
}

// Ping says whether the control store answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("reach control store: %w", err)
	}
	return nil
}

// Prepare creates the store's tables where they are missing.
func (s *Store) Prepare(ctx context.Context) error {
	return pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		// Two processes that start together would race on "if not exists".
		if _, err := tx.Exec(ctx, "select pg_advisory_xact_lock(7305713)"); err != nil {
			return fmt.Errorf("lock control store: %w", err)
		}
		if _, err := tx.Exec(ctx, schema+casesSchema); err != nil {
			return fmt.Errorf("prepare control store: %w", err)
		}
		return nil
	})
}

// Close releases the connections.
func (s *Store) Close() { s.pool.Close() }
