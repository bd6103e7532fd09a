package flow

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// message takes one pgoutput message into the transaction that is being received.
func (s *Stream) message(data []byte) error {
	m, err := s.decoder.Decode(data)
	if err != nil {
		return err
	}
	if r, ok := m.(Relation); ok {
		return s.relation(r)
	}
	if b, ok := m.(Begin); ok {
		if s.current != nil {
			return fmt.Errorf("%w: a transaction within another", ErrMalformed)
		}
		s.current = &transaction{xid: b.XID, commit: b.Final}
		return nil
	}
	if _, ok := m.(Ignored); ok {
		return nil
	}
	if s.current == nil {
		return fmt.Errorf("%w: a change outside a transaction", ErrMalformed)
	}
	switch m := m.(type) {
	case Change:
		return s.change(m)
	case Truncate:
		for _, oid := range m.Relations {
			f := s.relations[oid]
			if f == nil || f.columns == nil || slices.Contains(s.current.truncated, f.name) {
				continue
			}
			s.current.truncated = append(s.current.truncated, f.name)
			if err := s.hold(rowCost); err != nil {
				return err
			}
		}
		return nil
	case Commit:
		return s.commit(m)
	}
	return fmt.Errorf("%w: a message that was not asked for", ErrMalformed)
}

func (s *Stream) commit(m Commit) error {
	t := s.current
	s.current = nil
	if m.Start != t.commit || m.End < m.Start {
		return fmt.Errorf("%w: a commit that is not its transaction's", ErrMalformed)
	}
	s.mu.Lock()
	if len(t.rows) > 0 || len(t.truncated) > 0 {
		s.txs = append(s.txs, t)
	}
	s.reached = max(s.reached, m.End)
	s.mu.Unlock()
	s.signal()
	return nil
}

// relation learns where a table's key stands in what is sent.
func (s *Stream) relation(r Relation) error {
	f := &followed{name: r.Schema + "." + r.Name}
	s.relations[r.OID] = f
	for _, want := range s.cfg.Keys[f.name] {
		i := slices.IndexFunc(r.Columns, func(c RelationColumn) bool { return c.Name == want })
		if i < 0 || !r.Columns[i].Key {
			return &DriftError{Table: f.name, What: "column " + want + " of its key is not in the publication, or no part of its replica identity"}
		}
		f.columns = append(f.columns, i)
	}
	return nil
}

// DriftError says that the source's shape is not what the flow was opened for.
type DriftError struct{ Table, What string }

func (e *DriftError) Error() string { return fmt.Sprintf("table %s changed: %s", e.Table, e.What) }

func (s *Stream) change(c Change) error {
	f := s.relations[c.Relation]
	if f == nil {
		return fmt.Errorf("%w: a change of an unknown relation", ErrMalformed)
	}
	if f.columns == nil || c.Insert && sabotage.Active("follow") || c.New == nil && sabotage.Active("gone") {
		return nil
	}
	if c.Old != nil {
		// An update that sends its old key changed the key, or the identity is full.
		if err := s.touch(f, c.Old, Deleted); err != nil {
			return err
		}
	}
	if c.New == nil {
		return nil
	}
	touch := Updated
	if c.Insert {
		touch = Inserted
	} else if c.Old != nil {
		touch |= Inserted // a key that was not there: rows without a constraint may have referred to it
	}
	return s.touch(f, c.New, touch)
}

func (s *Stream) touch(f *followed, values []Value, touch Touch) error {
	parts := make([]string, len(f.columns))
	for i, c := range f.columns {
		if c >= len(values) {
			return fmt.Errorf("%w: a row with fewer columns than its relation", ErrMalformed)
		}
		if values[c].Kind != 't' {
			return &DriftError{Table: f.name, What: "a key came without its value"}
		}
		parts[i] = string(values[c].Data)
	}
	k := JoinKey(parts)
	s.current.rows = append(s.current.rows, row{f.name, k, touch})
	return s.hold(int64(len(k)) + rowCost)
}

// hold counts what the transaction that is being received keeps in memory.
func (s *Stream) hold(size int64) error {
	s.current.bytes += size
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held += size; s.held > s.cfg.MaxBytes {
		return ErrTooMuch
	}
	return nil
}

// rowCost is what one touched row takes beside its key, once in a list and once in a map.
const rowCost = 128

// Reached is the position up to which every commit has been received.
func (s *Stream) Reached() LSN {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reached
}

// Pending says whether transactions wait, and the error that ended the stream.
func (s *Stream) Pending() (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.txs) > 0, s.err
}

// Woken is signalled when something was received.
func (s *Stream) Woken() <-chan struct{} { return s.wake }

// Wait waits until every transaction that committed before to has been received.
func (s *Stream) Wait(ctx context.Context, to LSN) error {
	for {
		s.mu.Lock()
		reached, err := s.reached, s.err
		s.ask = s.ask || reached < to
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case reached >= to:
			return nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return errors.Join(errors.New("wait for the change stream"), ctx.Err())
		}
	}
}

// Take hands out the transactions that a snapshot sees; the others stay. The position is
// where reading must begin again once the batch is durable: before the first that stays.
func (s *Stream) Take(sees func(xid uint32) bool) (*Batch, LSN) {
	b := &Batch{Keys: map[string]map[string]Touch{}, Truncated: map[string]bool{}}
	s.mu.Lock()
	defer s.mu.Unlock()
	position := s.reached
	stay := s.txs[:0:0]
	for _, t := range s.txs {
		if !sees(t.xid) {
			stay = append(stay, t)
			position = min(position, t.commit)
			continue
		}
		b.add(t)
		s.held -= t.bytes
	}
	s.txs = stay
	return b, position
}

func (b *Batch) add(t *transaction) {
	b.Count++
	for _, r := range t.rows {
		keys := b.Keys[r.table]
		if keys == nil {
			keys = map[string]Touch{}
			b.Keys[r.table] = keys
		}
		keys[r.key] |= r.touch
	}
	for _, name := range t.truncated {
		b.Truncated[name] = true
	}
}

// Confirm lets the source forget what came before a position that is durable.
func (s *Stream) Confirm(p LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = max(s.durable, p)
}
