package dataset

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// Pace of following.
const (
	batchLeast = 20 * time.Millisecond // from the start of a batch to the next's; twice what the last one took,
	batchMost  = 80 * time.Millisecond // so that a machine at its limit has fewer of them
	idleEvery  = time.Second           // freshness moves at least as often
	sweepEvery = time.Hour             // protection that runs out by time alone
	retryFirst = time.Second
	retryLast  = time.Minute
	beatAfter  = 25 * time.Millisecond // without word of a position the source is made to flush
	streamWait = 2 * time.Minute       // for the stream to come to a snapshot
)

// pace is what tests make quicker.
type pace struct {
	idle, retry, lists time.Duration
	ahead              time.Duration // the source's clock is taken to be later by that
}

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
	hub                   *hub          // what datasets of this source share
	position              flow.LSN      // of what is committed
	every                 time.Duration // between two batches
	asked                 time.Time     // our clock, when sharing was last tried
	kept, next            marker        // in the dataset; to be, with the batch in progress
	marked                time.Time
	source                string // name of the source database
	batches               int    // since the process opened the stream
	swept                 time.Time
	meet                  *guest // of the batch in progress: a verification that waits for it

	careful bool          // the next batch trusts nothing that the source's foreign keys promise
	horizon *flow.Horizon // the dataset is as fresh as this once its position is there
	listed  []string      // subjects of whom a list says otherwise since the last batch
	now     time.Time     // the source's clock, when it was last looked at
	checked time.Time     // our clock, when the shape of the tables was last looked at
	through flow.LSN      // what came before it may be in the dataset, though the position is earlier
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
	hub := b.hubOf(ds.Source, sourceDSN)
	defer hub.enter(name)()
	wait := b.pace.retry
	careful := false
	for {
		f := &follower{b: b, hub: hub, name: name, source: ds.Source, sourceDSN: sourceDSN, clusterDSN: clusterDSN, careful: careful}
		err := f.run(ctx)
		careful = errors.Is(err, errCareful)
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
			wait = b.pace.retry
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

// errCareful says that a batch has to be done again as of a snapshot of the source.
var errCareful = errors.New("the batch is done again, as of a snapshot of the source")

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
	case errors.As(err, &why), errors.As(err, &drift):
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
		t.forget()
		if t.person && f.a.cells != nil { // nothing is left of it, so no cell is too small
			if err := f.a.cells.settle(ctx, f.a); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepDue says whether persons whose protection ran out have to be looked for.
func (f *follower) sweepDue(now time.Time) bool {
	t := f.p.person
	return t != nil && t.sweep != "" && (now.Sub(f.swept) >= sweepEvery || f.meet != nil || f.back(now))
}

// back says that the source's clock was wrong when it was last looked at, or is now.
func (f *follower) back(now time.Time) bool { return now.Before(f.swept.Add(-time.Minute)) }

// sweep looks, from time to time, at persons whose protection ran out since it last looked.
func (f *follower) sweep(ctx context.Context, s *settler, h flow.Horizon) error {
	if !f.sweepDue(h.On) {
		return nil
	}
	t := f.p.person
	from, to := protectionWindow(f.swept, h.On)
	if f.back(h.On) { // whose protection ran out in a time that has not come yet
		from, to = protectionWindow(h.On, f.swept)
	}
	if err := f.v.expired(ctx, t, from, to, func(line []byte) { s.dirty[t].add(t.keyOf(line)) }); err != nil {
		return err
	}
	f.swept = h.On
	return nil
}
