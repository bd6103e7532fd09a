package monitor

import (
	"maps"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Rules that a refusal names: a closed set (docs/design/monitor.md).
const (
	ruleStopped      = "stopped"
	ruleKind         = "kind"
	ruleClock        = "clock"
	rulePrincipal    = "unknown-principal"
	ruleDataset      = "unknown-dataset"
	ruleAcknowledged = "dataset-not-acknowledged"
	rulePurpose      = "purpose"
	ruleLying        = "lying-body"
	ruleOpening      = "no-rule-opens"
	ruleGrant        = "grant"
	ruleCase         = "case"
	rulePolicy       = "unknown-policy"
	ruleCeiling      = "ceiling"
	ruleSession      = "session"
	ruleReplay       = "replay"
	ruleGap          = "gap"
	ruleAccess       = "access-changed"
	ruleUnpermitted  = "unpermitted"
	ruleDefinition   = "definition"
	ruleDisk         = "storage"
	ruleValve        = "valve"
	ruleHours        = "office-hours"
)

// refusal is why not, in words that are safe to show. The zero value means nothing.
type refusal = trefoil.NoteReason

func refuse(rule, article, reason string) *refusal {
	return &refusal{Rule: rule, Law: article, Reason: reason}
}

// accessCase is one access to be judged, with what the monitor knows at that time.
type accessCase struct {
	access     *trefoil.Access
	recorded   time.Time           // the record's own time
	began      time.Time           // when the session began; zero if it begins now
	definition *trefoil.Definition // acknowledged under the record's hash; nil: none
	parents    []definition        // of a case: what was acknowledged of the dataset that it is made of
	evidence   []string            // signed notes
	release    *trefoil.ReleaseBody
	revoked    func(grantID string) bool
	now        time.Time
}

// judge applies the monitor's own rules to an access. It returns the zone the access counts
// as, and nil if it may go on. It believes nothing that it can look up.
func (b *book) judge(c *accessCase) (law.Zone, *refusal) {
	a := c.access
	who := b.principal(a.Principal, c.recorded, c.began, c.now)
	if who == nil {
		return law.ZoneUnknown, refuse(rulePrincipal, "GDPR art. 32(4)", "the monitor knows no such principal")
	}
	set := b.ruleOf(a.Dataset, c.definition)
	if set == nil {
		return law.ZoneUnknown, refuse(ruleDataset, "GDPR art. 25(2)", "the monitor's rules name no such dataset")
	}
	if r := b.known(set, c); r != nil {
		return law.ZoneUnknown, r
	}
	if r := b.onCase(c, who); r != nil {
		return law.ZoneUnknown, r
	}
	own, r := b.truth(who, a)
	if r != nil {
		return law.ZoneUnknown, r
	}
	class := classOf(c.definition)
	asked := law.Access{Regimes: regimes(set, c.definition), Exporter: b.exporter(), Importer: own.importer, Places: own.places,
		Class: class, Purpose: set.Purpose, Instruments: b.instruments("")}
	if a.Instrument.Article == "46" { // of several that would do, the record names one
		asked.Instruments = b.instruments(a.Instrument.ID)
	}
	found := law.Assess(asked, b.region, c.now)
	if !found.Open {
		return found.Zone, refuse(found.Rule, found.Law, floorText(found))
	}
	if r := b.sameInstrument(a.Instrument, found); r != nil {
		return found.Zone, r
	}
	if found.Zone != law.ZoneRegion && !slices.Contains(b.rules.Transfers, set.Purpose) {
		return found.Zone, refuse(rulePurpose, "GDPR art. 5(1)(b)", "this purpose is not one for which data may be read outside the region")
	}
	opening := set.opening(who, found.Zone, class)
	if opening != nil && opening.Hours && !b.hours.open(c.now) {
		return found.Zone, refuse(ruleHours, "GDPR art. 32(1)", "this dataset is opened in the monitor's office hours alone")
	}
	if opening == nil {
		return found.Zone, refuse(ruleOpening, "GDPR art. 25(2)", "none of the monitor's rules opens this dataset to this principal from there")
	}
	needs := opening.Grant || found.Zone != law.ZoneRegion && class != law.ClassPseudonymised
	return found.Zone, b.checkGrant(c, who, found.Zone, needs)
}

// known checks that the dataset's definition is one the monitor acknowledged, and that the
// record tells it as it is.
func (b *book) known(set *DatasetRule, c *accessCase) *refusal {
	a := c.access
	switch {
	case a.Purpose != set.Purpose:
		return refuse(rulePurpose, "GDPR art. 5(1)(b)", "the dataset is not for this purpose")
	case c.definition == nil:
		return refuse(ruleAcknowledged, "GDPR art. 25(2)", "the monitor has not acknowledged this definition of the dataset")
	case set.Definition != "" && set.Definition != a.Hashes.Dataset:
		return refuse(ruleAcknowledged, "GDPR art. 25(2)", "the monitor's rules pin another definition of the dataset")
	case !maps.EqualFunc(a.Forms, c.definition.Forms(), slices.Equal[[]string]):
		return refuse(ruleLying, "GDPR art. 5(2)", "the record's forms are not those of the definition")
	case len(b.rules.Policies) > 0 && !slices.Contains(b.rules.Policies, a.Hashes.Policy):
		return refuse(rulePolicy, "GDPR art. 24", "the monitor does not know the policy in force")
	case len(b.rules.Catalogs) > 0 && !slices.Contains(b.rules.Catalogs, a.Hashes.Catalog):
		return refuse(rulePolicy, "GDPR art. 24", "the monitor does not know the catalog in force")
	case len(b.rules.Binaries) > 0 && !slices.Contains(b.rules.Binaries, a.Hashes.Binary):
		return refuse(rulePolicy, "GDPR art. 32", "the monitor does not know the program that the gateway reports of itself")
	}
	// A definition that the rules no longer allow gives nothing, though it was acknowledged.
	return b.allows(set, c.definition)
}

// allows checks a definition against the dataset's rule.
func (b *book) allows(set *DatasetRule, d *trefoil.Definition) *refusal {
	class := classOf(d)
	switch {
	case d.Name != set.Name || d.Purpose != set.Purpose || d.Cluster != set.Cluster:
		return refuse(ruleDefinition, "GDPR art. 5(1)(b)", "name, purpose or cluster of the definition is not that of the monitor's rules")
	case class == law.NoClass:
		return refuse(ruleDefinition, "GDPR art. 25(2)", "the definition has no known class")
	case set.Cluster == "outside" && class != law.ClassPseudonymised:
		return refuse(ruleDefinition, "GDPR art. 44", "a dataset of the outside cluster must be pseudonymised")
	case !slices.ContainsFunc(set.Open, func(o Opening) bool { return class == law.ClassPseudonymised || o.Class == class }):
		return refuse(ruleDefinition, "GDPR art. 25(2)", "the definition shows more than any of the monitor's rules opens")
	case !subset(d.Regimes, set.Regimes):
		return refuse(ruleDefinition, "GDPR art. 44", "the definition holds subjects of a regime that the monitor's rules do not name")
	}
	return nil
}

// ownFacts are what the monitor itself knows of who asks and from where.
type ownFacts struct {
	importer law.Entity
	places   []law.Place
}

// truth compares parties and places with the monitor's own copy. Only the network's country
// is taken from the record, as a claim; without one it is unknown.
func (b *book) truth(who *Principal, a *trefoil.Access) (*ownFacts, *refusal) {
	entity := b.rules.Entities[who.Employer]
	importer := party(who.Employer, entity)
	if a.Importer != importer {
		return nil, refuse(ruleLying, "GDPR art. 5(2)", "the record's importer is not the principal's employer")
	}
	if a.Exporter != party("", b.rules.Exporter) {
		return nil, refuse(ruleLying, "GDPR art. 5(2)", "the record's exporter is not the one that the monitor knows")
	}
	own := map[string]string{law.Employer: entity.Country, law.Workplace: who.Workplace}
	f := &ownFacts{importer: law.Entity{Name: importer.Entity, Country: entity.Country, Scopes: entity.Scopes}}
	seen := map[string]bool{}
	for _, p := range a.Location {
		country, known := own[p.Source]
		if known && p.Country != country {
			return nil, refuse(ruleLying, "GDPR art. 5(2)", "the record's "+p.Source+" country is not the principal's")
		}
		if !known && p.Source != law.Network {
			return nil, refuse(ruleLying, "GDPR art. 5(2)", "the record has a place of unknown source")
		}
		seen[p.Source] = true
		f.places = append(f.places, law.Place{Source: p.Source, Country: p.Country})
	}
	if !seen[law.Employer] || !seen[law.Workplace] {
		return nil, refuse(ruleLying, "GDPR art. 5(2)", "the record leaves out where the principal is employed or works")
	}
	if !seen[law.Network] {
		f.places = append(f.places, law.Place{Source: law.Network})
	}
	return f, nil
}

func (b *book) exporter() law.Entity {
	return law.Entity{Name: b.rules.Exporter.Name, Country: b.rules.Exporter.Country, Scopes: b.rules.Exporter.Scopes}
}

// sameInstrument compares what the record says of the transfer with what the law gives.
func (b *book) sameInstrument(said trefoil.Instrument, found law.Assessment) *refusal {
	lie := refuse(ruleLying, "GDPR art. 5(2)", "the record's transfer or instrument is not what the monitor finds")
	if said.Transfer != found.Transfer || said.Article != found.Article {
		return lie
	}
	if found.Article != "46" {
		return nil
	}
	own, known := b.instrument(found.Instrument)
	if !known || said.ID != own.ID || said.Date != own.Date || said.TIA != own.TIA || said.TIADate != own.TIADate {
		return lie
	}
	return nil
}

// classOf judges a definition by its columns.
func classOf(d *trefoil.Definition) law.Class {
	held := make([]law.Held, len(d.Columns))
	for i, c := range d.Columns {
		held[i] = law.Held{Table: c.Table, Column: c.Column, Category: law.Category(c.Category), Trait: law.Trait(c.Trait),
			Form: law.Form(c.Form), Detail: c.Detail, Type: c.Type, Person: c.Table == d.Person}
	}
	class, _ := law.ClassOf(held, d.K)
	if _, isCase := d.Rows["case"]; isCase && class == law.ClassPseudonymised {
		return law.ClassClear // whoever named its few subjects knows who they are (GDPR art. 4(5))
	}
	return class
}

// regimes are those of the rule and of the definition: the strictest of both counts.
func regimes(set *DatasetRule, d *trefoil.Definition) []law.Regime {
	var out []law.Regime
	for _, r := range append(slices.Clone(set.Regimes), d.Regimes...) {
		if !slices.Contains(out, law.Regime(r)) {
			out = append(out, law.Regime(r))
		}
	}
	return out
}

// subset reports whether every one of some is in all; none at all is unknown, so it is not.
func subset(some, all []string) bool {
	return len(some) > 0 && !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// floorText says why the floor holds, in one sentence.
func floorText(a law.Assessment) string {
	if len(a.Reasons) == 0 {
		return "the location may not see what this dataset holds"
	}
	return a.Reasons[0]
}
