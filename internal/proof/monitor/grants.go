package monitor

import (
	"errors"
	"slices"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// checkGrant looks for a grant where one is needed, and checks one that is claimed: with the
// monitor's own approvers and its own rules of how many of them there must be.
func (b *book) checkGrant(c *accessCase, who *Principal, zone law.Zone, needed bool) *refusal {
	a := c.access
	if !needed && a.Grant == "" {
		return nil
	}
	no := refuse(ruleGrant, "GDPR art. 25(2)", "no grant in force, signed by an approver whom the monitor knows, covers this principal and this definition")
	for _, r := range b.requested(c) {
		s := b.grants.Weigh(r, c.evidence, zone != law.ZoneRegion || b.outside(who), c.now)
		if err := s.Held(); err != nil {
			if errors.Is(err, grant.ErrMissing) && len(s.Approvals) > 0 {
				no.Reason = "approvals that the monitor's rules ask for are missing"
			}
			continue
		}
		if r.Purpose != a.Purpose || c.revoked(a.Grant) || !b.ofThis(c, s, who) || !named(a.Approvals, s) {
			continue
		}
		if r.Statement != "" && c.release != nil && !trefoil.KeepTo(r.Statement, c.release.Statements) {
			no.Reason = "the grant is for one statement, and the record names another"
			continue
		}
		return nil
	}
	return no
}

// requested are the requests of the access's grant in the evidence. An honest gateway sends one;
// approvals of different requests under one id do not add up.
func (b *book) requested(c *accessCase) (out []grant.Request) {
	for _, text := range c.evidence {
		s, err := grant.Open(text, b.grants.Approvers)
		if err != nil || s.Envelope.Request.ID != c.access.Grant {
			continue
		}
		if !slices.Contains(out, s.Envelope.Request) {
			out = append(out, s.Envelope.Request)
		}
	}
	return out
}

// ofThis reports whether the grant is the principal's, and for the definition: of a case's
// subjects for a case of these subjects alone.
func (b *book) ofThis(c *accessCase, s *grant.Standing, who *Principal) bool {
	of, isCase := c.definition.Case()
	if s.Request.Subjects != "" && (!isCase || s.Request.Subjects != of.Subjects) {
		return false
	}
	return b.covers(c, s.Approvals[0], who)
}

// named reports whether the record names every approval that counts.
func named(approvals []string, s *grant.Standing) bool {
	return !slices.ContainsFunc(s.Approvals, func(a *grant.Signed) bool { return !slices.Contains(approvals, a.Key) })
}

// outside reports whether a principal is not wholly in the region by the monitor's own copy.
func (b *book) outside(who *Principal) bool {
	return !b.region.Contains(b.rules.Entities[who.Employer].Country) || !b.region.Contains(who.Workplace)
}

// readApprovers makes the approvers of the rules ready.
func (b *book) readApprovers() error {
	b.grants.Rules = b.rules.Approvals
	for _, a := range b.rules.Approvers {
		v, err := grant.NewVerifier(a.Key)
		if err != nil {
			return err
		}
		known := grant.Approver{Name: a.Name, Verifier: v, Purposes: a.Purposes, Persons: a.Persons}
		if known.From, known.Until, err = grant.ParseTerm(a.From, a.Until); err != nil {
			return err
		}
		b.grants.Approvers = append(b.grants.Approvers, known)
	}
	return nil
}

// faults are what is wrong with the rules of who has to approve what.
func (r *Rules) faults() []grant.Fault { return r.approverBook().Faults() }

// approverBook is who may approve, and the rules of it, without terms and purposes: a key that
// cannot be read is missing there.
func (r *Rules) approverBook() grant.Book {
	book := grant.Book{Rules: r.Approvals}
	for _, a := range r.Approvers {
		known := grant.Approver{Name: a.Name, Persons: a.Persons}
		if v, err := grant.NewVerifier(a.Key); err == nil {
			known.Verifier = v
		}
		book.Approvers = append(book.Approvers, known)
	}
	return book
}
