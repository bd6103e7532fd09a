package accesslog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/transparency-dev/tessera"

	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

const (
	cleanEvery = 5 * time.Second        // how often recovery's starting point moves on
	retryAfter = 200 * time.Millisecond // after the driver could not integrate
)

// commit writes the bodies of all records that came since its last round: one sync for all.
func (l *Log) commit() {
	for l.await(l.wakeCommit) {
		l.mu.Lock()
		batch := l.incoming
		l.incoming = nil
		l.mu.Unlock()
		if len(batch) == 0 {
			continue
		}
		puts := make([]*put, len(batch))
		for i, it := range batch {
			puts[i] = &it.put
		}
		l.committing.Lock()
		err := l.store.write(classBodies, puts, true)
		if err == nil {
			err = sabotage.Point("bodies-kept")
		}
		l.mu.Lock()
		if err != nil {
			l.pending -= len(batch)
		} else {
			l.written = append(l.written, batch...)
		}
		l.mu.Unlock()
		l.committing.Unlock()
		for _, it := range batch {
			it.put.entry.payload = nil // it is on disk now
			it.durable <- err
		}
		wake(l.wakeFeed)
	}
}

// await waits for a wake-up; false means the log stops.
func (l *Log) await(c chan struct{}) bool {
	select {
	case <-c:
		return true
	case <-l.stop:
		return false
	}
}

// feed hands durable leaves to Tessera. The driver publishes at most once an interval and
// looks again a whole interval later if it was asked too early, so leaves are fed exactly
// when the next checkpoint may be published: one batch a checkpoint, and the least wait.
func (l *Log) feed() {
	var cleaned time.Time
	for l.await(l.wakeFeed) {
		if !l.pause(l.untilPublishable()) {
			return
		}
		l.mu.Lock()
		l.feeding, l.written = append(l.feeding, l.written...), nil
		batch, work := l.feeding, len(l.feeding)+len(l.unplaced)
		l.mu.Unlock()
		if work > 0 {
			if err := l.integrate(batch); err != nil {
				l.c.Logger.Error("access log: leaves cannot be integrated; new records are refused until they can", "error", err)
				if !l.pause(retryAfter) {
					return
				}
				wake(l.wakeFeed)
			}
		}
		if time.Since(cleaned) > cleanEvery {
			cleaned = time.Now()
			if err := l.markClean(); err != nil {
				l.c.Logger.Error("access log: recovery's starting point was not written", "error", err)
			}
		}
	}
}

func (l *Log) pause(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.stop:
		return false
	}
}

// untilPublishable is how long the driver would still refuse to publish.
func (l *Log) untilPublishable() time.Duration {
	published, err := l.publishedAt()
	if err != nil {
		return 0
	}
	return min(time.Until(published.Add(l.c.CheckpointInterval)), l.c.CheckpointInterval)
}

// integrate adds the leaves and waits until they are in the tree. What could not be
// integrated stays in l.feeding for the next round, in its order.
func (l *Log) integrate(batch []*item) error {
	l.fed.Store(time.Now().UnixNano())
	futures := make([]tessera.IndexFuture, len(batch))
	for i, it := range batch {
		futures[i] = l.driver.add(context.Background(), tessera.NewEntry(slices.Clone(it.put.entry.leaf[:])))
	}
	var failed error
	var added, again []*item
	for i, future := range futures {
		index, err := future()
		if err != nil {
			failed = err
			again = append(again, batch[i])
			continue
		}
		batch[i].index = index.Index
		added = append(added, batch[i])
	}
	if failed != nil {
		found, rest, err := l.findIntegrated(again)
		if err != nil {
			failed = fmt.Errorf("%w; %w", failed, err)
		}
		added, again = append(added, found...), rest
		if len(rest) == 0 {
			failed = nil // everything is in the tree after all
		}
	}
	if err := l.place(added); err != nil {
		failed = errors.Join(failed, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failing = failed
	l.feeding = again
	return failed
}

// place writes where the bodies of integrated records lie, and hands the records to watch.
// What could not be written is tried again with the next batch; until then those records do
// not count as recorded.
func (l *Log) place(added []*item) error {
	l.mu.Lock()
	added = append(l.unplaced, added...)
	l.unplaced = nil
	l.mu.Unlock()
	slices.SortFunc(added, func(a, b *item) int { return cmp.Compare(a.index, b.index) })
	for start := 0; start < len(added); {
		end := start + 1
		for end < len(added) && added[end].index == added[end-1].index+1 {
			end++
		}
		at := make([]location, 0, end-start)
		for _, it := range added[start:end] {
			at = append(at, it.put.at)
		}
		if err := l.store.bodies.put(added[start].index, at); err != nil {
			l.mu.Lock()
			l.unplaced = added[start:]
			l.mu.Unlock()
			l.placed(added[:start])
			return fmt.Errorf("%w: %w", ErrStore, err)
		}
		start = end
	}
	l.placed(added)
	return nil
}

func (l *Log) placed(added []*item) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, it := range added {
		close(it.indexed)
		l.next = max(l.next, it.index+1)
	}
	l.waiting = append(l.waiting, added...)
	wake(l.wakeWatch)
}

// markClean moves recovery's starting point up to what is settled now.
func (l *Log) markClean() error {
	l.committing.Lock()
	sizes := l.store.sizes()
	l.mu.Lock()
	next := l.next
	for _, list := range [][]*item{l.written, l.feeding, l.unplaced} {
		for _, it := range list {
			if at := it.put.at; int64(at.offset) < sizes[at.segment] {
				sizes[at.segment] = int64(at.offset)
			}
		}
	}
	for _, it := range l.unplaced {
		next = min(next, it.index)
	}
	l.mu.Unlock()
	l.committing.Unlock()
	return l.store.markClean(next, sizes)
}
