package monitor

import (
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Consider says what the monitor's own rules in dir find against a request before anybody of the
// monitor signs it: nil, or the reason. Nothing of it is believed that the rules know better: who
// the principal is, where they work, what the dataset may be. Whether the definition was
// acknowledged, and where the session then comes from, is judged at each permit.
func Consider(dir string, q grant.Request, now time.Time) (*trefoil.NoteReason, error) {
	r, err := LoadRules(dir)
	if err != nil {
		return nil, err
	}
	b, err := newBook(r, dir)
	if err != nil {
		return nil, err
	}
	return b.consider(q, now), nil
}

func (b *book) consider(q grant.Request, now time.Time) *refusal {
	i := slices.IndexFunc(b.principals, func(p Principal) bool { return p.ID == q.Principal })
	set := b.datasets[q.Dataset]
	switch {
	case i < 0:
		return refuse(rulePrincipal, "GDPR art. 32(4)", "the monitor knows no such principal")
	case set == nil:
		return refuse(ruleDataset, "GDPR art. 25(2)", "the monitor's rules name no such dataset")
	case set.Purpose != q.Purpose:
		return refuse(rulePurpose, "GDPR art. 5(1)(b)", "the dataset is not for this purpose")
	case set.Definition != "" && set.Definition != q.Definition:
		return refuse(ruleAcknowledged, "GDPR art. 25(2)", "the monitor's rules pin another definition of the dataset")
	case len(b.rules.Policies) > 0 && !slices.Contains(b.rules.Policies, q.Policy):
		return refuse(rulePolicy, "GDPR art. 24", "the monitor does not know the policy that it was asked under")
	case !now.Before(q.Until):
		return refuse(ruleGrant, "", "the request's time is over")
	}
	return b.opens(&b.principals[i], set, q.Subjects != "", now)
}

// opens looks for a rule that would let the principal open the dataset from where they work, in
// any of the classes that the rules name for it.
func (b *book) opens(who *Principal, set *DatasetRule, isCase bool, now time.Time) *refusal {
	entity := b.rules.Entities[who.Employer]
	asked := law.Access{Exporter: b.exporter(), Purpose: set.Purpose, Instruments: b.instruments(""),
		Importer: law.Entity{Name: party(who.Employer, entity).Entity, Country: entity.Country, Scopes: entity.Scopes},
		Places: []law.Place{{Source: law.Employer, Country: entity.Country}, {Source: law.Workplace, Country: who.Workplace},
			{Source: law.Network, Country: who.Workplace}}}
	for _, r := range set.Regimes {
		asked.Regimes = append(asked.Regimes, law.Regime(r))
	}
	no := refuse(ruleOpening, "GDPR art. 25(2)", "none of the monitor's rules opens this dataset to this principal from there")
	for _, class := range []law.Class{law.ClassPseudonymised, law.ClassClear} {
		if isCase && class != law.ClassClear {
			continue // a case is clear, whatever its forms
		}
		asked.Class = class
		found := law.Assess(asked, b.region, now)
		switch {
		case !found.Open:
			no = refuse(found.Rule, found.Law, floorText(found))
		case found.Zone != law.ZoneRegion && !slices.Contains(b.rules.Transfers, set.Purpose):
			no = refuse(rulePurpose, "GDPR art. 5(1)(b)", "this purpose is not one for which data may be read outside the region")
		case set.opening(who, found.Zone, class) != nil:
			return nil
		}
	}
	return no
}
