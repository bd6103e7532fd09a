package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// State keeps the few things that outlive a restart: open incidents, the models in
// production, the sheets. Values are JSON. Nothing in it is about a person.
type State interface {
	Put(ctx context.Context, key string, value any) error
	// Get reads a value into into and says whether there was one.
	Get(ctx context.Context, key string, into any) (bool, error)
}

// MemoryState forgets everything when the program ends.
type MemoryState struct {
	mu     sync.Mutex
	values map[string][]byte
}

// NewMemoryState makes an empty one.
func NewMemoryState() *MemoryState { return &MemoryState{values: map[string][]byte{}} }

// Put implements State.
func (m *MemoryState) Put(_ context.Context, key string, value any) error {
	enc, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.values[key] = enc
	return nil
}

// Get implements State.
func (m *MemoryState) Get(_ context.Context, key string, into any) (bool, error) {
	m.mu.Lock()
	enc, ok := m.values[key]
	m.mu.Unlock()
	if !ok {
		return false, nil
	}
	return true, json.Unmarshal(enc, into)
}

// PostgresState keeps values in the decisions' database.
type PostgresState struct{ pool *pgxpool.Pool }

// NewPostgresState makes one on a pool that the caller owns. Prepare comes first.
func NewPostgresState(pool *pgxpool.Pool) *PostgresState { return &PostgresState{pool} }

// Prepare creates what is missing. decision.Postgres.Prepare made the schema.
func (p *PostgresState) Prepare(ctx context.Context) error {
	if _, err := p.pool.Exec(ctx, `create table if not exists trefoil_feed.state (
		key   text primary key,
		value jsonb not null,
		at    timestamptz not null default now()
	)`); err != nil {
		return fmt.Errorf("prepare state: %w", err)
	}
	return nil
}

// Put implements State.
func (p *PostgresState) Put(ctx context.Context, key string, value any) error {
	enc, err := json.Marshal(value)
	if err == nil {
		_, err = p.pool.Exec(ctx, `insert into trefoil_feed.state (key, value) values ($1, $2)
			on conflict (key) do update set value = excluded.value, at = now()`, key, enc)
	}
	if err != nil {
		return fmt.Errorf("keep state: %w", err)
	}
	return nil
}

// Get implements State.
func (p *PostgresState) Get(ctx context.Context, key string, into any) (bool, error) {
	var enc []byte
	err := p.pool.QueryRow(ctx, "select value from trefoil_feed.state where key = $1", key).Scan(&enc)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err == nil {
		err = json.Unmarshal(enc, into)
	}
	if err != nil {
		return false, fmt.Errorf("read state: %w", err)
	}
	return true, nil
}
