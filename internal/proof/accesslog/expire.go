package accesslog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// Expire deletes, for each kind with a retention, the bodies, salts, openings and permits
// that were appended longer ago: whole segments are removed, single entries overwritten.
// It returns how many bodies went. The tree and its leaves stay.
func (l *Log) Expire(ctx context.Context, now time.Time) (int, error) {
	if sabotage.Active("retention") {
		return 0, nil
	}
	total := 0
	for _, class := range []string{classBodies, classPermits} {
		for _, name := range l.store.segments(class) {
			keep, limited := l.c.Retention[name.kind]
			if !limited {
				continue
			}
			if err := ctx.Err(); err != nil {
				return total, err
			}
			n, err := l.store.expire(name, now.Add(-keep))
			if class == classBodies {
				total += n
			}
			if err != nil {
				return total, fmt.Errorf("expire %s: %w", name, err)
			}
		}
	}
	return total, nil
}

// expire drops what was appended to one segment before cutoff.
func (s *store) expire(name segmentName, cutoff time.Time) (int, error) {
	if day, err := time.Parse("20060102", name.day); err == nil && !day.Before(cutoff) {
		return 0, nil // nothing in it is older than its day's beginning
	}
	f, err := os.OpenFile(s.path(name), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var old []int64
	younger := 0
	if _, err := scanSegment(f, 0, func(offset int64, e *entry) error {
		switch {
		case !e.at.Before(cutoff):
			younger++
		case e.state == stateLive:
			old = append(old, offset)
		}
		return nil
	}); err != nil {
		return 0, err
	}
	if younger == 0 && s.retire(name) {
		return len(old), nil
	}
	for i, offset := range old {
		if err := eraseEntry(f, offset); err != nil {
			return i, err
		}
	}
	return len(old), nil
}

// retire removes a segment that no longer grows; it reports whether it did.
func (s *store) retire(name segmentName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.active {
		if a.id == name.id {
			return false
		}
	}
	if err := os.Remove(s.path(name)); err != nil {
		return false
	}
	delete(s.names, name.id)
	return syncDir(s.dir) == nil
}

// DeleteBody overwrites one record's body, salt, opening and permit on disk. The leaf stays,
// and the tree verifies as before. Deleting twice is no error; an index that has no body
// gives ErrNoBody.
func (l *Log) DeleteBody(index uint64) error {
	if err := l.store.erase(l.store.bodies, index); err != nil {
		return fmt.Errorf("delete body %d: %w", index, err)
	}
	if err := l.store.erase(l.store.permits, index); err != nil && !errors.Is(err, ErrNoBody) {
		return fmt.Errorf("delete permit %d: %w", index, err)
	}
	return nil
}

func (s *store) erase(x *indexFile, index uint64) error {
	at, err := x.get(index)
	if err != nil {
		return err
	}
	f, _, err := s.open(at.segment, os.O_RDWR)
	if err != nil {
		return err
	}
	defer f.Close()
	return eraseEntry(f, int64(at.offset))
}

// StorePermit keeps the monitor's permit for record index beside its body. It survives kill
// -9 at once and a loss of power within seconds; after that the monitor's log still has it.
func (l *Log) StorePermit(index uint64, permit string) error {
	at, err := l.store.bodies.get(index)
	if err != nil {
		return fmt.Errorf("store permit %d: %w", index, err)
	}
	l.store.mu.Lock()
	name, ok := l.store.names[at.segment]
	l.store.mu.Unlock()
	if !ok {
		return fmt.Errorf("store permit %d: %w", index, ErrNoBody)
	}
	if permit == "" || len(permit) > trefoil.MaxBodySize {
		return fmt.Errorf("store permit %d: empty or too large", index)
	}
	p := &put{kind: name.kind, entry: entry{at: l.c.Now().UTC(), payload: []byte(permit)}}
	if err := l.store.write(classPermits, []*put{p}, false); err != nil {
		return fmt.Errorf("store permit %d: %w", index, err)
	}
	if err := l.store.permits.put(index, []location{p.at}); err != nil {
		return fmt.Errorf("store permit %d: %w: %w", index, ErrStore, err)
	}
	return nil
}
