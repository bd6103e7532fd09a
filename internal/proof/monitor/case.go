package monitor

import (
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// ruleOf returns the rule that a definition is judged by, nil for none: that of its name; a
// case's is that of the dataset it is made of, wherever a case may be.
func (b *book) ruleOf(name string, d *trefoil.Definition) *DatasetRule {
	if d == nil {
		return b.datasets[name]
	}
	c, isCase := d.Case()
	if !isCase {
		return b.datasets[name]
	}
	parent := b.datasets[c.Of]
	if parent == nil {
		return nil
	}
	own := *parent
	own.Name, own.Cluster, own.Definition = d.Name, "inside", ""
	return &own
}

// derived returns those of the acknowledged definitions of a case's dataset that give exactly
// this definition of the case, and that the rules still allow.
func (b *book) derived(d *trefoil.Definition, acknowledged []definition) []definition {
	c, isCase := d.Case()
	set := b.datasets[c.Of]
	if !isCase || set == nil {
		return nil
	}
	own := trefoil.DefinitionHash(d)
	return slices.DeleteFunc(slices.Clone(acknowledged), func(p definition) bool {
		return trefoil.DefinitionHash(trefoil.CaseDefinition(p.d, c)) != own ||
			set.Definition != "" && set.Definition != p.hash || b.allows(set, p.d) != nil
	})
}

// caseDefined refuses the definition of a case that does not follow from its dataset's.
func (b *book) caseDefined(d *trefoil.Definition, acknowledged []definition, now time.Time) *refusal {
	c, isCase := d.Case()
	switch {
	case !isCase:
		return nil
	case len(b.derived(d, acknowledged)) == 0:
		return refuse(ruleDefinition, "GDPR art. 25(2)", "the case is not what any acknowledged definition of its dataset gives")
	case !now.Before(c.Until):
		return refuse(ruleCase, "GDPR art. 5(1)(e)", "the case is over")
	}
	return nil
}

// onCase judges an access to a case, beyond what holds for its dataset: it is derived from it,
// it is not over, it names who asks, and the record rests on its grant.
func (b *book) onCase(c *accessCase, who *Principal) *refusal {
	of, isCase := c.definition.Case()
	if !isCase {
		return nil
	}
	if no := b.caseDefined(c.definition, c.parents, c.now); no != nil {
		return no
	}
	switch {
	case !of.Opens(b.staffKey, who.ID, c.now):
		return refuse(ruleCase, "GDPR art. 29", "the case does not name this principal")
	case c.access.Grant != of.Grant:
		return refuse(ruleGrant, "GDPR art. 25(2)", "the record does not rest on the grant that the case is for")
	}
	return nil
}

// covers reports whether a signed grant is in force for this principal and what is opened. The
// grant of a case is for the dataset that it is made of, as that was defined when it was asked for.
func (b *book) covers(c *accessCase, s *grant.Signed, who *Principal) bool {
	of, isCase := c.definition.Case()
	if !isCase {
		return s.Check(who.ID, c.access.Dataset, c.access.Hashes.Dataset, c.now) == nil
	}
	return slices.ContainsFunc(b.derived(c.definition, c.parents), func(p definition) bool {
		return s.Check(who.ID, of.Of, p.hash, c.now) == nil
	})
}

// parents are the acknowledged definitions of the dataset that a case is made of. The state's
// lock is held.
func (s *state) parents(d *trefoil.Definition) []definition {
	if d == nil {
		return nil
	}
	c, isCase := d.Case()
	if !isCase {
		return nil
	}
	return slices.Clone(s.acks[c.Of])
}
