package accesslog

import (
	"context"
	"net/http"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// Log is one open access log. Its methods may be called from several goroutines.
type Log struct{ c Config }

// Ticket is the promise that one appended record will be witnessed.
type Ticket struct{ l *Log }

// Open opens or makes the log in c.Directory. It succeeds while witnesses are away.
func Open(ctx context.Context, c Config) (*Log, error) { return nil, ErrStore }

// Append stores body, salt and opening durably and queues the leaf.
func (l *Log) Append(ctx context.Context, r trefoil.Record, opening []byte) (*Ticket, error) {
	return nil, ErrStore
}

// Index waits until the record has its place in the log.
func (t *Ticket) Index(ctx context.Context) (uint64, error) { return 0, ErrStore }

// Witnessed waits for a cosigned checkpoint that includes the record.
func (t *Ticket) Witnessed(ctx context.Context) (*trefoil.Proof, error) { return nil, ErrStore }

// Handler serves checkpoint and tile/ to anyone, body/INDEX to the bearer of token.
func (l *Log) Handler(token string) http.Handler { return nil }

// Receipt returns everything that checks record index offline.
func (l *Log) Receipt(ctx context.Context, index uint64) (*trefoil.Receipt, error) {
	return nil, ErrStore
}

// StorePermit keeps the monitor's permit for record index.
func (l *Log) StorePermit(index uint64, permit string) error { return ErrStore }

// Expire deletes the bodies, salts and openings whose retention has ended.
func (l *Log) Expire(ctx context.Context, now time.Time) (n int, err error) { return 0, ErrStore }

// DeleteBody deletes one record's body, salt, opening and permit.
func (l *Log) DeleteBody(index uint64) error { return ErrStore }

// Size is the number of records in the log, witnessed or not.
func (l *Log) Size() uint64 { return 0 }

// Close stops the log.
func (l *Log) Close(ctx context.Context) error { return ErrStore }
