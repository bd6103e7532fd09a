package incident

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// How often a finding that goes on is written again: new counts, and sight alone.
const (
	countEvery = time.Minute
	sightEvery = time.Hour
)

var ruleName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// errText means that a text is empty, too long or not UTF-8.
var errText = errors.New("a reason is needed, of at most 2,000 bytes")

func checkText(text string) error {
	if strings.TrimSpace(text) == "" || len(text) > MaxReason || !utf8.ValidString(text) {
		return errText
	}
	return nil
}

// check refuses a finding that says nothing, and cuts evidence that is too long.
func (f *Finding) check() error {
	if !ruleName.MatchString(f.Rule) || len(f.Rule) > 100 || len(f.Origin) > 500 {
		return errors.New("a finding needs a rule of lower case letters, digits and hyphens")
	}
	if err := checkText(f.Reason); err != nil {
		return err
	}
	f.Evidence = slices.Clone(f.Evidence)
	for i := range f.Evidence {
		if len(f.Evidence[i].Text) > MaxText {
			f.Evidence[i].Text = strings.ToValidUTF8(f.Evidence[i].Text[:MaxText], "")
		}
	}
	if len(f.Evidence) > MaxEvidence {
		f.Evidence = f.Evidence[:MaxEvidence]
	}
	return nil
}

// Open opens an incident by a finding, or joins it to the open one of the same rule and origin.
// It returns the incident's id, and whether it is a new one. The incident is durable then; of a
// flood that joins, evidence is durable as long as it is new and has a place, the count within a
// minute.
func (s *Store) Open(f Finding) (id string, fresh bool, err error) {
	if err := f.check(); err != nil {
		return "", false, fmt.Errorf("open incident: %w", err)
	}
	err = s.change(func() error {
		k := s.open[key(f.Rule, f.Origin)]
		if k == nil && len(s.open) >= MaxOpen && f.By == "" {
			f = Finding{Rule: RuleFlood, Reason: "so many incidents are open that further findings join this one", At: f.At}
			k = s.open[key(f.Rule, f.Origin)]
		}
		if k != nil {
			id = k.ID
			return s.join(k, &f)
		}
		id, fresh = fmt.Sprintf("inc-%06d", len(s.order)+1), true
		by := f.By
		if by == "" {
			by = Monitor
		}
		return s.write(Event{Type: eventOpened, ID: id, By: by, Rule: f.Rule, Origin: f.Origin, Text: f.Reason, Baseline: f.Baseline,
			Evidence: f.Evidence, When: f.At.UTC(), Before: s.last[key(f.Rule, f.Origin)]})
	})
	if err != nil {
		return "", false, fmt.Errorf("open incident: %w", err)
	}
	return id, fresh, nil
}

// join counts a finding at an open incident. Evidence that the incident has is no new finding:
// a difference that a probe sees every half minute stays one.
func (s *Store) join(k *kept, f *Finding) error {
	k.seen = later(k.seen, later(f.At, s.now()).UTC())
	fresh := k.fresh(f.Evidence)
	if len(f.Evidence) == 0 || slices.ContainsFunc(f.Evidence, func(e Evidence) bool { return !k.known[e.key()] }) {
		k.more++
	}
	if len(fresh) > 0 {
		return s.seen(k, fresh)
	}
	return s.late(k, false)
}

// late writes what was only counted, if it is time to.
func (s *Store) late(k *kept, always bool) error {
	quiet := s.now().Sub(k.wrote)
	switch {
	case k.more > 0 && (always || quiet >= countEvery), k.seen.After(k.Seen) && (always || quiet >= sightEvery):
		return s.seen(k, nil)
	}
	return nil
}

func (s *Store) seen(k *kept, fresh []Evidence) error {
	e := Event{Type: eventSeen, ID: k.ID, By: Monitor, Evidence: fresh, More: k.more, When: k.seen}
	k.more, k.seen = 0, time.Time{}
	if err := s.write(e); err != nil {
		k.more, k.seen = e.More, e.When
		return err
	}
	return nil
}

// flush writes what was only counted. Both locks are held.
func (s *Store) flush(always bool) error {
	for _, k := range s.open {
		if err := s.late(k, always); err != nil {
			return err
		}
	}
	return nil
}

// Judgement is what a person found in triage. Clocks named in neither list go on as they were.
type Judgement struct {
	By      string
	Reason  string
	Aware   time.Time // from when the clocks count; zero: as before
	Applies []string  // clocks that apply
	Not     []string  // clocks that do not: Reason says why
}

// Triage records a person's judgement of an open incident.
func (s *Store) Triage(id string, j Judgement) error {
	return s.act("triage", id, j.By, j.Reason, func(k *kept) error {
		for _, c := range append(slices.Clone(j.Applies), j.Not...) {
			if !k.has(c) {
				return fmt.Errorf("no clock of the name %q", c)
			}
		}
		if j.Aware.After(s.now()) {
			return errors.New("awareness cannot be later than now")
		}
		return s.write(Event{Type: eventTriaged, ID: id, By: j.By, Text: j.Reason, When: j.Aware.UTC(), Yes: j.Applies, No: j.Not})
	})
}

// Meet records that a clock's duty was done at a time: how says where to and under which number.
func (s *Store) Meet(id, clock, by, how string, at time.Time) error {
	return s.act("meet clock", id, by, how, func(k *kept) error {
		if _, twice := k.met[clock]; twice || !k.has(clock) {
			return fmt.Errorf("no clock of the name %q that was not met yet", clock)
		}
		if at.IsZero() || at.After(s.now()) {
			return errors.New("the time of a notification cannot be later than now")
		}
		return s.write(Event{Type: eventMet, ID: id, By: by, Text: how, Clock: clock, When: at.UTC()})
	})
}

// CloseIncident closes an incident with a reason. It is not closed while a clock runs: its duty must
// have been done, or a triage have found that it does not apply.
func (s *Store) CloseIncident(id, by, reason string) error {
	return s.act("close", id, by, reason, func(k *kept) error {
		for _, c := range k.clocks {
			j, judged := k.judged[c.ID]
			if _, met := k.met[c.ID]; !met && (!judged || j.applies) {
				return fmt.Errorf("clock %s runs: neither was its duty done, nor did a triage find that it does not apply", c.ID)
			}
		}
		if err := s.late(k, true); err != nil {
			return err
		}
		return s.write(Event{Type: eventClosed, ID: id, By: by, Text: reason})
	})
}

// act is what the acts of persons have in common.
func (s *Store) act(what, id, by, text string, f func(k *kept) error) error {
	err := checkText(text)
	if err == nil && strings.TrimSpace(by) == "" {
		err = errors.New("who does it is missing")
	}
	if err == nil {
		err = s.change(func() error {
			k := s.byID[id]
			switch {
			case k == nil:
				return ErrUnknown
			case k.State == StateClosed && what != "meet clock":
				return ErrClosed
			}
			return f(k)
		})
	}
	if err != nil {
		return fmt.Errorf("%s incident %s: %w", what, id, err)
	}
	return nil
}

func (k *kept) has(clock string) bool {
	for _, c := range k.clocks {
		if c.ID == clock {
			return true
		}
	}
	return false
}

// Tick writes what was only counted, and the events of clocks: half a term over, a term over,
// each once. Call it every few seconds.
func (s *Store) Tick() error {
	return s.change(func() error {
		if err := s.flush(false); err != nil {
			return err
		}
		now := s.now()
		for _, k := range s.order {
			if k.State == StateClosed {
				continue
			}
			for _, t := range k.show(now).Clocks {
				if err := s.clock(k, t, now); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (s *Store) clock(k *kept, t Term, now time.Time) error {
	if !t.Applies || !t.Met.IsZero() {
		return nil
	}
	what := ""
	switch half := t.Due.Add(-t.Due.Sub(k.Aware) / 2); {
	case now.After(t.Due):
		what = eventOverdue
	case now.After(half):
		what = eventWarned
	}
	if what == "" || k.told[what+t.Clock.ID] {
		return nil
	}
	return s.write(Event{Type: what, ID: k.ID, By: Monitor, Clock: t.Clock.ID, When: t.Due, Text: t.Clock.Law + ": " + t.Clock.Duty})
}
