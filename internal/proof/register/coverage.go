package register

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// CoverageFile is coverage.yaml: every system that holds personal data, as the operator names
// them. Whether one is measured is never written there.
type CoverageFile struct {
	Version int      `yaml:"version"`
	Fresh   string   `yaml:"fresh,omitempty"` // how long after the last sight a system counts as measured; default 48h
	Systems []System `yaml:"systems"`
}

// System is one of them. One of SeenAs, Attested and NotCovered is set.
type System struct {
	Name       string       `yaml:"name"`
	Kind       string       `yaml:"kind"`                  // database, backup, object store, log, warehouse, SaaS, …
	Country    string       `yaml:"country"`               // where it is, "" unknown
	Holds      []string     `yaml:"holds"`                 // categories
	SeenAs     string       `yaml:"seen_as,omitempty"`     // "dataset NAME", "source NAME" or "log ORIGIN"
	Attested   *Attestation `yaml:"attested,omitempty"`    // somebody answers for it
	NotCovered string       `yaml:"not_covered,omitempty"` // why
}

// Attestation is who answers for what Trefoil cannot see.
type Attestation struct {
	By        string `yaml:"by"`
	At        string `yaml:"at"`    // YYYY-MM-DD
	Until     string `yaml:"until"` // first day on which it no longer counts
	Reference string `yaml:"reference"`
}

// ParseCoverage decodes coverage.yaml strictly. File is used in errors only.
func ParseCoverage(file string, src []byte) (*CoverageFile, error) {
	var c CoverageFile
	pos, err := strict.DecodeWithPositions(file, src, &c)
	errs := strict.All(file, err)
	want := func(ok bool, path, format string, args ...any) {
		if !ok {
			errs = append(errs, pos.Errorf(path, format, args...))
		}
	}
	want(c.Version == 1, "version", "must be 1")
	if c.Fresh != "" {
		d, err := time.ParseDuration(c.Fresh)
		want(err == nil && d > 0, "fresh", "must be a duration such as 48h")
	}
	seen := map[string]bool{}
	for i, s := range c.Systems {
		at := fmt.Sprintf("systems[%d]", i)
		want(s.Name != "" && !seen[s.Name], at+".name", "is missing or given twice")
		seen[s.Name] = true
		want(s.Kind != "", at+".kind", "is missing")
		want(s.Country == "" || len(s.Country) == 2 && strings.ToUpper(s.Country) == s.Country, at+".country", "must be an ISO 3166-1 alpha-2 country, or empty for unknown")
		want(len(s.Holds) > 0, at+".holds", "must name at least one category")
		for j, h := range s.Holds {
			want(law.Category(h).Known(), fmt.Sprintf("%s.holds[%d]", at, j), "is no category")
		}
		n := 0
		for _, set := range []bool{s.SeenAs != "", s.Attested != nil, s.NotCovered != ""} {
			if set {
				n++
			}
		}
		want(n == 1, at, "has exactly one of seen_as, attested and not_covered")
		sort, name, _ := strings.Cut(s.SeenAs, " ")
		want(s.SeenAs == "" || name != "" && slices.Contains([]string{"dataset", "source", "log"}, sort), at+".seen_as", "must be dataset, source or log, and its name")
		if a := s.Attested; a != nil {
			_, err1 := time.Parse(time.DateOnly, a.At)
			_, err2 := time.Parse(time.DateOnly, a.Until)
			want(a.By != "" && a.Reference != "" && err1 == nil && err2 == nil, at+".attested", "needs by, reference, and at and until as dates")
		}
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return &c, nil
}

// The words of the table.
const (
	Measured   = "measured"
	Attested   = "attested"
	NotCovered = "not covered"
)

// CoverageLine is one system in the table.
type CoverageLine struct {
	System   string   `json:"system"`
	Kind     string   `json:"kind"`
	Country  string   `json:"country"` // "" unknown
	Holds    []string `json:"holds"`
	Status   string   `json:"status"`          // measured, attested, not covered
	Why      string   `json:"why"`             // what was seen, who answers, or why not
	Named    bool     `json:"named"`           // in coverage.yaml
	LastSeen string   `json:"last_seen"`       // RFC 3339, "" never
	Seen     *Sight   `json:"sight,omitempty"` // what the records say of it
	SeenAs   string   `json:"seen_as,omitempty"`
}

// Sight is what the records say of one thing.
type Sight struct {
	Records  int64     `json:"records"`
	Rows     int64     `json:"rows"`     // of a dataset: at its last build or verification; of a source: read
	Subjects int64     `json:"subjects"` // of a dataset, likewise
	Bytes    int64     `json:"bytes"`    // of a source: read
	Event    string    `json:"event,omitempty"`
	At       time.Time `json:"at"`
	Holds    []string  `json:"holds,omitempty"`

	gone bool
}

// Look collects what the records say of datasets, sources and logs.
func Look(s Source) (map[string]*Sight, error) {
	all := map[string]*Sight{}
	names := map[string]string{} // definition hash → dataset
	at := func(name string, r *Record) *Sight {
		x := all[name]
		if x == nil {
			x = &Sight{}
			all[name] = x
		}
		x.Records++
		if r.Body.At.After(x.At) {
			x.At = r.Body.At.UTC()
		}
		return x
	}
	err := s(func(r *Record) error {
		at("log "+r.Origin, r)
		b := r.Body
		switch {
		case b.Catalog != nil:
			if d := b.Catalog.Definition; d != nil {
				names[b.Catalog.Hash] = d.Name
			}
			if name := names[b.Catalog.Hash]; name != "" {
				at("dataset "+name, r).catalog(b.Catalog)
			}
		case b.Summary != nil:
			x := at("source "+b.Summary.Access.Dataset, r)
			x.Rows += b.Summary.Rows
			x.Bytes += b.Summary.BytesOut
		case b.Release != nil && b.Release.Access.Dataset != "":
			at("dataset "+b.Release.Access.Dataset, r)
		}
		return nil
	})
	return all, err
}

func (x *Sight) catalog(c *trefoil.CatalogBody) {
	x.Event, x.gone = c.Event, c.Event == "dropped"
	if m := c.Measured; m != nil {
		x.Rows, x.Subjects = m.Rows, m.Subjects
	}
	if c.Definition != nil {
		x.Holds = nil
		for category := range c.Definition.Forms() {
			x.Holds = append(x.Holds, category)
		}
		slices.Sort(x.Holds)
	}
}

// BuildCoverage makes the table: what the file names, then what was seen and is not in it.
func BuildCoverage(s Source, c *CoverageFile, now time.Time) ([]*CoverageLine, error) {
	seen, err := Look(s)
	if err != nil {
		return nil, fmt.Errorf("build coverage: %w", err)
	}
	fresh := 48 * time.Hour
	if d, err := time.ParseDuration(c.Fresh); err == nil {
		fresh = d
	}
	lines := []*CoverageLine{}
	for _, sys := range c.Systems {
		l := &CoverageLine{System: sys.Name, Kind: sys.Kind, Country: sys.Country, Holds: sys.Holds, Named: true, SeenAs: sys.SeenAs}
		l.judge(&sys, seen, fresh, now)
		delete(seen, sys.SeenAs)
		lines = append(lines, l)
	}
	var rest []string
	for name, x := range seen {
		if !x.gone {
			rest = append(rest, name)
		}
	}
	slices.Sort(rest)
	for _, name := range rest {
		x := seen[name]
		sort, _, _ := strings.Cut(name, " ")
		l := &CoverageLine{System: name, Kind: sort, Holds: append([]string{}, x.Holds...), SeenAs: name}
		l.judge(&System{SeenAs: name}, seen, fresh, now)
		lines = append(lines, l)
	}
	return lines, nil
}

func (l *CoverageLine) judge(s *System, seen map[string]*Sight, fresh time.Duration, now time.Time) {
	l.Status = NotCovered
	switch x := seen[s.SeenAs]; {
	case s.Attested != nil:
		until, err := time.Parse(time.DateOnly, s.Attested.Until)
		l.Why = fmt.Sprintf("%s, %s, from %s until %s", s.Attested.By, s.Attested.Reference, s.Attested.At, s.Attested.Until)
		if err == nil && now.Before(until) {
			l.Status = Attested
		} else {
			l.Why = "the attestation has ended: " + l.Why
		}
	case s.NotCovered != "":
		l.Why = s.NotCovered
	case x == nil:
		l.Why = "no record says anything of " + s.SeenAs
	case x.gone:
		l.Why, l.Seen, l.LastSeen = "it was dropped", x, x.At.Format(time.RFC3339)
	case now.Sub(x.At) > fresh:
		l.Why, l.Seen, l.LastSeen = "no record since then", x, x.At.Format(time.RFC3339)
	default:
		l.Status, l.Seen, l.LastSeen = Measured, x, x.At.Format(time.RFC3339)
		l.Why = fmt.Sprintf("%d records", x.Records)
		if x.Event != "" {
			l.Why += fmt.Sprintf("; last %s, %d rows of %d subjects", x.Event, x.Rows, x.Subjects)
		}
	}
}
