package features

import (
	"compress/gzip"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

func ranker(t *testing.T) *model.Model {
	t.Helper()
	f, err := os.Open("../model/testdata/ranker.lightgbm.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.Read("ranker", z)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func text(t *testing.T) string {
	t.Helper()
	src, err := os.ReadFile("testdata/features.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return string(src)
}

func bound(t *testing.T) *Features {
	t.Helper()
	file, err := Parse("features.yaml", []byte(text(t)))
	if err != nil {
		t.Fatal(err)
	}
	f, err := file.Bind(ranker(t))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFilesThatSayTooLittleOrTooMuchAreRefused(t *testing.T) {
	whole, m := text(t), ranker(t)
	for _, c := range []struct{ what, old, new, want string }{
		{"an unknown key", "version: 1", "version: 1\nsecret: x", "features.yaml:2"},
		{"another version", "version: 1", "version: 2", "version must be 1"},
		{"a personal group without category", "    category: contact\n", "", "needs the category"},
		{"a category that is none", "category: contact", "category: friends", "needs the category"},
		{"a category without a person", "switch: region-trend", "switch: region-trend\n    category: location", "only personal groups"},
		{"a personal feature without neutral", "session_depth, group: session, neutral: 20", "session_depth, group: session", "needs neutral"},
		{"neutral twice", "session_depth, group: session, neutral: 20", "session_depth, group: session, neutral: 20, missing: true", "exclude each other"},
		{"a neutral that is no category", "device_class, group: device, neutral: 0", "device_class, group: device, neutral: 9", "no category of the feature"},
		{"one language only", "{en: its topic, fr: son thème}", "{en: its topic}", "both languages"},
		{"a group that is not there", "group: session, neutral", "group: visits, neutral", "there is no such group"},
		{"a clause of another group's feature", "{feature: shares_by_friends, at_least", "{feature: watch_ratio_7d, at_least", "not of this group"},
		{"a clause that is always true", "{feature: shares_by_friends, at_least: 1, clause", "{feature: shares_by_friends, clause", "want at_least"},
		{"a topic that is personal", "topics: {feature: topic", "topics: {feature: device_class", "cannot be personal"},
		{"less that is more", "less: -1.5", "less: 1.5", "less must be below 0"},
		{"a feature twice", "- {feature: language_match, group: video}", "- {feature: freshness_hours, group: video}", "listed twice"},
		{"the reserved group", "group: trend\n    name", "group: topic-setting\n    name", "and not \"topic-setting\""},
		{"a feature the model lacks", "feature: language_match", "feature: language", `the model has no feature "language"`},
		{"a feature of the model left out", "  - {feature: language_match, group: video}\n", "", `"language_match" is in no group`},
		{"a category the file lacks", "pranks, weather]", "pranks]", "the model knows category 23"},
		{"a number with categories", "{feature: language_match, group: video}", "{feature: language_match, group: video, categories: [no, yes]}", "categorical in one"},
	} {
		if !strings.Contains(whole, c.old) {
			t.Fatalf("%s: the file does not hold %q", c.what, c.old)
		}
		file, err := Parse("features.yaml", []byte(strings.Replace(whole, c.old, c.new, 1)))
		if err == nil {
			_, err = file.Bind(m)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.what, err, c.want)
		}
	}
}

func TestSettingsDoWhatTheySay(t *testing.T) {
	f := bound(t)
	row := []float64{0.9, 1, 0.8, 3, 5, 1, 30, 0.7, 7, 2, 4, 1} // topic 4 is cooking
	apply := func(s Settings) ([]float64, float64) {
		out := append([]float64(nil), row...)
		return out, f.Apply(s, out)
	}
	if got, adjust := apply(Settings{Profiling: true}); adjust != 0 || !same(got, row) {
		t.Errorf("profiling without more changed the row to %v by %v", got, adjust)
	}
	nobody, _ := apply(Settings{})
	for i, personal := range f.Personal() {
		if personal == (nobody[i] == row[i]) {
			t.Errorf("without profiling %s is %v", f.Model.Features[i].Name, nobody[i])
		}
	}
	if !math.IsNaN(nobody[2]) || nobody[0] != 0.31 {
		t.Errorf("neutral values are %v", nobody)
	}
	reset, _ := apply(Settings{Profiling: true, Reset: true})
	if reset[0] != 0.31 || reset[1] != 1 {
		t.Errorf("after a reset: %v", reset)
	}
	if off, _ := apply(Settings{Profiling: true, Off: []string{"region-trend"}}); off[7] != 0.5 || off[0] != 0.9 {
		t.Errorf("without the trend: %v", off)
	}
	for want, add := range map[Want]float64{Less: -1.5, 0: 0, More: 1.5} {
		if _, adjust := apply(Settings{Topics: map[string]Want{"cooking": want, "music": More}}); adjust != add {
			t.Errorf("%d of cooking adds %v, want %v", want, adjust, add)
		}
	}
}

func same(a, b []float64) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return len(a) == len(b)
}

func TestUnknownSettingsAreRefused(t *testing.T) {
	f := bound(t)
	for _, s := range []Settings{{Off: []string{"everything"}}, {Topics: map[string]Want{"secret": Less}}, {Topics: map[string]Want{"cooking": 2}},
		{Topics: map[string]Want{"": Less}}} {
		if err := f.CheckSettings(s); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", s, err)
		}
	}
	if err := f.CheckSettings(Settings{Off: []string{"region-trend"}, Topics: map[string]Want{"cooking": Less}}); err != nil {
		t.Error(err)
	}
}

func TestRowsWithCategoriesWithoutANameAreRefused(t *testing.T) {
	f := bound(t)
	good := []float64{0.9, 1, math.NaN(), 3, 5, 1, 30, 0.7, 7, 2, 23, 3}
	if err := f.CheckRow(good); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []float64{24, -1, 2.5, 1e300} {
		row := append([]float64(nil), good...)
		if row[10] = topic; f.CheckRow(row) == nil {
			t.Errorf("topic %v was taken", topic)
		}
	}
}

func FuzzParse(f *testing.F) {
	src, err := os.ReadFile("testdata/features.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(src))
	f.Add("version: 1\ngroups: []\nfeatures: []\ntopics: {}\n")
	f.Fuzz(func(t *testing.T, text string) {
		file, err := Parse("f", []byte(text))
		if err == nil && (len(file.Groups) == 0 || len(file.Features) == 0) {
			t.Fatal("an empty file was accepted")
		}
	})
}
