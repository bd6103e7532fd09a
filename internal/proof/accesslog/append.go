package accesslog

import (
	"context"
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil"
)

// Ticket is the promise that one appended record will be witnessed.
type Ticket struct {
	l *Log
	i *item
}

// Append writes body, salt and opening to disk and queues the leaf; when it returns without an
// error the record will be in the log even after kill -9. The opening (salts of the record's
// own commitments; may be nil) never leaves the site. The body must be a record of this log
// in its one form. Every error means: not recorded, so let nothing out. (After ctx's end the record
// may be in the log all the same: recorded, not released.)
func (l *Log) Append(ctx context.Context, r trefoil.Record, opening []byte) (*Ticket, error) {
	it, err := l.item(r, opening)
	if err == nil {
		err = l.keep(ctx, it)
	}
	if err != nil {
		return nil, fmt.Errorf("append record: %w", err)
	}
	return &Ticket{l: l, i: it}, nil
}

// AppendAll is Append for several records without openings, in their order and with one sync
// for all: without an error all will be in the log, with one (but for ctx's end) none.
func (l *Log) AppendAll(ctx context.Context, records []trefoil.Record) error {
	items := make([]*item, len(records))
	for i, r := range records {
		var err error
		if items[i], err = l.item(r, nil); err != nil {
			return fmt.Errorf("append records: %w", err)
		}
	}
	if err := l.keep(ctx, items...); err != nil {
		return fmt.Errorf("append records: %w", err)
	}
	return nil
}

// item checks a record and makes of it what waits for its place.
func (l *Log) item(r trefoil.Record, opening []byte) (*item, error) {
	body, err := trefoil.DecodeBody(r.Body)
	if err != nil {
		return nil, err
	}
	if body.Origin != l.c.Origin || len(r.Salt) != trefoil.SaltSize || len(opening) > trefoil.MaxBodySize {
		return nil, errors.New("another log's record, or a salt or opening of a wrong size")
	}
	it := newItem(body.Kind)
	it.put.entry = entry{at: l.c.Now().UTC(), opening: len(opening), payload: bodyPayload(r, opening)}
	copy(it.put.entry.leaf[:], r.Leaf())
	return it, nil
}

// keep queues items and waits until all are on disk. What is queued at once is written at once.
func (l *Log) keep(ctx context.Context, items ...*item) error {
	if err := l.enqueue(items); err != nil {
		return err
	}
	for _, it := range items {
		select {
		case err := <-it.durable:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func newItem(kind trefoil.Kind) *item {
	return &item{
		put:     put{kind: kind},
		durable: make(chan error, 1),
		indexed: make(chan struct{}),
		done:    make(chan struct{}),
	}
}

// enqueue is where the bound holds.
func (l *Log) enqueue(items []*item) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return ErrClosed
	case l.failing != nil:
		return fmt.Errorf("%w: %w", ErrStore, l.failing)
	case l.pending+len(items) > l.c.MaxPending:
		return ErrFull
	}
	l.pending += len(items)
	l.incoming = append(l.incoming, items...)
	wake(l.wakeCommit)
	return nil
}

// Index waits until the record has its place in the log, published or not.
func (t *Ticket) Index(ctx context.Context) (uint64, error) {
	select {
	case <-t.i.indexed:
		return t.i.index, nil
	case <-ctx.Done():
		return 0, fmt.Errorf("await index: %w", ctx.Err())
	case <-t.i.done:
	}
	select {
	case <-t.i.indexed:
		return t.i.index, nil
	default:
		return 0, fmt.Errorf("await index: %w", ErrClosed)
	}
}

// Witnessed waits for a checkpoint that includes the record and carries the log's signature and
// the quorum of cosignatures, verified here, and returns the proof under it.
func (t *Ticket) Witnessed(ctx context.Context) (*trefoil.Proof, error) {
	select {
	case <-t.i.done:
	case <-ctx.Done():
		return nil, fmt.Errorf("await cosigned checkpoint: %w%s", ctx.Err(), t.l.witnessTrouble())
	}
	if t.i.result == nil {
		return nil, fmt.Errorf("await cosigned checkpoint: %w", ErrClosed)
	}
	return t.i.result.prove(ctx, t.i.index, t.i.put.entry.leaf[:])
}

// witnessTrouble says what the witnesses last answered, for the operator.
func (l *Log) witnessTrouble() string {
	if err := l.driver.witnesses.lastError(); err != nil {
		return fmt.Sprintf(" (witness: %v)", err)
	}
	return ""
}
