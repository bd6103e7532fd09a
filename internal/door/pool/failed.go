package pool

import (
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// failed takes an error of the server into account: which requests it ends, and what they
// would have changed.
func (m *Mux) failed(p []byte) (pass bool, err error) {
	last := fatal(p)
	if last {
		m.srv.spoiled, m.srv.fatal = true, true
	}
	if m.queue.len() == 0 {
		if !last {
			return false, fmt.Errorf("%w: an error without a request", ErrDesync)
		}
		return true, nil
	}
	if m.copying || m.ignored > 0 {
		// Whether a Sync that lay in between counts is known to the server alone.
		m.srv.spoiled, m.copying, m.ignored = true, false, 0
	}
	h := *m.queue.head()
	switch h.typ {
	case wire.Query:
		if h.ours && !last {
			return false, fmt.Errorf("%w: the session's settings were refused", ErrDesync)
		}
		if h.stmt != nil || h.saved != nil {
			m.undo(h)
			m.queue.head().stmt, m.queue.head().saved = nil, nil
		}
		return true, nil
	case wire.Sync, wire.FunctionCall:
		return true, nil
	}
	m.abandon()
	if h.ours && !last {
		m.srv.spoiled = true // it knows something else than was thought
	}
	return last || !h.ours || !h.quiet, nil
}

// fatal reports whether an error is the server's last word. What cannot be read is taken for
// an ordinary one.
func fatal(p []byte) bool {
	if len(p) > inspected-wire.HeaderSize-1 { // not whole, perhaps: its fields begin with the severity
		p = append(append([]byte(nil), p[:64]...), 0, 0)
	}
	f, _ := wire.ParseFields(p)
	return f.Severity == "FATAL" || f.Severity == "PANIC"
}

// abandon drops the request that failed and what the server skips because of it, up to the
// next Sync.
func (m *Mux) abandon() {
	n := 0
	for n < m.queue.len() && m.queue.at(n).typ != wire.Sync {
		n++
	}
	for i := n - 1; i >= 0; i-- {
		m.undo(*m.queue.at(i))
	}
	m.skip = n == m.queue.len()
	m.queue.remove(0, n)
}

// undo takes back what a request that was not carried out would have changed.
func (m *Mux) undo(i item) {
	switch {
	case i.typ == wire.Parse && i.stmt == nil && i.name == "":
		if m.unnamed.version == i.version {
			m.unnamed.ok = false
		}
		if m.srv.version == i.version {
			m.srv.unnamed = nil
		}
	case i.typ == wire.Parse && i.stmt != nil:
		if !i.quiet || i.ours {
			m.srv.prepared.remove(i.stmt)
		}
		m.unname(i)
	case i.typ == fakedParse:
		m.unname(i)
	case (i.typ == fakedClose || i.typ == wire.Query) && i.stmt != nil:
		if i.typ == wire.Query && (!i.quiet || m.there) {
			m.srv.prepared.add(i.stmt, m.segment)
			m.srv.prepared.confirm(i.stmt)
		}
		m.restore(i.name, i.stmt)
	case i.typ == wire.Query && i.saved != nil:
		for _, s := range i.saved.there {
			m.srv.prepared.add(s, m.segment)
			m.srv.prepared.confirm(s)
			m.shared.Statements.drop(s)
		}
		for name, s := range i.saved.names {
			m.restore(name, s)
		}
		m.srv.spoiled = true // something may have been sent behind it that does not hold now
	}
}

// restore gives the client a name back.
func (m *Mux) restore(name string, s *Statement) {
	if m.names[name] != nil {
		m.shared.Statements.drop(s)
		return
	}
	if m.names == nil {
		m.names = map[string]*Statement{}
	}
	m.names[name] = s
}

// unname forgets the client's name of a statement that was not prepared.
func (m *Mux) unname(i item) {
	m.known(i)
	if !i.ours && m.names[i.name] == i.stmt {
		delete(m.names, i.name)
		m.shared.Statements.drop(i.stmt)
	}
}
