package incident

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Types of event.
const (
	eventOpened  = "opened"
	eventSeen    = "seen"    // further findings
	eventTriaged = "triaged" // what a person judged
	eventMet     = "met"     // a duty was done
	eventClosed  = "closed"
	eventWarned  = "warned"  // half of a term is over and its duty not done
	eventOverdue = "overdue" // a term is over
)

// Event is one line of the store.
type Event struct {
	N        uint64     `json:"n"`    // from 1
	Prev     string     `json:"prev"` // hex SHA-256 of the line before, "" of the first
	At       time.Time  `json:"at"`
	Type     string     `json:"type"`
	ID       string     `json:"id"`
	By       string     `json:"by"`
	Rule     string     `json:"rule,omitempty"`
	Origin   string     `json:"origin,omitempty"`
	Text     string     `json:"text,omitempty"`
	Baseline string     `json:"baseline,omitempty"`
	Evidence []Evidence `json:"evidence,omitempty"`
	More     uint64     `json:"more,omitempty"`   // findings counted by this event
	When     time.Time  `json:"when,omitzero"`    // seen, aware or met at
	Clock    string     `json:"clock,omitempty"`  // of met, warned, overdue
	Yes      []string   `json:"yes,omitempty"`    // clocks that a triage found to apply
	No       []string   `json:"no,omitempty"`     // and not to apply
	Before   string     `json:"before,omitempty"` // of opened
}

// kept is one incident in memory.
type kept struct {
	Incident
	clocks []law.Clock // the law of the day on which it was opened
	judged map[string]judgement
	met    map[string]done
	told   map[string]bool // warnings given
	known  map[string]bool // evidence
	more   uint64          // findings not written yet
	seen   time.Time       // newest sight not written yet
	wrote  time.Time       // last event
}

// key names an incident while it is open.
func key(rule, origin string) string { return rule + "\x00" + origin }

// key is equal for equal evidence.
func (e Evidence) key() string {
	enc, err := json.Marshal(e)
	if err != nil {
		return e.Log + "\x00" + e.Text
	}
	sum := sha256.Sum256(enc)
	return string(sum[:])
}

// apply changes the store by one event. The lock is held.
func (s *Store) apply(e *Event) error {
	if e.Type == eventOpened {
		return s.applyOpened(e)
	}
	k := s.byID[e.ID]
	if k == nil {
		return fmt.Errorf("%w: event %d is of no incident", errCorrupt, e.N)
	}
	k.wrote = e.At
	switch e.Type {
	case eventSeen:
		k.Count += e.More
		k.add(e.Evidence)
		k.Seen = later(k.Seen, e.When)
	case eventTriaged:
		if k.State == StateOpen {
			k.State = StateTriaged
		}
		if !e.When.IsZero() {
			k.Aware = e.When
		}
		for _, id := range e.Yes {
			k.judged[id] = judgement{true, e.Text}
		}
		for _, id := range e.No {
			k.judged[id] = judgement{false, e.Text}
		}
		k.step(e, e.Text)
	case eventMet:
		k.met[e.Clock] = done{e.When, e.Text}
		k.step(e, e.Clock+": "+e.Text)
	case eventClosed:
		k.State, k.Closed, k.Outcome = StateClosed, e.At, e.Text
		k.step(e, e.Text)
		delete(s.open, key(k.Rule, k.Origin))
	case eventWarned, eventOverdue:
		k.told[e.Type+e.Clock] = true
	default:
		return fmt.Errorf("%w: event %d is of an unknown type", errCorrupt, e.N)
	}
	return nil
}

func (s *Store) applyOpened(e *Event) error {
	if s.byID[e.ID] != nil {
		return fmt.Errorf("%w: event %d opens an incident again", errCorrupt, e.N)
	}
	clocks, err := law.Clocks(e.At)
	if err != nil {
		return err
	}
	k := &kept{Incident: Incident{ID: e.ID, State: StateOpen, Rule: e.Rule, Origin: e.Origin, Reason: e.Text, Baseline: e.Baseline, Opened: e.At,
		By: e.By, Aware: e.At, Seen: later(e.When, e.At), Count: 1, Before: e.Before}, clocks: clocks, judged: map[string]judgement{},
		met: map[string]done{}, told: map[string]bool{}, known: map[string]bool{}, wrote: e.At}
	k.add(e.Evidence)
	k.step(e, e.Text)
	s.byID[e.ID] = k
	s.order = append(s.order, k)
	s.open[key(e.Rule, e.Origin)] = k
	s.last[key(e.Rule, e.Origin)] = e.ID
	return nil
}

// add keeps evidence that is new, up to MaxEvidence.
func (k *kept) add(evidence []Evidence) {
	for _, e := range evidence {
		if id := e.key(); !k.known[id] && len(k.Evidence) < MaxEvidence {
			k.known[id] = true
			k.Evidence = append(k.Evidence, e)
		}
	}
}

// fresh returns those of evidence that are not kept and have a place.
func (k *kept) fresh(evidence []Evidence) []Evidence {
	var out []Evidence
	for _, e := range evidence {
		if !k.known[e.key()] && len(k.Evidence)+len(out) < MaxEvidence {
			out = append(out, e)
		}
	}
	return out
}

func (k *kept) step(e *Event, text string) {
	k.History = append(k.History, Step{At: e.At, By: e.By, What: e.Type, Text: text})
}

// show is the incident as it stands at now.
func (k *kept) show(now time.Time) Incident {
	out := k.Incident
	out.Count += k.more
	out.Seen = later(out.Seen, k.seen)
	out.Evidence = append([]Evidence{}, k.Evidence...)
	out.History = slices.Clone(k.History)
	if k.State == StateClosed {
		now = k.Closed
	}
	out.Clocks = terms(k.clocks, k.Aware, maps.Clone(k.judged), k.met, now)
	return out
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

func lineHash(line []byte) string {
	sum := sha256.Sum256(line)
	return hex.EncodeToString(sum[:])
}
