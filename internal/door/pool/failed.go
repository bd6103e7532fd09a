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
		if h.stmt != nil {
			m.undo(h)
			m.queue.head().stmt = nil
		}
		return true, nil
	case wire.Sync, wire.FunctionCall:
		return true, nil
	}
	m.abandon()
	if h.ours && !last {
		m.srv.spoiled = true // it knows something else than was thought
	}
	return last || !h.quiet, nil
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
		m.unnamed.ok, m.srv.unnamed = false, nil
	case i.typ == wire.Parse && i.stmt != nil:
		m.srv.prepared.remove(i.stmt)
		m.unname(i)
	case i.typ == fakedParse:
		m.unname(i)
	case (i.typ == fakedClose || i.typ == wire.Query) && i.stmt != nil:
		if i.typ == wire.Query {
			m.srv.prepared.add(i.stmt)
		}
		if m.names[i.name] == nil {
			m.names[i.name] = i.stmt
		} else {
			m.shared.Statements.drop(i.stmt)
		}
	case i.typ == wire.Close && i.stmt != nil:
		m.srv.prepared.add(i.stmt)
		m.shared.Statements.drop(i.stmt)
	}
}

// unname forgets the client's name of a statement that was not prepared.
func (m *Mux) unname(i item) {
	if !i.ours && m.names[i.name] == i.stmt {
		delete(m.names, i.name)
		m.shared.Statements.drop(i.stmt)
	}
}
