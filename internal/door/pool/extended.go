package pool

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// extended serves Parse, Bind, Describe, Close and Execute: the client's names of statements
// become the pool's, and a server that lacks a statement gets it first.
func (m *Mux) extended(g *message, o *Outs, first bool) error {
	if m.whole || g.typ == wire.Execute {
		m.ran = m.ran || g.typ == wire.Execute
		m.queue.push(item{typ: g.typ})
		m.forward(g, o)
		return nil
	}
	p := g.payload()
	switch g.typ {
	case wire.Parse:
		return m.parse(g, p, o, first)
	case wire.Bind:
		portal, rest, ok := wire.CString(p)
		name, _, named := wire.CString(rest)
		if !ok || !named {
			return errMalformed
		}
		m.bound(g, len(portal)+1, string(name), true, o, first)
	case wire.Describe, wire.Close:
		if len(p) < 2 || !g.whole() {
			return errMalformed
		}
		name, _, ok := wire.CString(p[1:])
		switch {
		case !ok:
			return errMalformed
		case p[0] != 'S':
			m.queue.push(item{typ: g.typ})
			m.forward(g, o)
		case g.typ == wire.Close:
			m.close(g, string(name), o)
		default:
			m.bound(g, 1, string(name), false, o, first)
		}
	}
	return nil
}

// errMalformed refuses a message whose names cannot be found within what is looked at.
var errMalformed = fmt.Errorf("%w: malformed message", wire.ErrFrame)

// parse serves Parse.
func (m *Mux) parse(g *message, p []byte, o *Outs, first bool) error {
	name, body, ok := wire.CString(p)
	sql, types, ended := wire.CString(body)
	if !ok || g.whole() && !ended {
		return errMalformed
	}
	if len(name) == 0 {
		shape := Shape{Pin: Large}
		if g.whole() {
			shape = Look(sql, m.srv.vars.plain, m.shared.Suspects)
		}
		m.parseUnnamed(g, body, types, shape, o, first)
		return nil
	}
	if old := m.names[string(name)]; old != nil {
		m.ensure(old, o) // the server says itself that there is one of this name
		m.queue.push(item{typ: wire.Parse, name: string(name)})
		m.rename(g, 0, len(name), old.name, o)
		return nil
	}
	if len(m.names) >= m.shared.Limits.Names {
		return fmt.Errorf("%w: %w: too many prepared statements", wire.ErrFrame, wire.ErrTooLarge)
	}
	s := m.statement(g, body)
	if m.names == nil {
		m.names = map[string]*Statement{}
	}
	m.names[string(name)] = s
	if m.recent == nil {
		m.recent = map[string]int{}
	}
	m.recent[string(name)] = m.segment
	m.sequences(s.shape, first, o)
	if m.srv.prepared.has(s) {
		if m.state == wire.FailedTx && m.queue.len() == 0 && !m.ran && !s.shape.Exits {
			m.queue.push(item{typ: wire.Parse, quiet: true, stmt: s, name: string(name)}) // the server refuses it itself
			m.rename(g, 0, len(name), s.name, o)
			return nil
		}
		m.queue.push(item{typ: fakedParse, stmt: s, name: string(name)})
		return nil
	}
	m.room(o)
	m.srv.prepared.add(s, m.segment)
	m.queue.push(item{typ: wire.Parse, stmt: s, name: string(name)})
	m.rename(g, 0, len(name), s.name, o)
	return nil
}

// statement finds the shared statement of a Parse; one that is too large to be looked at is
// nobody else's, and its server is kept.
func (m *Mux) statement(g *message, body []byte) *Statement {
	if !g.whole() {
		m.keep(Large)
		return m.shared.Statements.private()
	}
	shared, vars := m.shared, m.srv.vars
	return shared.Statements.use(vars.under, body, func(body string) Shape {
		sql, _, _ := strings.Cut(body, "\x00")
		return Look([]byte(sql), vars.plain, shared.Suspects)
	})
}

// parseUnnamed serves a Parse of the unnamed statement, and keeps it: the Bind may come in a
// later transaction, on another server.
func (m *Mux) parseUnnamed(g *message, body, types []byte, shape Shape, o *Outs, first bool) {
	m.sequences(shape, first, o)
	u := &m.unnamed
	u.ok, u.shape = true, shape
	u.version++
	if s := m.names[shape.Deallocate]; s != nil && shape.Deallocate != "" {
		m.ensure(s, o)
		delete(m.names, shape.Deallocate)
		m.srv.prepared.remove(s)
		m.shared.Statements.drop(s)
		u.body = append(append(append(u.body[:0], "DEALLOCATE "+s.name...), 0), types...)
		o.Server.add(parseMessage("", u.body)...)
	} else {
		if g.whole() {
			u.body = append(u.body[:0], body...)
		} else {
			m.keep(Large)
		}
		m.forward(g, o)
	}
	m.srv.unnamed, m.srv.version = m, u.version
	m.queue.push(item{typ: wire.Parse, version: u.version})
}

// bound serves a message that names a statement at an offset of its payload. runs: with it
// the statement is about to be executed.
func (m *Mux) bound(g *message, at int, name string, runs bool, o *Outs, first bool) {
	s := m.names[name]
	shape := Shape{Pin: Nothing}
	switch {
	case name == "":
		shape = m.unnamed.shape
	case s != nil:
		shape = s.shape
	}
	m.sequences(shape, first, o)
	switch {
	case name == "":
		m.ensureUnnamed(o)
		m.forward(g, o)
	case s != nil:
		m.ensure(s, o)
		m.rename(g, at, len(name), s.name, o)
	default:
		m.raw(g, at, name, o)
	}
	if runs {
		m.effects(shape)
		if shape.Forgets { // what it forgets is known when it is done
			m.srv.prepared.clear()
			m.srv.spoiled = true
		}
	}
	m.queue.push(item{typ: g.typ})
}

// raw passes on a name that the client did not prepare by a message: one prepared in SQL, or
// none. Never one of the pool's own.
func (m *Mux) raw(g *message, at int, name string, o *Outs) {
	if strings.HasPrefix(name, m.shared.Statements.prefix) {
		m.rename(g, at, len(name), "?"+name, o)
		return
	}
	m.forward(g, o)
}

// close serves Close of a statement. A shared one stays on the server.
func (m *Mux) close(g *message, name string, o *Outs) {
	s := m.names[name]
	if s != nil {
		delete(m.names, name)
		m.queue.push(item{typ: fakedClose, stmt: s, name: name})
		return
	}
	if name == "" {
		m.unnamed.ok, m.srv.unnamed = false, nil
	}
	m.raw(g, 1, name, o)
	m.queue.push(item{typ: wire.Close})
}

// ensure has the server know a statement.
func (m *Mux) ensure(s *Statement, o *Outs) {
	if !m.srv.prepared.has(s) {
		m.prepare(s, false, o)
	}
}

// prepare sends a statement that the server lacks; the client sees no answer, unless it is an
// error and not quiet.
func (m *Mux) prepare(s *Statement, quiet bool, o *Outs) {
	m.room(o)
	m.srv.prepared.add(s, m.segment)
	o.Server.add(parseMessage(s.name, []byte(s.body))...)
	m.queue.push(item{typ: wire.Parse, ours: true, quiet: quiet, stmt: s})
}

// room closes the statements that were not used for longest when the server has too many.
// That waits for a moment in which nothing that is under way can fail, or the Close might be
// skipped: until then a server has more.
func (m *Mux) room(o *Outs) {
	p := &m.srv.prepared
	if m.queue.len() == 0 {
		m.evict(p.used.Len()-m.shared.Limits.Statements+1, o)
	}
}

// evict closes up to n statements.
func (m *Mux) evict(n int, o *Outs) {
	p := &m.srv.prepared
	for ; n > 0; n-- {
		s := p.oldest()
		if s == nil {
			return
		}
		if s.body == "" { // it could not be sent again
			p.has(s)
			continue
		}
		o.Server.add(wire.AppendMessage(nil, wire.Close, append([]byte("S"+s.name), 0))...)
		m.queue.push(item{typ: wire.Close, ours: true})
		p.remove(s)
	}
}

// subject finds the statement that a message is about, if there is one already, and the
// client's name of it.
func (m *Mux) subject(g *message) (s *Statement, name string) {
	p := g.payload()
	switch g.typ {
	case wire.Parse:
		first, body, ok := wire.CString(p)
		if ok && g.whole() && len(first) > 0 {
			return m.shared.Statements.find(m.srv.vars.under, body), string(first)
		}
	case wire.Bind:
		_, rest, _ := wire.CString(p)
		first, _, _ := wire.CString(rest)
		return m.names[string(first)], string(first)
	case wire.Describe, wire.Close:
		if len(p) > 1 && p[0] == 'S' {
			first, _, _ := wire.CString(p[1:])
			return m.names[string(first)], string(first)
		}
	case wire.Query:
		if len(p) > 0 && p[0]|0x20 == 'd' {
			sql, _, _ := wire.CString(p)
			name = Look(sql, true, nil).Deallocate
			return m.names[name], name
		}
	}
	return nil, ""
}

// unsure reports whether a message must wait because it is about a statement or a name whose
// Parse was sent before the last Sync and may yet be refused: what the server has, or the name
// means, is not known.
func (m *Mux) unsure(g *message) bool {
	if m.whole || m.srv.prepared.pending == 0 && len(m.recent) == 0 {
		return false
	}
	m.about.stmt, m.about.name = m.subject(g)
	return m.unknown()
}

func (m *Mux) unknown() bool {
	if m.about.stmt != nil && m.srv.prepared.unsure(m.about.stmt, m.segment) {
		return true
	}
	at, recent := m.recent[m.about.name]
	return recent && at != m.segment
}

// ensureUnnamed has the server's unnamed statement be the client's, or none.
func (m *Mux) ensureUnnamed(o *Outs) {
	switch {
	case m.srv.unnamed == m && m.srv.version == m.unnamed.version && m.unnamed.ok:
	case m.unnamed.ok:
		o.Server.add(parseMessage("", m.unnamed.body)...)
		m.queue.push(item{typ: wire.Parse, ours: true, version: m.unnamed.version})
		m.srv.unnamed, m.srv.version = m, m.unnamed.version
	default: // somebody else's must not be taken for it
		o.Server.add(wire.AppendMessage(nil, wire.Close, []byte("S\x00"))...)
		m.queue.push(item{typ: wire.Close, ours: true})
		m.srv.unnamed = nil
	}
}

// rename passes a message on with the name at an offset of its payload replaced.
func (m *Mux) rename(g *message, at, length int, name string, o *Outs) {
	from := wire.HeaderSize + at
	o.Server.add(g.typ)
	var size [4]byte
	binary.BigEndian.PutUint32(size[:], uint32(g.total-1-length+len(name)))
	o.Server.add(size[:]...)
	o.Server.add(g.bytes[wire.HeaderSize:from]...)
	o.Server.buf = append(o.Server.buf, name...)
	if g.at >= 0 {
		o.Server.pass(g.at+from+length, g.at+len(g.bytes))
	} else {
		o.Server.add(g.bytes[from+length:]...)
	}
}

// parseMessage builds a Parse.
func parseMessage(name string, body []byte) []byte {
	return wire.AppendMessage(nil, wire.Parse, append(append([]byte(name), 0), body...))
}
