package feed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
)

// LogRecorder writes records to a logger instead of the access log. It is for demonstrations,
// and for a service whose configuration names no control store, which says so at its start.
type LogRecorder struct{ Logger *slog.Logger }

// Enqueue implements Recorder.
func (l LogRecorder) Enqueue(_ context.Context, b *trefoil.Body) error {
	enc, err := json.Marshal(b)
	if err != nil {
		return fmt.Errorf("write record: %w", err)
	}
	l.Logger.Info("record", "kind", b.Kind, "body", json.RawMessage(enc))
	return nil
}

// Opened is a service with the connections that it owns.
type Opened struct {
	*Service
	Subjects decision.Subjects // a person's rights over the stored decisions
	Token    string            // the platform's bearer token
	Research *Research         // nil with the memory store
	closers  []func()
}

// Close releases the connections. The service must not be used after it.
func (o *Opened) Close() {
	for _, c := range o.closers {
		c()
	}
}

// Open connects to what a configuration names, prepares the tables and loads every surface.
// The database is needed: the memory store is for demonstrations (OpenMemory).
func Open(ctx context.Context, c *Config, logger *slog.Logger) (*Opened, error) {
	o := &Opened{}
	if err := o.open(ctx, c, logger); err != nil {
		o.Close()
		return nil, err
	}
	return o, nil
}

func (o *Opened) open(ctx context.Context, c *Config, logger *slog.Logger) (err error) {
	if c.Database == "" {
		return errors.New("open feed: database is missing: a file that holds the DSN of the decisions' database")
	}
	if o.Token, err = ReadSecret(c.Token); err != nil {
		return fmt.Errorf("open feed: token: %w", err)
	}
	recorder, err := o.recorder(ctx, c, logger)
	if err != nil {
		return err
	}
	dsn, err := ReadSecret(c.Database)
	if err != nil {
		return fmt.Errorf("open feed: database: %w", err)
	}
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return errors.New("open feed: the decisions' DSN does not parse")
	}
	o.closers = append(o.closers, pool.Close)
	return o.on(ctx, c, pool, recorder, logger)
}

// on builds the service on a pool.
func (o *Opened) on(ctx context.Context, c *Config, pool *pgxpool.Pool, recorder Recorder, logger *slog.Logger) (err error) {
	store, state, research := decision.NewPostgres(pool), NewPostgresState(pool), NewResearch(pool)
	for _, prepare := range []func(context.Context) error{store.Prepare, state.Prepare, research.Prepare} {
		if err := prepare(ctx); err != nil {
			return fmt.Errorf("open feed: %w", err)
		}
	}
	o.Subjects, o.Research = both{store, research}, research
	o.Service, err = New(ctx, c, Parts{Store: store, State: state, Recorder: recorder, Logger: logger})
	return err
}

// OpenPool is Open on a pool that the caller owns, with records to the logger.
func OpenPool(ctx context.Context, c *Config, pool *pgxpool.Pool, logger *slog.Logger) (*Opened, error) {
	o := &Opened{}
	if err := o.on(ctx, c, pool, LogRecorder{logger}, logger); err != nil {
		return nil, err
	}
	return o, nil
}

// OpenMemory makes a service that forgets everything when the program ends.
func OpenMemory(ctx context.Context, c *Config, logger *slog.Logger) (*Opened, error) {
	store := decision.NewMemory(10_000)
	s, err := New(ctx, c, Parts{Store: store, State: NewMemoryState(), Recorder: LogRecorder{logger}, Logger: logger})
	if err != nil {
		return nil, err
	}
	return &Opened{Service: s, Subjects: store}, nil
}

func (o *Opened) recorder(ctx context.Context, c *Config, logger *slog.Logger) (Recorder, error) {
	if c.Control == "" {
		logger.Warn("no control store is configured: models and incidents are written here and not to the access log")
		return LogRecorder{logger}, nil
	}
	dsn, err := ReadSecret(c.Control)
	if err != nil {
		return nil, fmt.Errorf("open feed: control: %w", err)
	}
	store, err := control.Open(ctx, dsn)
	if err != nil {
		return nil, fmt.Errorf("open feed: %w", err)
	}
	o.closers = append(o.closers, store.Close)
	if err := store.Prepare(ctx); err != nil {
		return nil, fmt.Errorf("open feed: %w", err)
	}
	return store, nil
}

// both reaches a subject's decisions and their part of the research sample.
type both struct {
	decision.Subjects
	research *Research
}

// Erase implements decision.Subjects.
func (b both) Erase(ctx context.Context, subject string) (int, error) {
	if err := b.research.Erase(ctx, subject); err != nil {
		return 0, err
	}
	return b.Subjects.Erase(ctx, subject)
}

// Restrict implements decision.Subjects: the sample gives a restricted subject's rows up.
func (b both) Restrict(ctx context.Context, subject string, on bool) error {
	if on {
		if err := b.research.Erase(ctx, subject); err != nil {
			return err
		}
	}
	return b.Subjects.Restrict(ctx, subject, on)
}
