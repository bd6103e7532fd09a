package transform

import (
	"fmt"
	"strconv"
	"strings"
)

// Type is a column's type: domains resolved to their base, one array level known.
type Type struct {
	Base  string // without modifiers: bigint, character varying, timestamp with time zone, …
	Mods  []int  // (20) of varchar(20), (10,2) of numeric(10,2)
	Array bool
	Enum  []string // labels in order, when it is an enum
}

// ParseType reads what format_type prints.
func ParseType(s string) Type {
	var t Type
	for strings.HasSuffix(s, "[]") {
		t.Array, s = true, strings.TrimSuffix(s, "[]")
	}
	open, end := strings.IndexByte(s, '('), strings.IndexByte(s, ')')
	if open < 0 || end < open || strings.HasPrefix(s, `"`) {
		t.Base = s
		return t
	}
	t.Base = s[:open] + s[end+1:]
	for _, m := range strings.Split(s[open+1:end], ",") {
		n, err := strconv.Atoi(strings.TrimSpace(m))
		if err != nil { // not numbers: part of the name, as in geometry(Point,4326)
			return Type{Base: s, Array: t.Array}
		}
		t.Mods = append(t.Mods, n)
	}
	return t
}

// String is the type as SQL spells it.
func (t Type) String() string {
	s := t.Base
	if len(t.Mods) > 0 {
		mods := make([]string, len(t.Mods))
		for i, m := range t.Mods {
			mods[i] = strconv.Itoa(m)
		}
		word, rest, _ := strings.Cut(t.Base, " with")
		s = word + "(" + strings.Join(mods, ",") + ")"
		if rest != "" {
			s += " with" + rest
		}
	}
	if t.Array {
		s += "[]"
	}
	return s
}

// elem is the type of an array's elements.
func (t Type) elem() Type {
	t.Array = false
	return t
}

// family groups the types that one transform serves.
type family int

const (
	famOther family = iota
	famInt
	famNumeric
	famFloat
	famText
	famUUID
	famBytea
	famInet
	famCidr
	famMac
	famDate
	famStamp
	famStampTZ
	famTime
	famBool
	famEnum
	famJSON
)

var families = map[string]family{
	"smallint": famInt, "integer": famInt, "bigint": famInt, "numeric": famNumeric,
	"real": famFloat, "double precision": famFloat,
	"text": famText, "character varying": famText, "character": famText, "bpchar": famText, "name": famText, "citext": famText,
	"uuid": famUUID, "bytea": famBytea, "inet": famInet, "cidr": famCidr, "macaddr": famMac, "macaddr8": famMac,
	"date": famDate, "timestamp without time zone": famStamp, "timestamp with time zone": famStampTZ,
	"time without time zone": famTime, "boolean": famBool, "json": famJSON, "jsonb": famJSON,
}

func (t Type) family() family {
	if t.Enum != nil {
		return famEnum
	}
	if t.citext() {
		return famText
	}
	return families[t.Base]
}

// citext says that the type is the extension's text that compares without case.
func (t Type) citext() bool { return t.Base == "citext" || strings.HasSuffix(t.Base, ".citext") }

// Integer says that the type is smallint, integer or bigint.
func (t Type) Integer() bool { return !t.Array && t.family() == famInt }

// intBits is the width of an integer type.
func (t Type) intBits() int {
	switch t.Base {
	case "smallint":
		return 16
	case "integer":
		return 32
	}
	return 64
}

// chars is the length bound of a text type, 0 when it has none.
func (t Type) chars() int {
	switch {
	case t.Base == "character" && len(t.Mods) == 0:
		return 1
	case (t.Base == "character" || t.Base == "character varying") && len(t.Mods) == 1:
		return t.Mods[0]
	}
	return 0
}

// padded says that PostgreSQL pads values with blanks to chars().
func (t Type) padded() bool { return t.Base == "character" }

// Shape is what all columns of one pseudonym domain share, so that their pseudonyms agree.
type Shape struct {
	fam   family
	Bits  int // integers: 16, 32 or 64; mixed widths widen to 64
	Chars int // texts: length of a token
}

// Token lengths in base32 characters (5 bits each). Under minToken two of 2^30 values
// would collide with a chance that a key must not have.
const (
	maxToken = 24
	minToken = 16
)

// ShapeOf finds the shape that serves all types of a domain, or says why none does.
func ShapeOf(types ...Type) (Shape, error) {
	var s Shape
	for i, t := range types {
		one, err := shapeOf(t.elem())
		if err != nil {
			return Shape{}, err
		}
		if i == 0 {
			s = one
			continue
		}
		if one.fam != s.fam {
			return Shape{}, fmt.Errorf("its columns have types that cannot agree (%s and %s): give them domains of their own", types[0], t)
		}
		if one.Bits != s.Bits {
			s.Bits = 64
		}
		s.Chars = min(s.Chars, one.Chars)
	}
	return s, nil
}

func shapeOf(t Type) (Shape, error) {
	switch f := t.family(); f {
	case famInt:
		return Shape{fam: famInt, Bits: t.intBits()}, nil
	case famNumeric:
		return Shape{fam: famInt, Bits: 64}, nil
	case famText:
		n := maxToken
		if c := t.chars(); c > 0 {
			n = min(n, c)
		}
		if n < minToken {
			return Shape{}, fmt.Errorf("%s is too short for a pseudonym without collisions (%d characters are needed): withhold it", t, minToken)
		}
		return Shape{fam: famText, Chars: n}, nil
	case famInet, famCidr:
		return Shape{fam: famInet}, nil
	case famMac:
		bits := 48
		if t.Base == "macaddr8" {
			bits = 64
		}
		return Shape{fam: famMac, Bits: bits}, nil
	case famUUID, famBytea:
		return Shape{fam: f}, nil
	case famDate, famStamp, famStampTZ, famTime:
		return Shape{}, fmt.Errorf("a %s has too few values for a pseudonym: generalise it by year or month", t)
	case famEnum, famBool:
		return Shape{}, fmt.Errorf("a %s has too few values for a pseudonym, which frequency counting would undo: withhold it or generalise it by lookup", t)
	}
	return Shape{}, fmt.Errorf("type %s has no pseudonym: withhold it", t)
}
