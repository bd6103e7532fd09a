package anomaly

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
)

var (
	dublin = mustZone("Europe/Dublin")
	begin  = time.Date(2026, 1, 5, 0, 0, 0, 0, dublin) // a Monday
)

func mustZone(name string) *time.Location {
	l, err := time.LoadLocation(name)
	if err != nil {
		panic(err)
	}
	return l
}

// staff is one generated principal.
type staff struct {
	id       string
	country  string
	purposes []string
}

// history collects records in the order of their times.
type history struct {
	rng     *rand.Rand
	records []Record
}

func (h *history) pseudonym(s *staff, at time.Time) string {
	return s.id + "-" + at.UTC().Format("2006-01")
}

func (h *history) access(s *staff, at time.Time, purpose, dataset, form string) trefoil.Access {
	return trefoil.Access{Principal: h.pseudonym(s, at), Purpose: purpose, Dataset: dataset, Session: fmt.Sprintf("%s-%d", s.id, at.Unix()/3600),
		Forms: map[string][]string{"identifier": {form}}, Importer: trefoil.Party{Country: s.country},
		Location: []trefoil.Place{{Source: "employer", Country: s.country}, {Source: "network", Country: s.country}, {Source: "workplace", Country: s.country}}}
}

// look adds one whole answer of rows to statement.
func (h *history) look(s *staff, at time.Time, purpose, statement string, rows int64) {
	form := "pseudonymised"
	if purpose == "support" {
		form = "clear"
	}
	h.records = append(h.records, Record{Origin: "log", Body: &trefoil.Body{At: at, Kind: trefoil.KindRelease, Release: &trefoil.ReleaseBody{
		Access: h.access(s, at, purpose, purpose, form), Rows: rows, Bytes: 60 + 80*rows, Final: true, Outcome: "complete",
		Statements: []trefoil.Statement{{Kind: "select", Fingerprint: statement, Tables: []string{"app.people"}}}}}})
}

func (h *history) refuse(s *staff, at time.Time, dataset string) {
	h.records = append(h.records, Record{Origin: "log", Body: &trefoil.Body{At: at, Kind: trefoil.KindRefusal, Refusal: &trefoil.RefusalBody{
		Access: h.access(s, at, s.purposes[0], dataset, "clear"), Reason: "policy", Stage: "open"}}})
}

// sorted gives the records their order and their indexes.
func (h *history) sorted() []Record {
	slices.SortStableFunc(h.records, func(a, b Record) int { return cmp.Compare(a.Body.At.UnixNano(), b.Body.At.UnixNano()) })
	for i := range h.records {
		h.records[i].Index = uint64(i)
	}
	return h.records
}

// ordinary generates days of people who do their work: analysts, support agents, dashboards
// that ask every half hour by day and night, and somebody on call at weekends.
func ordinary(seed uint64, people, days int) *history {
	h := &history{rng: rand.New(rand.NewPCG(seed, 1))}
	for i := range people {
		s := &staff{id: fmt.Sprintf("p%03d", i), country: []string{"IE", "NO", "CN"}[i%3]}
		for d := range days {
			day := begin.AddDate(0, 0, d)
			switch role := i % 10; {
			case role < 5:
				s.purposes = []string{"product-analytics"}
				h.analyst(s, day)
			case role < 8:
				s.purposes = []string{"support"}
				h.agent(s, day)
			case role == 8:
				s.purposes = []string{"product-analytics", "research"}
				h.dashboard(s, day)
			default:
				s.purposes = []string{"support", "product-analytics"}
				h.onCall(s, day)
			}
		}
	}
	return h
}

func weekend(day time.Time) bool {
	return day.Weekday() == time.Saturday || day.Weekday() == time.Sunday
}

// heavy draws from a distribution with a long tail, as sizes of results have.
func (h *history) heavy(median float64) int64 {
	return int64(median * math.Exp(1.2*h.rng.NormFloat64()))
}

func (h *history) at(day time.Time, from, to float64) time.Time {
	return day.Add(time.Duration((from + (to-from)*h.rng.Float64()) * float64(time.Hour)))
}

func (h *history) analyst(s *staff, day time.Time) {
	if weekend(day) || h.rng.IntN(10) == 0 { // away
		return
	}
	end := 18.0
	if h.rng.IntN(20) == 0 { // a long evening
		end = 20.5
	}
	for range 10 + h.rng.IntN(40) {
		h.look(s, h.at(day, 8.5, end), s.purposes[0], fmt.Sprintf("%016x", h.rng.IntN(200)), h.heavy(150))
	}
	if h.rng.IntN(30) == 0 { // a mistake in the name of a dataset
		h.refuse(s, h.at(day, 9, 17), "reserch")
	}
}

func (h *history) agent(s *staff, day time.Time) {
	if weekend(day) || h.rng.IntN(10) == 0 {
		return
	}
	for range 60 + h.rng.IntN(140) { // tickets: one person each, sometimes none
		rows := int64(1)
		if h.rng.IntN(12) == 0 {
			rows = 0
		}
		at := h.at(day, 8, 17)
		h.look(s, at, "support", "00000000000000aa", rows)
		h.look(s, at.Add(20*time.Second), "support", "00000000000000ab", 1+int64(h.rng.IntN(30)))
	}
}

func (h *history) dashboard(s *staff, day time.Time) {
	for at := day; at.Before(day.AddDate(0, 0, 1)); at = at.Add(30 * time.Minute) {
		for i := range 4 {
			h.look(s, at.Add(time.Duration(i)*time.Second), s.purposes[i%2], fmt.Sprintf("%016x", 900+i), 1)
		}
	}
}

func (h *history) onCall(s *staff, day time.Time) {
	if h.rng.IntN(3) == 0 {
		return
	}
	for range 1 + h.rng.IntN(25) {
		h.look(s, h.at(day, 7, 23), s.purposes[h.rng.IntN(2)], fmt.Sprintf("%016x", h.rng.IntN(30)), 1+h.heavy(8))
	}
}
