package grant

import (
	"maps"
	"slices"
)

// Persons tells which approvers' names are one person: those with the same number.
func (b Book) Persons() map[string]int { return b.persons() }

// persons numbers the persons behind the approvers' names: names that share a key or an id of
// a principal are one person, and so is whoever is the same as one of them.
func (b Book) persons() map[string]int {
	of := map[string]int{}
	for i, a := range b.Approvers {
		if _, known := of[a.Name]; !known {
			of[a.Name] = i
		}
	}
	join := func(x, y int) {
		for name, p := range of {
			if p == y {
				of[name] = x
			}
		}
	}
	for i := range b.Approvers {
		for j := range b.Approvers[:i] {
			if x, y := of[b.Approvers[j].Name], of[b.Approvers[i].Name]; x != y && same(&b.Approvers[j], &b.Approvers[i]) {
				join(x, y)
			}
		}
	}
	return of
}

// same reports whether two approvers are known to be one person.
func same(a, b *Approver) bool {
	switch {
	case a.Name == b.Name, a.is(b.Name), b.is(a.Name):
		return true
	case a.Verifier != nil && b.Verifier != nil && a.Verifier.KeyHash() == b.Verifier.KeyHash() && a.Verifier.Name() == b.Verifier.Name():
		return true
	}
	return slices.ContainsFunc(a.Persons, b.is)
}

// places gives each place of a rule's groups to a person who has approved, and nobody two.
type places struct {
	signed map[int][]string // person → names under which they approved
	of     [][]string       // place → names that may take it
	who    map[int]int      // person → place
}

func (p *places) clone() *places {
	return &places{signed: p.signed, of: slices.Clone(p.of), who: maps.Clone(p.who)}
}

// fill adds a group's places and returns how many of them stay empty. Who already has a place
// may be moved to another one.
func (p *places) fill(g Group) (empty int) {
	if p.who == nil {
		p.who = map[int]int{}
	}
	for range max(g.Count, 1) {
		p.of = append(p.of, g.Of)
		if !p.seat(len(p.of)-1, map[int]bool{}) {
			empty++
		}
	}
	return empty
}

// seat finds somebody for a place, moving others if that helps (bipartite matching).
func (p *places) seat(place int, seen map[int]bool) bool {
	for _, person := range slices.Sorted(maps.Keys(p.signed)) {
		may := slices.ContainsFunc(p.signed[person], func(name string) bool { return slices.Contains(p.of[place], name) })
		if !may || seen[person] {
			continue
		}
		seen[person] = true
		if other, sits := p.who[person]; !sits || p.seat(other, seen) {
			p.who[person] = place
			return true
		}
	}
	return false
}
