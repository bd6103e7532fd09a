package dataset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// Pace of following.
const (
	batchEvery = 50 * time.Millisecond // at the least between two batches
	idleEvery  = time.Second           // freshness moves at least as often
	sweepEvery = time.Hour             // protection that runs out by time alone
	retryFirst = time.Second
	retryLast  = time.Minute
	beatAfter  = 25 * time.Millisecond // without word of a position the source is made to flush
	streamWait = 2 * time.Minute       // for the stream to come to a snapshot
)

// follower keeps one dataset equal to what a fresh build would give.
type follower struct {
	b                     *Builder
	name                  string
	sourceDSN, clusterDSN string
	t                     *target
	p                     *followPlan
	v                     *sight
	a                     *applier
	s                     *flow.Stream
	state                 *FlowState
	noticed               []Drift // why it became stale
	reshaped              []Drift // changes of shape that were taken up without a build
	partitions            []newPartition
	kept, next            marker // in the dataset; to be, with the batch in progress
	marked                time.Time
	source                string // name of the source database
	batches               int    // since the process opened the stream
	swept                 time.Time
	meet                  *guest // of the batch in progress: a verification that waits for it
}

// Follow keeps a dataset following its source until ctx ends, and then returns nil. It
// builds it first where it was not built to follow, or cannot go on from where it was. It
// returns an error when the dataset can never follow as source and files are; a fault that
// may pass is tried again.
func (b *Builder) Follow(ctx context.Context, name string) error {
	ds, clusterDSN, err := b.find(name)
	if err != nil {
		return err
	}
	def, _, err := b.Define(name)
	if err != nil {
		return err
	}
	if err := b.allowed(def); err != nil {
		return err
	}
	sourceDSN, err := b.sourceDSN(ds)
	if err != nil {
		return err
	}
	wait := retryFirst
	for {
		f := &follower{b: b, name: name, source: ds.Source, sourceDSN: sourceDSN, clusterDSN: clusterDSN}
		err := f.run(ctx)
		var never *neverError
		var why *staleError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &never):
			return fmt.Errorf("follow dataset %s: %w", name, err)
		}
		// What made a batch was well: it is tried at once, as a stale dataset is built. A build that fails is not.
		if f.batches > 0 || errors.As(err, &why) {
			wait = retryFirst
		}
		b.cfg.Logger.Warn("following stopped, and is tried again", "dataset", name, "error", err, "after", wait)
		if !errors.Is(err, ErrBusy) { // somebody else may be building it, with the slot at rest
			if err := b.relieve(ctx, ds.Source, sourceDSN, name); err != nil && ctx.Err() == nil {
				b.cfg.Logger.Warn("what the source keeps for the dataset is not known", "dataset", name, "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, retryLast)
	}
}

// neverError says that trying again is of no use.
type neverError struct{ error }

// run follows until something fails; it leaves nothing open.
func (f *follower) run(ctx context.Context) error {
	var err error
	if f.t, err = openTarget(ctx, f.clusterDSN, f.name); err != nil {
		return err // ErrBusy too: a build ends, and a second flow stands by for the first
	}
	defer f.t.close()
	if err := f.start(ctx); err != nil {
		return err
	}
	stop := f.watch(ctx)
	err = f.loop(ctx)
	stop()
	var why *staleError
	var drift *flow.DriftError
	var tables []*followed
	switch {
	case errors.Is(err, errTooFew):
		tables = f.heldTables()
	case errors.As(err, &why), errors.As(err, &drift), errors.Is(err, flow.ErrTooMuch):
	default:
		return err
	}
	f.tell(ctx, err)
	if marked := f.t.setStale(ctx, err.Error(), tables); marked != nil {
		return errors.Join(err, marked)
	}
	return err
}

func (f *follower) heldTables() []*followed {
	var out []*followed
	for _, t := range f.p.all {
		if t.held {
			out = append(out, t)
		}
	}
	return out
}

// loop applies batch after batch.
func (f *follower) loop(ctx context.Context) (err error) {
	if f.v, err = openView(ctx, f.sourceDSN); err != nil {
		return err
	}
	defer f.v.close()
	if f.a, err = openApplier(ctx, f.t, f.p); err != nil {
		return err
	}
	defer closeConn(f.a.conn)
	position, err := flow.ParseLSN(f.state.Position)
	if err != nil {
		return err
	}
	f.s, err = flow.Open(ctx, flow.Config{DSN: f.sourceDSN, Slot: f.state.Slot, Publication: publication, Start: position,
		Keys: f.p.keys(), MaxBytes: f.b.cfg.MemoryBytes / 2})
	if err != nil {
		return err
	}
	defer f.s.Close()
	if f.kept, err = f.t.openMarker(ctx); err != nil {
		return err
	}
	f.swept = f.state.swept
	f.b.cfg.Logger.Info("dataset follows its source", "dataset", f.name, "position", position.String())
	for {
		start := time.Now()
		if err := f.batch(ctx); err != nil {
			return err
		}
		if err := f.rest(ctx, start); err != nil {
			return err
		}
	}
}

// rest waits until there is something to do, or freshness has to move.
func (f *follower) rest(ctx context.Context, start time.Time) error {
	idle := time.NewTimer(time.Until(start.Add(idleEvery)))
	defer idle.Stop()
	for {
		pending, err := f.s.Pending()
		if err != nil {
			return err
		}
		if pending {
			break
		}
		select {
		case <-f.s.Woken():
			continue
		case <-idle.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	select {
	case <-time.After(time.Until(start.Add(batchEvery))):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// batch brings the dataset to one snapshot of the source.
func (f *follower) batch(ctx context.Context) error {
	if err := f.b.keyStands(f.p.plan); err != nil {
		return err
	}
	var err error
	if f.meet, err = invited(ctx, f.a.conn); err != nil {
		return err
	}
	if err := f.renew(ctx); err != nil {
		return err
	}
	h, shape, err := f.v.begin(ctx, f.p)
	if err != nil {
		return err
	}
	if err := f.meet.export(ctx, f.v.conn); err != nil {
		return err
	}
	if err := f.changedShape(ctx, shape); err != nil {
		return err
	}
	if err := f.receive(ctx, h.At); err != nil {
		return err
	}
	touched, position := f.s.Take(h.Sees)
	if err := errors.Join(sabotage.Point("flow-taken"), f.a.begin(ctx)); err != nil {
		return err
	}
	if err := errors.Join(f.bring(ctx, h, touched, position), sabotage.Point("flow-applied")); err != nil {
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		_ = f.a.tx.Rollback(undo) // where the connection is gone, the server rolls back by itself
		return err
	}
	if err := f.a.tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit a batch: %w", safe(err))
	}
	f.batches++
	if err := sabotage.Point("flow-committed"); err != nil {
		return err
	}
	f.confirm(position)
	if err := f.meet.wait(ctx, f.a.conn, f.b.hold); err != nil {
		return err
	}
	return f.v.end(ctx)
}

// receive reads the stream up to a position.
func (f *follower) receive(ctx context.Context, to flow.LSN) error {
	soon, cancel := context.WithTimeout(ctx, beatAfter)
	err := f.s.Wait(soon, to)
	cancel()
	if err == nil || !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	if err := f.v.beat(ctx); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	return f.s.Wait(wait, to)
}

func (f *follower) bring(ctx context.Context, h flow.Horizon, touched *flow.Batch, position flow.LSN) error {
	for _, t := range f.p.all {
		if t.choose != nil {
			t.choose.at = h.On
		}
	}
	s := &settler{p: f.p, v: f.v, a: f.a, dirty: map[*followed]map[string]flow.Touch{}}
	for _, t := range f.p.all {
		if keys := touched.Keys[t.name]; keys != nil {
			s.dirty[t] = keys
		}
	}
	if err := f.truncated(ctx, touched); err != nil {
		return err
	}
	if err := f.renewLists(ctx, s); err != nil {
		return err
	}
	if err := f.sweep(ctx, s, h); err != nil {
		return err
	}
	if err := s.all(ctx); err != nil {
		return err
	}
	if err := f.meet.arrive(ctx, f.a.tx, h, position); err != nil {
		return err
	}
	if err := f.keep(ctx); err != nil {
		return err
	}
	return f.a.save(ctx, position, h, f.swept, s.orphans)
}

// truncated empties tables. Those that refer to them must have been emptied with them, as a
// foreign key demands.
func (f *follower) truncated(ctx context.Context, touched *flow.Batch) error {
	for _, t := range f.p.all {
		if !touched.Truncated[t.name] {
			continue
		}
		for _, child := range t.children {
			if !touched.Truncated[child.from.name] {
				return &staleError{"table " + t.name + " was truncated at the source, and " + child.from.name + ", which refers to it, was not"}
			}
		}
		if !t.held {
			continue
		}
		if err := f.a.empty(ctx, t); err != nil {
			return err
		}
		if t.person && f.a.cells != nil { // nothing is left of it, so no cell is too small
			if err := f.a.cells.settle(ctx, f.a); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweep looks, from time to time, at persons whose protection ran out since it last looked.
func (f *follower) sweep(ctx context.Context, s *settler, h flow.Horizon) error {
	t := f.p.person
	back := h.On.Before(f.swept.Add(-time.Minute)) // the source's clock was wrong, or is
	if t == nil || t.sweep == "" || h.On.Sub(f.swept) < sweepEvery && f.meet == nil && !back {
		return nil
	}
	from, to := protectionWindow(f.swept, h.On)
	if back { // whose protection ran out in a time that has not come yet
		from, to = protectionWindow(h.On, f.swept)
	}
	if s.dirty[t] == nil {
		s.dirty[t] = map[string]flow.Touch{}
	}
	err := f.v.expired(ctx, t, from, to, func(line []byte) {
		if k := t.keyOf(line); s.dirty[t][k] == 0 {
			s.dirty[t][k] = 0
		}
	})
	if err != nil {
		return err
	}
	f.swept = h.On
	return nil
}
