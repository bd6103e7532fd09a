package features

import (
	"fmt"
	"regexp"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Bounds of a file.
const (
	maxGroups = 256
	maxText   = 300 // bytes of one text
)

var identifier = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// checker collects what is wrong with a file.
type checker struct {
	f    *File
	pos  *strict.Positions
	errs strict.Errors
	// group and feature index by name
	group   map[string]int
	feature map[string]int
}

// Parse reads features.yaml strictly; errors carry line and column (strict.Errors).
func Parse(name string, src []byte) (*File, error) {
	f := &File{}
	pos, err := strict.DecodeWithPositions(name, src, f)
	if err != nil {
		return nil, err
	}
	c := &checker{f: f, pos: pos, group: map[string]int{}, feature: map[string]int{}}
	if f.Version != 1 {
		c.fail("version", "version must be 1")
	}
	if len(f.Groups) == 0 || len(f.Groups) > maxGroups {
		c.fail("groups", "there must be 1 to %d groups", maxGroups)
	}
	for i := range f.Groups {
		c.checkGroup(i)
	}
	for i := range f.Features {
		c.checkFeature(i)
	}
	for i := range f.Groups {
		c.checkSays(i)
	}
	c.checkTopics()
	c.checkUsed()
	if err := c.errs.Err(); err != nil {
		return nil, err
	}
	return f, nil
}

func (c *checker) fail(path, format string, args ...any) {
	c.errs = append(c.errs, c.pos.Errorf(path, format, args...))
}

func (c *checker) text(path string, t Text) {
	for language, s := range map[string]string{"en": t.EN, "fr": t.FR} {
		if s == "" || len(s) > maxText {
			c.fail(strict.Join(path, language), "%s: want a text of 1 to %d bytes in both languages", strict.Join(path, language), maxText)
		}
	}
}

func (c *checker) checkGroup(i int) {
	g, path := &c.f.Groups[i], fmt.Sprintf("groups[%d]", i)
	if !identifier.MatchString(g.Group) || g.Group == Setting {
		c.fail(path+".group", "group must be lower case letters, digits and hyphens, and not %q", Setting)
	}
	if _, twice := c.group[g.Group]; twice {
		c.fail(path+".group", "the group is listed twice")
	}
	c.group[g.Group] = i
	c.text(path+".name", g.Name)
	c.text(path+".clause", g.Clause)
	c.text(path+".change", g.Change)
	switch {
	case g.Personal && !g.Category.Known():
		c.fail(path+".category", "a personal group needs the category of its data")
	case !g.Personal && g.Category != "":
		c.fail(path+".category", "only personal groups have a category")
	case !g.Personal && g.History:
		c.fail(path+".history", "history is of a person: the group must be personal")
	}
	if g.Switch != "" && !identifier.MatchString(g.Switch) {
		c.fail(path+".switch", "switch must be lower case letters, digits and hyphens")
	}
}

// neutralised says whether a setting can put neutral values into the group.
func (g *Group) neutralised() bool { return g.Personal || g.History || g.Switch != "" }

func (c *checker) checkFeature(i int) {
	f, path := &c.f.Features[i], fmt.Sprintf("features[%d]", i)
	if f.Feature == "" {
		c.fail(path, "feature is missing")
	}
	if _, twice := c.feature[f.Feature]; twice {
		c.fail(path+".feature", "the feature is listed twice")
	}
	c.feature[f.Feature] = i
	g, ok := c.group[f.Group]
	if !ok {
		c.fail(path+".group", "there is no such group")
		return
	}
	switch {
	case f.Neutral != nil && f.Missing:
		c.fail(path+".neutral", "neutral and missing exclude each other")
	case f.Neutral == nil && !f.Missing && c.f.Groups[g].neutralised():
		c.fail(path, "the group can be made neutral: the feature needs neutral (a value) or missing: true")
	}
	seen := map[string]bool{}
	for j, name := range f.Categories {
		if name == "" || len(name) > maxText || seen[name] {
			c.fail(fmt.Sprintf("%s.categories[%d]", path, j), "categories need names, each of its own")
		}
		seen[name] = true
	}
	if n := len(f.Categories); n > 0 && f.Neutral != nil && (*f.Neutral < 0 || *f.Neutral >= float64(n) || *f.Neutral != float64(int(*f.Neutral))) {
		c.fail(path+".neutral", "neutral is no category of the feature")
	}
}

func (c *checker) checkSays(i int) {
	for j, s := range c.f.Groups[i].Says {
		path := fmt.Sprintf("groups[%d].says[%d]", i, j)
		c.text(path+".clause", s.Clause)
		at, ok := c.feature[s.Feature]
		if !ok || c.f.Features[at].Group != c.f.Groups[i].Group {
			c.fail(path+".feature", "the feature is not of this group")
		}
		if ranged := s.AtLeast != nil || s.AtMost != nil; ranged == s.Missing {
			c.fail(path, "want at_least, at_most or both, or else missing: true")
		}
	}
}

func (c *checker) checkTopics() {
	t := c.f.Topics
	if t == nil {
		return
	}
	at, ok := c.feature[t.Feature]
	switch {
	case !ok || len(c.f.Features[at].Categories) == 0:
		c.fail("topics.feature", "the topic must be a feature with categories")
	case c.personal(at):
		c.fail("topics.feature", "an item's topic cannot be personal")
	}
	if !(t.Less < 0) || !(t.More > 0) {
		c.fail("topics", "less must be below 0 and more above 0")
	}
}

func (c *checker) personal(feature int) bool {
	g, ok := c.group[c.f.Features[feature].Group]
	return ok && c.f.Groups[g].Personal
}

func (c *checker) checkUsed() {
	used := map[string]bool{}
	for _, f := range c.f.Features {
		used[f.Group] = true
	}
	for i, g := range c.f.Groups {
		if !used[g.Group] {
			c.fail(fmt.Sprintf("groups[%d]", i), "no feature is in this group")
		}
	}
}
