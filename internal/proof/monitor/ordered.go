package monitor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// orders is what officers ordered and what is in force of it. The state's lock guards it.
type orders struct {
	used    map[string]bool // ids of orders that were obeyed
	stops   []halt          // in force, oldest first
	pins    map[string]map[string]bool
	rules   string        // hash of the rules in force; "" while nobody may change them
	pending *pendingRules // rules that wait
}

// halt is one stop in force.
type halt struct {
	ID     string          `json:"id"`
	At     time.Time       `json:"at"`
	Reason string          `json:"reason"`
	Scope  *officers.Scope `json:"scope"`
}

type pendingRules struct {
	order  officers.Order
	hash   string
	file   []byte
	due    int64 // Unix seconds
	looser []string
}

func newOrders() *orders {
	return &orders{used: map[string]bool{}, pins: map[string]map[string]bool{}}
}

func (o *orders) stop(id string) *halt {
	i := slices.IndexFunc(o.stops, func(h halt) bool { return h.ID == id })
	if i < 0 {
		return nil
	}
	return &o.stops[i]
}

// all reports whether everything is stopped.
func (o *orders) all() bool {
	return slices.ContainsFunc(o.stops, func(h halt) bool { return h.Scope.All })
}

// over returns the oldest stop that covers an access, or nil.
func (o *orders) over(principal string, a *trefoil.Access, countries []string) *halt {
	for i := range o.stops {
		if o.stops[i].Scope.Covers(principal, a.Purpose, countries) {
			return &o.stops[i]
		}
	}
	return nil
}

// applyOrder changes what is in force by an order that was obeyed.
func (s *state) applyOrder(e *entry, raw []byte) error {
	var sub Submission
	if err := json.Unmarshal(raw, &sub); err != nil {
		return fmt.Errorf("decode order: %w", err)
	}
	o, err := officers.Read(sub.Order)
	if err != nil {
		return fmt.Errorf("decode order: %w", err)
	}
	s.orders.used[o.ID] = true
	switch o.Action {
	case officers.Stop:
		s.halt(halt{ID: o.ID, At: time.UnixMicro(e.At).UTC(), Reason: o.Reason, Scope: o.Scope})
	case officers.Resume:
		s.orders.stops = slices.DeleteFunc(s.orders.stops, func(h halt) bool { return slices.Contains(o.Stops, h.ID) })
		s.stopped = s.orders.all()
	case officers.Withdraw:
		s.orders.pending = nil
	case officers.Acknowledge:
		if s.orders.pins[o.Dataset] == nil {
			s.orders.pins[o.Dataset] = map[string]bool{}
		}
		s.orders.pins[o.Dataset][o.Definition] = true
	case officers.Rules:
		s.orders.pending = &pendingRules{order: o, hash: o.Rules, file: []byte(sub.Rules), due: e.Expires, looser: e.Looser}
	}
	return nil
}

// halt puts a stop in force: every permit of before is of an older epoch.
func (s *state) halt(h halt) {
	s.orders.stops = append(s.orders.stops, h)
	s.stopped = s.orders.all()
	s.epoch++
}

// applyRules notes that rules came into force: permits by the ones before are of an older epoch.
func (s *state) applyRules(e *entry) {
	if s.orders.rules != "" {
		s.epoch++
	}
	s.orders.rules, s.orders.pending = e.Hash, nil
}

// openOrders sees that the rules of the start are those that officers signed, then obeys what
// was ordered while no monitor ran, before anything is permitted.
func (m *Monitor) openOrders(context.Context, Config) error {
	if err := m.sealRules(); err != nil {
		return err
	}
	return errors.Join(m.announceKeys(), m.obey(), m.enforceDue(m.now()))
}

// errRulesUnsigned means that rules.yaml was edited. Once rules with officers were in force,
// only an order that officers signed changes them: put the file back (state/rules keeps it).
var errRulesUnsigned = errors.New("rules.yaml is not what officers signed")

// sealRules compares the file with what the journal says is in force. The first rules that name
// officers are taken as they are.
func (m *Monitor) sealRules() error {
	if m.rules.source == nil {
		return nil
	}
	hash, o := hashOf(m.rules.source), m.state.orders
	switch {
	case o.rules == hash:
		return nil
	case o.rules == "" && len(m.rules.Officers) == 0:
		return nil
	case o.rules == "":
	case o.pending != nil && o.pending.hash == hash && m.now().Unix() >= o.pending.due: // it was being put in place
	default:
		return errRulesUnsigned
	}
	if err := m.keepRules(hash, m.rules.source); err != nil {
		return err
	}
	return m.inForce(hash, m.book())
}

// keepRules stores a version of the rules for ever.
func (m *Monitor) keepRules(hash string, file []byte) error {
	dir := filepath.Join(m.dir, "state", "rules")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep rules: %w", err)
	}
	return writeFileSync(filepath.Join(dir, hash+".yaml"), file, 0o600)
}

// inForce enters the rules in the journal and judges by them from then on.
func (m *Monitor) inForce(hash string, b *book) error {
	m.state.mu.Lock()
	e := &entry{Type: entryRules, At: m.now().UnixMicro(), Hash: hash}
	if p := m.state.orders.pending; p != nil && p.hash == hash {
		e.Name, e.Note = p.order.ID, p.order.Reason
	}
	seq, err := m.step(e, nil)
	if err == nil {
		m.ruling.Store(b)
	}
	m.state.mu.Unlock()
	if err != nil {
		return err
	}
	return m.journal.wait(seq)
}

// enforceDue puts rules in force whose time has come. The order's lock is held, or the monitor
// is being opened.
func (m *Monitor) enforceDue(now time.Time) error {
	m.state.mu.Lock()
	p := m.state.orders.pending
	m.state.mu.Unlock()
	if p == nil || now.Unix() < p.due {
		return nil
	}
	other, err := ParseRules(RulesFile, p.file)
	if err != nil {
		return fmt.Errorf("put rules in force: %w", err)
	}
	b, err := newBook(other, m.dir)
	if err != nil {
		return fmt.Errorf("put rules in force: %w", err)
	}
	if err := errors.Join(m.keepRules(p.hash, p.file), writeFileSync(filepath.Join(m.dir, RulesFile), p.file, 0o600)); err != nil {
		return err
	}
	if err := m.inForce(p.hash, b); err != nil {
		return err
	}
	m.logger.Warn("other rules are in force", "rules", p.hash)
	return nil
}

// stopOf returns the stop that covers an access, by the monitor's own copy of who it is and by
// what the record says. The state's lock is held.
func (m *Monitor) stopOf(b *trefoil.Body, now time.Time) *refusal {
	o := m.state.orders
	if len(o.stops) == 0 {
		return nil
	}
	a, no := judged(b)
	if no != nil {
		a = &trefoil.Access{}
	}
	countries := []string{a.Importer.Country}
	for _, p := range a.Location {
		countries = append(countries, p.Country)
	}
	id, book := "", m.book()
	times := []time.Time{b.At, now}
	if x := m.state.sessions[a.Session]; x != nil {
		times = append(times, x.startAt)
	}
	if who := book.principal(a.Principal, times...); who != nil {
		id = who.ID
		countries = append(countries, who.Workplace, book.rules.Entities[who.Employer].Country)
	}
	h := o.over(id, a, countries)
	if h == nil {
		return nil
	}
	return refuse(ruleStopped, "", "the monitor has stopped this: "+h.Reason)
}

// setBackHalt stops everything when the monitor's own disk was set back: stops, revocations and
// ceilings may have been forgotten. Two officers resume; without officers it only is a finding.
func (m *Monitor) setBackHalt() {
	const reason = "the monitor's disk was restored from an older copy; what it had stopped may be forgotten"
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	if m.state.orders.rules == "" || slices.ContainsFunc(m.state.orders.stops, func(h halt) bool { return h.Reason == reason }) {
		return
	}
	o, err := officers.New(officers.Stop, m.rules.Name, reason, m.now())
	if err == nil {
		_, err = m.step(&entry{Type: entryHalt, At: m.now().UnixMicro(), Name: o.ID, Note: reason}, nil)
	}
	if err != nil {
		m.logger.Error("stop after the disk was set back", "error", err)
	}
}
