package catalog

import (
	"strconv"
	"strings"
)

// family groups PostgreSQL types by the forms they can take. Enums, domains without a base
// and types that extensions bring count as familyOther: of them only the live database knows
// more, so these checks let them pass and the build decides.
type family int

const (
	familyOther family = iota
	familyBool
	familyInt
	familyNumber
	familyText
	familyUUID
	familyBytes
	familyNet
	familyMac
	familyDate
	familyStamp
	familyTime
	familyJSON
	familyStructured // ranges, geometry, XML, composite search types: withheld or clear only
)

func familyOf(base string) family {
	switch base {
	case "boolean":
		return familyBool
	case "smallint", "integer", "bigint":
		return familyInt
	case "numeric", "real", "double precision":
		return familyNumber
	case "text", "character varying", "character", "bpchar", "name", "citext":
		return familyText
	case "uuid":
		return familyUUID
	case "bytea":
		return familyBytes
	case "inet", "cidr":
		return familyNet
	case "macaddr", "macaddr8":
		return familyMac
	case "date":
		return familyDate
	case "timestamp without time zone", "timestamp with time zone", "timestamp", "timestamptz":
		return familyStamp
	case "time without time zone", "time with time zone", "interval":
		return familyTime
	case "json", "jsonb":
		return familyJSON
	case "xml", "hstore", "tsvector", "tsquery", "point", "line", "lseg", "box", "path", "polygon", "circle",
		"geometry", "geography", "money", "bit", "bit varying", "oid", "pg_lsn":
		return familyStructured
	}
	if strings.HasSuffix(base, "range") {
		return familyStructured
	}
	return familyOther
}

// splitType reads what format_type prints: "character varying(20)[]" is character varying,
// an array. A schema before the name is dropped.
func splitType(t string) (base string, array bool) {
	t = strings.TrimSpace(t)
	for strings.HasSuffix(t, "[]") {
		t, array = strings.TrimSuffix(t, "[]"), true
	}
	if i, j := strings.IndexByte(t, '('), strings.IndexByte(t, ')'); i >= 0 && j > i {
		t = t[:i] + t[j+1:]
	}
	if i := strings.LastIndexByte(t, '.'); i >= 0 {
		t = t[i+1:]
	}
	return strings.TrimSpace(t), array
}

// chars is the length bound of a text type, 0 if it has none.
func chars(t string) int {
	base, _ := splitType(t)
	i, j := strings.IndexByte(t, '('), strings.IndexByte(t, ')')
	if i < 0 || j < i {
		if base == "character" {
			return 1
		}
		return 0
	}
	n, err := strconv.Atoi(strings.TrimSpace(t[i+1 : j]))
	if err != nil || familyOf(base) != familyText {
		return 0
	}
	return n
}

// leastToken is how many characters a pseudonym of a text needs, so that keys do not collide.
const leastToken = 16

// pseudonymRefusal says why a type has no pseudonym, or "".
func pseudonymRefusal(t string) string {
	base, _ := splitType(t)
	switch familyOf(base) {
	case familyInt, familyUUID, familyBytes, familyNet, familyMac:
		return ""
	case familyOther:
		return "" // an enum or a domain: the build looks at the live type
	case familyNumber:
		if base == "numeric" {
			return ""
		}
		return "a " + base + " has no pseudonym: withhold it, or generalise it by bucket:N"
	case familyText:
		if n := chars(t); n > 0 && n < leastToken {
			return t + " is too short for a pseudonym (16 characters are needed): withhold it"
		}
		return ""
	case familyBool:
		return "a " + base + " has too few values for a pseudonym, which counting would undo: withhold it, or generalise it by lookup"
	case familyDate, familyStamp, familyTime:
		return "a " + base + " has too few values for a pseudonym: generalise it by year or month"
	case familyJSON:
		return "a document has forms at its paths: give paths, or withhold it"
	}
	return "type " + base + " has no pseudonym: withhold it"
}

// generaliseRefusal says why a type cannot be generalised by a unit, or "".
func generaliseRefusal(t, by string) string {
	base, _ := splitType(t)
	f := familyOf(base)
	unit, number, hasNumber := strings.Cut(by, ":")
	n, err := strconv.ParseInt(number, 10, 64)
	counted := unit == "prefix" || unit == "bucket"
	fits := f == familyOther // the build looks at the live type
	switch unit {
	case "":
		return "generalised needs by: year, month, day, hour, prefix:N, net, bucket:N or lookup"
	case "year", "month":
		fits = fits || f == familyDate || f == familyStamp || f == familyText
	case "day":
		fits = fits || f == familyStamp || f == familyText
	case "hour":
		fits = fits || f == familyStamp || base == "time without time zone"
	case "prefix":
		fits = fits || f == familyText
	case "net":
		fits = fits || f == familyNet || f == familyText
	case "bucket":
		fits = fits || f == familyInt || f == familyNumber
	case "lookup":
		fits = fits || f == familyText || f == familyInt || f == familyBool
	default:
		return "generalisation " + strconv.Quote(unit) + " is not known: use year, month, day, hour, prefix:N, net, bucket:N or lookup"
	}
	switch {
	case counted && (!hasNumber || err != nil || n <= 0):
		return unit + " needs a whole number above 0, as in " + unit + ":10"
	case !counted && hasNumber:
		return unit + " takes no number"
	case !fits:
		return "a " + base + " cannot be generalised by " + unit
	}
	return ""
}
