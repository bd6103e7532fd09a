// Package explain says why a model gave a row its score: exact Shapley values, groups that users
// understand, sentences, and the smallest change of settings that would have dropped an item.
//
// The invariant it keeps: contributions and the expected value add up to the score (within 1e-9
// of its size), and no sentence names a group before one that weighed more.
package explain

import (
	"errors"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// Explainer computes contributions for one output of a model. It is safe for concurrent use.
type Explainer struct{ m *model.Model }

// New prepares a model's output for path-dependent TreeSHAP (the features' distribution is the
// one that the trees' covers tell). It fails if the model carries no covers.
func New(m *model.Model, output int) (*Explainer, error) { return nil, errors.New("not yet") }

// Expected is the score before anything is known: contributions start from it.
func (e *Explainer) Expected() float64 { return 0 }

// Contributions writes one contribution a feature into phi (length = features) and returns
// Expected + their sum, which is the row's score. It allocates nothing.
func (e *Explainer) Contributions(row, phi []float64) (score float64) { return 0 }

// Interactions writes SHAP interaction values into out, n × n by rows for n features: out[i][j]
// for i ≠ j is half of what i and j do together, out[i][i] the rest; row i sums to i's contribution.
func (e *Explainer) Interactions(row, out []float64) {}

// Interventional explains against a background sample instead of the covers.
type Interventional struct{ m *model.Model }

// NewInterventional takes the background's rows, at least one.
func NewInterventional(m *model.Model, output int, background [][]float64) (*Interventional, error) {
	return nil, errors.New("not yet")
}

// Expected is the background's mean score.
func (e *Interventional) Expected() float64 { return 0 }

// Contributions is as Explainer.Contributions.
func (e *Interventional) Contributions(row, phi []float64) (score float64) { return 0 }

// Decision is one scored item, as reasons need it.
type Decision struct {
	Row           []float64 // as scored: after features.Apply
	Contributions []float64 // of Row
	Adjust        float64   // what the user's topic setting added to the score
}

// Reason is one group's part in a decision.
type Reason struct {
	Group        string        `json:"group"` // "topic-setting" for the user's own topic setting
	Name         features.Text `json:"name"`
	Contribution float64       `json:"contribution"` // in the score's unit: above 0 it raised the item
	Share        float64       `json:"share"`        // |contribution| ÷ the sum of all groups' |contributions|
	Personal     bool          `json:"personal"`
	Sentence     features.Text `json:"sentence"` // "mostly because you finished similar videos (41 %)"
}

// TopicSetting is the group of what the user's own topic setting added.
const TopicSetting = "topic-setting"

// Reasons groups a decision's contributions, the heaviest first; groups that did nothing are left
// out. Sentences are whole.
func Reasons(f *features.Features, d Decision) []Reason { return nil }

// Summary joins the first n reasons into one sentence.
func Summary(reasons []Reason, n int, language string) string { return "" }

// Change is one change of a setting.
type Change struct {
	Setting string        `json:"setting"` // "profiling-off", "reset", "off:NAME", "less:TOPIC"
	Text    features.Text `json:"text"`
}

// Counterfactual is the smallest change of settings that would have dropped an item.
type Counterfactual struct {
	Changes []Change          `json:"changes"` // empty: no setting would have
	After   features.Settings `json:"after"`
	Rank    int               `json:"rank"` // the item's rank then, from 0
	Text    features.Text     `json:"text"`
}

// Dropped finds the smallest change of settings after which item i of a list is no longer among
// the first shown. rows are as the platform sent them (before Apply).
func Dropped(f *features.Features, s features.Settings, rows [][]float64, i, shown int) (Counterfactual, error) {
	return Counterfactual{}, errors.New("not yet")
}
