package law

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Class says what a dataset as a whole shows. The zero value is no class: it denies.
type Class string

// Classes, most revealing first.
const (
	NoClass            Class = ""
	ClassClear         Class = "clear"         // anything that is not one of the others
	ClassPseudonymised Class = "pseudonymised" // meets the definition of a pseudonymised dataset (DESIGN, Words)
	ClassAggregate     Class = "aggregate"     // holds no rows of persons: the privacy planner answers
)

// Smallest cells of a pseudonymised dataset over the clear and generalised columns of the
// person table.
const (
	DefaultK = 10 // when a dataset does not say
	LeastK   = 5  // below it a dataset does not count as pseudonymised
)

// Held is one column as a dataset holds it.
type Held struct {
	Table    string
	Column   string
	Category Category
	Trait    Trait
	Form     Form
	Detail   string // how it is generalised: year, month, day, hour, prefix:N, net, bucket:N, lookup
	Type     string // PostgreSQL's name of the type, as format_type prints it
	Person   bool   // a column of the person table
}

// ClassOf returns the class of a dataset that holds columns, with smallest cell k (0: not
// enforced). It is ClassPseudonymised only if every column meets the definition; otherwise
// ClassClear with a reason for each column that does not. No columns give NoClass.
//
// The definition (DESIGN, Words; GDPR art. 4(5); EDPB 01/2020 use case 2, 01/2025):
// identifier, contact, device and financial pseudonymised or withheld; content and special
// withheld; location and birth generalised, times coarsened to the hour or more; behaviour as
// it is; cells of the person table's readable columns of at least k subjects.
func ClassOf(columns []Held, k int64) (Class, []string) {
	if len(columns) == 0 {
		return NoClass, []string{"the dataset holds no column"}
	}
	var reasons []string
	cells := false
	for _, c := range columns {
		if why := c.tooMuch(); why != "" {
			reasons = append(reasons, fmt.Sprintf("%s.%s: %s", c.Table, c.Column, why))
		}
		cells = cells || (c.Person && (c.Form == Clear || c.Form == Generalised))
	}
	if cells && k < LeastK {
		reasons = append(reasons, fmt.Sprintf(
			"smallest cell is %d: a pseudonymised dataset needs at least %d over the person table's readable columns", k, LeastK))
	}
	if len(reasons) > 0 {
		return ClassClear, reasons
	}
	return ClassPseudonymised, nil
}

// tooMuch returns why c shows more than a pseudonymised dataset may, or "".
func (c Held) tooMuch() string {
	if !c.Form.Known() {
		return "has no known form"
	}
	if c.Form == Withheld {
		return ""
	}
	for _, rule := range []func(Held) string{Held.categoryRule, Held.traitRule, Held.typeRule} {
		if why := rule(c); why != "" {
			return why
		}
	}
	return ""
}

// categoryRule bounds the form by the column's category.
func (c Held) categoryRule() string {
	switch c.Category {
	case Identifier, Contact, Device, Financial:
		if !Within(c.Form, Pseudonymised) {
			return string(c.Category) + " must be pseudonymised or withheld"
		}
	case Content, Special:
		return string(c.Category) + " must be withheld"
	case Location:
		return c.locationRule()
	case Behaviour:
	case "":
		if c.Trait != Neutral {
			return "is not classified"
		}
	default:
		return "has an unknown category"
	}
	return ""
}

// locationRule wants a location generalised to a country, a region or a network.
func (c Held) locationRule() string {
	switch {
	case Within(c.Form, Pseudonymised), c.Trait == Neutral:
		return ""
	case c.Trait == Residence:
		// The country itself, as the generalised form of an address.
		return ""
	case c.Form != Generalised:
		return "location must be generalised"
	}
	unit, n := splitDetail(c.Detail)
	switch {
	case unit == "net" || unit == "lookup":
		return ""
	case unit == "prefix" && n >= 1 && n <= 3:
		return ""
	case unit == "bucket" && n >= 1:
		return ""
	}
	return "location must be generalised to net, lookup, prefix:3 or shorter, or bucket:1 or wider"
}

// traitRule bounds the form by the column's trait.
func (c Held) traitRule() string {
	switch c.Trait {
	case Birth:
		return c.birthRule()
	case Time:
		return c.timeRule()
	case Typed:
		if !Within(c.Form, Pseudonymised) {
			return "text that users write must be pseudonymised or withheld"
		}
	case Key:
		if c.Person && !Within(c.Form, Pseudonymised) {
			return "the person table's keys must be pseudonymised or withheld"
		}
	case NoTrait, Neutral, Residence:
	default:
		return "has an unknown trait"
	}
	return ""
}

// birthRule wants a birth date as a year or less.
func (c Held) birthRule() string {
	if Within(c.Form, Pseudonymised) {
		return ""
	}
	unit, n := splitDetail(c.Detail)
	switch {
	case c.Form != Generalised:
		return "birth must be generalised"
	case unit == "year" || unit == "lookup":
		return ""
	case unit == "bucket" && n >= 1 && isInteger(c.Type):
		return "" // a year of birth or an age, in whole numbers
	case unit == "prefix" && n >= 1 && n <= 4:
		return "" // a date written year first
	}
	return "birth must be generalised to the year or coarser"
}

// timeRule wants a point in time coarsened to the hour or more.
func (c Held) timeRule() string {
	if Within(c.Form, Pseudonymised) || (c.Form == Clear && baseType(c.Type) == "date") {
		return ""
	}
	// A bucket of a number does not count: nothing says whether it counts seconds or less.
	unit, _ := splitDetail(c.Detail)
	switch {
	case c.Form != Generalised:
		return "times must be coarsened"
	case unit == "year" || unit == "month" || unit == "day" || unit == "hour" || unit == "lookup":
		return ""
	}
	return "times must be coarsened to the hour or more"
}

// typeRule catches what a wrong or missing trait would let through.
func (c Held) typeRule() string {
	if c.Form != Clear {
		return ""
	}
	base := baseType(c.Type)
	switch {
	case strings.HasPrefix(base, "timestamp"), strings.HasPrefix(base, "ts"), strings.HasPrefix(base, "time"):
		return "times must be coarsened"
	case slices.Contains([]string{"json", "jsonb", "xml", "hstore"}, base) && !strings.Contains(c.Column, "/"):
		return "a document is held whole: choose its paths, or withhold it"
	case slices.Contains([]string{"inet", "cidr", "macaddr", "macaddr8", "bytea", "oid", "tsvector", "point", "polygon", "geometry", "geography"}, base):
		return "type " + base + " may not be held in clear"
	case c.Type == "":
		return "has no type"
	}
	return ""
}

// splitDetail reads "bucket:10" as bucket, 10 and "year" as year, 0. A bad number gives -1.
func splitDetail(detail string) (unit string, n int64) {
	unit, number, has := strings.Cut(detail, ":")
	if !has {
		return unit, 0
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return unit, -1
	}
	return unit, n
}

// baseType strips schema, modifiers and array brackets: "timestamp(3) without time zone[]"
// gives "timestamp without time zone".
func baseType(t string) string {
	t = strings.TrimRight(t, "[]")
	if i := strings.LastIndexByte(t, '.'); i >= 0 {
		t = t[i+1:]
	}
	if i := strings.IndexByte(t, '('); i >= 0 {
		if j := strings.IndexByte(t[i:], ')'); j >= 0 {
			t = t[:i] + t[i+j+1:]
		}
	}
	return strings.TrimSpace(t)
}

func isInteger(t string) bool {
	return slices.Contains([]string{"smallint", "integer", "bigint"}, baseType(t))
}
