package dataset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// This file is the two ways of a batch. A plain one takes rows as the change stream has them
// and asks the source for nothing: the dataset comes to the state after the batch's last
// commit. Where that does not do (a row that was not sent whole, a subject who enters or
// leaves, a verification that waits) the batch is done as of a snapshot of the source, which
// it is extended to, and what the stream lacks is looked up there.

// errLook says that a batch cannot be done without looking at the source.
var errLook = errors.New("the source has to be looked at")

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
	if f.through, err = flow.ParseLSN(f.state.through); err != nil {
		return err
	}
	if f.kept, err = f.t.openMarker(ctx); err != nil {
		return err
	}
	if err := f.stream(ctx, position); err != nil {
		return err
	}
	defer func() { f.s.Close() }()
	f.swept = f.state.swept
	f.b.cfg.Logger.Info("dataset follows its source", "dataset", f.name, "position", position.String())
	for {
		start := time.Now()
		if err := f.round(ctx); err != nil {
			return err
		}
		if err := f.share(ctx); err != nil {
			return err
		}
		f.every = min(max(2*time.Since(start), batchLeast), batchMost)
		if err := f.rest(ctx, start); err != nil {
			return err
		}
	}
}

// rest waits until there is something to do, or freshness can or has to move.
func (f *follower) rest(ctx context.Context, start time.Time) error {
	idle := time.NewTimer(time.Until(start.Add(f.b.pace.idle)))
	defer idle.Stop()
	for {
		pending, full, err := f.s.Pending()
		if err != nil || full {
			return err
		}
		if pending || f.horizon != nil && f.s.Reached() >= f.horizon.At {
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
	for {
		select {
		case <-time.After(time.Until(start.Add(f.every))):
			return nil
		case <-f.s.Woken():
			if _, full, err := f.s.Pending(); full || err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// batch is one transaction of the dataset in the making.
type batch struct {
	part    *flow.Batch
	parts   int // that came before
	xids    []uint32
	orphans int64
	away    map[*members]*keySet // what references led to in vain, where more parts may come

	untrusted bool // values of the stream are not used
}

// round does one batch.
func (f *follower) round(ctx context.Context) error {
	if err := f.b.keyStands(f.p.plan); err != nil {
		return err
	}
	var err error
	if f.meet, err = invited(ctx, f.a.conn); err != nil {
		return err
	}
	if err := errors.Join(f.renew(ctx), f.renewLists(ctx)); err != nil {
		return err
	}
	part, err := f.s.Take()
	if err != nil {
		return err
	}
	b := &batch{part: part}
	if err := sabotage.Point("flow-taken"); err != nil {
		return err
	}
	err = errLook
	if f.meet == nil && !f.careful && len(f.listed) == 0 && (f.now.IsZero() || !f.sweepDue(f.now)) {
		err = f.plain(ctx, b)
	}
	if errors.Is(err, errLook) {
		err = f.look(ctx, b)
	}
	return err
}

// plain does a batch by the stream alone.
func (f *follower) plain(ctx context.Context, b *batch) (err error) {
	if b.part.Empty() && f.waiting() || f.now.IsZero() {
		if err := f.glance(ctx, nil); err != nil {
			return err
		}
		if err := f.more(ctx, b, f.horizon.At); err != nil {
			return err
		}
	}
	if err := f.a.begin(ctx); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			f.undo(ctx)
		}
	}()
	for {
		err := f.trusted(ctx, b.part)
		if err == nil {
			err = f.settle(ctx, b, nil, false)
		}
		if errors.Is(err, errLook) && b.parts > 0 {
			done = true // it goes on in the same transaction
			return f.lookOn(ctx, b)
		}
		if err != nil {
			return err
		}
		if !b.part.Partial && b.part.End >= f.through {
			break
		}
		if err := f.await(ctx, b); err != nil {
			return err
		}
	}
	done = true
	return f.commit(ctx, b, b.part.End, nil)
}

// waiting says that nothing tells yet how fresh the dataset is: nobody has looked, or the
// stream has not come to where the source was then. It may not by itself: what was written
// there is flushed late by a server that is idle, and not at all by one whose clock went back
// until that clock has caught up. Then it is made to (receive).
func (f *follower) waiting() bool { return f.horizon == nil || f.s.Reached() < f.horizon.At }

// more adds what the stream has up to a position to a batch that has no part yet.
func (f *follower) more(ctx context.Context, b *batch, to flow.LSN) error {
	if err := f.receive(ctx, to); err != nil {
		return err
	}
	part, err := f.s.Take()
	if err == nil {
		b.part.Add(part)
	}
	return err
}

// await waits for the batch's next part.
func (f *follower) await(ctx context.Context, b *batch) error {
	b.parts++
	wait, cancel := context.WithTimeout(ctx, streamWait)
	defer cancel()
	for {
		if pending, _, err := f.s.Pending(); err != nil {
			return err
		} else if pending {
			break
		}
		if !b.part.Partial {
			if err := f.receive(wait, f.through); err != nil {
				return err
			}
			break
		}
		select {
		case <-f.s.Woken():
		case <-wait.Done():
			return errors.Join(errors.New("wait for the rest of a transaction"), wait.Err())
		}
	}
	var err error
	b.part, err = f.s.Take()
	return err
}

// trusted makes sure, before a value is written, that names of columns still mean what they
// meant, and that the source itself shows what was received: a commit that waits for its
// standbys is in the stream already.
func (f *follower) trusted(ctx context.Context, part *flow.Batch) error {
	if part.Empty() {
		return nil
	}
	return f.glance(ctx, part.XIDs)
}

// glance looks at the source's clock and position, at what was altered there, and, now and
// then, at the shape of the tables.
func (f *follower) glance(ctx context.Context, xids []uint32) error {
	shape := time.Since(f.checked) > shapeEvery
	for {
		h, err := flow.Look(ctx, f.v.watch)
		if err != nil {
			return err
		}
		h.On = h.On.Add(f.b.pace.ahead)
		if f.horizon == nil {
			f.horizon = &h
		}
		f.now = h.On
		if !slices.ContainsFunc(xids, func(x uint32) bool { return !h.Sees(x) }) {
			break
		}
		select {
		case <-time.After(unseenWait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	stamp, err := stampOf(ctx, f.v.watch, f.p)
	if err != nil {
		return err
	}
	if stamp != f.state.stamp {
		return errLook
	}
	if !shape {
		return nil
	}
	now, err := shapeOf(ctx, f.v.watch, f.p)
	if err != nil {
		return err
	}
	if !maps.Equal(now, f.state.shape) {
		return errLook
	}
	f.checked = time.Now()
	return nil
}

// Bounds of batches.
const (
	shapeEvery = 200 * time.Millisecond // the shape of the tables is looked at; relation messages tell of columns at once
	unseenWait = 2 * time.Millisecond
	gatherRows = 100_000
)

// receive reads the stream up to a position, or until a batch is full.
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

// undo takes back what the batch wrote.
func (f *follower) undo(ctx context.Context) {
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	f.a.rollback(undo)
	for _, t := range f.p.all {
		t.forget()
	}
}

// settle decides and writes the batch's part. h is nil where the source is not looked at.
func (f *follower) settle(ctx context.Context, b *batch, h *flow.Horizon, thorough bool) error {
	for _, t := range f.p.all {
		if t.choose != nil {
			t.choose.at = f.now
		}
	}
	f.p.resetMembers()
	s := &settler{p: f.p, peek: f.v, a: f.a, thorough: thorough, dirty: map[*followed]*dirty{}}
	if b.part.Partial || b.parts > 0 || b.part.End < f.through {
		if b.away == nil {
			b.away = map[*members]*keySet{}
		}
		s.away = b.away
	}
	if h != nil {
		s.v = f.v
	}
	for _, t := range f.p.all {
		s.dirty[t] = newDirty(b.part.Tables[t.name], !b.untrusted)
	}
	if err := f.truncated(ctx, b.part); err != nil {
		return err
	}
	if h != nil {
		if err := errors.Join(f.sweep(ctx, s, *h), f.relist(ctx, s)); err != nil {
			return err
		}
	}
	if b.parts > 0 {
		if err := f.a.mark(ctx); err != nil {
			return err
		}
	}
	if err := s.all(ctx); err != nil {
		if errors.Is(err, errLook) && b.parts > 0 {
			for _, t := range f.p.all {
				t.forget()
			}
			return errors.Join(err, f.a.back(ctx))
		}
		return err
	}
	b.orphans += s.orphans
	b.xids = append(b.xids, b.part.XIDs...)
	return nil
}

// commit ends the dataset's transaction with position and freshness, and only then confirms
// the position to the source.
func (f *follower) commit(ctx context.Context, b *batch, position flow.LSN, h *flow.Horizon) error {
	f.through = position
	fresh := h
	if h != nil {
		f.through = max(position, h.At)
	} else if f.horizon != nil && position >= f.horizon.At {
		fresh, f.horizon = f.horizon, nil
	}
	err := errors.Join(sabotage.Point("flow-applied"), f.keep(ctx, position))
	if h != nil && err == nil {
		err = f.meet.arrive(ctx, f.a.tx, *h, position)
	}
	if err != nil {
		f.undo(ctx)
		return err
	}
	if err := f.a.save(ctx, position, f.through, fresh, f.swept, b.orphans, f.state.stamp); err != nil {
		f.undo(ctx)
		return err
	}
	if err := f.a.tx.Commit(ctx); err != nil {
		if sqlState(err) == foreignKeyViolation {
			return fmt.Errorf("commit a batch: %w: %w", errCareful, safe(err))
		}
		return fmt.Errorf("commit a batch: %w", safe(err))
	}
	f.batches, f.position = f.batches+1, position
	if err := sabotage.Point("flow-committed"); err != nil {
		return err
	}
	f.confirm(position)
	return nil
}

const foreignKeyViolation = "23503"
