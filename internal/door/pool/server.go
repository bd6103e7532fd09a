package pool

import (
	"bytes"
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// inspected is how much of a server's message is looked at where anything is.
const inspected = 4 << 10

// FromServer takes bytes of the client's server: all of them. An error wraps ErrDesync or
// wire.ErrFrame: both sides are to be closed, and nothing more is to be sent.
func (m *Mux) FromServer(b []byte, o *Outs) (Act, error) {
	o.begin(b)
	for n := 0; n < len(b); {
		s := &m.server
		if s.rest > 0 {
			used := min(s.rest, len(b)-n)
			if !s.drop {
				o.Client.pass(n, n+used)
			}
			s.rest -= used
			n += used
			continue
		}
		if len(s.part) > 0 || len(b)-n < wire.HeaderSize {
			used, err := m.gather(b[n:], o)
			if err != nil {
				return 0, err
			}
			n += used
			continue
		}
		typ, total, err := m.shared.head(wire.FromBackend, b[n:])
		if err != nil {
			return 0, err
		}
		have := min(total, len(b)-n)
		if looked(typ) && have < min(total, inspected) {
			s.part = append(s.part, b[n:]...)
			break
		}
		pass, err := m.answer(typ, b[n+wire.HeaderSize:n+have], o)
		if err != nil {
			return 0, err
		}
		if pass {
			o.Client.pass(n, n+have)
		}
		m.answered(typ, o)
		s.rest, s.drop = total-have, !pass
		n += have
	}
	if m.full() {
		return Full, nil
	}
	return m.releasable(), nil
}

// gather adds to a server's message that comes in parts, and serves it when enough is there.
func (m *Mux) gather(b []byte, o *Outs) (used int, err error) {
	s := &m.server
	used = min(max(wire.HeaderSize-len(s.part), 0), len(b))
	s.part = append(s.part, b[:used]...)
	if len(s.part) < wire.HeaderSize {
		return used, nil
	}
	typ, total, err := m.shared.head(wire.FromBackend, s.part)
	if err != nil {
		return used, err
	}
	if want := min(total, inspected); looked(typ) && len(s.part) < want {
		more := min(want-len(s.part), len(b)-used)
		s.part = append(s.part, b[used:used+more]...)
		if used += more; len(s.part) < want {
			return used, nil
		}
	}
	pass, err := m.answer(typ, s.part[wire.HeaderSize:], o)
	if err != nil {
		return used, err
	}
	if pass {
		o.Client.add(s.part...)
	}
	m.answered(typ, o)
	s.rest, s.drop = total-len(s.part), !pass
	s.forget()
	return used, nil
}

// looked reports whether what a message of this type says matters here.
func looked(typ byte) bool {
	switch typ {
	case wire.ReadyForQuery, wire.ParameterStatus, wire.CommandComplete, wire.ErrorResponse:
		return true
	}
	return false
}

// answer matches a server's message with what is owed, and reports whether the client gets it.
func (m *Mux) answer(typ byte, p []byte, o *Outs) (pass bool, err error) {
	switch typ {
	case wire.NoticeResponse:
		return m.queue.len() == 0 || !m.queue.head().ours, nil
	case wire.ParameterStatus:
		return m.reported(p)
	case wire.NotificationResponse:
		if m.pin == Nothing { // somebody listened here whom nobody saw: not for this client
			m.srv.spoiled = true
			return false, nil
		}
		return true, nil
	}
	m.fakes(&o.Client)
	if typ == wire.ErrorResponse {
		return m.failed(p)
	}
	if m.queue.len() == 0 {
		return false, ErrDesync
	}
	h := m.queue.head()
	ours := h.ours
	done, fits := fit(h, typ)
	if !fits {
		return false, fmt.Errorf("%w: answer of another kind", ErrDesync)
	}
	switch typ {
	case wire.CopyInResponse:
		m.copyIn()
	case wire.CommandComplete:
		m.ignored = 0
		if !ours && !m.whole {
			m.completed(p)
		}
	case wire.ReadyForQuery:
		if len(p) != 1 {
			return false, ErrDesync
		}
		m.state, m.copying = p[0], false
	}
	if done {
		m.succeeded(m.queue.pop())
	}
	return !ours, nil
}

// answered does what must follow a message of the server's at once.
func (m *Mux) answered(typ byte, o *Outs) {
	m.fakes(&o.Client)
	if typ == wire.ReadyForQuery && m.queue.len() == 0 && m.srv.vars != m.vars {
		m.tell(&o.Client) // what could not be set
	}
}

// fit reports whether a server may say typ to a request, and whether that is its end.
func fit(h *item, typ byte) (done, fits bool) {
	switch typ {
	case wire.ParseComplete:
		return true, h.typ == wire.Parse
	case wire.BindComplete:
		return true, h.typ == wire.Bind
	case wire.CloseComplete:
		return true, h.typ == wire.Close
	case wire.ParameterDescription:
		return false, h.typ == wire.Describe
	case wire.NoData:
		return true, h.typ == wire.Describe
	case wire.RowDescription:
		return h.typ == wire.Describe, h.typ == wire.Describe || h.typ == wire.Query
	case wire.PortalSuspended:
		return true, h.typ == wire.Execute
	case wire.CommandComplete, wire.EmptyQueryResponse:
		return h.typ == wire.Execute, h.typ == wire.Execute || h.typ == wire.Query
	case wire.DataRow, wire.CopyInResponse, wire.CopyOutResponse, wire.CopyData, wire.CopyDone:
		return false, h.typ == wire.Execute || h.typ == wire.Query
	case wire.FunctionCallResponse:
		return false, h.typ == wire.FunctionCall
	case wire.ReadyForQuery:
		return true, h.typ == wire.Sync || h.typ == wire.Query || h.typ == wire.FunctionCall
	}
	return false, false
}

// fakes gives the client the answers whose turn it is that no server gives.
func (m *Mux) fakes(client *Out) {
	for m.queue.len() > 0 {
		switch m.queue.head().typ {
		case fakedParse:
			client.add(wire.ParseComplete, 0, 0, 0, 4)
			m.known(m.queue.pop())
		case fakedClose:
			client.add(wire.CloseComplete, 0, 0, 0, 4)
			m.shared.Statements.drop(m.queue.pop().stmt)
		case copyEnd:
			m.queue.pop()
		default:
			return
		}
	}
}

// succeeded settles what was held for a request that is done.
func (m *Mux) succeeded(i item) {
	switch {
	case i.stmt == nil:
	case i.typ == wire.Query:
		m.shared.Statements.drop(i.stmt)
	case i.typ == wire.Parse && i.quiet && i.ours:
		m.there = true
	case i.typ == wire.Parse && m.srv != nil:
		m.srv.prepared.confirm(i.stmt)
		m.known(i)
	}
	if i.saved != nil {
		for _, s := range i.saved.names {
			m.shared.Statements.drop(s)
		}
		for _, s := range i.saved.there {
			m.shared.Statements.drop(s)
		}
	}
}

// known notes that a Parse of the client's is answered.
func (m *Mux) known(i item) {
	if !i.ours {
		delete(m.recent, i.name)
	}
}

// copyIn notes that the server reads COPY data now: Syncs that came before the end of the
// data are ignored by it.
func (m *Mux) copyIn() {
	n := 0
	for 1+n < m.queue.len() && m.queue.at(1+n).typ == wire.Sync {
		n++
	}
	m.queue.remove(1, n)
	m.ignored += n
	m.copying = false
	switch {
	case m.queue.len() == 1:
		m.copying = true
	case m.queue.at(1).typ == copyEnd:
		m.queue.remove(1, 1)
	}
	if n > 0 && m.queue.len() == 1 {
		m.open = true // its Sync is still to come
	}
}

// reported takes a parameter's new value.
func (m *Mux) reported(p []byte) (pass bool, err error) {
	name, value, err := wire.ParseParameterStatus(p)
	if err != nil {
		return false, err
	}
	told := m.srv.vars == m.vars
	m.srv.vars = m.shared.vars.with(m.srv.vars, name, value)
	if m.queue.len() > 0 && m.queue.head().ours {
		return false, nil
	}
	if trackedBit(bytes.ToLower([]byte(name))) == 0 {
		m.keep(Setting)
	} else if !plainText(value) {
		m.keep(Setting)
	}
	if told {
		m.vars = m.srv.vars
	} else {
		m.vars = m.shared.vars.with(m.vars, name, value)
	}
	return true, nil
}

// completed looks at what a statement of the client says it did: a second look besides its
// form.
func (m *Mux) completed(tag []byte) {
	tag = bytes.TrimRight(tag, "\x00")
	switch string(tag) {
	case "LISTEN":
		m.keep(Listening)
	case "PREPARE":
		m.keep(Prepared)
	case "LOAD", "DO", "CALL":
		m.keep(Code)
	case "DEALLOCATE ALL", "DISCARD ALL":
		if m.queue.head().saved == nil {
			m.forgetAll()
		}
		if tag[1] == 'I' && m.alone() {
			m.pin = Nothing
		}
	}
}

// alone reports whether nothing was sent behind the request at the head but its own Sync.
func (m *Mux) alone() bool {
	return m.queue.len() == 1 && !m.open || m.queue.len() == 2 && m.queue.at(1).typ == wire.Sync && !m.open
}

// forgetAll: the server has no prepared statement any more but those sent behind.
func (m *Mux) forgetAll() {
	m.srv.prepared.clear()
	m.srv.unnamed = nil
	kept := map[string]*Statement{}
	for i := 1; i < m.queue.len(); i++ {
		switch it := m.queue.at(i); {
		case it.typ == wire.Parse && it.stmt != nil:
			m.srv.prepared.add(it.stmt, m.segment)
			if it.name != "" {
				kept[it.name] = it.stmt
			}
		case it.typ == wire.Parse && it.name == "":
			m.srv.unnamed, m.srv.version = m, m.unnamed.version
		}
	}
	for name, s := range m.names {
		if kept[name] != s {
			m.shared.Statements.drop(s)
			delete(m.names, name)
		}
	}
}
