package feed_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
)

const goodConfig = `version: 1
listen: 127.0.0.1:7480
token: token
database: dsn
retention_days: 30
reload: 2s
checks: {every: 30m, sample: 100}
surfaces:
  for-you:
    title: {en: For you, fr: Pour vous}
    model: model.txt
    features: features.yaml
    weights:
      watching: {min: 0.1, max: 0.6}
`

func TestTheConfigurationIsReadStrictly(t *testing.T) {
	c, err := feed.ParseConfig("feed.yaml", []byte(goodConfig))
	if err != nil {
		t.Fatal(err)
	}
	if c.MaxBody != 4<<20 || c.Surfaces["for-you"].Shown != 10 || c.Checks.SheetAge == 0 || c.Surfaces["for-you"].Weights["watching"].Max != 0.6 {
		t.Errorf("%+v", c)
	}
	for name, x := range map[string]struct{ old, is, says string }{
		"unknown key":       {"retention_days", "retention_hours", "feed.yaml:5:1: unknown key"},
		"no token":          {"token: token\n", "", "token is missing"},
		"kept for ever":     {"days: 30", "days: 0", "feed.yaml:5:17: retention_days"},
		"a name with space": {"for-you:", "For You:", "lower case"},
		"no features":       {"    features: features.yaml\n", "", "needs a model and a features file"},
		"one language":      {", fr: Pour vous", "", "title in en and fr"},
		"a range turned":    {"min: 0.1", "min: 0.7", "min before max"},
		"no duration":       {"2s", "soon", "feed.yaml:6:9:"},
		"a negative wait":   {"30m", "-30m", "feed.yaml:7:17:"},
		"another version":   {"version: 1", "version: 2", "version must be 1"},
		"nothing ranked":    {goodConfig[strings.Index(goodConfig, "surfaces:"):], "surfaces: {}\n", "nothing would be ranked"},
	} {
		if _, err := feed.ParseConfig("feed.yaml", []byte(strings.Replace(goodConfig, x.old, x.is, 1))); err == nil || !strings.Contains(err.Error(), x.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPathsAreRelativeToTheFileAndSecretsAreOneLine(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	c, err := feed.LoadConfig(write("feed.yaml", goodConfig))
	if err != nil || c.Surfaces["for-you"].Model != filepath.Join(dir, "model.txt") || c.Archive != filepath.Join(dir, "archive") {
		t.Fatalf("%+v, %v", c, err)
	}
	if s, err := feed.ReadSecret(write("one", " abc\n")); err != nil || s != "abc" {
		t.Errorf("%q, %v", s, err)
	}
	for _, bad := range []string{"", "\n", "a\nb\n"} {
		if _, err := feed.ReadSecret(write("bad", bad)); err == nil || strings.Contains(err.Error(), "a\nb") {
			t.Errorf("%q was a secret: %v", bad, err)
		}
	}
}

// A surface whose model does not load at the start has no last good one.
func TestTheServiceDoesNotStartOnABadModel(t *testing.T) {
	w := start(t)
	replace(t, w.config.Surfaces["for-you"].Model, []byte("hello"))
	if _, err := feed.New(t.Context(), w.config, w.parts); err == nil || !strings.Contains(err.Error(), "surface for-you") {
		t.Errorf("%v", err)
	}
}
