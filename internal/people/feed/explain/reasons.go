package explain

import (
	"math"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Decision is one scored item, as reasons need it.
type Decision struct {
	Row           []float64         // as scored: after features.Apply
	Settings      features.Settings // the ones that were applied
	Contributions []float64         // of Row
	Adjust        float64           // what the user's topic setting added to the score
}

// Reason is one group's part in a decision.
type Reason struct {
	Group        string        `json:"group"` // TopicSetting for the user's own topic setting
	Name         features.Text `json:"name"`
	Contribution float64       `json:"contribution"` // in the score's unit: above 0 it raised the item
	Share        float64       `json:"share"`        // |contribution| ÷ the sum of all groups' |contributions|
	Personal     bool          `json:"personal"`     // the group is personal
	Neutral      bool          `json:"neutral"`      // the user's settings put neutral values in its place
	Sentence     features.Text `json:"sentence"`     // "mostly because you finished similar videos (41 %)"
}

// TopicSetting is the group of what the user's own topic setting added.
const TopicSetting = features.Setting

// Shares from which a reason is called the main one, and below which it is called slight.
const (
	mostlyFrom  = 1.0 / 3
	slightUnder = 0.1
)

// Reasons groups a decision's contributions, the heaviest first (by size, whatever the sign);
// groups that did nothing are left out. Equal ones keep the order of features.yaml.
func Reasons(f *features.Features, d Decision) []Reason {
	groups := f.File.Groups
	sums := make([]float64, len(groups))
	for i, g := range f.GroupOf() {
		sums[g] += d.Contributions[i]
	}
	total := math.Abs(d.Adjust)
	for _, s := range sums {
		total += math.Abs(s)
	}
	var out []Reason
	add := func(r Reason, clause features.Text) {
		r.Share = math.Abs(r.Contribution) / total
		r.Sentence = sentence(clause, r.Contribution > 0, r.Share)
		out = append(out, r)
	}
	for g, sum := range sums {
		if sum == 0 {
			continue
		}
		r := Reason{Group: groups[g].Group, Name: groups[g].Name, Contribution: sum, Personal: groups[g].Personal, Neutral: groups[g].Neutral(d.Settings)}
		clause := neutralClause(r.Name)
		if !r.Neutral {
			clause = f.Clause(g, d.Row)
		}
		add(r, clause)
	}
	if d.Adjust != 0 {
		add(Reason{Group: TopicSetting, Name: features.Text{EN: "your topic settings", FR: "vos réglages de thèmes"}, Contribution: d.Adjust},
			topicClause(d.Adjust > 0))
	}
	slices.SortStableFunc(out, func(a, b Reason) int {
		switch x, y := math.Abs(a.Contribution), math.Abs(b.Contribution); {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	return out
}

// neutralClause is what is true of a group that the settings made neutral: its own clauses speak
// of values that were not used.
func neutralClause(name features.Text) features.Text {
	return features.Text{
		EN: "your settings leave out “" + name.EN + "” and a neutral value stands in its place",
		FR: "vos réglages écartent « " + name.FR + " » et une valeur neutre en tient lieu",
	}
}

func topicClause(more bool) features.Text {
	if more {
		return features.Text{EN: "you asked for more of this topic", FR: "vous avez demandé plus de contenus sur ce thème"}
	}
	return features.Text{EN: "you asked for less of this topic", FR: "vous avez demandé moins de contenus sur ce thème"}
}

// Summary joins the first n reasons into one sentence, in their order. language is "fr" or "en".
func Summary(reasons []Reason, n int, language string) string {
	if len(reasons) == 0 || n < 1 {
		if language == "fr" {
			return "Rien ne distingue cet élément d'un élément moyen."
		}
		return "Nothing sets this item apart from an average one."
	}
	parts := make([]string, 0, n)
	for _, r := range reasons[:min(n, len(reasons))] {
		parts = append(parts, r.Sentence.In(language))
	}
	joined := strings.Join(parts, "; ")
	if language == "fr" {
		joined = strings.Join(parts, " ; ")
	}
	return upper(joined) + "."
}
