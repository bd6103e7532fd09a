// Package anomaly finds what is unusual in the records of one principal, by rules that a
// person can check by hand: each alert names its rule, what was seen, the baseline from the
// principal's own history, the threshold, and the records.
//
// The invariant it keeps: the same records in the same order, with or without restarts
// between them, give the same alerts; and memory is bounded by the number of principals,
// never by the number of records. It reads records and thresholds, no clock and no disk.
//
// It implements docs/design/anomalies.md. It sees no values and no literals: keys that follow
// each other are seen by what asking for them looks like, never by the keys.
package anomaly

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// The rules: a closed set.
const (
	RuleVolume     = "anomaly-volume"           // more rows or bytes in a day than ever before
	RulePurpose    = "anomaly-new-purpose"      // a purpose not used before
	RuleCountry    = "anomaly-new-country"      // a country not seen before
	RuleLookups    = "anomaly-enumeration"      // one statement, many answers of at most one row
	RuleMisses     = "anomaly-guessing"         // one statement, many answers without a row
	RulePages      = "anomaly-paging"           // one statement, many answers of the same size
	RuleHours      = "anomaly-off-hours"        // outside office hours, where the principal never worked
	RuleRefusals   = "anomaly-refusals"         // many refusals
	RuleDoors      = "anomaly-trying-doors"     // refusals at several datasets
	RuleReidentify = "anomaly-reidentification" // look-ups that go to and fro between two purposes
)

// Rules lists every rule.
func Rules() []string {
	return []string{RuleVolume, RulePurpose, RuleCountry, RuleLookups, RuleMisses, RulePages, RuleHours, RuleRefusals, RuleDoors, RuleReidentify}
}

// Record is one record of a watched log, in the order in which the monitor took it.
type Record struct {
	Origin  string
	Index   uint64
	Body    *trefoil.Body
	Refused bool // the monitor gave no permit
}

// Ref names a record.
type Ref struct {
	Origin string `json:"origin"`
	Index  uint64 `json:"index"`
}

// maxRefs bounds the records that an alert names: the first ones and the one that tipped it.
const maxRefs = 20

// Alert is one thing that is unusual.
type Alert struct {
	Rule      string    `json:"rule"`
	At        time.Time `json:"at"`        // the time of the record that tipped it
	Principal string    `json:"principal"` // as in that record: the pseudonym of its month
	Detail    string    `json:"detail"`    // what of: a purpose, a country, a fingerprint
	Unit      string    `json:"unit"`      // of observed, baseline and threshold
	Observed  int64     `json:"observed"`
	Baseline  int64     `json:"baseline"`  // the most that the principal's history holds
	Threshold int64     `json:"threshold"` // at or above it: an alert
	Days      int       `json:"days"`      // active days that the history has
	Records   []Ref     `json:"records"`   // at most 20: the first, and the one that tipped it
	Of        int64     `json:"of"`        // how many records it is about
}

// Text says the alert in one sentence.
func (a *Alert) Text() string {
	what := a.Rule
	if a.Detail != "" {
		what += " (" + a.Detail + ")"
	}
	if a.Days == 0 && a.Baseline == 0 { // a bound that does not come from their history
		return fmt.Sprintf("%s: %s: %d %s; bound %d; %d records", what, a.Principal, a.Observed, a.Unit, a.Threshold, a.Of)
	}
	return fmt.Sprintf("%s: %s: %d %s; most in %d days of their own history: %d; threshold %d; %d records",
		what, a.Principal, a.Observed, a.Unit, a.Days, a.Baseline, a.Threshold, a.Of)
}

// MaxPeople bounds how many principals are remembered; the ones not seen longest go first.
const MaxPeople = 20_000

// Detector follows records. Its methods are not safe for concurrent use.
type Detector struct {
	rules  *Thresholds
	zone   *time.Location
	who    func(pseudonym string, at time.Time) string
	people map[string]*person
}

// New returns a detector with an empty memory. who maps a pseudonym to what stays the same
// from month to month; nil, or an answer of "": the pseudonym itself, whose history begins
// anew each month.
func New(t *Thresholds, who func(pseudonym string, at time.Time) string) *Detector {
	if who == nil {
		who = func(string, time.Time) string { return "" }
	}
	rules := t.withDefaults()
	return &Detector{rules: rules, zone: rules.Hours.zone(), who: who, people: map[string]*person{}}
}

// access returns what a record says of who looks, nil where it tells nothing here: services
// in the region have ceilings of their own.
func access(b *trefoil.Body) *trefoil.Access {
	switch {
	case b.Release != nil:
		return &b.Release.Access
	case b.Refusal != nil:
		return &b.Refusal.Access
	case b.Session != nil && b.Session.Path == "release" && b.Session.Event == "start":
		return &b.Session.Access
	}
	return nil
}

// Observe takes one record and returns what it tips.
func (d *Detector) Observe(r Record) []Alert {
	a := access(r.Body)
	if a == nil || a.Principal == "" {
		return nil
	}
	p := d.person(a.Principal, r.Body.At)
	o := &observation{d: d, p: p, r: r, a: a, at: r.Body.At.UTC()}
	o.day()
	switch {
	case r.Body.Refusal != nil || r.Refused:
		o.refused()
	case r.Body.Release != nil:
		o.habits()
		o.released(r.Body.Release)
	default:
		o.habits()
	}
	return o.alerts
}

// person finds or begins the memory of a principal.
func (d *Detector) person(pseudonym string, at time.Time) *person {
	key := "period:" + pseudonym
	if id := d.who(pseudonym, at); id != "" {
		key = "id:" + id
	}
	p := d.people[key]
	if p == nil {
		if len(d.people) >= MaxPeople {
			d.forget()
		}
		p = &person{}
		d.people[key] = p
	}
	p.Seen = max(p.Seen, at.Unix())
	return p
}

// forget drops the sixteenth part that was not seen for longest.
func (d *Detector) forget() {
	type old struct {
		key  string
		seen int64
	}
	all := make([]old, 0, len(d.people))
	for k, p := range d.people {
		all = append(all, old{k, p.Seen})
	}
	slices.SortFunc(all, func(a, b old) int {
		return cmp.Or(cmp.Compare(a.seen, b.seen), cmp.Compare(a.key, b.key))
	})
	for _, o := range all[:MaxPeople/16] {
		delete(d.people, o.key)
	}
}

// People is how many principals are remembered.
func (d *Detector) People() int { return len(d.people) }
