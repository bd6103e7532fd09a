package flow

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// followed is a relation of the stream; nil columns: it is passed over.
type followed struct {
	name string
	key  []int // places in a tuple
	line []int // places of Table.Columns; -1: it is not published
	hole bool  // one is not published
}

// intake decodes what a link receives, once for all streams that want it.
type intake struct {
	decoder Decoder
	one     Change
}

// message decodes one pgoutput message and gives it to streams. What one of them cannot take
// ends that one; only where it is alone, or where the message is not what the protocol allows,
// is that an error.
func (in *intake) message(data []byte, to []*Stream) error {
	var other any
	row, err := in.decoder.Change(data, &in.one)
	if !row && err == nil {
		other, err = in.decoder.Decode(data)
	}
	if err != nil {
		return err
	}
	for _, s := range to {
		if s.hub != nil && s.off.Load() {
			continue
		}
		if row {
			err = s.row(&in.one)
		} else {
			err = s.take(other)
		}
		switch {
		case err == nil:
		case s.hub == nil || errors.Is(err, errPaused) || errors.Is(err, ErrMalformed):
			return err
		default:
			s.fail(fmt.Errorf("read the change stream: %w", err))
		}
	}
	return nil
}

// message takes one pgoutput message into the transaction that is being received.
func (s *Stream) message(data []byte) error { return s.in.message(data, s.self) }

func (s *Stream) row(m *Change) error {
	if s.skip {
		return nil
	}
	if s.current == nil {
		return fmt.Errorf("%w: a change outside a transaction", ErrMalformed)
	}
	return s.change(m)
}

// take takes a message other than a row's change.
func (s *Stream) take(m any) error {
	switch m := m.(type) {
	case Relation:
		return s.relation(m)
	case Begin:
		if s.current != nil || s.skip {
			return fmt.Errorf("%w: a transaction within another", ErrMalformed)
		}
		if s.hub != nil && m.Final < s.reached { // the slot is read again for another stream
			s.skip = true
			return nil
		}
		s.current = &transaction{xid: m.XID, commit: m.Final, changes: s.spare[:0]}
		s.spare = nil
		return nil
	case Ignored:
		return nil
	}
	if s.skip {
		_, over := m.(Commit)
		s.skip = !over
		return nil
	}
	if s.current == nil {
		return fmt.Errorf("%w: a change outside a transaction", ErrMalformed)
	}
	switch m := m.(type) {
	case Truncate:
		for _, oid := range m.Relations {
			s.truncate(s.relations[oid])
		}
		if len(s.current.changes) >= s.cfg.MaxRows {
			return s.part()
		}
		return nil
	case Commit:
		return s.commit(m)
	}
	return fmt.Errorf("%w: a message that was not asked for", ErrMalformed)
}

// truncate takes in that a table was emptied.
func (s *Stream) truncate(f *followed) {
	t := s.current
	if n := len(t.changes); f == nil || f.key == nil || n > 0 && t.changes[n-1].truncate && t.changes[n-1].t == f {
		return
	}
	t.changes = append(t.changes, edit{t: f, truncate: true})
}

// commit ends the transaction that was received.
func (s *Stream) commit(m Commit) error {
	t := s.current
	if m.Start != t.commit || m.End < m.Start {
		return fmt.Errorf("%w: a commit that is not its transaction's", ErrMalformed)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.paused {
		return errPaused
	}
	idle := s.open.Empty()
	switch {
	case len(t.changes) == 0 && !t.part: // nothing that is wanted
	case s.split != nil && !t.part && !s.split(t.xid):
		s.later = append(s.later, t)
		t = nil
	default:
		s.room(t)
		if s.paused {
			return errPaused
		}
		s.merge(t)
		s.open.Partial, s.inPart = false, false
	}
	s.current = nil
	if t != nil {
		clear(t.changes)
		s.spare = t.changes[:0]
	}
	s.reach(m.End, idle)
	return nil
}

// merge puts a transaction into the open batch.
func (s *Stream) merge(t *transaction) {
	for i := range t.changes {
		s.open.apply(&t.changes[i])
	}
	if n := len(s.open.XIDs); n == 0 || s.open.XIDs[n-1] != t.xid {
		s.open.XIDs = append(s.open.XIDs, t.xid)
	}
}

// room waits until the open batch is not full. The part of a transaction joins nothing else:
// what is before it must have been taken.
func (s *Stream) room(t *transaction) {
	for !s.closed && s.err == nil && !s.paused && (s.open.rows >= s.cfg.MaxRows || s.open.bytes >= s.cfg.MaxBytes ||
		!s.open.Empty() && (s.open.rows+len(t.changes) > 2*s.cfg.MaxRows || s.open.bytes+t.bytes > 2*s.cfg.MaxBytes)) {
		s.rest()
	}
	s.waiting = false
}

// rest waits, as the receiver, until a batch is taken.
func (s *Stream) rest() {
	if !s.waiting {
		s.waiting, s.since = true, time.Now()
	}
	s.signal()
	s.space.Wait()
}

// part gives a part of a transaction away that is too large to be held.
func (s *Stream) part() error {
	t := s.current
	s.mu.Lock()
	defer s.mu.Unlock()
	for !s.closed && s.err == nil && !s.paused && !s.open.Empty() {
		s.rest()
	}
	s.waiting = false
	if s.paused {
		return errPaused
	}
	s.merge(t)
	s.open.Partial, t.part, s.inPart = true, true, true
	clear(t.changes)
	t.changes, t.bytes = t.changes[:0], 0
	s.signal()
	return nil
}

// relation learns where a table's columns stand in what is sent.
func (s *Stream) relation(r Relation) error {
	f := &followed{name: r.Schema + "." + r.Name}
	s.relations[r.OID] = f
	want, ok := s.cfg.Tables[f.name]
	if !ok {
		return nil
	}
	at := func(name string) int {
		return slices.IndexFunc(r.Columns, func(c RelationColumn) bool { return c.Name == name })
	}
	for _, name := range want.Key {
		i := at(name)
		if i < 0 || !r.Columns[i].Key {
			return &DriftError{Table: f.name, What: "column " + name + " of its key is not in the publication, or no part of its replica identity"}
		}
		f.key = append(f.key, i)
	}
	for n, name := range want.Columns {
		i := at(name)
		if i >= 0 && n < len(want.Types) && want.Types[n] != 0 && r.Columns[i].Type != want.Types[n] {
			return &DriftError{Table: f.name, What: "column " + name + " changed its type"}
		}
		f.line, f.hole = append(f.line, i), f.hole || i < 0
	}
	return nil
}

// DriftError says that the source's shape is not what the flow was opened for.
type DriftError struct{ Table, What string }

func (e *DriftError) Error() string { return fmt.Sprintf("table %s changed: %s", e.Table, e.What) }

// change takes one row.
func (s *Stream) change(m *Change) error {
	f := s.relations[m.Relation]
	if f == nil {
		return fmt.Errorf("%w: a change of an unknown relation", ErrMalformed)
	}
	if f.key == nil || m.Insert && sabotage.Active("follow") || m.New == nil && sabotage.Active("gone") {
		return nil
	}
	c := edit{t: f}
	var err error
	switch {
	case m.New == nil:
		c.touch = Deleted
		c.key, err = s.key(f, m.Old)
	case m.Insert:
		c.touch = Inserted
		c.key, err = s.key(f, m.New)
	default:
		c.touch = Updated
		c.key, err = s.key(f, m.New)
		if m.Old != nil && err == nil { // the key changed, or the identity is full
			c.old, err = s.key(f, m.Old)
			if c.rekeyed = c.old != c.key; c.rekeyed {
				c.touch |= Inserted // a key that was not there: rows without a constraint may have referred to it
			}
		}
	}
	if err != nil {
		return err
	}
	if m.New != nil {
		s.lineOf(f, m, &c)
	}
	t := s.current
	t.changes = append(t.changes, c)
	if t.bytes += int64(len(c.key) + len(c.line)); len(t.changes) >= s.cfg.MaxRows || t.bytes >= s.cfg.MaxBytes {
		return s.part()
	}
	return nil
}

// key reads the key of a tuple.
func (s *Stream) key(f *followed, values []Value) (string, error) {
	var room [64]byte
	b := room[:0]
	for n, i := range f.key {
		if i >= len(values) {
			return "", fmt.Errorf("%w: a row with fewer columns than its relation", ErrMalformed)
		}
		if values[i].Kind != 't' {
			return "", &DriftError{Table: f.name, What: "a key came without its value"}
		}
		if n > 0 {
			b = append(b, 0)
		}
		b = append(b, values[i].Data...)
	}
	return s.slab.text(b), nil
}

// lineOf writes a row as COPY would.
func (s *Stream) lineOf(f *followed, m *Change, c *edit) {
	if c.unknown = f.hole; c.unknown {
		return
	}
	line := s.line[:0]
	for n, i := range f.line {
		if n > 0 {
			line = append(line, '\t')
		}
		v := Value{Kind: 'u'}
		if i < len(m.New) {
			v = m.New[i]
		}
		if v.Kind == 'u' && m.Whole && i < len(m.Old) {
			v = m.Old[i]
		}
		switch v.Kind {
		case 'n':
			line = append(line, '\\', 'N')
		case 't':
			line = appendEscaped(line, v.Data)
		default:
			c.holes = true
			line = append(line, hole...)
		}
	}
	s.line = append(line, '\n')
	c.line = s.slab.keep(s.line)
}

// appendEscaped writes a value in the text of COPY.
func appendEscaped(dst, value []byte) []byte {
	start := 0
	for i, ch := range value {
		if ch > '\r' && ch != '\\' {
			continue
		}
		var e byte
		switch ch {
		case '\\':
			e = '\\'
		case '\b':
			e = 'b'
		case '\t':
			e = 't'
		case '\n':
			e = 'n'
		case '\v':
			e = 'v'
		case '\f':
			e = 'f'
		case '\r':
			e = 'r'
		default:
			continue
		}
		dst = append(append(dst, value[start:i]...), '\\', e)
		start = i + 1
	}
	return append(dst, value[start:]...)
}
