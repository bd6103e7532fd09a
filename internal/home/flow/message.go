package flow

import "fmt"

// Kinds of messages that owners of a Decoder act on.
type (
	// Begin opens a transaction that has committed at the source.
	Begin struct {
		Final LSN // start of its commit record
		XID   uint32
	}
	// Commit ends it.
	Commit struct{ Start, End LSN }
	// Relation describes a table before its first change, and again when it changed.
	Relation struct {
		OID          uint32
		Schema, Name string
		Identity     byte // d, n, f, i as in pg_class.relreplident
		Columns      []RelationColumn
	}
	// RelationColumn is one published column.
	RelationColumn struct {
		Name string
		Key  bool // part of the replica identity
		Type uint32
		Mod  int32
	}
	// Change is one row: Old is the key, or the whole row under full identity, where it was
	// sent; New is nil for a deletion.
	Change struct {
		Relation uint32
		Insert   bool
		Whole    bool // Old is the whole row
		Old, New []Value
	}
	// Truncate empties tables.
	Truncate struct{ Relations []uint32 }
	// StreamStart, StreamStop, StreamCommit and StreamAbort frame transactions that are sent
	// before they end.
	StreamStart struct {
		XID   uint32
		First bool
	}
	StreamStop   struct{}
	StreamCommit struct {
		XID        uint32
		Start, End LSN
	}
	StreamAbort struct{ XID, Sub uint32 }
	// Prepared is a step of a transaction in two phases: nothing of it counts before K.
	Prepared struct {
		Kind       byte // b, P, K, r, p
		XID        uint32
		Start, End LSN
	}
	// Ignored is a message that changes nothing: an origin, a type, a logical message.
	Ignored struct{ Kind byte }
)

// Value is one column of a tuple as the source sent it.
type Value struct {
	Kind byte // n: NULL, u: a large value that did not change and was not sent, t: text, b: binary
	Data []byte
}

// Decoder reads pgoutput messages. It remembers only whether it is inside a streamed part.
type Decoder struct {
	streaming bool
	old, row  []Value // reused by Change
}

// Change reads a message that is one row, into slices that the next call writes over. It
// says false of messages of other kinds.
func (d *Decoder) Change(data []byte, m *Change) (bool, error) {
	if len(data) == 0 || len(data) > maxMessage || d.streaming || data[0] != 'I' && data[0] != 'U' && data[0] != 'D' {
		return false, nil
	}
	r := reader{rest: data[1:]}
	m.read(data[0], &r, d.old, d.row)
	if m.Old != nil {
		d.old = m.Old
	}
	if m.New != nil {
		d.row = m.New
	}
	if r.bad || len(r.rest) > 0 {
		return false, fmt.Errorf("%w: kind %q is cut short, or counts more or less than it holds", ErrMalformed, data[0])
	}
	return true, nil
}

// maxMessage bounds one message: PostgreSQL's own rows cannot be larger than 1 GiB.
const maxMessage = 1 << 30

// Decode reads one message. Its values alias data.
func (d *Decoder) Decode(data []byte) (any, error) {
	if len(data) == 0 || len(data) > maxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(data))
	}
	r := &reader{rest: data[1:]}
	m := d.message(data[0], r)
	switch {
	case m == nil:
		return nil, fmt.Errorf("%w: unknown kind %q", ErrMalformed, data[0])
	case r.bad:
		return nil, fmt.Errorf("%w: kind %q is cut short or counts more than it holds", ErrMalformed, data[0])
	case len(r.rest) > 0:
		return nil, fmt.Errorf("%w: kind %q has %d bytes too many", ErrMalformed, data[0], len(r.rest))
	}
	return m, nil
}

func (d *Decoder) message(kind byte, r *reader) any {
	switch kind {
	case 'B':
		m := Begin{Final: r.lsn()}
		r.uint64()
		m.XID = r.uint32()
		return m
	case 'C':
		r.byte()
		m := Commit{Start: r.lsn(), End: r.lsn()}
		r.uint64()
		return m
	case 'S':
		d.streaming = true
		return StreamStart{XID: r.uint32(), First: r.byte() == 1}
	case 'E':
		d.streaming = false
		return StreamStop{}
	case 'c':
		m := StreamCommit{XID: r.uint32()}
		r.byte()
		m.Start, m.End = r.lsn(), r.lsn()
		r.uint64()
		return m
	case 'A':
		m := StreamAbort{XID: r.uint32(), Sub: r.uint32()}
		if len(r.rest) > 0 { // protocol 4 under parallel streaming: where and when
			r.take(16)
		}
		return m
	case 'O':
		r.uint64()
		r.text()
		return Ignored{kind}
	case 'b', 'P', 'K', 'r', 'p':
		return prepared(kind, r)
	}
	return d.inner(kind, r)
}

// inner reads what stands between Begin and Commit, where a streamed part names its
// (sub)transaction first.
func (d *Decoder) inner(kind byte, r *reader) any {
	switch kind {
	case 'R', 'Y', 'I', 'U', 'D', 'T', 'M':
	default:
		return nil
	}
	if d.streaming {
		r.uint32()
	}
	switch kind {
	case 'R':
		return relation(r)
	case 'Y':
		r.uint32()
		r.text()
		r.text()
		return Ignored{kind}
	case 'T':
		n := int(r.uint32())
		r.byte()
		var m Truncate
		for range r.count(n, 4) {
			m.Relations = append(m.Relations, r.uint32())
		}
		return m
	case 'M':
		r.byte()
		r.uint64()
		r.text()
		r.take(r.count(int(r.uint32()), 1))
		return Ignored{kind}
	}
	return change(kind, r)
}

func prepared(kind byte, r *reader) any {
	m := Prepared{Kind: kind}
	if kind != 'b' {
		r.byte()
	}
	m.Start, m.End = r.lsn(), r.lsn()
	r.uint64()
	if kind == 'r' {
		r.uint64()
	}
	m.XID = r.uint32()
	r.text()
	return m
}

func relation(r *reader) any {
	m := Relation{OID: r.uint32(), Schema: r.text(), Name: r.text(), Identity: r.byte()}
	if m.Schema == "" {
		m.Schema = "pg_catalog" // how the protocol spells it
	}
	for range r.count(r.int16(), 10) {
		c := RelationColumn{Key: r.byte()&1 == 1, Name: r.text(), Type: r.uint32()}
		c.Mod = int32(r.uint32())
		m.Columns = append(m.Columns, c)
	}
	return m
}

func change(kind byte, r *reader) any {
	var m Change
	m.read(kind, r, nil, nil)
	return m
}

// read takes a change from r. Its tuples are written to the slices given, which may be nil.
func (m *Change) read(kind byte, r *reader, old, row []Value) {
	*m = Change{Relation: r.uint32(), Insert: kind == 'I'}
	what := r.byte()
	if kind != 'I' && (what == 'K' || what == 'O') {
		m.Old, m.Whole = tuple(r, old), what == 'O'
		if kind == 'D' {
			return
		}
		what = r.byte()
	}
	if kind == 'D' || what != 'N' {
		r.bad = true
		return
	}
	m.New = tuple(r, row)
}

// tuple is never nil, so that a row without columns differs from no row.
func tuple(r *reader, into []Value) []Value {
	n := r.count(r.int16(), 1)
	out := into[:0]
	if cap(out) < n || out == nil {
		out = make([]Value, 0, n)
	}
	for range n {
		v := Value{Kind: r.byte()}
		switch v.Kind {
		case 'n', 'u':
		case 't', 'b':
			v.Data = r.take(r.count(int(r.uint32()), 1))
		default:
			r.bad = true
		}
		out = append(out, v)
	}
	return out
}
