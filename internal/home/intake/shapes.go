package intake

import (
	"math/big"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// shape counts what a sample of one column looked like. It holds no value.
type shape struct {
	rows     int // sampled
	values   int // not null, not empty
	distinct int
	longest  int // in characters
	kinds    map[string]int
}

// Shapes that values are tested for.
const (
	shapeEmail   = "e-mail addresses"
	shapePhone   = "phone numbers"
	shapeIP      = "IP addresses"
	shapeIBAN    = "IBANs"
	shapeCard    = "payment card numbers"
	shapeUUID    = "UUIDs"
	shapeToken   = "random tokens"
	shapeCountry = "ISO country codes"
	shapeURL     = "web addresses"
	shapeBirth   = "dates that could be birth dates"
	shapeMAC     = "MAC addresses"
)

var (
	emailShape = regexp.MustCompile(`^[^@\s]{1,64}@[^@\s]+\.[A-Za-z]{2,24}$`)
	phoneShape = regexp.MustCompile(`^\+?[0-9][0-9 ()./-]{6,18}[0-9]$`)
	uuidShape  = regexp.MustCompile(`^[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}$`)
	tokenShape = regexp.MustCompile(`^[A-Za-z0-9_+/=.$-]{20,}$`)
	urlShape   = regexp.MustCompile(`^[a-z]{2,6}://[^\s]+$`)
	macShape   = regexp.MustCompile(`^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$`)
	codeShape  = regexp.MustCompile(`^[A-Z]{2}$`)
	ibanShape  = regexp.MustCompile(`^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$`)
	dateShape  = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}$`)
)

// shapesOf names the shapes that one value has.
func shapesOf(v string, now time.Time) []string {
	var out []string
	has := func(ok bool, name string) {
		if ok {
			out = append(out, name)
		}
	}
	compact := strings.ReplaceAll(v, " ", "")
	has(emailShape.MatchString(v), shapeEmail)
	has(uuidShape.MatchString(v), shapeUUID)
	has(urlShape.MatchString(v), shapeURL)
	has(macShape.MatchString(v), shapeMAC)
	has(ibanShape.MatchString(compact) && ibanHolds(compact), shapeIBAN)
	has(cardHolds(compact), shapeCard)
	has(isAddress(v), shapeIP)
	has(isPhone(v), shapePhone)
	has(codeShape.MatchString(v) && law.KnownCountry(v), shapeCountry)
	has(tokenShape.MatchString(v) && mixed(v) && !uuidShape.MatchString(v), shapeToken)
	if dateShape.MatchString(v) {
		t, err := time.Parse(time.DateOnly, v)
		age := now.Sub(t).Hours() / (24 * 365.25)
		has(err == nil && age > 10 && age < 115, shapeBirth)
	}
	return out
}

// isPhone wants at least one sign of a phone number: a plus, a leading zero, or separators
// between groups; a plain number or a date is none.
func isPhone(v string) bool {
	if !phoneShape.MatchString(v) || dateShape.MatchString(v) || isAddress(v) {
		return false
	}
	digits := 0
	for _, r := range v {
		if r >= '0' && r <= '9' {
			digits++
		}
	}
	return digits >= 7 && digits <= 15 && (v[0] == '+' || v[0] == '0' || strings.ContainsAny(v, " ()-/"))
}

func isAddress(v string) bool {
	if p, err := netip.ParsePrefix(v); err == nil {
		return p.IsValid()
	}
	a, err := netip.ParseAddr(v)
	return err == nil && a.IsValid()
}

// mixed reports letters and digits together: what tokens have and words have not.
func mixed(v string) bool {
	letters, digits := 0, 0
	for _, r := range v {
		switch {
		case r >= '0' && r <= '9':
			digits++
		case r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z':
			letters++
		}
	}
	return letters >= 4 && digits >= 3
}

// ibanHolds checks the check digits (ISO 13616, ISO 7064 mod 97-10).
func ibanHolds(v string) bool {
	var b strings.Builder
	for _, r := range v[4:] + v[:4] {
		switch {
		case r >= '0' && r <= '9':
			b.WriteRune(r)
		case r >= 'A' && r <= 'Z':
			b.WriteString(big.NewInt(int64(r-'A') + 10).String())
		default:
			return false
		}
	}
	n, ok := new(big.Int).SetString(b.String(), 10)
	return ok && new(big.Int).Mod(n, big.NewInt(97)).Int64() == 1
}

// cardHolds checks length, first digit and check digit of a card number (ISO/IEC 7812).
func cardHolds(v string) bool {
	v = strings.ReplaceAll(v, "-", "")
	if len(v) < 14 || len(v) > 19 || v[0] < '2' || v[0] > '6' {
		return false
	}
	sum := 0
	for i := range len(v) {
		d := int(v[len(v)-1-i] - '0')
		if d < 0 || d > 9 {
			return false
		}
		if i%2 == 1 {
			if d *= 2; d > 9 {
				d -= 9
			}
		}
		sum += d
	}
	return sum%10 == 0
}

// mostly reports whether at least nine of ten values have a shape, and how many in a hundred.
func (s *shape) mostly(kind string) (int, bool) {
	if s == nil || s.values < 3 {
		return 0, false
	}
	percent := s.kinds[kind] * 100 / s.values
	return percent, percent >= 90
}

// some reports whether any relevant part of the values has a shape: personal data mixed into
// a free column.
func (s *shape) some(kind string) bool {
	return s != nil && s.values >= 3 && s.kinds[kind]*20 >= s.values
}

// few reports whether a sample large enough to tell holds few different short values: a
// status or a kind rather than something written.
func (s *shape) few() bool {
	return s != nil && s.values >= 30 && s.distinct <= 12 && s.distinct*5 <= s.values && s.longest <= 40
}
