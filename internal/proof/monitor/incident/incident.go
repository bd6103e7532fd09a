// Package incident keeps the monitor's incidents: what opened each, who judged it, which legal
// clocks run, and why it was closed.
//
// The invariant it keeps: nothing is changed or forgotten. The store is one append-only file of
// events, each bound to the one before by its hash; what an incident is now is their replay. A
// finding of the same rule about the same thing joins the incident that is open, so a flood of
// findings makes one incident. It implements the terms of GDPR art. 33 and NIS2 art. 23 as
// internal/rules/law holds them (docs/design/incidents.md).
//
// It decides nothing: which clock applies is a person's judgement, and until one is made all of
// them run. It holds no column value and no statement literal, and must be given none.
package incident

import (
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Finding is something that should not be: what opens an incident, or joins the open one of the
// same Rule and Origin.
type Finding struct {
	Rule     string     `json:"rule"`             // what was broken, such as split-view; lower case, digits and hyphens
	Origin   string     `json:"origin"`           // what it is about: a log's origin, a dataset, a cluster, a principal's pseudonym
	Reason   string     `json:"reason"`           // one plain sentence, without a value or a literal
	Baseline string     `json:"baseline"`         // what was expected instead, with its source; "" where it says itself
	Evidence []Evidence `json:"evidence"`         // what shows it; the same again adds nothing
	By       string     `json:"by,omitempty"`     // who opened it by hand; "" for the monitor itself
	At       time.Time  `json:"seen_at,omitzero"` // when it was seen; zero: now
}

// Evidence is one thing that shows a finding. At least one field is set.
type Evidence struct {
	Log   string  `json:"log,omitempty"`   // origin of a log
	Index *uint64 `json:"index,omitempty"` // of a record in it
	Text  string  `json:"text,omitempty"`  // a signed text, or what a probe was told; at most 64 KiB
}

// State says how far an incident is. The zero value is none.
type State string

// States of an incident.
const (
	StateOpen    State = "open"    // nobody has looked at it
	StateTriaged State = "triaged" // a person judged it; clocks that apply run on
	StateClosed  State = "closed"
)

// Incident is what the events say of one incident.
type Incident struct {
	ID       string     `json:"id"`
	State    State      `json:"state"`
	Rule     string     `json:"rule"`
	Origin   string     `json:"origin,omitempty"`
	Reason   string     `json:"reason"`
	Baseline string     `json:"baseline,omitempty"`
	Opened   time.Time  `json:"opened"`
	By       string     `json:"opened_by"` // "monitor", or who did it by hand
	Aware    time.Time  `json:"aware"`     // from when the clocks count: when it was opened, until a triage says otherwise
	Seen     time.Time  `json:"last_seen"`
	Count    uint64     `json:"findings"`          // findings that joined it, with the first
	Evidence []Evidence `json:"evidence"`          // at most MaxEvidence; Count goes on
	Before   string     `json:"before,omitempty"`  // the closed incident of the same rule and origin
	Clocks   []Term     `json:"clocks"`            // in the order of the law's data
	History  []Step     `json:"history"`           // what persons did
	Closed   time.Time  `json:"closed,omitzero"`   //
	Outcome  string     `json:"outcome,omitempty"` // why it was closed
}

// Term is one clock of an incident.
type Term struct {
	Clock   law.Clock `json:"clock"`
	Due     time.Time `json:"due"`               // while the duty it comes after is not done: as if that were done at its last moment
	Applies bool      `json:"applies"`           // true until a triage says no
	Why     string    `json:"why_not,omitempty"` // the triage's reason
	Met     time.Time `json:"met,omitzero"`      // when the duty was done
	How     string    `json:"how,omitempty"`     // where to, under which number
	Late    bool      `json:"late"`              // done after it was due, or not done and due before now
}

// Step is one thing that a person did with an incident.
type Step struct {
	At   time.Time `json:"at"`
	By   string    `json:"by"`
	What string    `json:"what"` // opened, triaged, met, closed
	Text string    `json:"text"`
}

// Bounds of what is kept. A finding beyond them is counted.
const (
	MaxEvidence = 100      // of one incident
	MaxOpen     = 2000     // incidents open at once; further ones join one incident of the rule RuleFlood
	MaxReason   = 2000     // bytes
	MaxText     = 64 << 10 // bytes of one piece of evidence
)

// RuleFlood is the rule of the incident that all join when MaxOpen are open.
const RuleFlood = "flood"

// Monitor is who opens what nobody opened by hand.
const Monitor = "monitor"

// terms computes an incident's clocks as they stand at now.
func terms(clocks []law.Clock, aware time.Time, judged map[string]judgement, met map[string]done, now time.Time) []Term {
	due := map[string]time.Time{}
	var out []Term
	for _, c := range clocks {
		start := aware
		if c.After != "" {
			start = due[c.After]
			if d, ok := met[c.After]; ok {
				start = d.at
			}
		}
		t := Term{Clock: c, Due: c.Due(start), Applies: true}
		due[c.ID] = t.Due
		if j, ok := judged[c.ID]; ok {
			t.Applies, t.Why = j.applies, j.why
		}
		if d, ok := met[c.ID]; ok {
			t.Met, t.How = d.at, d.how
		}
		t.Late = t.Applies && (t.Met.IsZero() && now.After(t.Due) || t.Met.After(t.Due))
		out = append(out, t)
	}
	return out
}

// judgement is what a triage found of one clock.
type judgement struct {
	applies bool
	why     string
}

// done is a duty that was done.
type done struct {
	at  time.Time
	how string
}
