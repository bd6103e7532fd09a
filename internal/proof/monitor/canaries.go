package monitor

import (
	"time"

	"github.com/trefoil-eu/trefoil"
)

// Pseudonyms returns how a principal appears in records made around some times, by the rules in
// dir, a monitor's directory.
func Pseudonyms(dir, principal string, times ...time.Time) ([]string, error) {
	rules, err := LoadRules(dir)
	if err != nil {
		return nil, err
	}
	b, err := newBook(rules, dir)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, at := range times {
		out = append(out, trefoil.StaffPseudonym(b.staffKey, at, principal))
	}
	return out, nil
}
