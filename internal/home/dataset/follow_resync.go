package dataset

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// This file brings a dataset that lost its place in the source's log back to the source, by
// comparing both (docs/design/verify.md) and mending the rows that differ. The slot is made
// first, then the comparison takes its snapshot: what commits between is in the stream, and
// is looked at again.

// errNotAlike says that a dataset is so far from its source that it is built again instead.
var errNotAlike = errors.New("too much differs")

const (
	mendMost  = 200_000 // rows that differ, at the most
	mendShare = 4       // and no more than one of so many
)

// mending collects what differs.
type mending struct {
	dirty map[*table]map[string]flow.Touch
	extra map[*table][][]string
	n     int64
	most  int64
}

func (m *mending) add(d rowDifference) error {
	if m.n++; m.n > m.most {
		return errNotAlike
	}
	if d.source == nil {
		key := make([]string, len(d.held))
		for i, v := range d.held {
			key[i] = string(v)
		}
		m.extra[d.table] = append(m.extra[d.table], key)
		return nil
	}
	keys := m.dirty[d.table]
	if keys == nil {
		keys = map[string]flow.Touch{}
		m.dirty[d.table] = keys
	}
	for _, k := range append(d.more, d.source) {
		keys[flow.JoinKey(k)] = flow.Inserted | flow.Updated | flow.Deleted // what leads to it is looked at again
	}
	return nil
}

// alike says whether what stands was built from the definition and the shapes that there are
// now, so that mending rows can make it equal to a fresh build.
func (f *follower) alike(now map[string]string) bool {
	return f.state != nil && f.state.Slot != "" && f.state.hash == f.p.hash && maps.Equal(f.state.shape, now)
}

// resync makes the dataset equal to the source row by row, and has it follow from a new slot.
// It says false when the dataset is to be built again instead.
func (f *follower) resync(ctx context.Context, conn *pgx.Conn, why string) (done bool, err error) {
	shape, err := shapeOf(ctx, conn, f.p)
	if err != nil || !f.alike(shape) {
		return false, err
	}
	start := time.Now()
	slot, undo, err := f.remake(ctx, conn)
	if err != nil {
		return false, err
	}
	defer func() {
		if !done {
			err = errors.Join(err, undo())
		}
	}()
	m, err := f.differences(ctx)
	if errors.Is(err, errNotAlike) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := f.mend(ctx, m, slot.Confirmed, shape, why); err != nil {
		var drift *staleError
		if errors.As(err, &drift) || errors.Is(err, errTooFew) {
			return false, nil
		}
		return false, err
	}
	f.b.cfg.Logger.Info("dataset was brought back to its source", "dataset", f.name, "why", why, "rows", m.n, "took", time.Since(start).Round(time.Millisecond))
	return true, f.present(ctx)
}

// remake makes the dataset's slot anew; undo removes it.
func (f *follower) remake(ctx context.Context, conn *pgx.Conn) (slot *flow.Slot, undo func() error, err error) {
	name := flow.SlotName(f.name)
	undo = func() error { // the source need keep nothing for a dataset that does not stand
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		return flow.DropSlot(ctx, conn, name)
	}
	f.hub.flow.Forget(f.name) // what the others' slot keeps for it is not needed any more
	if err := flow.DropSlot(ctx, conn, name); err != nil {
		return nil, nil, err
	}
	if f.state.stamp, err = stampOf(ctx, conn, f.p); err != nil {
		return nil, nil, err
	}
	if err := flow.CreateSlot(ctx, conn, name); err != nil {
		return nil, nil, err
	}
	slot, err = flow.FindSlot(ctx, conn, name)
	if err == nil && slot == nil {
		err = errors.New("the slot went away as soon as it was made")
	}
	if err != nil {
		return nil, nil, errors.Join(err, undo())
	}
	return slot, undo, nil
}

// differences compares the dataset with the source as it is now.
func (f *follower) differences(ctx context.Context) (*mending, error) {
	s, err := openSource(ctx, f.sourceDSN, f.b.cfg.Workers)
	if err != nil {
		return nil, err
	}
	defer s.close()
	p, err := f.b.makePlan(f.name, s.schema)
	if err != nil {
		return nil, err
	}
	conn, err := connectTo(ctx, f.clusterDSN, f.name, "; SET ROLE "+postgres.OwnerRole)
	if err != nil {
		return nil, fmt.Errorf("connect to the dataset's database: %w", err)
	}
	defer closeConn(conn)
	if err := fix(ctx, conn); err != nil {
		return nil, err
	}
	info, err := readInfo(ctx, conn, f.name)
	if err != nil {
		return nil, err
	}
	m := &mending{dirty: map[*table]map[string]flow.Touch{}, extra: map[*table][][]string{}, most: max(1000, min(mendMost, info.Measured.Rows/mendShare))}
	v, err := f.b.compare(ctx, p, s, conn, compareOptions{live: true, each: m.add})
	if err != nil {
		return nil, err
	}
	for _, t := range v.Tables {
		if t.Problem != "" || t.SmallCells > 0 {
			return nil, errNotAlike
		}
	}
	if len(v.Extra) > 0 {
		return nil, errNotAlike
	}
	return m, nil
}

// mend brings the rows that differ to the source as of a batch of its own. What is there and
// should not be goes first.
func (f *follower) mend(ctx context.Context, m *mending, at flow.LSN, shape map[string]string, why string) (err error) {
	if f.v, err = openView(ctx, f.sourceDSN); err != nil {
		return err
	}
	defer f.v.close()
	if f.a, err = openApplier(ctx, f.t, f.p); err != nil {
		return err
	}
	defer closeConn(f.a.conn)
	h, now, err := f.v.begin(ctx, f.p)
	if err != nil {
		return err
	}
	if !maps.Equal(now, shape) {
		return &staleError{"tables changed at the source while the dataset was compared with it"}
	}
	if err := f.a.begin(ctx); err != nil {
		return err
	}
	if err := f.mendRows(ctx, m, at, h, why); err != nil {
		f.undo(ctx)
		return err
	}
	if err := f.a.tx.Commit(ctx); err != nil {
		return fmt.Errorf("commit the mended rows: %w", safe(err))
	}
	return f.v.end(ctx)
}

func (f *follower) mendRows(ctx context.Context, m *mending, at flow.LSN, h flow.Horizon, why string) error {
	f.p.resetMembers()
	s := &settler{p: f.p, v: f.v, peek: f.v, a: f.a, thorough: true, dirty: map[*followed]*dirty{}}
	for i := len(f.p.all) - 1; i >= 0; i-- { // those that refer to others first
		t := f.p.all[i]
		if t.choose != nil {
			t.choose.at = h.On
		}
		s.dirty[t] = newDirty(nil, false)
		for of, keys := range m.dirty {
			if of.name == t.name {
				s.dirty[t].touch(keys)
			}
		}
		var gone []*changed
		for of, keys := range m.extra {
			for _, k := range keys {
				if of.name == t.name {
					gone = append(gone, &changed{heldKey: k, present: true})
				}
			}
		}
		if len(gone) > 0 {
			if err := f.a.apply(ctx, t, gone); err != nil {
				return err
			}
		}
	}
	if err := s.all(ctx); err != nil {
		return err
	}
	if err := f.a.save(ctx, at, h.At, &h, f.state.swept, s.orphans, f.state.stamp); err != nil {
		return err
	}
	note := Drift{Kind: DriftResynced, What: why, Done: fmt.Sprintf("compared with the source by digests, %d rows mended; not built again", m.n)}
	if err := errors.Join(forgetMarker(ctx, f.a.tx), writeDrift(ctx, f.a.tx, []Drift{note})); err != nil {
		return err
	}
	_, err := f.a.tx.Exec(ctx, "UPDATE trefoil_info.flow SET state = 'following', reason = '', slot = $1, system = $2", flow.SlotName(f.name), f.state.system)
	if err != nil {
		return fmt.Errorf("follow from the new slot: %w", safe(err))
	}
	return nil
}
