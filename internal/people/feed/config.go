package feed

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/sheet"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Config is feed.yaml. Relative paths are relative to the file's own directory.
type Config struct {
	Version   int                      `yaml:"version"`
	Listen    string                   `yaml:"listen"`
	Token     string                   `yaml:"token"`               // a file that holds the platform's bearer token
	Database  string                   `yaml:"database"`            // a file that holds the DSN of the decisions' database
	Control   string                   `yaml:"control,omitempty"`   // a file that holds the control store's DSN: records go to its outbox
	Archive   string                   `yaml:"archive,omitempty"`   // directory of every model that ever ranked, by hash; default "archive"
	Retention int                      `yaml:"retention_days"`      // as the catalog says for decisions
	Reload    Duration                 `yaml:"reload,omitempty"`    // how often model files are looked at; default 5s
	Checks    Checks                   `yaml:"checks,omitempty"`    //
	Surfaces  map[string]SurfaceConfig `yaml:"surfaces"`            //
	Creators  []string                 `yaml:"creators,omitempty"`  // classes of creator size that requests may name; none: any
	MaxBody   int                      `yaml:"max_body,omitempty"`  // bytes of a request; default 4 MiB
	MaxItems  int                      `yaml:"max_items,omitempty"` // of a request; default and most decision.MaxItems
}

// Checks says how often the service tests itself, and on how much.
type Checks struct {
	Every    Duration `yaml:"every,omitempty"`     // default 1h
	Sample   int      `yaml:"sample,omitempty"`    // decisions of a surface each time; default 200
	SheetAge Duration `yaml:"sheet_age,omitempty"` // a sheet older than this is stale; default 48h
}

// SurfaceConfig is one place where items are ranked.
type SurfaceConfig struct {
	Title    features.Text          `yaml:"title"`
	Model    string                 `yaml:"model"`
	Features string                 `yaml:"features"`
	Shown    int                    `yaml:"shown,omitempty"`   // items a person sees at first; default 10. Counterfactuals are about leaving these
	Weights  map[string]sheet.Range `yaml:"weights,omitempty"` // group → the range that its share is stated to stay in
}

// Duration is a time.Duration written as 5s, 1h30m.
type Duration time.Duration

// UnmarshalText reads what time.ParseDuration reads, above zero.
func (d *Duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	if err != nil || v <= 0 {
		return errors.New("want a duration above zero, such as 5s or 1h")
	}
	*d = Duration(v)
	return nil
}

var surfaceName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)

// LoadConfig reads feed.yaml strictly: every finding with its line.
func LoadConfig(path string) (*Config, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read feed's configuration: %w", err)
	}
	c, err := ParseConfig(filepath.Base(path), src)
	if err != nil {
		return nil, err
	}
	c.resolve(filepath.Dir(path))
	return c, nil
}

// ParseConfig decodes and checks feed.yaml, and fills in defaults. Paths stay as written.
func ParseConfig(name string, src []byte) (*Config, error) {
	var c Config
	pos, err := strict.DecodeWithPositions(name, src, &c)
	errs := strict.All(name, err)
	add := func(path, format string, args ...any) { errs = append(errs, pos.Errorf(path, format, args...)) }
	if c.Version != 1 {
		add("version", "version must be 1")
	}
	if c.Token == "" {
		add("", "token is missing: a file that holds the platform's bearer token")
	}
	if c.Listen == "" {
		add("", "listen is missing: an address such as 127.0.0.1:7480")
	}
	if c.Retention < 1 || c.Retention > 3660 {
		add("retention_days", "retention_days must be 1 to 3660")
	}
	if c.MaxItems < 0 || c.MaxItems > decision.MaxItems {
		add("max_items", "max_items must be at most %d", decision.MaxItems)
	}
	if c.MaxBody < 0 || c.MaxBody > 64<<20 {
		add("max_body", "max_body must be at most 64 MiB")
	}
	if len(c.Surfaces) == 0 {
		add("surfaces", "surfaces is empty: nothing would be ranked")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Surfaces)) {
		c.Surfaces[name].check(name, func(key, format string, args ...any) {
			add(strict.Join(strict.Join("surfaces", name), key), format, args...)
		})
	}
	c.defaults()
	return &c, errs.Err()
}

func (s SurfaceConfig) check(name string, add func(key, format string, args ...any)) {
	if !surfaceName.MatchString(name) {
		add("", "a surface's name is lower case letters, digits and hyphens, at most 63")
	}
	if s.Model == "" || s.Features == "" {
		add("", "surface %s needs a model and a features file", name)
	}
	if s.Title.EN == "" || s.Title.FR == "" {
		add("title", "surface %s needs a title in en and fr", name)
	}
	for group, r := range s.Weights {
		if r.Min < 0 || r.Max > 1 || r.Min > r.Max {
			add("weights", "the range of %s must be within 0 and 1, min before max", group)
		}
	}
}

func (c *Config) defaults() {
	set := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	wait := func(v *Duration, d time.Duration) {
		if *v == 0 {
			*v = Duration(d)
		}
	}
	set(&c.MaxBody, 4<<20)
	set(&c.MaxItems, decision.MaxItems)
	set(&c.Checks.Sample, 200)
	wait(&c.Reload, 5*time.Second)
	wait(&c.Checks.Every, time.Hour)
	wait(&c.Checks.SheetAge, 48*time.Hour)
	if c.Archive == "" {
		c.Archive = "archive"
	}
	for name, s := range c.Surfaces {
		set(&s.Shown, 10)
		c.Surfaces[name] = s
	}
}

// resolve makes paths relative to dir absolute.
func (c *Config) resolve(dir string) {
	at := func(p *string) {
		if *p != "" && !filepath.IsAbs(*p) {
			*p = filepath.Join(dir, *p)
		}
	}
	for _, p := range []*string{&c.Token, &c.Database, &c.Control, &c.Archive} {
		at(p)
	}
	for name, s := range c.Surfaces {
		at(&s.Model)
		at(&s.Features)
		c.Surfaces[name] = s
	}
}

// ReadSecret reads a one-line secret from a file. The error does not repeat it.
func ReadSecret(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read secret: %w", err)
	}
	secret := strings.TrimSpace(string(raw))
	if secret == "" || strings.ContainsAny(secret, "\r\n") {
		return "", fmt.Errorf("read secret: %s must hold one line", path)
	}
	return secret, nil
}
