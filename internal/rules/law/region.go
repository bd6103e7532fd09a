package law

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Region is a set of countries. The zero value contains none.
type Region struct{ members map[string]bool }

// KnownCountry reports whether code is an assigned ISO 3166-1 alpha-2 code.
func KnownCountry(code string) bool { return Current().countries[code] }

// DefaultRegion is the EEA, the United Kingdom and Switzerland.
func DefaultRegion() Region {
	r, err := NewRegion([]string{"EEA", "GB", "CH"})
	if err != nil {
		panic(fmt.Sprintf("default region: %v", err)) // the names are in the embedded data; a test holds this
	}
	return r
}

// NewRegion returns the countries that names stand for: codes and the groups EEA, EU and UK.
// An unknown name is an error. No names give the empty region.
func NewRegion(names []string) (Region, error) {
	d, r := Current(), Region{members: map[string]bool{}}
	for _, n := range names {
		group, isGroup := d.groups[n]
		switch {
		case isGroup:
			for _, c := range group {
				r.members[c] = true
			}
		case d.countries[n]:
			r.members[n] = true
		default:
			return Region{}, fmt.Errorf("read region: unknown country or group %q", n)
		}
	}
	return r, nil
}

// Contains reports whether country is in r. "" never is.
func (r Region) Contains(country string) bool { return r.members[country] }

// Countries returns the members, sorted.
func (r Region) Countries() []string { return slices.Sorted(maps.Keys(r.members)) }

// Resident reports whether a subject counts as living in region at a time: they do now, or
// they left it less than 24 months before (DESIGN, Words: region and subject) for a country
// that is at home in no regime. Whoever now lives under another regime counts there alone,
// so that a dataset holds no subjects of a regime it does not name. Before is the country
// before the last recorded change, changed its time; both may be unknown ("" and zero). An
// unknown current country is no residence: use it to choose whom a dataset holds.
func Resident(current, before string, changed time.Time, region Region, at time.Time) bool {
	return Current().Resident(current, before, changed, region, at)
}

// Protected reports whether a subject's data must stay in region, or come home to it: they
// live there, they left it less than 24 months before, wherever to, or nobody knows where
// they live.
func Protected(current, before string, changed time.Time, region Region, at time.Time) bool {
	return Current().Protected(current, before, changed, region, at)
}

// Resident is the function of the same name over d.
func (d *Data) Resident(current, before string, changed time.Time, region Region, at time.Time) bool {
	if !d.countries[current] {
		return false
	}
	for _, home := range d.homes {
		if slices.Contains(home, current) {
			return region.Contains(current)
		}
	}
	return d.lives(current, before, changed, region, at)
}

// Protected is the function of the same name over d.
func (d *Data) Protected(current, before string, changed time.Time, region Region, at time.Time) bool {
	return !d.countries[current] || d.lives(current, before, changed, region, at)
}

// ProtectionMonths is how many months protection lasts after a subject left the region.
func (d *Data) ProtectionMonths() int { return d.protection }

// lives is residence with its 24 months, for a known current country.
func (d *Data) lives(current, before string, changed time.Time, region Region, at time.Time) bool {
	if region.Contains(current) {
		return true
	}
	// Outside now. An unknown country before, with a change on record, may have been inside.
	cameFrom := region.Contains(before) || (!d.countries[before] && !changed.IsZero())
	if !cameFrom {
		return false
	}
	// A departure without a date never runs out: nothing says when it began.
	return changed.IsZero() || at.Before(changed.AddDate(0, d.protection, 0))
}

// RegimesOf returns the regimes that the data of subjects living in the given countries is
// exported under, sorted: the exporter's own (GDPR art. 3(1): establishment) and those of
// the residences (art. 3(2)). An unknown exporter or residence, or no residence at all
// (everybody), gives every regime: the strictest.
func RegimesOf(exporter string, residences []string) []Regime {
	return Current().RegimesOf(exporter, residences)
}

// RegimesOf is the function of the same name over d.
func (d *Data) RegimesOf(exporter string, residences []string) []Regime {
	if !d.countries[exporter] || len(residences) == 0 {
		return AllRegimes()
	}
	found := map[Regime]bool{}
	for _, name := range append([]string{exporter}, residences...) {
		members, isGroup := d.groups[name]
		if !isGroup {
			members = []string{name}
		}
		for _, c := range members {
			if !d.countries[c] {
				return AllRegimes()
			}
			for r, home := range d.homes {
				if slices.Contains(home, c) {
					found[r] = true
				}
			}
		}
	}
	if len(found) == 0 {
		return AllRegimes()
	}
	return slices.Sorted(maps.Keys(found))
}
