package law

import (
	"fmt"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// Zone is where a session counts as being. The zero value is unknown.
type Zone string

// Zones.
const (
	ZoneUnknown   Zone = "unknown"   // a country is not known: counts as not adequate
	ZoneRegion    Zone = "region"    // every place is in the region, and the regimes allow it
	ZoneAdequate  Zone = "adequate"  // every place is in the region or adequate
	ZoneElsewhere Zone = "elsewhere" // some place is neither
)

// Sources of a place. A session needs all three.
const (
	Employer  = "employer"
	Workplace = "workplace"
	Network   = "network"
)

// Entity is a legal entity: the exporter, or the importer (the principal's employer).
type Entity struct {
	Name    string
	Country string   // ISO 3166-1 alpha-2
	Scopes  []string // facts that scope tests ask for: us-dpf, ca-commercial, jp-appi, …
}

// Place is one country that a session counts as being in, by source.
type Place struct{ Source, Country string }

// Instrument is a registered tool of GDPR art. 46 with its transfer impact assessment.
type Instrument struct {
	ID       string
	Article  string // "46"
	Entity   string // the importer's name
	Purposes []string
	From     time.Time
	Until    time.Time // zero: no end set
	TIA      string    // version of the transfer impact assessment
	TIADate  time.Time
}

// Access is what the floor judges.
type Access struct {
	Regimes     []Regime // that the dataset's subjects may be exported under; none: all
	Exporter    Entity
	Importer    Entity
	Places      []Place
	Class       Class  // of the dataset
	Purpose     string // of the dataset
	Instruments []Instrument
}

// Assessment is the floor's answer. The zero value denies.
type Assessment struct {
	Open       bool // the floor lets this access open the dataset
	Zone       Zone
	MayHold    Class  // most revealing class that this access may open; NoClass: none
	Transfer   bool   // counts as a transfer (GDPR chapter V; EDPB 05/2021)
	Article    string // "45", "46", or "" when it is not a transfer or nothing allows it
	Instrument string // adequacy decisions or id of the art. 46 instrument relied on
	Found      *Instrument
	Rule       string   // closed set: see the Rule constants
	Law        string   // article behind Rule
	Reasons    []string // plain English, most important first
}

// Rules that an Assessment names.
const (
	RuleOpen       = "floor-open"          // allowed
	RuleForm       = "floor"               // the class shows more than the location may see
	RuleInstrument = "floor-no-instrument" // no registered art. 46 instrument covers the access
	RuleClass      = "floor-unknown-class" // the dataset has no known class
)

// Bound is the form that MayHold stands for: how much any value may show.
func (a Assessment) Bound() Form {
	switch a.MayHold {
	case ClassClear:
		return Clear
	case ClassPseudonymised:
		return Pseudonymised
	case ClassAggregate:
		return Aggregate
	}
	return Withheld
}

// Assess applies the floor (DESIGN, invariant 3) to an access at a time. The form follows
// location, whoever employs; whether the access counts as a transfer follows the legal
// entities. No policy can lift it.
func Assess(a Access, region Region, at time.Time) Assessment {
	return Current().Assess(a, region, at)
}

// Assess is the function of the same name over d.
func (d *Data) Assess(a Access, region Region, at time.Time) Assessment {
	out := Assessment{Zone: ZoneRegion}
	d.locate(&out, a, region, at)
	d.qualify(&out, a, at)
	switch {
	case out.Zone == ZoneRegion || out.Zone == ZoneAdequate:
		if !out.Transfer || out.Article != "" {
			out.MayHold = ClassClear
		}
	case !out.Transfer:
		// Not a transfer, but the place is not safe: art. 32 bounds the form.
		out.MayHold = ClassPseudonymised
	case out.Article == "46":
		out.MayHold = ClassPseudonymised
	default:
		out.MayHold = ClassAggregate
	}
	d.conclude(&out, a)
	return out
}

// locate sets the zone from all places: the strictest counts, a missing one is unknown.
func (d *Data) locate(out *Assessment, a Access, region Region, at time.Time) {
	seen := map[string]bool{}
	for _, p := range append(slices.Clone(a.Places), Place{Employer, a.Importer.Country}) {
		seen[p.Source] = seen[p.Source] || p.Source != Employer || d.countries[p.Country]
		zone, why := d.zoneOf(p, a, region, at)
		if rankZone(zone) > rankZone(out.Zone) {
			out.Zone = zone
		}
		if why != "" && !slices.Contains(out.Reasons, why) {
			out.Reasons = append(out.Reasons, why)
		}
	}
	for _, source := range []string{Employer, Workplace, Network} {
		if !seen[source] {
			out.Zone = ZoneUnknown
			out.Reasons = append(out.Reasons, fmt.Sprintf("the %s's country is unknown, which counts as not adequate", source))
		}
	}
}

// zoneOf places one country. A member of the region counts as such only while the regimes'
// own law lets data go there: a suspended decision closes the region's door too.
func (d *Data) zoneOf(p Place, a Access, region Region, at time.Time) (Zone, string) {
	if !d.countries[p.Country] {
		return ZoneUnknown, fmt.Sprintf("the %s's country is unknown, which counts as not adequate", p.Source)
	}
	decision := d.AdequateAll(a.Regimes, p.Country, a.Importer.Scopes, at)
	switch {
	case !decision.OK:
		return ZoneElsewhere, fmt.Sprintf("the %s's country %s is not adequate under %s law (%s)",
			p.Source, p.Country, decision.Regime, plainRule(decision))
	case region.Contains(p.Country):
		return ZoneRegion, ""
	}
	return ZoneAdequate, ""
}

// plainRule puts a refusal of AdequateAll into words.
func plainRule(dec Decision) string {
	switch dec.Rule {
	case "scope":
		return fmt.Sprintf("its decision covers only recipients with scope %v", dec.Scopes)
	case "suspended", "expired":
		return "its decision is " + dec.Rule
	case "not-yet":
		return "its decision is not in force yet"
	}
	return "no decision"
}

func rankZone(z Zone) int {
	return slices.Index([]Zone{ZoneRegion, ZoneAdequate, ZoneElsewhere, ZoneUnknown}, z)
}

// conclude compares the dataset's class with what the access may open.
func (d *Data) conclude(out *Assessment, a Access) {
	if sabotage.Active("floor") {
		out.Open, out.Rule = true, RuleOpen
		return
	}
	shows := map[Class]Form{ClassClear: Clear, ClassPseudonymised: Pseudonymised, ClassAggregate: Aggregate}[a.Class]
	switch {
	case !shows.Known():
		out.Rule, out.Law = RuleClass, "GDPR art. 25(2)"
		out.Reasons = append([]string{"the dataset has no known class"}, out.Reasons...)
	case Within(shows, out.Bound()):
		out.Open, out.Rule = true, RuleOpen
	case out.MayHold == ClassAggregate && a.Class == ClassPseudonymised:
		out.Rule = RuleInstrument
	default:
		out.Rule, out.Law = RuleForm, "GDPR art. 44; EDPB 01/2020 use cases 6 and 7"
		out.Reasons = append([]string{fmt.Sprintf(
			"a %s dataset shows more than the %s form that this location may see", a.Class, out.Bound())}, out.Reasons...)
	}
}
