package monitor

import (
	"reflect"
	"slices"

	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// approver compares one key's entry: it may lose purposes, get a shorter term (a key is retired at
// once), and be known to be more persons.
func (l *looser) approver(path string, a, b Approver) {
	l.fields(path, reflect.ValueOf(a), reflect.ValueOf(b), map[string]func(string, any, any){
		"purposes": l.covers,
		"persons":  func(path string, x, y any) { l.fewer(path, y, x) }, // who gets nothing by this approver
		"from": func(path string, x, y any) {
			was, _, _ := grant.ParseTerm(x.(string), "") // validate has read it before
			if is, _, _ := grant.ParseTerm(y.(string), ""); is.Before(was) {
				l.add(path, "earlier")
			}
		},
		"until": func(path string, x, y any) {
			_, was, _ := grant.ParseTerm("", x.(string))
			if _, is, _ := grant.ParseTerm("", y.(string)); is.IsZero() || !was.IsZero() && is.After(was) {
				l.add(path, "later")
			}
		},
	})
}

// persons looks at what an approver less may do besides: whoever linked two names as one person is
// gone, and the two count twice; a key that two entries share speaks for the other one.
func (l *looser) persons(old, other *Rules) {
	if same(old.Approvers, other.Approvers) {
		return
	}
	keys := map[string]bool{}
	for _, a := range old.Approvers {
		if keys[a.Key] {
			l.add("approvers", "share a key")
		}
		keys[a.Key] = true
	}
	was, is := old.approverBook().Persons(), other.approverBook().Persons()
	for x, p := range is {
		for y, q := range is {
			one, knew := was[x]
			two, both := was[y]
			if p != q && knew && both && one == two {
				l.add("approvers", "one person counts as two")
			}
		}
	}
}

// approvals may ask for more: each rule that there was must be kept, or replaced by one that
// holds wherever it held and cannot be satisfied by anybody who would not have satisfied it. Where
// there was no rule one approver was enough, and any rule asks for that.
func (l *looser) approvals(path string, x, y any) {
	a, b := x.([]grant.Rule), y.([]grant.Rule)
	for _, old := range a {
		for _, purpose := range old.Purposes {
			if !slices.ContainsFunc(b, func(r grant.Rule) bool { return demandsAll(old, r, purpose) }) {
				l.add(path, "ask for less, or for something else")
				return
			}
		}
	}
}

// demandsAll reports whether rule r asks of requests for a purpose all that was asked: who has
// places in all its groups had places in all of the old ones, and nobody two.
func demandsAll(was, r grant.Rule, purpose string) bool {
	if r.Outside && !was.Outside || !slices.Contains(r.Purposes, purpose) && !slices.Contains(r.Purposes, "*") {
		return false
	}
	rest := slices.Clone(r.AllOf)
	for _, g := range was.AllOf {
		i := slices.IndexFunc(rest, func(n grant.Group) bool { return demands(g, n) })
		if i < 0 {
			return false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	one := func(n grant.Group) bool {
		return slices.ContainsFunc(was.AnyOf, func(g grant.Group) bool { return demands(g, n) })
	}
	switch {
	case len(was.AnyOf) == 0:
		return len(was.AllOf) > 0
	case slices.ContainsFunc(rest, one):
		return true
	}
	return len(r.AnyOf) > 0 && !slices.ContainsFunc(r.AnyOf, func(n grant.Group) bool { return !one(n) })
}

// demands reports whether whoever fills group n fills group g too.
func demands(g, n grant.Group) bool {
	return max(n.Count, 1) >= max(g.Count, 1) && !slices.ContainsFunc(n.Of, func(name string) bool { return !slices.Contains(g.Of, name) })
}
