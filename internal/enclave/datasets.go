package enclave

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// Builder makes the builder of the enclave's datasets. Records go to the control store's
// outbox, from where the gateway's process appends them: only one process owns the log.
func (r *Rules) Builder(clusters *Clusters, store *control.Store, progress dataset.Progress, logger *slog.Logger) (*dataset.Builder, error) {
	c := r.Config
	cfg := dataset.Config{
		Catalogs: r.Files.Catalogs, Datasets: r.Files.Datasets, Purposes: r.Files.Purposes, Definitions: r.Definitions,
		Sources: map[string]string{}, Clusters: map[string]string{}, Retain: c.Retain(),
		DigestKey: c.Keys.Digests, SpillDir: c.Gateway.SpillDir,
		Hold: func(def *trefoil.Definition) error {
			class, reasons := catalog.ClassOf(def)
			return r.Policy.HoldDefinition(def, class, reasons)
		},
		Exporter: c.Exporter.Country, SubjectDir: filepath.Dir(c.Datasets), Progress: progress, Logger: logger,
	}
	if store != nil {
		cfg.Recorder = outbox{store}
	}
	for name, db := range c.Databases {
		cfg.Sources[name] = db.Reader
	}
	for name, addr := range clusters.Addresses {
		cfg.Clusters[name] = addr.Steward
	}
	var err error
	if cfg.Keys, err = c.Keyring(); err != nil {
		return nil, err
	}
	return dataset.Open(cfg)
}

// outbox is the builder's recorder.
type outbox struct{ store *control.Store }

// Record implements dataset.Recorder.
func (o outbox) Record(ctx context.Context, body trefoil.CatalogBody) error {
	return o.store.Enqueue(ctx, &trefoil.Body{At: time.Now().UTC(), Kind: trefoil.KindCatalog, Catalog: &body})
}

// standing is Datasets over a builder.
type standing struct {
	builder   *dataset.Builder
	positions *dataset.Positions // of the sources' logs; their owner closes them
	key       []byte             // names roles

	mu       sync.Mutex // also keeps grants to one role from running into each other
	built    map[string]time.Time
	admitted map[string]bool
}

func newStanding(b *dataset.Builder, staffKey []byte) *standing {
	return &standing{builder: b, positions: b.Positions(), key: staffKey, built: map[string]time.Time{}, admitted: map[string]bool{}}
}

// Built implements Datasets.
func (s *standing) Built(ctx context.Context, name string) (Built, error) {
	info, flow, err := s.builder.Standing(ctx, name)
	if errors.Is(err, dataset.ErrNotBuilt) {
		return Built{}, nil
	}
	if err != nil {
		return Built{}, err
	}
	fresh := s.builder.FreshnessOf(ctx, info, flow, s.positions)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !info.BuiltAt.Equal(s.built[name]) { // built anew, perhaps after a drop: nobody is admitted yet
		s.built[name] = info.BuiltAt
		clear(s.admitted)
	}
	return Built{Hash: info.DefinitionHash, FreshAsOf: info.FreshAsOf, Fresh: fresh}, nil
}

// bounded says whether sessions of a dataset are refused beyond some age.
func (s *standing) bounded(name string) bool { return s.builder.Bounded(name) }

// Admit implements Datasets. The role's name says nothing about the person: other sessions
// of the cluster can read it.
func (s *standing) Admit(ctx context.Context, principal, name string) (string, error) {
	mac := hmac.New(sha256.New, s.key)
	mac.Write([]byte("role\x00" + principal))
	role := "p_" + hex.EncodeToString(mac.Sum(nil)[:12])
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.admitted[role+"/"+name] {
		return role, nil
	}
	if err := s.builder.Admit(ctx, role, name); err != nil {
		return "", err
	}
	s.admitted[role+"/"+name] = true
	return role, nil
}

// sweep drops what former builds left because a session was still reading it.
func (s *standing) sweep(ctx context.Context, names []string) error {
	var errs []error
	for _, name := range names {
		if _, err := s.builder.Sweep(ctx, name); err != nil {
			errs = append(errs, fmt.Errorf("dataset %s: %w", name, err))
		}
	}
	return errors.Join(errs...)
}

func (p *process) datasets() (*standing, error) {
	b, err := p.rules.Builder(p.clusters, p.store, nil, p.logger)
	if err != nil {
		return nil, err
	}
	return newStanding(b, p.rules.StaffKey), nil
}
