// Package features is what an operator says of a model's features in words (features.yaml), and
// what a user's settings do to them.
//
// The invariant it keeps: every feature of the model stands in exactly one group that users can
// read; what settings change in a row or a score is a stated function, applied here and nowhere else.
//
// It does not score and does not explain.
package features

import "github.com/trefoil-eu/trefoil/internal/rules/law"

// Text is a text for users in both languages.
type Text struct {
	EN string `yaml:"en" json:"en"`
	FR string `yaml:"fr" json:"fr"`
}

// In returns the text in a language: "fr" or, for anything else, English.
func (t Text) In(language string) string {
	if language == "fr" {
		return t.FR
	}
	return t.EN
}

// File is features.yaml.
type File struct {
	Version  int       `yaml:"version"`
	Groups   []Group   `yaml:"groups"`
	Features []Feature `yaml:"features"`
	Topics   *Topics   `yaml:"topics"`
}

// Group is one parameter as users understand it.
type Group struct {
	Group    string       `yaml:"group"`
	Name     Text         `yaml:"name"`     // "videos like those you watch"
	Clause   Text         `yaml:"clause"`   // completes "because …"; true whatever the values: "of its age", "de son âge"
	Says     []Says       `yaml:"says"`     // more precise clauses, each with the values it is true of
	Change   Text         `yaml:"change"`   // how a user can change it, for the parameter sheet
	Personal bool         `yaml:"personal"` // rests on the person: neutral without profiling (DSA art. 38)
	Category law.Category `yaml:"category"` // of personal data; only and always where personal
	Switch   string       `yaml:"switch"`   // users can turn this group off by this name: "region-trend"
	History  bool         `yaml:"history"`  // neutral after a reset
}

// Says is a clause that is true of some values only: all conditions given must hold.
type Says struct {
	Feature string   `yaml:"feature"`
	AtLeast *float64 `yaml:"at_least"`
	AtMost  *float64 `yaml:"at_most"`
	Missing bool     `yaml:"missing"`
	Clause  Text     `yaml:"clause"`
}

// Feature places a feature of the model in a group.
type Feature struct {
	Feature    string   `yaml:"feature"`
	Group      string   `yaml:"group"`
	Neutral    *float64 `yaml:"neutral"`    // what takes its place; nil with Missing: a missing value
	Missing    bool     `yaml:"missing"`    // neutral is a missing value
	Categories []string `yaml:"categories"` // names of categories 0, 1, 2, … where categorical
}

// Topics is the control "less / more of this topic": it adds to the score.
type Topics struct {
	Feature string  `yaml:"feature"` // the categorical feature that holds an item's topic
	Less    float64 `yaml:"less"`    // added where the user wants less: negative
	More    float64 `yaml:"more"`    // added where the user wants more: positive
}

// Settings are one user's choices. The zero value profiles nobody.
type Settings struct {
	Profiling bool            `json:"profiling"`
	Off       []string        `json:"off,omitempty"`    // switches turned off: "region-trend"
	Topics    map[string]Want `json:"topics,omitempty"` // by the topic's name
	Reset     bool            `json:"reset,omitempty"`  // history is as if it were empty
}

// Want is less (-1), as it comes (0) or more (1).
type Want int8

// What a user wants of a topic.
const (
	Less Want = -1
	More Want = 1
)
