package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// ledger reads the gateway's access log while the gateway writes it.
type ledger struct {
	reader *accesslog.Reader
	next   uint64
	starts int
	ends   int
	sums   map[[2]string]*trefoil.StatementSummary
	rows   int64
	stray  int64 // statements that are not attributed
}

func openLedger(dir string) (*ledger, error) {
	r, err := accesslog.OpenReader(dir)
	if err != nil {
		return nil, err
	}
	return &ledger{reader: r}, nil
}

func (l *ledger) close() error { return l.reader.Close() }

// read takes in what was recorded since.
func (l *ledger) read() error {
	for {
		rec, _, err := l.reader.Body(l.next)
		if errors.Is(err, accesslog.ErrNoBody) {
			return nil
		}
		if err != nil {
			return err
		}
		l.next++
		body, err := trefoil.DecodeBody(rec.Body)
		if err != nil {
			return err
		}
		l.take(body)
	}
}

func (l *ledger) take(b *trefoil.Body) {
	switch {
	case b.Session != nil && b.Session.Event == "start":
		l.starts++
	case b.Session != nil && b.Session.Event == "end":
		l.ends++
	case b.Summary != nil:
		l.rows += b.Summary.Rows
		l.stray += b.Summary.Unparsed
		for _, s := range b.Summary.Statements {
			k := [2]string{s.Kind, s.Fingerprint}
			if l.sums[k] == nil {
				l.sums[k] = &trefoil.StatementSummary{Kind: s.Kind}
			}
			l.sums[k].Calls += s.Calls
			l.sums[k].Rows += s.Rows
		}
	}
}

// skip starts a new count.
func (l *ledger) skip() error {
	if err := l.read(); err != nil {
		return err
	}
	l.sums, l.rows, l.stray = map[[2]string]*trefoil.StatementSummary{}, 0, 0
	return nil
}

// settled waits until every session that began has ended, as far as the log goes.
func (l *ledger) settled(ctx context.Context) error {
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(20 * time.Millisecond) {
		if err := l.read(); err != nil {
			return err
		}
		if l.starts > 0 && l.starts == l.ends {
			return nil
		}
	}
	return fmt.Errorf("the log has %d sessions begun and %d ended", l.starts, l.ends)
}

// holds reports whether the log says of the last run what pgbench said: this many
// transactions, each of its statements once, and nothing unattributed.
func (l *ledger) holds(ctx context.Context, c workload, transactions int64) error {
	if err := l.settled(ctx); err != nil {
		return err
	}
	if l.stray > 0 {
		return fmt.Errorf("%d statements are not attributed in the log", l.stray)
	}
	want := map[string]int{"select": 1}
	if c.tpcb {
		want = map[string]int{"select": 1, "update": 3, "insert": 1}
	}
	for kind, statements := range want {
		found := 0
		for k, s := range l.sums {
			if k[0] == kind && s.Calls == transactions {
				found++
			}
		}
		if found != statements {
			return fmt.Errorf("pgbench made %d transactions; %d statements of kind %s have as many calls in the log, not %d: %s", transactions, found, kind, statements, l.list())
		}
	}
	return nil
}

func (l *ledger) list() string {
	text := ""
	for k, s := range l.sums {
		text += fmt.Sprintf(" %s %s %d calls %d rows;", k[0], k[1], s.Calls, s.Rows)
	}
	return text
}
