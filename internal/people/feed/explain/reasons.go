package explain

import (
	"errors"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

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
