// Package demo is a feed of thirty invented videos, ranked by a model that was trained on
// invented watching: a page with true reasons on each, the switch without profiling, and the
// parameter sheet of the traffic that the demonstration made up.
//
// The invariant it keeps: what the page shows comes from the service as any platform would
// use it; nothing on it is written by hand but the videos. It serves a demonstration on one
// machine and nothing else: it asks for no token.
package demo

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/sheet"
)

//go:embed files/ranker.lightgbm.txt.gz files/features.yaml files/page.html
var files embed.FS

// Surface is the name of the demonstration's surface.
const Surface = "for-you"

// Write puts the demonstration's model and features file into dir and returns a
// configuration that serves them.
func Write(dir string) (*feed.Config, error) {
	packed, err := files.ReadFile("files/ranker.lightgbm.txt.gz")
	if err != nil {
		return nil, fmt.Errorf("write demonstration: %w", err)
	}
	unpacked, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, fmt.Errorf("write demonstration: %w", err)
	}
	model, err := io.ReadAll(unpacked)
	if err != nil {
		return nil, fmt.Errorf("write demonstration: %w", err)
	}
	words, err := files.ReadFile("files/features.yaml")
	if err != nil {
		return nil, fmt.Errorf("write demonstration: %w", err)
	}
	c := &feed.Config{Version: 1, Retention: 30, Archive: filepath.Join(dir, "archive"), MaxBody: 4 << 20, MaxItems: 1000,
		Reload: feed.Duration(5 * time.Second),
		Checks: feed.Checks{Every: feed.Duration(time.Minute), Sample: 200, SheetAge: feed.Duration(48 * time.Hour)},
		Surfaces: map[string]feed.SurfaceConfig{Surface: {
			Title: features.Text{EN: "For you", FR: "Pour vous"}, Shown: 10,
			Model: filepath.Join(dir, "ranker.lightgbm.txt"), Features: filepath.Join(dir, "features.yaml"),
			Weights: map[string]sheet.Range{"watching": {Min: 0.1, Max: 0.6}, "popularity": {Min: 0, Max: 0.3}, "session": {Min: 0, Max: 0.2}},
		}}}
	for path, content := range map[string][]byte{c.Surfaces[Surface].Model: model, c.Surfaces[Surface].Features: words} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return nil, fmt.Errorf("write demonstration: %w", err)
		}
	}
	return c, nil
}
