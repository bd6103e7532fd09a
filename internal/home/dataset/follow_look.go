package dataset

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// This file is a batch as of a snapshot of the source, which is extended to all that commits
// before that snapshot.

// look does a batch as of a snapshot of the source.
func (f *follower) look(ctx context.Context, b *batch) error {
	b.orphans = 0
	if err := f.a.begin(ctx); err != nil {
		return err
	}
	return f.lookOn(ctx, b)
}

// lookOn goes on in the dataset's transaction that is open.
func (f *follower) lookOn(ctx context.Context, b *batch) (err error) {
	done := false
	defer func() {
		f.s.Split(nil)
		if !done {
			f.undo(ctx)
		}
	}()
	h, err := f.snapshot(ctx, b)
	if err != nil {
		return err
	}
	f.now = h.On
	for {
		pending, _, err := f.s.Pending()
		if err != nil {
			return err
		}
		last := !b.part.Partial && !pending && f.s.Reached() >= h.At
		if err := f.settle(ctx, b, &h, f.careful || b.parts > 0 || !last); err != nil {
			return err
		}
		if last {
			break
		}
		b.parts++
		if err := f.receive(ctx, h.At); err != nil {
			return err
		}
		if b.part, err = f.s.Take(); err != nil {
			return err
		}
	}
	done = true
	f.horizon = nil
	if err := f.commit(ctx, b, b.part.End, &h); err != nil {
		return err
	}
	f.careful = false
	if err := f.meet.wait(ctx, f.a.conn, f.b.hold); err != nil {
		return err
	}
	return f.v.end(ctx)
}

// snapshot opens the source as of a moment that sees all that was received, and adds what is
// still to come of it, as far as it can be held.
func (f *follower) snapshot(ctx context.Context, b *batch) (flow.Horizon, error) {
	for {
		h, shape, err := f.v.begin(ctx, f.p)
		if err != nil {
			return h, err
		}
		h.On = h.On.Add(f.b.pace.ahead)
		seen := func(x uint32) bool { return !h.Sees(x) }
		if !slices.ContainsFunc(b.xids, seen) && !slices.ContainsFunc(b.part.XIDs, seen) {
			if err := f.meet.export(ctx, f.v.conn); err != nil {
				return h, err
			}
			if err := f.changedShape(ctx, shape); err != nil {
				return h, err
			}
			if err := f.altered(ctx, b); err != nil {
				return h, err
			}
			f.checked = time.Now()
			f.s.Split(h.Sees)
			if err = f.gather(ctx, b, h); !errors.Is(err, flow.ErrUnseen) {
				return h, err
			}
			f.s.Split(nil)
		}
		if err := f.v.end(ctx); err != nil {
			return h, err
		}
		select {
		case <-time.After(unseenWait):
		case <-ctx.Done():
			return h, ctx.Err()
		}
	}
}

// altered looks whether a table was altered since the stream was last trusted: then a name
// may have meant another column for a while, and no value of the stream is used. The shape,
// which is as it was, says that it means the right one now.
func (f *follower) altered(ctx context.Context, b *batch) error {
	stamp, err := stampOf(ctx, f.v.guard, f.p)
	if err != nil || stamp == f.state.stamp {
		return err
	}
	if stamp.keys != f.state.stamp.keys {
		return &staleError{"columns of a key were altered at the source"}
	}
	b.untrusted, f.state.stamp = true, stamp
	return nil
}

// gather adds to the batch's part what committed before the snapshot, as far as it can be held.
func (f *follower) gather(ctx context.Context, b *batch, h flow.Horizon) error {
	for b.part.Len() < gatherRows && b.part.Bytes() < f.b.cfg.MemoryBytes/8 {
		reached := f.s.Reached() >= h.At
		if !reached {
			if err := f.receive(ctx, h.At); err != nil {
				return err
			}
		}
		part, err := f.s.Take()
		if err != nil {
			return err
		}
		b.part.Add(part)
		if reached && !b.part.Partial {
			return nil
		}
	}
	return nil
}
