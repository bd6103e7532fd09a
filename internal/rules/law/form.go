package law

// ranks orders the forms by how little they show.
var ranks = map[Form]int{Clear: 1, Generalised: 2, Pseudonymised: 3, Aggregate: 4, Withheld: 5}

// Forms returns the known forms, most revealing first.
func Forms() []Form {
	return []Form{Clear, Generalised, Pseudonymised, Aggregate, Withheld}
}

// Known reports whether f is one of Forms.
func (f Form) Known() bool { return ranks[f] != 0 }

// Within reports whether a value held in form held shows no more than bound permits. An
// unknown form on either side denies.
func Within(held, bound Form) bool {
	return held.Known() && bound.Known() && ranks[held] >= ranks[bound]
}

// Known reports whether c is one of the categories.
func (c Category) Known() bool {
	switch c {
	case Identifier, Contact, Location, Content, Behaviour, Device, Financial, Special:
		return true
	}
	return false
}

// Known reports whether t is one of the traits, NoTrait included.
func (t Trait) Known() bool {
	switch t {
	case NoTrait, Birth, Time, Key, Typed, Neutral, Residence:
		return true
	}
	return false
}

// Known reports whether r is one of the regimes.
func (r Regime) Known() bool { return r == EU || r == UK || r == CH }

// AllRegimes returns every regime: what an unknown regime counts as.
func AllRegimes() []Regime { return []Regime{CH, EU, UK} }
