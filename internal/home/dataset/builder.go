package dataset

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/keyring"
	"github.com/trefoil-eu/trefoil/internal/home/transform"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Builder builds, checks and drops datasets. It is safe for concurrent use; two builds of
// one dataset at once are refused.
type Builder struct {
	cfg    Config
	ring   *keyring.Ring
	keys   *transform.Keys
	digest []byte
	cases  *atomic.Pointer[map[string]*caseOf]
	hold   time.Duration // how long a flow waits for a verification that it met
	pace   pace
	hubs   *hubs
}

// Open reads the keys and fills defaults. It connects to nothing.
func Open(cfg Config) (*Builder, error) {
	if cfg.Datasets == nil || cfg.Purposes == nil || len(cfg.Catalogs) == 0 {
		return nil, errors.New("open datasets: catalogs, datasets and purposes are needed")
	}
	if cfg.SpillDir == "" {
		cfg.SpillDir = os.TempDir()
	}
	if cfg.MemoryBytes <= 0 {
		cfg.MemoryBytes = 512 << 20
	}
	if cfg.MemberBytes <= 0 {
		cfg.MemberBytes = 2 << 30
	}
	if cfg.Workers <= 0 {
		cfg.Workers = 2
	}
	if cfg.SweepWait <= 0 {
		cfg.SweepWait = 2 * time.Second
	}
	if cfg.Progress == nil {
		cfg.Progress = silent{}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &Builder{cfg: cfg, hubs: &hubs{of: map[string]*hub{}}, hold: meetHold, pace: pace{idle: idleEvery, retry: retryFirst, lists: listsEvery}, cases: &atomic.Pointer[map[string]*caseOf]{}}
	var err error
	if b.ring = cfg.Keys; b.ring == nil {
		if b.ring, err = keyring.Open(cfg.PseudonymKey, keyring.Options{Now: cfg.Now}); err != nil {
			return nil, fmt.Errorf("open datasets: %w", err)
		}
	}
	b.keys = transform.KeysOf(b.ring.Secret)
	if b.digest, err = transform.ReadKeyFile(cfg.DigestKey); err != nil {
		return nil, fmt.Errorf("open datasets: %w", err)
	}
	return b, nil
}

// Renewed is the builder with other purposes and definitions: keys have new epochs. What the old
// one follows must have ended.
func (b *Builder) Renewed(p *catalog.Purposes, definitions map[string]*trefoil.Definition) *Builder {
	next := *b
	next.cfg.Purposes, next.cfg.Definitions, next.hubs = p, definitions, &hubs{of: map[string]*hub{}}
	return &next
}

// Define gives a dataset's definition and its hash, from its files alone.
func (b *Builder) Define(name string) (*trefoil.Definition, string, error) {
	ds := b.dataset(name)
	if ds == nil {
		return nil, "", fmt.Errorf("dataset %s is not defined", name)
	}
	if c := b.caseNamed(name); c != nil {
		return c.def, trefoil.DefinitionHash(c.def), nil
	}
	if def := b.cfg.Definitions[name]; def != nil {
		return def, trefoil.DefinitionHash(def), nil
	}
	for _, c := range b.cfg.Catalogs {
		if c.Database != ds.Source {
			continue
		}
		def, err := catalog.Definition(ds, c, b.cfg.Purposes, law.RegimesOf(b.cfg.Exporter, ds.Rows.Residence)...)
		if err != nil {
			return nil, "", err
		}
		return def, trefoil.DefinitionHash(def), nil
	}
	return nil, "", fmt.Errorf("dataset %s: its source %s has no catalog", name, ds.Source)
}

// allowed refuses a definition that must not be built: one that the cluster outside may
// never hold, or that policy does not let its purpose hold.
func (b *Builder) allowed(def *trefoil.Definition) error {
	class, why := catalog.ClassOf(def)
	switch {
	case def.Cluster != "inside" && def.Cluster != "outside":
		return fmt.Errorf("dataset %s: cluster %q is neither inside nor outside", def.Name, def.Cluster)
	case class == law.NoClass:
		return fmt.Errorf("dataset %s: %s", def.Name, why[0])
	case def.Cluster == "outside" && class != law.ClassPseudonymised:
		return fmt.Errorf("dataset %s may not be in the cluster outside, which holds pseudonymised datasets only: %s", def.Name, why[0])
	}
	if b.cfg.Hold != nil {
		if err := b.cfg.Hold(def); err != nil {
			return fmt.Errorf("dataset %s: %w", def.Name, err)
		}
	}
	return nil
}

// record sends a record when there is a recorder.
func (b *Builder) record(ctx context.Context, event string, def *trefoil.Definition, hash string, m *trefoil.Measured) error {
	if b.cfg.Recorder == nil {
		return nil
	}
	body := trefoil.CatalogBody{Definition: def, Event: event, Hash: hash, Measured: m}
	if err := b.cfg.Recorder.Record(ctx, body); err != nil {
		return fmt.Errorf("record that the dataset was %s: %w", event, err)
	}
	return nil
}

// sourceDSN and clusterDSN find where a dataset comes from and goes to.
func (b *Builder) sourceDSN(ds *catalog.Dataset) (string, error) {
	if dsn := b.cfg.Sources[ds.Source]; dsn != "" {
		return dsn, nil
	}
	return "", fmt.Errorf("dataset %s: database %s has no reader", ds.Name, ds.Source)
}

func (b *Builder) clusterDSN(ds *catalog.Dataset) (string, error) {
	if dsn := b.cfg.Clusters[ds.Cluster]; dsn != "" {
		return dsn, nil
	}
	return "", fmt.Errorf("dataset %s: cluster %s has no steward", ds.Name, ds.Cluster)
}

// find returns a defined dataset and its cluster.
func (b *Builder) find(name string) (*catalog.Dataset, string, error) {
	ds := b.dataset(name)
	if ds == nil {
		return nil, "", fmt.Errorf("dataset %s is not defined", name)
	}
	dsn, err := b.clusterDSN(ds)
	return ds, dsn, err
}
