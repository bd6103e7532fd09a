package monitor

import (
	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
)

// changesStops reports whether an entry may begin or end a stop of some sessions.
func (e *entry) changesStops() bool {
	return e.Type == entryOrder || e.Type == entryHalt || e.Type == entryRules
}

// credits are the lines of every open session that came through the valve. The lock is held.
func (s *state) credits() []credit.Line {
	var lines []credit.Line
	for name, x := range s.sessions {
		if x.valve != "" && x.closed == 0 {
			lines = append(lines, creditOf(name, x))
		}
	}
	return lines
}

// holdSessions finds the open sessions through the valve that a stop in force covers: what was
// credited to them before it must not pass either. The state's lock is held.
func (m *Monitor) holdSessions() {
	for _, x := range m.state.sessions {
		if x.valve != "" && x.closed == 0 {
			x.held = len(m.state.orders.stops) > 0 && m.covered(x)
		}
	}
}

// covered reports whether a stop covers a session, by its first record. What cannot be read
// is covered.
func (m *Monitor) covered(x *session) bool {
	r := m.state.records.get(recordKey{x.log, x.start})
	if r == nil {
		return true
	}
	raw, err := m.journal.read(r.body)
	if err != nil {
		return true
	}
	b, err := trefoil.DecodeBody(raw)
	return err != nil || m.stopOf(b, m.now()) != nil
}
