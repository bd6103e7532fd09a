package pool

import (
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// message is a message of the client, or as much of it as is looked at.
type message struct {
	typ   byte
	total int    // bytes, header included
	bytes []byte // from the header on
	at    int    // where it stands in the input; < 0: it was collected
}

func (g *message) payload() []byte { return g.bytes[wire.HeaderSize:] }
func (g *message) whole() bool     { return len(g.bytes) == g.total }

// FromClient takes bytes of the client, and returns how many it took. After an error the
// client is to be told and closed; what was collected before it may be sent.
func (m *Mux) FromClient(b []byte, o *Outs) (n int, act Act, err error) {
	o.begin(b)
	for act&Ended == 0 && !m.full() {
		n += m.flow(b, n, o)
		used, g, err := m.cut(b[n:], n)
		if err != nil {
			return n, 0, err
		}
		if g == nil {
			n += used
			break
		}
		if g.at < 0 {
			n += used // it stays collected until it is served
		}
		if act, err = m.request(g, o); err != nil || act&(NeedServer|Full) != 0 {
			return n, act, err
		}
		if g.at >= 0 {
			n += used
		} else {
			m.client.forget()
		}
		if m.client.rest = g.total - len(g.bytes); m.client.rest == 0 {
			m.client.drop = false
		}
	}
	if m.full() {
		act |= Full
	}
	return n, act | m.releasable(), nil
}

// flow lets the rest of a message go where its head went.
func (m *Mux) flow(b []byte, at int, o *Outs) int {
	s := &m.client
	used := min(s.rest, len(b)-at)
	if !s.drop {
		o.Server.pass(at, at+used)
	}
	if s.rest -= used; s.rest == 0 {
		s.drop = false
	}
	return used
}

// forget empties what was collected.
func (s *stream) forget() {
	s.part = s.part[:0]
	if cap(s.part) > 4<<10 {
		s.part = nil
	}
}

// cut finds the next message that can be looked at in b, which stands at an offset of the
// input. It returns nil when b is used up.
func (m *Mux) cut(b []byte, at int) (used int, g *message, err error) {
	if m.client.rest > 0 || len(m.client.part) > 0 || len(b) < wire.HeaderSize {
		if m.client.rest > 0 {
			return 0, nil, nil
		}
		return m.collect(b)
	}
	typ, total, err := m.shared.head(wire.FromFrontend, b)
	if err != nil {
		return 0, nil, err
	}
	if len(b) >= total || typ == wire.CopyData || m.whole {
		have := min(len(b), total)
		return have, &message{typ: typ, total: total, bytes: b[:have], at: at}, nil
	}
	return m.collect(b)
}

// collect adds to a message that comes in parts, up to what is looked at.
func (m *Mux) collect(b []byte) (used int, g *message, err error) {
	s := &m.client
	if len(s.part) < wire.HeaderSize {
		used = min(wire.HeaderSize-len(s.part), len(b))
		s.part = append(s.part, b[:used]...)
		if len(s.part) == 0 {
			return used, nil, nil
		}
		if _, known := m.shared.Limits.Bound(wire.FromFrontend, s.part[0]); !known {
			return used, nil, fmt.Errorf("%w: unknown message type", wire.ErrFrame)
		}
		if len(s.part) < wire.HeaderSize {
			return used, nil, nil
		}
	}
	typ, total, err := m.shared.head(wire.FromFrontend, s.part)
	if err != nil {
		return used, nil, err
	}
	want := min(total, wire.HeaderSize+m.shared.Limits.Look)
	more := min(max(want-len(s.part), 0), len(b)-used)
	s.part = append(s.part, b[used:used+more]...)
	if used += more; len(s.part) < want {
		return used, nil, nil
	}
	return used, &message{typ: typ, total: total, bytes: s.part, at: -1}, nil
}

// request decides what becomes of a message.
func (m *Mux) request(g *message, o *Outs) (Act, error) {
	switch {
	case g.typ == wire.Terminate:
		return Ended, nil
	case g.typ == wire.Password:
		return 0, fmt.Errorf("%w: unexpected message type", wire.ErrFrame)
	case m.skip && g.typ != wire.Sync:
		m.client.drop = true
		return 0, nil
	case m.srv == nil:
		return m.without(g, o)
	}
	if m.held = m.unsure(g); m.held {
		return Full, nil
	}
	m.skip = false
	return 0, m.with(g, o)
}

// without serves a message of a client that has no server.
func (m *Mux) without(g *message, o *Outs) (Act, error) {
	switch g.typ {
	case wire.Sync: // there is nothing to wait for, and no transaction
		m.skip = false
		o.Client.add(wire.AppendReadyForQuery(nil, wire.Idle)...)
	case wire.Flush:
	case wire.CopyData, wire.CopyDone, wire.CopyFail: // after a COPY that failed: the server would ignore them too
		m.client.drop = true
	default:
		if m.refuse == nil {
			return NeedServer, nil
		}
		o.Client.add(wire.AppendErrorResponse(nil, *m.refuse)...)
		m.refuse, m.client.drop = nil, true
		if g.typ == wire.Query || g.typ == wire.FunctionCall {
			o.Client.add(wire.AppendReadyForQuery(nil, wire.Idle)...)
		} else {
			m.skip = true
		}
	}
	return 0, nil
}

// with serves a message of a client that has a server.
func (m *Mux) with(g *message, o *Outs) error {
	first := m.fresh
	m.fresh = false
	switch g.typ {
	case wire.Sync:
		if m.copying {
			m.ignored++
		} else {
			m.open, m.ran = false, false
			m.segment++
			m.queue.push(item{typ: wire.Sync})
		}
	case wire.CopyDone, wire.CopyFail:
		if !m.copying {
			m.queue.push(item{typ: copyEnd})
			m.fakes(&o.Client) // where no COPY can come any more it means nothing
		}
		m.copying = false
	case wire.Flush:
		m.fakes(&o.Client)
	case wire.CopyData:
	case wire.FunctionCall:
		m.copying = false
		m.keep(Direct)
		m.queue.push(item{typ: g.typ})
	case wire.Query:
		m.copying = false
		return m.query(g, o, first)
	default:
		m.copying, m.open = false, true
		return m.extended(g, o, first)
	}
	m.forward(g, o)
	return nil
}

// forward passes a message on as it is.
func (m *Mux) forward(g *message, o *Outs) {
	if g.at >= 0 {
		o.Server.pass(g.at, g.at+len(g.bytes))
	} else {
		o.Server.add(g.bytes...)
	}
}

// query serves a simple query.
func (m *Mux) query(g *message, o *Outs, first bool) error {
	if m.whole {
		m.queue.push(item{typ: wire.Query})
		m.forward(g, o)
		return nil
	}
	shape := Shape{Pin: Large}
	if sql, _, ok := wire.CString(g.payload()); ok && g.whole() {
		shape = Look(sql, m.srv.vars.plain, m.shared.Suspects)
	}
	m.sequences(shape, first, o)
	m.effects(shape)
	m.unnamed.ok, m.srv.unnamed = false, nil // a simple query ends it
	if s := m.names[shape.Deallocate]; s != nil && shape.Deallocate != "" {
		m.deallocate(shape.Deallocate, s, o)
		return nil
	}
	m.queue.push(item{typ: wire.Query, saved: m.forget(shape)})
	m.forward(g, o)
	return nil
}

// forget takes out the client's statements if a text forgets them all, until it is known
// whether it was carried out.
func (m *Mux) forget(s Shape) *forgotten {
	if !s.Forgets {
		return nil
	}
	f := &forgotten{names: m.names}
	m.names = nil
	for s := range m.srv.prepared.at {
		m.shared.Statements.again(s)
		f.there = append(f.there, s)
	}
	m.srv.prepared.clear()
	return f
}

// deallocate serves DEALLOCATE in SQL of a statement that was prepared by a message.
func (m *Mux) deallocate(name string, s *Statement, o *Outs) {
	had := m.srv.prepared.has(s)
	if !had {
		m.there = false
		m.prepare(s, true, o)
		o.Server.add(wire.AppendMessage(nil, wire.Sync, nil)...)
		m.queue.push(item{typ: wire.Sync, ours: true})
	}
	o.Server.add(wire.AppendMessage(nil, wire.Query, append([]byte("DEALLOCATE "+s.name), 0))...)
	m.queue.push(item{typ: wire.Query, stmt: s, name: name, quiet: !had})
	delete(m.names, name)
	m.srv.prepared.remove(s)
}

// effects keeps the server if a statement leaves something on it.
func (m *Mux) effects(s Shape) {
	if s.Pin != Nothing {
		m.keep(s.Pin)
	}
	for i := 0; s.Sets>>i != 0; i++ {
		if s.Sets>>i&1 == 0 {
			continue
		}
		if _, reported := m.srv.vars.values[tracked[i]]; !reported {
			m.keep(Setting)
		}
	}
}

// sequences has a server forget what its sequences gave to others, before a client asks for
// what they gave to it.
func (m *Mux) sequences(s Shape, first bool, o *Outs) {
	if s.Pin == Sequence && first && m.pin == Nothing {
		m.own(&o.Server, "DISCARD SEQUENCES")
	}
}
