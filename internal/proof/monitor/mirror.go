package monitor

import (
	"fmt"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// knows reports whether the body of a record is in the journal.
func (m *Monitor) knows(log int, index uint64) bool {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	return m.state.records.has(recordKey{log, index})
}

// mirrored keeps a body that the log gave, which its leaf commits to, and draws what follows
// from it: it may only narrow what is permitted. It is durable once the journal's last entry is.
func (m *Monitor) mirrored(log int, index uint64, leaf [32]byte, b *trefoil.Body, rec trefoil.Record) error {
	now := m.now()
	outside := trefoil.Unpermitted(b) && m.zoneOf(b, now) != law.ZoneRegion
	s := m.state
	s.mu.Lock()
	if s.records.has(recordKey{log, index}) { // /permit was faster
		s.mu.Unlock()
		return nil
	}
	e := recordEntry(b, index, leaf, rec.Salt, now)
	found := m.audit(b, e, index)
	seq, err := m.step(e, rec.Body)
	if err == nil {
		m.anomalies.note(seq, e, b, true)
		if follow := consequence(b, e); follow != nil {
			_, err = m.step(follow, nil)
		}
	}
	s.mu.Unlock()
	if err != nil {
		return err
	}
	if outside {
		found = append(found, Finding{Rule: "unpermitted-outside", Text: "a record that says it went out without a permit is not of a session in the region"})
	}
	for _, x := range found {
		x.Origin, x.Index = b.Origin, &index
		m.finding(x)
	}
	return nil
}

// audit compares a mirrored record with what its session's records said. The lock is held.
func (m *Monitor) audit(b *trefoil.Body, e *entry, index uint64) []Finding {
	x := m.state.sessions[e.Session]
	if x == nil || e.Session == "" {
		return nil
	}
	var found []Finding
	if e.Unpermitted && b.Release != nil && (e.Chunk != x.next || e.Cumulative != x.total+e.Bytes) {
		found = append(found, Finding{Rule: "gap", Text: "an unpermitted chunk does not follow the one before"})
	}
	if b.Session == nil || b.Session.Event != "end" {
		return found
	}
	if b.Session.Released > x.total {
		found = append(found, Finding{Rule: "session-bytes", Text: fmt.Sprintf(
			"the session let out %d bytes and its permitted or unpermitted records hold %d", b.Session.Released, x.total)})
	}
	if b.Session.Covered > x.allowance {
		found = append(found, Finding{Rule: "session-allowance", Text: fmt.Sprintf(
			"the session let out %d bytes of catalog reads and was allowed %d", b.Session.Covered, x.allowance)})
	}
	return found
}

// consequence is what a mirrored record changes: a dropped dataset and a revoked grant give
// nothing any more. Nothing in a log can widen what is permitted.
func consequence(b *trefoil.Body, e *entry) *entry {
	switch {
	case b.Kind == trefoil.KindCatalog && b.Catalog.Event == "dropped" && b.Catalog.Definition != nil:
		return &entry{Type: entryDropped, At: e.At, Name: b.Catalog.Definition.Name}
	case (b.Kind == trefoil.KindRevocation || b.Kind == trefoil.KindApproval && b.Grant.Event == "denied") && b.Grant.Grant != "":
		return &entry{Type: entryRevoked, At: e.At, Name: b.Grant.Grant}
	}
	return nil
}

// zoneOf places a session by the monitor's own copy of who it is.
func (m *Monitor) zoneOf(b *trefoil.Body, now time.Time) law.Zone {
	var a *trefoil.Access
	switch {
	case b.Release != nil:
		a = &b.Release.Access
	case b.Session != nil:
		a = &b.Session.Access
	default:
		return law.ZoneUnknown
	}
	who, set := m.book().principal(a.Principal, b.At, now), m.book().datasets[a.Dataset]
	if who == nil || set == nil {
		return law.ZoneUnknown
	}
	own, no := m.book().truth(who, a)
	if no != nil {
		return law.ZoneUnknown
	}
	return law.Assess(law.Access{Regimes: regimes(set, &trefoil.Definition{}), Exporter: m.book().exporter(), Importer: own.importer,
		Places: own.places, Class: law.ClassClear, Purpose: set.Purpose}, m.book().region, now).Zone
}

// unasked makes a finding of each record that needed a permit, did not say it went without,
// and was not asked for within the grace.
func (m *Monitor) unasked() {
	limit := m.now().Add(-m.book().grace).UnixMicro()
	var late []recordKey
	m.state.mu.Lock()
	for key, u := range m.state.unasked {
		if u.since <= limit {
			late = append(late, key)
			delete(m.state.unasked, key)
		}
	}
	m.state.mu.Unlock()
	slices.SortFunc(late, func(a, b recordKey) int { return int(int64(a.index) - int64(b.index)) })
	for _, key := range late {
		m.finding(Finding{Rule: "release-without-permit", Origin: m.rules.Logs[key.log].Origin, Index: &key.index,
			Text: "the log holds a record that needs a permit, and nobody asked for one"})
	}
}
