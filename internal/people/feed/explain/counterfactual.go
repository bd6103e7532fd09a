package explain

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sort"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Change is one change of a setting.
type Change struct {
	Setting string        `json:"setting"` // "less:TOPIC", "off:SWITCH", "reset", "profiling-off"
	Text    features.Text `json:"text"`

	apply func(*features.Settings)
}

// Counterfactual is the smallest change of settings that would have dropped an item.
type Counterfactual struct {
	Changes []Change          `json:"changes"` // empty: no setting would have
	After   features.Settings `json:"after"`   // the settings with the changes
	Rank    int               `json:"rank"`    // the item's rank then, from 0; without changes, now
	Text    features.Text     `json:"text"`
}

// Bounds of the search: how many settings are changed together, and how many switches are tried
// (the first of features.yaml). At most 175 rankings of the list.
const (
	maxChanges  = 3
	maxSwitches = 7
)

// ErrNotShown is returned for an item that is not among the first shown as things are: there is
// nothing to drop.
var ErrNotShown = errors.New("the item is not among the first shown")

// Dropped finds the smallest change of settings after which item i of a list is no longer among
// the first shown items: the fewest changes, at most three together; among equally many the ones
// that leave most of the other shown items where they can be seen; then the order less of the
// topic, a switch off, reset, profiling off. rows are as the platform sent them (before Apply).
// Items rank by score, equal ones by their place in the list.
func Dropped(f *features.Features, s features.Settings, rows [][]float64, i, shown int) (Counterfactual, error) {
	if i < 0 || i >= len(rows) || shown < 1 {
		return Counterfactual{}, fmt.Errorf("find counterfactual: item %d of %d, %d shown", i, len(rows), shown)
	}
	if err := f.CheckSettings(s); err != nil {
		return Counterfactual{}, fmt.Errorf("find counterfactual: %w", err)
	}
	r := &reranker{f: f, rows: rows, flat: make([]float64, 0, len(rows)*len(rows[0])), scores: make([]float64, len(rows)), adjust: make([]float64, len(rows))}
	now := slices.Clone(r.order(s))
	rank := slices.Index(now, i)
	if rank >= shown {
		return Counterfactual{}, fmt.Errorf("find counterfactual: %w", ErrNotShown)
	}
	changes := possible(f, s, rows[i])
	for size := 1; size <= min(maxChanges, len(changes)); size++ {
		best, kept := Counterfactual{}, -1
		for set := uint(1); set < 1<<len(changes); set++ {
			if bits.OnesCount(set) != size {
				continue
			}
			c := with(s, changes, set)
			order := r.order(c.After)
			if c.Rank = slices.Index(order, i); c.Rank < shown {
				continue
			}
			if k := common(now[:min(shown, len(now))], order[:min(shown, len(order))]); k > kept {
				best, kept = c, k
			}
		}
		if kept >= 0 {
			best.Text = told(best.Changes, shown)
			return best, nil
		}
	}
	return Counterfactual{After: s.Clone(), Rank: rank, Text: features.Text{
		EN: "No setting of yours, and no three of them together, would have dropped it.",
		FR: "Aucun de vos réglages, ni trois d'entre eux ensemble, ne l'aurait fait disparaître.",
	}}, nil
}

// reranker ranks one list under different settings.
type reranker struct {
	f                    *features.Features
	rows                 [][]float64
	flat, scores, adjust []float64
	by                   []int
}

// order returns the items' indices, the best first. It is valid until the next call.
func (r *reranker) order(s features.Settings) []int {
	r.flat, r.by = r.flat[:0], r.by[:0]
	for i, row := range r.rows {
		from := len(r.flat)
		r.flat = append(r.flat, row...)
		r.adjust[i] = r.f.Apply(s, r.flat[from:])
		r.by = append(r.by, i)
	}
	r.f.Model.ScoreRows(r.flat, r.scores)
	for i := range r.scores {
		r.scores[i] += r.adjust[i]
	}
	sort.SliceStable(r.by, func(a, b int) bool { return r.scores[r.by[a]] > r.scores[r.by[b]] })
	return r.by
}

// possible lists the changes that a user could make from s, the mildest first.
func possible(f *features.Features, s features.Settings, row []float64) []Change {
	var out []Change
	if topic := f.Topic(row); topic != "" && s.Topics[topic] > features.Less {
		out = append(out, Change{"less:" + topic, features.Text{EN: "asking for less of “" + topic + "”", FR: "demander moins de « " + topic + " »"},
			func(s *features.Settings) { s.Topics[topic] = features.Less }})
	}
	history, personal := false, false
	for _, g := range f.File.Groups {
		history, personal = history || g.History, personal || g.Personal
	}
	for _, name := range f.Switches()[:min(len(f.Switches()), maxSwitches)] {
		if !slices.Contains(s.Off, name) {
			out = append(out, Change{"off:" + name, switchText(f, name), func(s *features.Settings) { s.Off = append(s.Off, name) }})
		}
	}
	if history && !s.Reset {
		out = append(out, Change{"reset", features.Text{EN: "resetting what was learnt from your history", FR: "réinitialiser ce qui vient de votre historique"},
			func(s *features.Settings) { s.Reset = true }})
	}
	if personal && s.Profiling {
		out = append(out, Change{"profiling-off", features.Text{EN: "turning profiling off", FR: "désactiver le profilage"},
			func(s *features.Settings) { s.Profiling = false }})
	}
	return out
}

// switchText names a switch by the groups it turns off.
func switchText(f *features.Features, name string) features.Text {
	var en, fr []string
	for _, g := range f.File.Groups {
		if g.Switch == name {
			en, fr = append(en, "“"+g.Name.EN+"”"), append(fr, "« "+g.Name.FR+" »")
		}
	}
	return features.Text{EN: "turning off " + strings.Join(en, ", "), FR: "désactiver " + strings.Join(fr, ", ")}
}

// with applies the changes whose bits are set.
func with(s features.Settings, changes []Change, set uint) Counterfactual {
	c := Counterfactual{After: s.Clone()}
	for i, change := range changes {
		if set>>i&1 == 1 {
			change.apply(&c.After)
			c.Changes = append(c.Changes, change)
		}
	}
	return c
}

// common counts what two lists share.
func common(a, b []int) int {
	n := 0
	for _, x := range a {
		if slices.Contains(b, x) {
			n++
		}
	}
	return n
}

func told(changes []Change, shown int) features.Text {
	en, fr := make([]string, len(changes)), make([]string, len(changes))
	for i, c := range changes {
		en[i], fr[i] = c.Text.EN, c.Text.FR
	}
	return features.Text{
		EN: fmt.Sprintf("It would not have been among the first %d after %s.", shown, strings.Join(en, " and ")),
		FR: fmt.Sprintf("Il n'aurait pas été parmi les %d premiers après ceci : %s.", shown, strings.Join(fr, " et ")),
	}
}
