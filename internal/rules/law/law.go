// Package law holds what the law says about forms, countries and transfers, as dated data
// and total functions over it.
//
// The invariant it keeps: unknown is never allowed. An unknown country is not adequate, an
// unknown form is the most revealing when it is held and the least when it is a bound.
//
// Sources: GDPR chapter V; EDPB 01/2020, 05/2021, 01/2025; the adequacy lists named in
// adequacy data. It reads no network, no disk and no clock: time is an argument.
package law

// Form is how a value may be shown. The zero value is no form: it denies.
type Form string

// Forms, most revealing first.
const (
	Clear         Form = "clear"
	Generalised   Form = "generalised"
	Pseudonymised Form = "pseudonymised"
	Aggregate     Form = "aggregate"
	Withheld      Form = "withheld"
)

// Category is a category of personal data. The zero value is unclassified: it is withheld.
type Category string

// Categories (DESIGN, Words).
const (
	Identifier Category = "identifier"
	Contact    Category = "contact"
	Location   Category = "location"
	Content    Category = "content"
	Behaviour  Category = "behaviour"
	Device     Category = "device"
	Financial  Category = "financial"
	Special    Category = "special"
)

// Trait refines a category where the rules need more: a date of birth, a point in time, a
// key with no meaning of its own, or a value that is about no person.
type Trait string

// Traits of a column.
const (
	NoTrait   Trait = ""
	Birth     Trait = "birth"     // a date or year of birth: generalised in a pseudonymised dataset
	Time      Trait = "time"      // a point in time: coarsened in a pseudonymised dataset
	Key       Trait = "key"       // a surrogate key
	Typed     Trait = "typed"     // written freely by users: never shares a domain with identifiers
	Neutral   Trait = "neutral"   // about no person (a lookup's label, a currency code)
	Residence Trait = "residence" // the subject's country
)

// Regime is the law a subject's data is exported under. Zero is unknown: the strictest.
type Regime string

// Regimes.
const (
	EU Regime = "EU"
	UK Regime = "UK"
	CH Regime = "CH"
)
