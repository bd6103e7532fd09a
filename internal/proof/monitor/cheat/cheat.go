// Package cheat finds in the records what a cheat cannot help leaving there: a person behind a
// service's account, places that contradict each other, an employer in the region whose people
// are all elsewhere.
//
// The invariant it keeps: the same records in the same order, with or without restarts between
// them, give the same alerts, each with its rule, its bound and its records; memory is bounded by
// the numbers of principals and entities. It reads records and rules, no clock and no disk.
//
// It implements docs/design/cheats.md. It proves nothing by itself: a contradiction is a reason to
// ask, and the page says of each rule what else it can be.
package cheat

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/anomaly"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// The rules: a closed set.
const (
	RuleStatement = "service-statement"        // a statement that the service does not have
	RuleRows      = "service-rows"             // more rows in an hour than the service may read
	RuleUnparsed  = "service-unparsed"         // more statements in an hour that could not be told apart
	RuleUnlisted  = "service-unlisted"         // a service's account that the rules do not describe
	RulePlaces    = "place-contradiction"      // network and workplace are on two sides of the region's border
	RuleTravel    = "place-travel"             // two countries in less time than it takes to get there
	RuleWeaker    = "place-evidence-weaker"    // a place is attested by less than before
	RuleRestored  = "place-changed-and-back"   // a place changed, was used, and changed back
	RuleShell     = "place-employer-elsewhere" // nobody of an employer is ever where it is
)

// Rules lists every rule.
func Rules() []string {
	return []string{RuleStatement, RuleRows, RuleUnparsed, RuleUnlisted, RulePlaces, RuleTravel, RuleWeaker, RuleRestored, RuleShell}
}

// Bounds that do not depend on who is watched.
const (
	travelWindow  = 2 * time.Hour       // no border between two looks in it, unless they are neighbours on a line
	restoreWindow = 30 * 24 * time.Hour // a place that came back within it was lent
	shellSessions = 5                   // sessions from which an employer is judged
	maxPeople     = 20_000
	maxRefs       = 20
)

// Service is what the monitor knows of one service's account.
type Service struct {
	Principal    string   `yaml:"principal"`                   // id, as under principals
	Fingerprints []string `yaml:"fingerprints"`                // of its statements; "*": any
	RowsPerHour  int64    `yaml:"rows_per_hour"`               // ceiling
	Unparsed     int64    `yaml:"unparsed_per_hour,omitempty"` // statements that could not be told apart; default 0
}

// Config is what the rules say.
type Config struct {
	Services []Service
	Region   law.Region
	// Who maps a pseudonym to what stays the same from month to month, "" if it is unknown.
	Who func(pseudonym string, at time.Time) string
}

// Detector follows records. Its methods are not safe for concurrent use.
type Detector struct {
	c Config
	m memory
}

// memory is what a restart must not lose.
type memory struct {
	Services map[string]*hour   `json:"services"` // by principal
	People   map[string]*person `json:"people"`
	Entities map[string]*entity `json:"entities"`
	Told     map[string]int64   `json:"told"` // alert → day on which it was given last
}

// hour counts one service.
type hour struct {
	Hour     int64         `json:"hour"`
	Rows     int64         `json:"rows"`
	Unparsed int64         `json:"unparsed"`
	Records  []anomaly.Ref `json:"records"`
}

// New returns a detector with an empty memory.
func New(c Config) *Detector {
	d := &Detector{m: memory{Services: map[string]*hour{}, People: map[string]*person{}, Entities: map[string]*entity{}, Told: map[string]int64{}}}
	d.Use(c)
	return d
}

// Use puts other rules in force; the memory stays.
func (d *Detector) Use(c Config) {
	if c.Who == nil {
		c.Who = func(string, time.Time) string { return "" }
	}
	d.c = c
}

// Snapshot returns the memory.
func (d *Detector) Snapshot() ([]byte, error) {
	raw, err := json.Marshal(&d.m)
	if err != nil {
		return nil, fmt.Errorf("save the memory of cheats: %w", err)
	}
	return raw, nil
}

// Restore returns a detector with the memory that Snapshot gave.
func Restore(c Config, raw []byte) (*Detector, error) {
	d := New(c)
	if err := json.Unmarshal(raw, &d.m); err != nil {
		return nil, fmt.Errorf("restore the memory of cheats: %w", err)
	}
	if d.m.Services == nil || d.m.People == nil || d.m.Entities == nil || d.m.Told == nil {
		return nil, fmt.Errorf("restore the memory of cheats: a part is missing")
	}
	return d, nil
}

// sight is one record being looked at.
type sight struct {
	d      *Detector
	r      anomaly.Record
	a      *trefoil.Access
	at     time.Time
	who    string
	alerts []anomaly.Alert
}

// Observe takes one record and returns what it tips.
func (d *Detector) Observe(r anomaly.Record) []anomaly.Alert {
	a := access(r.Body)
	if a == nil || a.Principal == "" {
		return nil
	}
	s := &sight{d: d, r: r, a: a, at: r.Body.At.UTC(), who: a.Principal}
	if id := d.c.Who(a.Principal, r.Body.At); id != "" {
		s.who = "id:" + id
	}
	if len(d.m.Told) > 4*maxPeople {
		clear(d.m.Told)
	}
	switch b := r.Body; {
	case b.Summary != nil:
		s.summary(b.Summary)
	case b.Session != nil && b.Session.Event == "start":
		s.places()
	}
	return s.alerts
}

func access(b *trefoil.Body) *trefoil.Access {
	switch {
	case b.Summary != nil:
		return &b.Summary.Access
	case b.Session != nil:
		return &b.Session.Access
	}
	return nil
}

func (s *sight) ref() anomaly.Ref { return anomaly.Ref{Origin: s.r.Origin, Index: s.r.Index} }

// raise gives an alert, once a day for the same rule, principal and detail.
func (s *sight) raise(rule, detail, unit string, observed, threshold int64, records []anomaly.Ref, of int64) {
	day, key := s.at.Unix()/86400, rule+"\x00"+s.who+"\x00"+detail
	if last, told := s.d.m.Told[key]; told && last == day {
		return
	}
	s.d.m.Told[key] = day
	if len(records) == 0 || records[len(records)-1] != s.ref() {
		records = append(slices.Clone(records), s.ref())
	}
	s.alerts = append(s.alerts, anomaly.Alert{Rule: rule, At: s.at, Principal: s.a.Principal, Detail: detail, Unit: unit, Observed: observed,
		Threshold: threshold, Records: records, Of: max(of, int64(len(records)))})
}

// summary holds what a service did in an interval against what the rules say of it.
func (s *sight) summary(b *trefoil.SummaryBody) {
	id, known := cutID(s.who)
	i := slices.IndexFunc(s.d.c.Services, func(x Service) bool { return known && x.Principal == id })
	if i < 0 {
		if len(s.d.c.Services) > 0 { // without any the rules are not used
			s.raise(RuleUnlisted, "", "statements", int64(len(b.Statements)), 0, nil, 1)
		}
		return
	}
	rule := &s.d.c.Services[i]
	for _, x := range b.Statements {
		if !slices.Contains(rule.Fingerprints, "*") && !slices.Contains(rule.Fingerprints, x.Fingerprint) {
			s.raise(RuleStatement, x.Fingerprint, "calls", x.Calls, 0, nil, 1)
		}
	}
	now := s.at.Unix() / 3600
	h := s.d.m.Services[s.who]
	if h == nil || h.Hour != now {
		h = &hour{Hour: now}
		s.d.m.Services[s.who] = h
	}
	h.Rows += b.Rows
	h.Unparsed += b.Unparsed
	if len(h.Records) < maxRefs-1 {
		h.Records = append(h.Records, s.ref())
	}
	if h.Rows > rule.RowsPerHour {
		s.raise(RuleRows, fmt.Sprint(now), "rows in an hour", h.Rows, rule.RowsPerHour, h.Records, int64(len(h.Records)))
	}
	if h.Unparsed > rule.Unparsed {
		s.raise(RuleUnparsed, fmt.Sprint(now), "statements that could not be told apart in an hour", h.Unparsed, rule.Unparsed, h.Records, int64(len(h.Records)))
	}
}

func cutID(who string) (string, bool) {
	if len(who) > 3 && who[:3] == "id:" {
		return who[3:], true
	}
	return "", false
}

// Learn makes from records what the rules could say of each service: every statement seen, and
// twice the most rows of an hour. A person reads it before it becomes a rule.
func Learn(records []anomaly.Record, who func(string, time.Time) string) []Service {
	type seen struct {
		prints map[string]bool
		hours  map[int64]int64
	}
	all := map[string]*seen{}
	for _, r := range records {
		b := r.Body.Summary
		if b == nil {
			continue
		}
		id := who(b.Access.Principal, r.Body.At)
		if id == "" {
			continue
		}
		if all[id] == nil {
			all[id] = &seen{map[string]bool{}, map[int64]int64{}}
		}
		for _, x := range b.Statements {
			all[id].prints[x.Fingerprint] = true
		}
		all[id].hours[r.Body.At.Unix()/3600] += b.Rows
	}
	var out []Service
	for id, x := range all {
		v := Service{Principal: id}
		for p := range x.prints {
			v.Fingerprints = append(v.Fingerprints, p)
		}
		for _, n := range x.hours {
			v.RowsPerHour = max(v.RowsPerHour, 2*n)
		}
		slices.Sort(v.Fingerprints)
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b Service) int {
		if a.Principal < b.Principal {
			return -1
		}
		return 1
	})
	return out
}
