package features

import (
	"fmt"
	"math"
	"slices"
)

// Setting names, in reasons, what the user's own topic setting added to a score.
const Setting = "topic-setting"

// CheckSettings says which switch or topic does not exist, without repeating it.
func (f *Features) CheckSettings(s Settings) error {
	for i, name := range s.Off {
		if !contains(f.switches, name) {
			return fmt.Errorf("settings: off: entry %d is no switch of this surface", i)
		}
	}
	for topic, want := range s.Topics {
		switch {
		case !f.topics[topic]:
			return fmt.Errorf("settings: topics: a topic is not one of this surface")
		case want < Less || want > More:
			return fmt.Errorf("settings: topics: want -1 (less), 0 or 1 (more)")
		}
	}
	return nil
}

// Neutral says whether the settings make a group neutral: personal groups without profiling,
// switched groups that are off, groups of history after a reset.
func (g *Group) Neutral(s Settings) bool {
	return g.Personal && !s.Profiling || g.History && s.Reset || g.Switch != "" && contains(s.Off, g.Switch)
}

// Apply replaces in place what the settings make neutral, and returns what they add to the
// score: Topics.Less or Topics.More where the user set the item's topic, else 0. The row holds
// (CheckRow); the settings were checked.
func (f *Features) Apply(s Settings, row []float64) (adjust float64) {
	adjust = f.Adjust(s, row)
	for i, g := range f.group {
		if f.File.Groups[g].Neutral(s) {
			row[i] = f.neutral[i]
		}
	}
	return adjust
}

// Adjust is what the settings add to the score of a row.
func (f *Features) Adjust(s Settings, row []float64) float64 {
	switch s.Topics[f.Topic(row)] {
	case Less:
		return f.File.Topics.Less
	case More:
		return f.File.Topics.More
	}
	return 0
}

// Topic returns the name of the row's topic, or "" without a topic control or a known topic.
func (f *Features) Topic(row []float64) string {
	if f.topic < 0 {
		return ""
	}
	names, v := f.File.Features[f.placed[f.topic]].Categories, row[f.topic]
	if math.IsNaN(v) || v < 0 || v >= float64(len(names)) {
		return ""
	}
	return names[int(v)]
}

// Clone copies settings, so that a change of the copy leaves the original as it is.
func (s Settings) Clone() Settings {
	s.Off = slices.Clone(s.Off)
	topics := make(map[string]Want, len(s.Topics))
	for k, v := range s.Topics {
		topics[k] = v
	}
	s.Topics = topics
	return s
}

// Clause returns the words that complete "because …" for a group and a row as it was scored: the
// first of Says whose conditions hold, else Clause.
func (f *Features) Clause(group int, row []float64) Text {
	g := &f.File.Groups[group]
	for i := range g.Says {
		if s := &g.Says[i]; s.holds(row[f.Model.Index(s.Feature)]) {
			return s.Clause
		}
	}
	return g.Clause
}

// holds says whether the clause is true of a value.
func (s *Says) holds(v float64) bool {
	if math.IsNaN(v) {
		return s.Missing
	}
	return !s.Missing && (s.AtLeast == nil || v >= *s.AtLeast) && (s.AtMost == nil || v <= *s.AtMost)
}
