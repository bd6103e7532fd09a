package dataset

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// Freshness is how old the rows of a dataset are.
type Freshness struct {
	AsOf   time.Time     // the source's clock at the newest snapshot
	Lag    time.Duration // how long ago that was, by our clock
	Bytes  int64         // of the source's log that are not in it yet; -1: not known, or not following
	State  string        // following, stale, or "" when it was built and does not follow
	Warn   time.Duration // the bounds of datasets.yaml; 0: none
	Refuse time.Duration
}

// TooOld says whether the rows are older than the bound beyond which sessions are refused.
func (f Freshness) TooOld() bool { return f.Refuse > 0 && f.Lag > f.Refuse }

// Old says whether the rows are older than the bound beyond which sessions are warned.
func (f Freshness) Old() bool { return f.Warn > 0 && f.Lag > f.Warn || f.TooOld() }

// lagOf is how old rows are. The source's clock may run ahead of ours, so rows are never
// younger than the last word of whoever applies them.
func lagOf(now time.Time, i *Info, s *FlowState) time.Duration {
	lag := now.Sub(i.FreshAsOf)
	if s != nil {
		lag = max(lag, now.Sub(s.AppliedAt))
	}
	return max(0, lag)
}

// Freshness tells how old the rows of a dataset are; ErrNotBuilt when it does not stand. A
// source that is away leaves Bytes unknown. At may be nil: then it is unknown too.
func (b *Builder) Freshness(ctx context.Context, name string, at *Positions) (Freshness, error) {
	i, s, err := b.Standing(ctx, name)
	if err != nil {
		return Freshness{}, err
	}
	return b.FreshnessOf(ctx, i, s, at), nil
}

// Bounded says whether a dataset has a bound beyond which its sessions are refused.
func (b *Builder) Bounded(name string) bool {
	ds := b.dataset(name)
	if ds == nil {
		return false
	}
	_, refuse := ds.Fresh.Bounds()
	return refuse > 0
}

// FreshnessOf is Freshness of what Standing gave.
func (b *Builder) FreshnessOf(ctx context.Context, i *Info, s *FlowState, at *Positions) Freshness {
	f := Freshness{AsOf: i.FreshAsOf, Lag: lagOf(b.cfg.Now(), i, s), Bytes: -1}
	ds := b.dataset(i.Name)
	if ds != nil {
		f.Warn, f.Refuse = ds.Fresh.Bounds()
	}
	if s == nil {
		return f
	}
	f.State = s.State
	position, err := flow.ParseLSN(s.Position)
	if err != nil || at == nil || ds == nil || s.State != following {
		return f
	}
	if now, ok := at.Of(ctx, ds.Source); ok {
		f.Bytes = max(0, int64(now)-int64(position))
	}
	return f
}

// Positions asks sources how far their log is: at most once a second each, on a connection
// of its own that is kept.
type Positions struct {
	dsns map[string]string
	now  func() time.Time
	mu   sync.Mutex
	of   map[string]*asked
}

type asked struct {
	mu   sync.Mutex
	conn *pgx.Conn
	on   time.Time
	at   flow.LSN
	ok   bool
}

// Bounds of asking a source.
const (
	askEvery = time.Second
	askWait  = 500 * time.Millisecond
)

// Positions makes one for the builder's sources. Close it.
func (b *Builder) Positions() *Positions {
	return &Positions{dsns: b.cfg.Sources, now: b.cfg.Now, of: map[string]*asked{}}
}

// Of is the end of a source's log, no more than a second old; false when it cannot be had.
func (p *Positions) Of(ctx context.Context, source string) (flow.LSN, bool) {
	p.mu.Lock()
	a := p.of[source]
	if a == nil {
		a = &asked{}
		p.of[source] = a
	}
	p.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := p.now(); now.Sub(a.on) >= askEvery || now.Before(a.on) {
		ctx, cancel := context.WithTimeout(ctx, askWait)
		defer cancel()
		at, err := a.ask(ctx, p.dsns[source])
		a.on, a.at, a.ok = p.now(), at, err == nil
	}
	return a.at, a.ok
}

// slot reads a slot of a source; nil when it has none, or cannot be asked.
func (p *Positions) slot(ctx context.Context, source, name string) *flow.Slot {
	if _, ok := p.Of(ctx, source); !ok {
		return nil
	}
	p.mu.Lock()
	a := p.of[source]
	p.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, askWait)
	defer cancel()
	s, err := flow.FindSlot(ctx, a.conn, name)
	if err != nil {
		return nil
	}
	return s
}

func (a *asked) ask(ctx context.Context, dsn string) (flow.LSN, error) {
	if dsn == "" {
		return 0, fmt.Errorf("the source has no reader")
	}
	if a.conn != nil && a.conn.IsClosed() {
		a.conn = nil
	}
	if a.conn == nil {
		conn, err := connect(ctx, dsn, "; SET application_name = 'trefoil freshness'")
		if err != nil {
			return 0, err
		}
		a.conn = conn
	}
	var text string
	if err := a.conn.QueryRow(ctx, endOfLog).Scan(&text); err != nil {
		closeConn(a.conn)
		a.conn = nil
		return 0, safe(err)
	}
	return flow.ParseLSN(text)
}

// endOfLog is how far a server's log is, of a standby too.
const endOfLog = `SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()
	ELSE pg_catalog.pg_current_wal_insert_lsn() END::text`

// Close gives the connections back.
func (p *Positions) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range p.of {
		a.mu.Lock()
		if a.conn != nil {
			closeConn(a.conn)
			a.conn = nil
		}
		a.mu.Unlock()
	}
}
