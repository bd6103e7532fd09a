package platform

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Person is one row of app.people. Its values follow from the seed and ID alone.
type Person struct {
	ID             int64 // from 1
	Handle         string
	DisplayName    string
	Email          string // unique, under .example
	Phone          string // E.164; "" for one person in twenty
	BirthDate      time.Time
	Country        string
	CountryBefore  string // "" for those who never moved
	CountryChanged time.Time
	SignupIP       string
	Plan           string
	Interests      []string
	Settings       string // JSON
	CreatedAt      time.Time

	home country
}

// Streams of draws: each table has its own, so that one table's shape does not move another's.
const (
	drawPerson = iota + 1
	drawDevice
	drawVideo
	drawEvent
	drawMessage
	drawPayment
)

// draw is the random source of one row of one table.
func draw(seed uint64, stream int, row int64) *rand.Rand {
	return rand.New(rand.NewPCG(seed^uint64(stream)*0x9e3779b97f4a7c15, uint64(row)*0xbf58476d1ce4e5b9+1))
}

// epoch is the day that everything in the platform happened before. It is fixed: a
// generated platform does not depend on the day it is made on.
var epoch = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)

// Person returns the person with this id, 1 ≤ id ≤ People.
func (p Platform) Person(id int64) Person {
	r := draw(p.Seed, drawPerson, id)
	home := countries[pick(r)]
	first, last := given[r.IntN(len(given))], family[r.IntN(len(family))]
	tail := fmt.Sprintf("%s%04d", base36(uint64(id)), r.IntN(10000))
	person := Person{
		ID:          id,
		Handle:      strings.ToLower(first) + "_" + tail,
		DisplayName: first + " " + last,
		Email:       strings.ToLower(first+"."+last) + "." + tail + "@" + mailHosts[r.IntN(len(mailHosts))],
		BirthDate:   time.Date(1946+r.IntN(63), time.Month(1+r.IntN(12)), 1+r.IntN(28), 0, 0, 0, 0, time.UTC),
		Country:     home.code,
		SignupIP:    address(r),
		Plan:        plan(r),
		Interests:   interests(r),
		CreatedAt:   epoch.Add(-time.Duration(r.Int64N(5*365*24*3600)) * time.Second),
		home:        home,
	}
	if r.IntN(20) > 0 {
		person.Phone = fmt.Sprintf("+%s%09d", home.dial, 100_000_000+r.IntN(900_000_000))
	}
	if r.IntN(25) == 0 {
		person.CountryBefore = countries[pick(r)].code
		person.CountryChanged = epoch.AddDate(0, 0, -r.IntN(4*365))
	}
	person.Settings = fmt.Sprintf(`{"lang":%q,"autoplay":%t,"recovery":{"email":%q}}`,
		strings.ToLower(home.code), r.IntN(2) == 0, "backup."+tail+"@post.example")
	return person
}

var mailHosts = [...]string{"mail.example", "post.example", "inbox.example"}

// pick draws a country by weight.
func pick(r *rand.Rand) int {
	n := r.IntN(totalWeight)
	for i, c := range countries {
		if n < c.weight {
			return i
		}
		n -= c.weight
	}
	return 0
}

var totalWeight = func() int {
	sum := 0
	for _, c := range countries {
		sum += c.weight
	}
	return sum
}()

func plan(r *rand.Rand) string {
	switch n := r.IntN(100); {
	case n < 80:
		return "free"
	case n < 95:
		return "plus"
	}
	return "creator"
}

func interests(r *rand.Rand) []string {
	out := make([]string, 0, 3)
	for range 1 + r.IntN(3) {
		out = append(out, topics[r.IntN(len(topics))])
	}
	return out
}

// address draws an IPv4 address, for one in five an IPv6 address.
func address(r *rand.Rand) string {
	if r.IntN(5) == 0 {
		return fmt.Sprintf("2001:db8:%x:%x:%x:%x:%x:%x",
			1+r.IntN(0xfffe), 1+r.IntN(0xfffe), 1+r.IntN(0xfffe), 1+r.IntN(0xfffe), 1+r.IntN(0xfffe), 1+r.IntN(0xfffe))
	}
	return fmt.Sprintf("%d.%d.%d.%d", 11+r.IntN(180), r.IntN(256), r.IntN(256), 1+r.IntN(254))
}

func base36(n uint64) string {
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	b := []byte{}
	for {
		b = append([]byte{digits[n%36]}, b...)
		if n /= 36; n == 0 {
			return string(b)
		}
	}
}

// iban returns an IBAN in the person's country, or a German one where the country has none.
// Its check digits are right.
func (p Person) iban(r *rand.Rand) string {
	code, n := p.home.code, p.home.iban
	if n == 0 {
		code, n = "DE", 18
	}
	var b strings.Builder
	for range n {
		b.WriteByte(byte('0' + r.IntN(10)))
	}
	account := b.String()
	rest := 0
	for _, c := range account + fmt.Sprintf("%d%d00", code[0]-'A'+10, code[1]-'A'+10) {
		rest = (rest*10 + int(c-'0')) % 97
	}
	return fmt.Sprintf("%s%02d%s", code, 98-rest, account)
}
