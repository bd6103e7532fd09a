package grant

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Why a request is no grant. The caller should show which, and for ErrMissing who is missing.
var (
	ErrMissing = errors.New("approvals are missing")
	ErrDenied  = errors.New("request was denied")
	ErrRevoked = errors.New("grant was revoked")
)

// Group is a set of approvers of whom Count different persons have to approve.
type Group struct {
	Name  string   `json:"name" yaml:"group"`
	Of    []string `json:"of" yaml:"of"`                 // approvers' names
	Count int      `json:"count" yaml:"count,omitempty"` // 0 counts as 1
}

// Rule says who has to approve requests for some purposes: every group of AllOf, and one of
// AnyOf if there is any. Within a rule a person counts for one group alone.
type Rule struct {
	Purposes []string `yaml:"purposes"`          // "*" for every purpose
	Outside  bool     `yaml:"outside,omitempty"` // only for principals who are not wholly in the region; added to the other rules
	AllOf    []Group  `yaml:"all_of,omitempty"`
	AnyOf    []Group  `yaml:"any_of,omitempty"`
}

// Fault is what is wrong with a rule, and where: "[0].all_of[1].of".
type Fault struct{ Path, Text string }

// Faults finds rules that nobody could satisfy, or that say less than they seem to.
func (b Book) Faults() []Fault {
	var out []Fault
	bad := func(path, format string, args ...any) { out = append(out, Fault{path, fmt.Sprintf(format, args...)}) }
	persons := b.persons()
	for i, r := range b.Rules {
		at := fmt.Sprintf("[%d]", i)
		if len(r.Purposes) == 0 {
			bad(at+".purposes", `names no purpose; "*" is every one`)
		}
		if len(r.AllOf)+len(r.AnyOf) == 0 {
			bad(at, "has no group: nobody could satisfy it")
		}
		for key, groups := range map[string][]Group{"all_of": r.AllOf, "any_of": r.AnyOf} {
			for j, g := range groups {
				path := fmt.Sprintf("%s.%s[%d]", at, key, j)
				different := map[int]bool{}
				for _, name := range g.Of {
					if p, known := persons[name]; known {
						different[p] = true
					} else {
						bad(path+".of", "%q is not one of the approvers", name)
					}
				}
				if g.Name == "" {
					bad(path+".group", "is missing: what the group is called")
				}
				if g.Count < 0 || max(g.Count, 1) > len(different) {
					bad(path+".count", "asks for %d different persons of %d", max(g.Count, 1), len(different))
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Fault) int { return strings.Compare(a.Path, b.Path) })
	return out
}

// ParseTerm reads the days (2026-01-31) or times (RFC 3339) from which and until which a key
// is in use; "" is without bound.
func ParseTerm(from, until string) (f, u time.Time, err error) {
	read := func(text string) (time.Time, error) {
		if text == "" {
			return time.Time{}, nil
		}
		if t, err := time.Parse(time.DateOnly, text); err == nil {
			return t, nil
		}
		t, err := time.Parse(time.RFC3339, text)
		if err != nil {
			return t, errors.New("read term of a key: neither a day such as 2026-01-31 nor a time of RFC 3339")
		}
		return t.UTC(), nil
	}
	if f, err = read(from); err != nil {
		return f, u, err
	}
	if u, err = read(until); err == nil && !u.IsZero() && !u.After(f) {
		err = errors.New("read term of a key: it ends before it begins")
	}
	return f, u, err
}

// Book is whose approvals count, and how many are needed. Without a rule for a purpose one
// approver of it is enough. The zero value approves nothing.
type Book struct {
	Approvers []Approver
	Rules     []Rule
}

// Missing is what a request still needs: one of Groups, each with the number of persons that
// it lacks.
type Missing struct {
	Groups []Group `json:"any_of"`
}

func (m Missing) String() string {
	var out []string
	for _, g := range m.Groups {
		out = append(out, fmt.Sprintf("%d of %s (%s)", g.Count, g.Name, strings.Join(g.Of, ", ")))
	}
	return strings.Join(out, " or ")
}

// Standing is what the answers to a request come to. The zero value is no grant.
type Standing struct {
	Request   Request
	Approvals []*Signed // that count, one an approver, sorted by name
	Notes     []string  // their envelopes
	Missing   []Missing // all of them are needed

	held bool
	err  error
}

// Held returns nil if the request is approved as the rules want and in force, at the time at
// which it was weighed; else why not.
func (s *Standing) Held() error {
	if s.held {
		return nil
	}
	if s.err == nil {
		return ErrMissing
	}
	return s.err
}

// Weigh tells what signed answers to r come to at now. Outside says that its principal is not
// wholly in the region. Answers to other requests, and those of nobody known, do not count.
func (b Book) Weigh(r Request, answers []string, outside bool, now time.Time) *Standing {
	s := &Standing{Request: r}
	var failed error
	for _, text := range answers {
		signed, err := Open(text, b.Approvers)
		if err == nil {
			err = signed.CheckAnswers(r)
		}
		if err == nil {
			err = s.take(signed, text, now)
		}
		if err != nil {
			failed = err
		}
	}
	if errors.Is(s.err, ErrDenied) || errors.Is(s.err, ErrRevoked) {
		return s
	}
	slices.SortFunc(s.Approvals, func(a, c *Signed) int { return strings.Compare(a.Approver.Name, c.Approver.Name) })
	s.Missing = b.missing(r, s.Approvals, outside)
	switch {
	case !now.Before(r.Until):
		s.err = fmt.Errorf("weigh grant: %w", ErrExpired)
	case now.Before(r.From):
		s.err = fmt.Errorf("weigh grant: %w", ErrNotYet)
	case len(s.Missing) > 0:
		s.err = fmt.Errorf("weigh grant: %w: %s", ErrMissing, strings.Join(words(s.Missing), "; "))
		if failed != nil {
			s.err = fmt.Errorf("%w (an answer does not count: %w)", s.err, failed)
		}
	default:
		s.held, s.err = len(s.Approvals) > 0, nil
	}
	return s
}

func words(all []Missing) (out []string) {
	for _, m := range all {
		out = append(out, m.String())
	}
	return out
}

// take counts one answer.
func (s *Standing) take(signed *Signed, text string, now time.Time) error {
	switch signed.Envelope.Kind {
	case KindDenial:
		s.err = fmt.Errorf("weigh grant: %w", ErrDenied)
		return nil
	case KindRevocation:
		s.err = fmt.Errorf("weigh grant: %w", ErrRevoked)
		return nil
	}
	r := s.Request
	if err := signed.Check(r.Principal, r.Dataset, r.Definition, now); err != nil {
		return err
	}
	if slices.ContainsFunc(s.Approvals, func(o *Signed) bool { return o.Approver.Name == signed.Approver.Name }) {
		return nil
	}
	s.Approvals, s.Notes = append(s.Approvals, signed), append(s.Notes, text)
	return nil
}

// missing asks every rule that there is for the request.
func (b Book) missing(r Request, approvals []*Signed, outside bool) []Missing {
	persons := b.persons()
	signed := map[int][]string{} // person → the names under which they approved
	for _, a := range approvals {
		p := persons[a.Approver.Name]
		signed[p] = append(signed[p], a.Approver.Name)
	}
	var out []Missing
	ordinary := false
	for _, rule := range b.Rules {
		if !covers(rule.Purposes, r.Purpose) || rule.Outside && !outside {
			continue
		}
		ordinary = ordinary || !rule.Outside
		out = append(out, rule.missing(signed)...)
	}
	if !ordinary {
		anyone := Group{Name: "the approvers", Count: 1}
		for _, a := range b.Approvers {
			if covers(a.Purposes, r.Purpose) && !slices.Contains(anyone.Of, a.Name) {
				anyone.Of = append(anyone.Of, a.Name)
			}
		}
		out = append(out, Rule{AllOf: []Group{anyone}}.missing(signed)...)
	}
	return out
}

// missing returns what the rule still needs: nothing if each place of its groups can be given
// to another person.
func (r Rule) missing(signed map[int][]string) []Missing {
	var out []Missing
	taken := places{signed: signed}
	for _, g := range r.AllOf {
		if n := taken.fill(g); n > 0 {
			out = append(out, Missing{[]Group{{Name: g.Name, Of: g.Of, Count: n}}})
		}
	}
	if len(r.AnyOf) == 0 {
		if len(r.AllOf) == 0 { // a rule without groups is satisfied by nobody
			out = append(out, Missing{[]Group{{Name: "nobody", Count: 1}}})
		}
		return out
	}
	var one Missing
	for _, g := range r.AnyOf {
		try := taken.clone()
		n := try.fill(g)
		if n == 0 {
			return out
		}
		one.Groups = append(one.Groups, Group{Name: g.Name, Of: g.Of, Count: n})
	}
	return append(out, one)
}

func covers(purposes []string, purpose string) bool {
	return slices.Contains(purposes, purpose) || slices.Contains(purposes, "*")
}
