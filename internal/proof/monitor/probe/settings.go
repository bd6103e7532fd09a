package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Files inside the monitor's directory.
const (
	SettingsFile  = "probe.yaml"
	EnrolmentFile = "enrolment.note"
)

// Settings is probe.yaml in the monitor's directory: which servers the probe asks, and who may
// sign what they should answer.
type Settings struct {
	Version  int      `yaml:"version"`
	Every    string   `yaml:"every,omitempty"`    // between two rounds; default 30s
	Sample   string   `yaml:"sample,omitempty"`   // between two samples of a dataset's values; default 10m
	Confirm  string   `yaml:"confirm,omitempty"`  // between the two looks at a dataset that differs; default 5s
	Officers []string `yaml:"officers,omitempty"` // vkeys of who may sign an enrolment, beside the officers of rules.yaml
	Targets  []Target `yaml:"targets"`
}

// Target is one server.
type Target struct {
	Name     string `yaml:"name"`
	Kind     string `yaml:"kind"`               // source, datasets
	Cluster  string `yaml:"cluster,omitempty"`  // of datasets: inside or outside
	DSN      string `yaml:"dsn"`                // of trefoil_probe, in the database that has its functions; no password
	Password string `yaml:"password,omitempty"` // file with the probe's password, relative to the monitor's directory
}

// Kinds of target.
const (
	KindSource   = "source"
	KindDatasets = "datasets"
)

// LoadSettings reads dir/probe.yaml strictly, and the passwords that it names. An error that
// wraps os.ErrNotExist means that there is no probe.
func LoadSettings(dir string) (*Settings, map[string]string, error) {
	path := filepath.Join(dir, SettingsFile)
	src, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read probe's settings: %w", err)
	}
	s, err := ParseSettings(path, src)
	if err != nil {
		return nil, nil, err
	}
	passwords := map[string]string{}
	for _, t := range s.Targets {
		if t.Password == "" {
			continue
		}
		file := t.Password
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, nil, fmt.Errorf("target %s: read password: %w", t.Name, errors.Unwrap(err))
		}
		passwords[t.Name] = strings.TrimSpace(string(raw))
	}
	return s, passwords, nil
}

// ParseSettings decodes and validates settings. File is used in errors only.
func ParseSettings(file string, src []byte) (*Settings, error) {
	var s Settings
	pos, err := strict.DecodeWithPositions(file, src, &s)
	errs := strict.All(file, err)
	want := func(ok bool, path, format string, args ...any) {
		if !ok {
			errs = append(errs, pos.Errorf(path, format, args...))
		}
	}
	if err == nil {
		s.validate(want)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return &s, nil
}

func (s *Settings) validate(want func(ok bool, path, format string, args ...any)) {
	want(s.Version == 1, "version", "must be 1")
	for path, v := range map[string]string{"every": s.Every, "confirm": s.Confirm, "sample": s.Sample} {
		d, err := time.ParseDuration(v)
		want(v == "" || err == nil && d > 0 && d <= 30*time.Minute, path, "must be a duration such as 30s, at most 30m")
	}
	for i, key := range s.Officers {
		_, err := verifiers([]string{key})
		want(err == nil, fmt.Sprintf("officers[%d]", i), "must be a vkey")
	}
	want(len(s.Targets) > 0, "targets", "must name at least one server")
	seen := map[string]bool{}
	for i, t := range s.Targets {
		at := fmt.Sprintf("targets[%d].", i)
		want(t.Name != "" && !seen[t.Name] && len(t.Name) < 100 && !strings.ContainsAny(t.Name, "/: "), at+"name", "is missing, given twice, or not a plain word")
		seen[t.Name] = true
		want(t.Kind == KindSource || t.Kind == KindDatasets, at+"kind", "must be source or datasets")
		want((t.Kind == KindDatasets) == (t.Cluster == "inside" || t.Cluster == "outside"), at+"cluster", "must be inside or outside for a dataset cluster, and absent for a source")
		cfg, err := pgx.ParseConfig(t.DSN)
		want(err == nil, at+"dsn", "is no connection string")
		want(err != nil || cfg.Password == "", at+"dsn", "holds a password: put it into a file")
	}
}

func (s *Settings) every() time.Duration   { return durationOr(s.Every, 30*time.Second) }
func (s *Settings) confirm() time.Duration { return durationOr(s.Confirm, 5*time.Second) }

func (s *Settings) sample() time.Duration { return durationOr(s.Sample, 10*time.Minute) }

func durationOr(text string, or time.Duration) time.Duration {
	if d, err := time.ParseDuration(text); err == nil {
		return d
	}
	return or
}
