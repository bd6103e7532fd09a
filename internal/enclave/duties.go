package enclave

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// scribe writes records to the site's log: the gateway's Recorder, and what drains the
// control store's outbox.
type scribe struct {
	log    *accesslog.Log
	origin string
	now    func() time.Time
	meters *meters
}

// Record implements gateway.Recorder: it returns once the records are durable at the site.
func (s *scribe) Record(ctx context.Context, bodies ...*trefoil.Body) error {
	records := make([]trefoil.Record, len(bodies))
	for i, b := range bodies {
		var err error
		if records[i], err = s.make(b); err != nil {
			return err
		}
	}
	if err := s.log.AppendAll(ctx, records); err != nil {
		return fmt.Errorf("append record: %w", err)
	}
	for _, b := range bodies {
		s.meters.observe(b)
	}
	return nil
}

// make completes a body and makes a record of it.
func (s *scribe) make(b *trefoil.Body) (trefoil.Record, error) {
	b.Origin = s.origin
	if b.At.IsZero() {
		b.At = s.now()
	}
	b.At = b.At.UTC().Truncate(time.Microsecond)
	r, err := trefoil.NewRecord(b)
	if err != nil {
		return r, fmt.Errorf("make record: %w", err)
	}
	return r, nil
}

func (s *scribe) append(ctx context.Context, b *trefoil.Body) (*ticketed, error) {
	r, err := s.make(b)
	if err != nil {
		return nil, err
	}
	t, err := s.log.Append(ctx, r, nil)
	if err != nil {
		return nil, fmt.Errorf("append record: %w", err)
	}
	s.meters.observe(b)
	return &ticketed{record: r, ticket: t}, nil
}

// ticketed is a record on its way into a cosigned checkpoint.
type ticketed struct {
	record trefoil.Record
	ticket *accesslog.Ticket
}

// request waits for the proof and makes of both what the monitor is asked with.
func (t *ticketed) request(ctx context.Context) (trefoil.PermitRequest, error) {
	p, err := t.ticket.Witnessed(ctx)
	if err != nil {
		return trefoil.PermitRequest{}, fmt.Errorf("wait for cosignature: %w", err)
	}
	return trefoil.PermitRequest{Body: t.record.Body, Salt: t.record.Salt, Proof: p.String()}, nil
}

// duties are the gateway process's own work beside its sessions. Each runs until its
// context ends; what fails is tried again at its next turn and said in the log.
type duties struct {
	now      *inForce
	scribe   *scribe
	store    *control.Store
	log      *accesslog.Log
	auth     *Authoriser
	asker    *acknowledger
	standing *standing
	quota    *quota
	logger   *slog.Logger
}

// run does all duties until ctx ends.
func (d *duties) run(ctx context.Context, g *gateway.Gateway) {
	var all sync.WaitGroup
	every := func(name string, interval time.Duration, f func(context.Context) error) {
		all.Go(func() { d.repeat(ctx, name, interval, f) })
	}
	every("control store", 5*time.Second, d.prepare())
	every("outbox", 500*time.Millisecond, d.drain)
	every("acknowledgements", time.Second, d.acknowledge)
	every("revocations", 500*time.Millisecond, func(ctx context.Context) error {
		return d.now.get().endUngranted(ctx, d.store, g, d.scribe.now(), d.logger)
	})
	every("terms of grants", 5*time.Second, d.terms)
	every("cases of grants", time.Second, func(ctx context.Context) error {
		return d.now.get().openGranted(ctx, d.store, d.standing.builder, d.scribe.now(), d.logger)
	})
	every("freshness", time.Second, func(ctx context.Context) error { return d.stale(ctx, g) })
	every("temporary tables", time.Second, d.temporary)
	every("former builds", 5*time.Second, func(ctx context.Context) error {
		return d.standing.sweep(ctx, slices.Sorted(maps.Keys(d.now.get().Definitions)))
	})
	every("cases", casesEvery, func(ctx context.Context) error { return d.cases(ctx, g) })
	every("builds of cases", casesEvery, d.buildCases)
	every("retention", d.shortestRetention(), d.expire)
	all.Wait()
}

// repeat calls f now and after each interval. The same failure is said once.
func (d *duties) repeat(ctx context.Context, name string, interval time.Duration, f func(context.Context) error) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	last := ""
	for {
		err := f(ctx)
		switch {
		case err != nil && ctx.Err() == nil && err.Error() != last:
			d.logger.Warn("duty failed; it will be tried again", "duty", name, "error", err)
			last = err.Error()
		case err == nil:
			last = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// prepare makes the control store's tables, once.
func (d *duties) prepare() func(context.Context) error {
	done := false
	return func(ctx context.Context) error {
		if done {
			return nil
		}
		err := d.store.Prepare(ctx)
		done = err == nil
		return err
	}
}

// drain appends what other processes left in the outbox.
func (d *duties) drain(ctx context.Context) error {
	_, err := d.store.Drain(ctx, func(ctx context.Context, b *trefoil.Body) error { return d.scribe.Record(ctx, b) })
	return err
}

// acknowledge asks the monitor for every definition it has not acknowledged yet.
func (d *duties) acknowledge(ctx context.Context) error {
	var errs []error
	for _, def := range d.now.get().Definitions {
		hash := trefoil.DefinitionHash(def)
		if d.auth.isAcknowledged(hash) {
			continue
		}
		if err := d.asker.ask(ctx, def, hash); err != nil {
			errs = append(errs, fmt.Errorf("dataset %s: %w", def.Name, err))
			continue
		}
		d.auth.Acknowledge(hash)
	}
	return errors.Join(errs...)
}

// shortestRetention is how often bodies are looked at: at least once an hour, and no body
// stays for twice its time.
func (d *duties) shortestRetention() time.Duration {
	shortest := time.Hour
	for _, text := range d.now.get().Config.Log.Retention {
		if keep, err := time.ParseDuration(text); err == nil { // checked by Load
			shortest = max(time.Second, min(shortest, keep))
		}
	}
	return shortest
}

// expire deletes bodies whose retention has ended.
func (d *duties) expire(ctx context.Context) error {
	n, err := d.log.Expire(ctx, d.scribe.now())
	if n > 0 {
		d.logger.Info("bodies deleted at the end of their retention", "count", n)
	}
	return err
}
