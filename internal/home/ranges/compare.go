package ranges

import (
	"bytes"
	"slices"
	"strings"
)

// How a row differs.
const (
	Missing = "missing" // it is at the first side only
	Extra   = "extra"   // it is at the second side only
	Changed = "changed" // both have it, with other values
	Doubled = "doubled" // the second side has it more often than the first
)

// Difference is one key whose rows differ between two sides.
type Difference struct {
	Kind    string
	First   []Row // rows of this key at the first side
	Second  []Row // likewise at the second
	Columns []int // Changed: which columns differ
}

// Matcher collects the rows of both sides in the ranges that differ, and pairs them by key.
// It holds them in memory: give it few ranges at a time.
type Matcher struct {
	table *Table
	rows  map[string]*pair
	order []string
}

type pair struct{ first, second []Row }

// NewMatcher makes one for t.
func NewMatcher(t *Table) *Matcher { return &Matcher{table: t, rows: map[string]*pair{}} }

// First takes a row of the first side, Second one of the second.
func (m *Matcher) First(r Row)  { p := m.at(r); p.first = append(p.first, r) }
func (m *Matcher) Second(r Row) { p := m.at(r); p.second = append(p.second, r) }

func (m *Matcher) at(r Row) *pair {
	key := string(appendRecord(nil, r.Fields, nil))
	if len(m.table.Key) > 0 {
		key = string(appendRecord(nil, r.Fields, m.table.Key))
	}
	p := m.rows[key]
	if p == nil {
		p = &pair{}
		m.rows[key] = p
		m.order = append(m.order, key)
	}
	return p
}

// Differences lists what differs, in the order of the keys' text.
func (m *Matcher) Differences() []Difference {
	slices.Sort(m.order)
	var out []Difference
	for _, key := range m.order {
		p := m.rows[key]
		if same(p.first, p.second) {
			continue
		}
		d := Difference{Kind: Changed, First: p.first, Second: p.second}
		switch {
		case len(p.second) == 0:
			d.Kind = Missing
		case len(p.first) == 0:
			d.Kind = Extra
		case len(p.second) > len(p.first):
			d.Kind = Doubled
		case len(p.second) < len(p.first):
			d.Kind = Missing
		default:
			d.Columns = unequal(p.first[0], p.second[0])
		}
		out = append(out, d)
	}
	return out
}

// same says whether both hold the same rows, each as often.
func same(a, b []Row) bool {
	if len(a) != len(b) {
		return false
	}
	texts := func(rows []Row) []string {
		out := make([]string, len(rows))
		for i, r := range rows {
			out[i] = string(appendRecord(nil, r.Fields, nil))
		}
		slices.SortFunc(out, strings.Compare)
		return out
	}
	return slices.Equal(texts(a), texts(b))
}

func unequal(a, b Row) []int {
	var out []int
	for i := range a.Fields {
		if (a.Fields[i] == nil) != (b.Fields[i] == nil) || !bytes.Equal(a.Fields[i], b.Fields[i]) {
			out = append(out, i)
		}
	}
	return out
}
