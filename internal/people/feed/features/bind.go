package features

import (
	"fmt"
	"math"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// Features is a File bound to a model. It is safe for concurrent use; do not change its fields.
type Features struct {
	File  *File
	Model *model.Model

	placed   []int // by the model's features: index in File.Features
	group    []int // by the model's features: index in File.Groups
	neutral  []float64
	personal []bool
	topic    int // the model's feature that holds the topic, or -1
	switches []string
	topics   map[string]bool
}

// Bind checks a file against a model: every feature of the model is placed, nothing else is,
// categorical features are so in both, and every category that the model knows has a name.
func (f *File) Bind(m *model.Model) (*Features, error) {
	b := &Features{File: f, Model: m, topic: -1, topics: map[string]bool{}}
	groups, places := map[string]int{}, map[string]int{}
	for i, g := range f.Groups {
		groups[g.Group] = i
	}
	for i, x := range f.Features {
		if m.Index(x.Feature) < 0 {
			return nil, fmt.Errorf("bind features: the model has no feature %q", clip(x.Feature))
		}
		places[x.Feature] = i
	}
	for i, mf := range m.Features {
		at, ok := places[mf.Name]
		if !ok {
			return nil, fmt.Errorf("bind features: the model's feature %q is in no group", clip(mf.Name))
		}
		x := &f.Features[at]
		if err := x.fits(&mf); err != nil {
			return nil, fmt.Errorf("bind features: %w", err)
		}
		b.placed, b.group = append(b.placed, at), append(b.group, groups[x.Group])
		b.personal = append(b.personal, f.Groups[groups[x.Group]].Personal)
		value := math.NaN()
		if x.Neutral != nil {
			value = *x.Neutral
		}
		b.neutral = append(b.neutral, value)
		if f.Topics != nil && f.Topics.Feature == mf.Name {
			b.topic = i
			for _, name := range x.Categories {
				b.topics[name] = true
			}
		}
	}
	for _, g := range f.Groups {
		if g.Switch != "" && !contains(b.switches, g.Switch) {
			b.switches = append(b.switches, g.Switch)
		}
	}
	return b, nil
}

// fits compares a placed feature with the model's.
func (x *Feature) fits(mf *model.Feature) error {
	if mf.Categorical != (len(x.Categories) > 0) {
		return fmt.Errorf("feature %q is categorical in one of model and file and a number in the other", clip(mf.Name))
	}
	if n := len(mf.Categories); n > 0 && mf.Categories[n-1] >= len(x.Categories) {
		return fmt.Errorf("the model knows category %d of feature %q, which the file does not name", mf.Categories[n-1], clip(mf.Name))
	}
	return nil
}

// Personal says of each feature of the model whether it is personal.
func (f *Features) Personal() []bool { return f.personal }

// GroupOf returns for each feature of the model the index of its group in File.Groups.
func (f *Features) GroupOf() []int { return f.group }

// Switches are the names that Settings.Off may hold.
func (f *Features) Switches() []string { return f.switches }

// CheckRow says why a row cannot be ranked: as model.CheckRow, and a category that has no name.
// It names the feature and not its value.
func (f *Features) CheckRow(row []float64) error {
	if err := f.Model.CheckRow(row); err != nil {
		return err
	}
	for i, at := range f.placed {
		n := len(f.File.Features[at].Categories)
		if v := row[i]; n > 0 && !math.IsNaN(v) && (v < 0 || v >= float64(n) || v != math.Trunc(v)) {
			return fmt.Errorf("feature %s holds no category that has a name", f.Model.Features[i].Name)
		}
	}
	return nil
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// clip bounds what a message repeats of a file.
func clip(s string) string {
	if len(s) > 60 {
		return strings.ToValidUTF8(s[:60], "") + "…"
	}
	return s
}
