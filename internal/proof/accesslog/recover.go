package accesslog

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/trefoil-eu/trefoil"
)

// recover brings bodies and tree together again after the process ended at any point:
// a leaf without an index entry gets one, a body without a leaf is queued again, and the
// last checkpoint is verified before anything builds on it.
func (l *Log) recover(ctx context.Context) error {
	size, err := l.driver.reader.IntegratedSize(ctx)
	if err != nil {
		return fmt.Errorf("read tree size: %w", err)
	}
	if l.store.clean.Next > size {
		return fmt.Errorf("the tree has %d entries and bodies of %d: the log directory was rolled back; restore it as a whole", size, l.store.clean.Next)
	}
	if err := l.recoverCheckpoint(size); err != nil {
		return err
	}
	found, err := l.store.unsettled()
	if err != nil {
		return err
	}
	if err := l.recoverIndexes(ctx, size, found); err != nil {
		return err
	}
	l.next = size
	for _, it := range found.order {
		if found.byLeaf[it.put.entry.leaf] == it {
			l.written = append(l.written, it)
			l.pending++
		}
	}
	if n := len(l.written); n > 0 {
		l.c.Logger.Info("access log: queued records whose leaf was not yet in the tree", "records", n)
	}
	wake(l.wakeFeed)
	return l.markClean()
}

func (l *Log) recoverCheckpoint(size uint64) error {
	p, err := l.readPublication()
	if errors.Is(err, trefoil.ErrNotFound) {
		return nil
	}
	var v *trefoil.VerifyError
	if errors.As(err, &v) && v.Reason == trefoil.ReasonQuorum {
		// The operator changed the witnesses: the next checkpoint will be theirs.
		l.c.Logger.Warn("access log: the last checkpoint was cosigned by other witnesses than today's", "error", err)
		return nil
	}
	if err != nil {
		return err
	}
	if p.checkpoint.Size > size {
		return fmt.Errorf("the published checkpoint has %d entries and the tree %d: the log directory was rolled back", p.checkpoint.Size, size)
	}
	l.seen = p
	return nil
}

// unsettled are the bodies that recovery must look at, in the order they were written.
type unsettled struct {
	order  []*item
	byLeaf map[[trefoil.LeafSize]byte]*item
}

// unsettled scans the segments from where they were last known to be settled.
func (s *store) unsettled() (*unsettled, error) {
	u := &unsettled{byLeaf: map[[trefoil.LeafSize]byte]*item{}}
	for _, name := range s.segments(classBodies) {
		from, known := s.clean.Segments[name.id]
		if known && from >= maxSegment<<2 {
			continue
		}
		f, err := os.Open(s.path(name))
		if err != nil {
			return nil, fmt.Errorf("scan segment: %w", err)
		}
		_, err = scanSegment(f, from, func(offset int64, e *entry) error {
			it := newItem(name.kind)
			it.put.entry = *e
			it.put.entry.payload = nil
			it.put.at = location{segment: name.id, offset: uint64(offset), length: uint32(entryHeader + len(e.payload))}
			if e.state == stateLive && u.byLeaf[e.leaf] == nil {
				u.order = append(u.order, it)
				u.byLeaf[e.leaf] = it
			}
			return nil
		})
		if err = errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// recoverIndexes walks the leaves whose index entries may be missing and takes their bodies
// out of found.
func (l *Log) recoverIndexes(ctx context.Context, size uint64, found *unsettled) error {
	missing := 0
	err := l.leaves(ctx, l.store.clean.Next, size, func(index uint64, leaf [trefoil.LeafSize]byte) error {
		it := found.byLeaf[leaf]
		if it == nil {
			if _, err := l.store.bodies.get(index); errors.Is(err, ErrNoBody) {
				missing++
			}
			return nil
		}
		delete(found.byLeaf, leaf)
		return l.store.bodies.put(index, []location{it.put.at})
	})
	if missing > 0 {
		l.c.Logger.Error("access log: leaves without a body; the disk lost what was synced", "leaves", missing)
	}
	return err
}

// findIntegrated looks for items among the leaves that the driver integrated although it
// reported an error, so that no leaf is added twice.
func (l *Log) findIntegrated(items []*item) (found, rest []*item, err error) {
	ctx := context.Background()
	size, err := l.driver.reader.IntegratedSize(ctx)
	if err != nil {
		return nil, items, fmt.Errorf("read tree size: %w", err)
	}
	byLeaf := map[[trefoil.LeafSize]byte]*item{}
	for _, it := range items {
		byLeaf[it.put.entry.leaf] = it
	}
	err = l.leaves(ctx, l.Size(), size, func(index uint64, leaf [trefoil.LeafSize]byte) error {
		if it := byLeaf[leaf]; it != nil {
			it.index = index
			found = append(found, it)
			delete(byLeaf, leaf)
		}
		return nil
	})
	for _, it := range items {
		if byLeaf[it.put.entry.leaf] != nil {
			rest = append(rest, it)
		}
	}
	return found, rest, err
}

// leaves calls fn for each leaf of [from, size) in the tree of that size.
func (l *Log) leaves(ctx context.Context, from, size uint64, fn func(index uint64, leaf [trefoil.LeafSize]byte) error) error {
	for index := from; index < size; {
		bundle := index / trefoil.TileWidth
		width := int(min(size-bundle*trefoil.TileWidth, trefoil.TileWidth))
		raw, err := l.public.Entries(ctx, bundle, width)
		if err != nil {
			return fmt.Errorf("read leaves: %w", err)
		}
		entries, err := trefoil.SplitEntries(raw, width)
		if err != nil {
			return fmt.Errorf("read leaves: %w", err)
		}
		for ; index < size && index/trefoil.TileWidth == bundle; index++ {
			leaf := entries[index%trefoil.TileWidth]
			if len(leaf) != trefoil.LeafSize {
				return fmt.Errorf("read leaves: entry %d is not %d bytes", index, trefoil.LeafSize)
			}
			if err := fn(index, [trefoil.LeafSize]byte(leaf)); err != nil {
				return err
			}
		}
	}
	return nil
}
