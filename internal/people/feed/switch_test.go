package feed

import (
	"context"
	"io"
	"log/slog"
	"math"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// noted keeps the reasons of incidents.
type noted struct{ opened []string }

func (n *noted) Enqueue(_ context.Context, b *trefoil.Body) error {
	if b.Kind == trefoil.KindIncident && b.Incident.Event == "opened" {
		n.opened = append(n.opened, b.Incident.Reason)
	}
	return nil
}

// The metamorphic test must be able to fail: each of these services leaks a personal
// feature into scores that were made without profiling.
func TestASwitchThatLeaksIsFoundInProduction(t *testing.T) {
	for name, leak := range map[string]func(good func(features.Settings, []float64) float64) func(features.Settings, []float64) float64{
		"the switch does nothing": func(good func(features.Settings, []float64) float64) func(features.Settings, []float64) float64 {
			return func(s features.Settings, row []float64) float64 { s.Profiling = true; return good(s, row) }
		},
		"one feature is forgotten": func(good func(features.Settings, []float64) float64) func(features.Settings, []float64) float64 {
			return func(s features.Settings, row []float64) float64 {
				followed := row[1]
				adjust := good(s, row)
				row[1] = followed
				return adjust
			}
		},
		"it reaches the score beside the model": func(good func(features.Settings, []float64) float64) func(features.Settings, []float64) float64 {
			return func(s features.Settings, row []float64) float64 {
				depth := row[8]
				adjust := good(s, row)
				if !math.IsNaN(depth) {
					adjust += depth * 1e-12
				}
				return adjust
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			log := &noted{}
			s := forSwitch(t, now, log)
			b := s.surfaces["for-you"].current.Load()
			b.apply = leak(b.apply)
			for range 10 {
				r := switchRequest()
				if _, err := s.Rank(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			c, err := s.Check(t.Context(), "for-you", now)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, reason := range log.opened {
				found = found || reason == string(ReasonProfiled)
			}
			if c.Moved == 0 || !found {
				t.Errorf("%+v: %v", c, log.opened)
			}
		})
	}
}

func forSwitch(t *testing.T, now time.Time, r Recorder) *Service {
	t.Helper()
	dir := t.TempDir()
	c := &Config{MaxItems: 1000, Archive: dir + "/archive", Retention: 30, Checks: Checks{Sample: 100, SheetAge: Duration(time.Hour), Every: Duration(time.Hour)},
		Surfaces: map[string]SurfaceConfig{"for-you": {Shown: 10, Model: unpackModel(t, dir), Features: "demo/files/features.yaml"}}}
	s, err := New(t.Context(), c, Parts{Store: decision.NewMemory(100), State: NewMemoryState(), Recorder: r,
		Logger: slog.New(slog.NewTextHandler(io.Discard, nil)), Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
