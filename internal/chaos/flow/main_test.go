package flow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// childEnv names the folder whose settings tell a process of this binary to follow.
const childEnv = "TREFOIL_TEST_CHAOS_FLOW"

// settings are what a process needs to make the builder of a world.
type settings struct {
	Dir, Source, Inside, Outside string
	Catalog, Datasets            string
	Names                        []string
	Memory                       int64
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(pgtest.Main(m))
}

// child follows every dataset until it is told to end, or its parent is gone.
func child(dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "settings.json"))
	if err != nil {
		return err
	}
	var s settings
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	b, err := s.open(slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1)) // ends when the parent does
		os.Exit(1)
	}()
	var g errgroup.Group
	for _, name := range s.Names {
		g.Go(func() error { return b.Follow(ctx, name) })
	}
	return g.Wait()
}

// open makes a builder of the settings.
func (s *settings) open(logger *slog.Logger) (*dataset.Builder, error) {
	cat, _, err1 := catalog.ParseCatalog("catalog.yaml", []byte(s.Catalog))
	ds, _, err2 := catalog.ParseDatasets("datasets.yaml", []byte(s.Datasets))
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	purposes := &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: 1,
		Text: map[string]string{"en": "To test.", "fr": "Pour essayer."}}}}
	return dataset.Open(dataset.Config{Catalogs: []*catalog.Catalog{cat}, Datasets: ds, Purposes: purposes,
		Sources: map[string]string{"app": s.Source}, Clusters: map[string]string{"inside": s.Inside, "outside": s.Outside}, Exporter: "IE",
		PseudonymKey: filepath.Join(s.Dir, "pseudonyms.key"), DigestKey: filepath.Join(s.Dir, "digests.key"), SubjectDir: s.Dir,
		SpillDir: filepath.Join(s.Dir, "spill"), MemoryBytes: s.Memory, Logger: logger})
}
