package monitor

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/anomaly"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/cheat"
)

var fingerprint = regexp.MustCompile(`^([0-9a-f]{16}|\*|)$`)

// cheatRules is what the rules in force say to the detector of cheats.
func (b *book) cheatRules() cheat.Config {
	return cheat.Config{Services: b.rules.Services, Region: b.region, Who: func(pseudonym string, at time.Time) string {
		if p := b.principal(pseudonym, at); p != nil {
			return p.ID
		}
		return ""
	}}
}

// validateServices checks the services' ceilings.
func (r *Rules) validateServices(c *checker) {
	seen := map[string]bool{}
	for i, s := range r.Services {
		at := fmt.Sprintf("services[%d]", i)
		known := slices.ContainsFunc(r.Principals, func(p Principal) bool { return p.ID == s.Principal && p.Service })
		c.want(known && !seen[s.Principal], at+".principal", "is no principal with service: true, or given twice")
		seen[s.Principal] = true
		c.want(len(s.Fingerprints) > 0, at+".fingerprints", `must name the service's statements, or "*"`)
		for j, f := range s.Fingerprints {
			c.want(fingerprint.MatchString(f), fmt.Sprintf("%s.fingerprints[%d]", at, j), `must be 16 hex digits, or "*"`)
		}
		c.want(s.RowsPerHour > 0, at+".rows_per_hour", "must be above zero")
		c.want(s.Unparsed >= 0, at+".unparsed_per_hour", "must not be negative")
	}
}

// LearnServices makes from the mirror in dir what rules.yaml could say under services: what each
// service did since a time. It changes nothing.
func LearnServices(dir string, since time.Time) ([]cheat.Service, error) {
	rules, err := LoadRules(dir)
	if err != nil {
		return nil, err
	}
	b, err := newBook(rules, dir)
	if err != nil {
		return nil, err
	}
	all, err := Records(dir)
	if err != nil {
		return nil, err
	}
	var records []anomaly.Record
	for _, r := range all {
		if r.Body.Kind == trefoil.KindSummary && !r.Body.At.Before(since) {
			records = append(records, anomaly.Record{Origin: r.Origin, Index: r.Index, Body: r.Body})
		}
	}
	return cheat.Learn(records, b.cheatRules().Who), nil
}
