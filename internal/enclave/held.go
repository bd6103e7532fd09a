package enclave

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// heldGrant is a grant in force with what its answers came to.
type heldGrant struct {
	request grant.Request
	*grant.Standing
}

// held looks for a grant in force. A control store that is away gives none. A case rests on
// its own grant, which is for the dataset that it is made of; or on none. Waiting says whose
// approval is missing, if that is all.
func (a *Authoriser) held(ctx context.Context, q gateway.Request, def *trefoil.Definition, zone law.Zone) (h *heldGrant, waiting string) {
	use := control.Use{Principal: q.Principal.ID, Dataset: def.Name, Definition: trefoil.DefinitionHash(def), At: q.At,
		Outside: zone != law.ZoneRegion || a.rules.Outside(q.Principal.ID)}
	c, isCase := def.Case()
	if isCase {
		use.Dataset, use.Definition, use.Subjects = c.Of, trefoil.DefinitionHash(a.rules.Definitions[c.Of]), c.Subjects
	}
	found, err := a.grants.Current(ctx, use.Principal, use.Dataset, use.At)
	if err != nil {
		return nil, ""
	}
	if isCase {
		found = slices.DeleteFunc(found, func(g control.Grant) bool { return g.Request.ID != c.Grant })
	}
	g, s, err := control.Held(found, a.rules.Book(), use)
	if err == nil {
		return &heldGrant{g.Request, s}, ""
	}
	for i := range found {
		if s, err := found[i].Weigh(a.rules.Book(), use.Outside, use.At); errors.Is(err, grant.ErrMissing) {
			return nil, fmt.Sprintf("request %s waits for %s", found[i].Request.ID, joined(s.Missing))
		}
	}
	return nil, ""
}

// joined says who is missing, in one line.
func joined(missing []grant.Missing) string {
	out := make([]string, len(missing))
	for i, m := range missing {
		out[i] = m.String()
	}
	return strings.Join(out, "; ")
}

// bind makes a session rest on the grant: it is named in every record, and the session ends
// with it.
func (h *heldGrant) bind(d *gateway.Decision, o *Opened) {
	if d.Access.Grant = h.request.ID; d.Until.IsZero() || h.request.Until.Before(d.Until) {
		d.Until = h.request.Until
	}
	for _, s := range h.Approvals {
		d.Access.Approvals = append(d.Access.Approvals, s.Key)
	}
	slices.Sort(d.Access.Approvals)
	d.Access.Approvals = slices.Compact(d.Access.Approvals)
	o.Evidence, o.Statement = h.Notes, h.request.Statement
}

// Outside reports whether a principal is not wholly in the region by what the files say of
// them. Where a session comes from can only add to it.
func (r *Rules) Outside(id string) bool {
	if r.People == nil {
		return true
	}
	p, known := r.People.Directory.Lookup(id)
	if !known {
		return true
	}
	employer := r.Config.Entities[p.Employer]
	if p.Service && p.Employer == "" {
		employer = r.Config.Exporter
	}
	return !r.Region.Contains(employer.Country) || !p.Service && !r.Region.Contains(p.Workplace)
}
