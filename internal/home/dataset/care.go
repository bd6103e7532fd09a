package dataset

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
)

// retainedMost is how many bytes of its log a source may keep for a dataset before the dataset
// gives up its slot and is compared with the source, or built again, instead.
const retainedMost = 32 << 30

// retain is the bound of a source.
func (b *Builder) retain(source string) int64 {
	if n := b.cfg.Retain[source]; n > 0 {
		return n
	}
	return retainedMost
}

// careOf adds to a status what the source keeps for the dataset, and what happened to it.
func (b *Builder) careOf(ctx context.Context, s *Status, at *Positions) error {
	ds, _, err := b.find(s.Name)
	if err != nil {
		return err
	}
	s.Bound = b.retain(ds.Source)
	if s.Flow != nil {
		if slot := at.slot(ctx, ds.Source, s.Flow.Slot); slot != nil {
			s.Retained = slot.Retained
		}
		s.Held = s.Flow.State == stale && strings.Contains(s.Flow.Reason, ErrReview.Error())
	}
	all, err := b.Drift(ctx, s.Name)
	for _, d := range all {
		switch d.Kind {
		case DriftRebuilt:
			s.Rebuilt++
		case DriftResynced:
			s.Resynced++
		}
	}
	return err
}

// relieve gives up the slot of a dataset that is not being followed now, whatever keeps it from
// that, once the source keeps more of its log for it than its bound. The dataset is compared
// with the source, or built again, when it can be followed again.
func (b *Builder) relieve(ctx context.Context, source, dsn, name string) error {
	conn, err := connect(ctx, dsn, "")
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer closeConn(conn)
	for _, of := range []string{flow.SlotName(name), b.sharedSlot(source)} { // nobody reads the shared one when none of them can be followed
		slot, err := flow.FindSlot(ctx, conn, of)
		if err != nil {
			return err
		}
		if slot == nil || slot.Active || slot.Retained <= b.retain(source) {
			continue
		}
		b.cfg.Logger.Warn("the source keeps too much of its log for a dataset that cannot be followed: its slot is given up", "dataset", name, "bytes", slot.Retained)
		if err := flow.DropSlot(ctx, conn, of); err != nil {
			return err
		}
		if err := b.givenUp(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

// givenUp marks a dataset whose slot was given up, where its cluster can be reached; where it
// cannot, the lag says it, and the missing slot once it can.
func (b *Builder) givenUp(ctx context.Context, name string) error {
	_, dsn, err := b.find(name)
	if err != nil {
		return err
	}
	t, err := openTarget(ctx, dsn, name)
	if err != nil {
		return nil
	}
	defer t.close()
	if s, err := flowAt(ctx, dsn, name); err != nil || s == nil {
		return err
	}
	why := "the source kept more of its log for it than its bound"
	return errors.Join(t.setStale(ctx, why, nil), t.note(ctx, Drift{Kind: DriftSource, What: why, Done: "its slot was given up; it is compared with the source"}))
}
