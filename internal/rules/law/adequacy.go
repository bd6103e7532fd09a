package law

import (
	"slices"
	"time"
)

// Decision says whether a country counts as adequate under one or more regimes, and why.
// The zero value is no.
type Decision struct {
	OK        bool
	Domestic  bool     // the country is at home in every regime asked: no third country
	Rule      string   // domestic, adequate, no-decision, scope, not-yet, expired, suspended, unknown-country, unknown-regime
	Regime    Regime   // the regime that decided (for a refusal, the first that refuses)
	Reference string   // decisions relied on, or the one that does not apply
	Scopes    []string // scope tests that were relied on or would have to hold
}

// Adequate reports whether country is adequate under regime for a recipient with the given
// scopes at a time (GDPR art. 45; UK GDPR art. 45A; FADP art. 16(1) with DPO annex 1).
func Adequate(regime Regime, country string, scopes []string, at time.Time) Decision {
	return Current().Adequate(regime, country, scopes, at)
}

// AdequateAll reports whether country is adequate under every one of regimes. None, or an
// unknown one, counts as all of them: the strictest.
func AdequateAll(regimes []Regime, country string, scopes []string, at time.Time) Decision {
	return Current().AdequateAll(regimes, country, scopes, at)
}

// AdequateAll is the function of the same name over d.
func (d *Data) AdequateAll(regimes []Regime, country string, scopes []string, at time.Time) Decision {
	all := Decision{OK: true, Domestic: true}
	for _, r := range strictest(regimes) {
		one := d.Adequate(r, country, scopes, at)
		if !one.OK {
			return one
		}
		all.Domestic = all.Domestic && one.Domestic
		if !one.Domestic {
			all.Regime, all.Rule = r, one.Rule
			all.Scopes = append(all.Scopes, one.Scopes...)
			all.Reference = joinReference(all.Reference, one.Reference)
		}
	}
	if all.Domestic {
		all.Rule = "domestic"
	}
	return all
}

// Adequate is the function of the same name over d.
func (d *Data) Adequate(regime Regime, country string, scopes []string, at time.Time) Decision {
	switch {
	case !regime.Known():
		return Decision{Rule: "unknown-regime", Regime: regime}
	case !d.countries[country]:
		return Decision{Rule: "unknown-country", Regime: regime}
	case slices.Contains(d.homes[regime], country):
		return Decision{OK: true, Domestic: true, Rule: "domestic", Regime: regime}
	}
	no := Decision{Rule: "no-decision", Regime: regime}
	for _, row := range d.rows {
		if row.Regime != regime || (row.Country != country && !slices.Contains(d.groups[row.Country], country)) {
			continue
		}
		rule := row.test(scopes, at)
		found := Decision{OK: rule == "adequate", Rule: rule, Regime: regime, Reference: row.Reference}
		if row.Scope != "" {
			found.Scopes = []string{row.Scope}
		}
		if found.OK {
			return found
		}
		no = found
	}
	return no
}

// test returns "adequate", or the rule by which the row does not apply.
func (a Adequacy) test(scopes []string, at time.Time) string {
	switch {
	case at.Before(a.From.Time):
		return "not-yet"
	case !a.Suspended.IsZero() && !at.Before(a.Suspended.Time):
		return "suspended"
	case !a.Until.IsZero() && !at.Before(a.Until.Time):
		return "expired"
	case a.Scope != "" && !slices.Contains(scopes, a.Scope):
		return "scope"
	}
	return "adequate"
}

// strictest returns regimes, or all of them if they are none or hold an unknown one.
func strictest(regimes []Regime) []Regime {
	for _, r := range regimes {
		if !r.Known() {
			return AllRegimes()
		}
	}
	if len(regimes) == 0 {
		return AllRegimes()
	}
	return regimes
}

func joinReference(a, b string) string {
	switch {
	case a == "" || a == b:
		return b
	case b == "":
		return a
	}
	return a + "; " + b
}
