// Command build measures how long a dataset's build takes beside pg_dump -Fd -j2 and then
// pg_restore -j2 of the same tables, and the same queries on dataset and source, in one run.
//
// It prints lines "figure NAME VALUE UNIT …" (higher is better for build_ratio, lower for
// query_ratio). Everything runs on clusters of its own in a temporary directory, fsync on;
// the restore goes into the very cluster that holds the dataset. It uses no network.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

func main() {
	events := flag.Int64("events", 2_000_000, "rows of the largest table; persons are a tenth of it")
	rounds := flag.Int("rounds", 3, "how often both are measured; medians count")
	keep := flag.Bool("phases", false, "print how long each table took")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *events, *rounds, *keep); err != nil {
		fmt.Fprintln(os.Stderr, "bench build:", err)
		os.Exit(1)
	}
}

// bench is one run.
type bench struct {
	dir            string
	source, target *postgres.Cluster
	sourceDSN      string
	b              *dataset.Builder
}

const (
	name     = "bench"
	password = "steward-of-the-bench"
)

func run(ctx context.Context, events int64, rounds int, phases bool) (err error) {
	dir, err := os.MkdirTemp("", "trefoil-bench-build-")
	if err != nil {
		return err
	}
	b := &bench{dir: dir}
	defer func() { err = errors.Join(err, b.close()) }()
	if err := b.start(ctx); err != nil {
		return err
	}
	if err := b.fill(ctx, events); err != nil {
		return err
	}
	if err := b.open(phases); err != nil {
		return err
	}
	var ours, theirs []time.Duration
	for range rounds {
		d, err := b.dumpAndRestore(ctx)
		if err != nil {
			return err
		}
		theirs = append(theirs, d)
		start := time.Now()
		if _, _, err := b.b.Build(ctx, name); err != nil {
			return err
		}
		ours = append(ours, time.Since(start))
		fmt.Printf("# round: build %.2f s, dump and restore %.2f s\n", ours[len(ours)-1].Seconds(), d.Seconds())
	}
	o, t := median(ours), median(theirs)
	fmt.Printf("figure build_s %.2f s peer pg_dump+pg_restore %.2f ratio %.2f\n", o.Seconds(), t.Seconds(), t.Seconds()/o.Seconds())
	fmt.Printf("figure build_ratio %.2f ratio\n", t.Seconds()/o.Seconds())
	return b.queries(ctx)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func (b *bench) start(ctx context.Context) error {
	var err error
	common := postgres.Options{DieWithParent: true, NoTCP: true}
	src := common
	src.Directory, src.Name = filepath.Join(b.dir, "source"), "bench-source"
	src.Settings = map[string]string{"wal_level": "logical", "shared_buffers": "512MB", "work_mem": "32MB", "jit": "off", "max_wal_size": "4GB"}
	if b.source, err = postgres.Ensure(ctx, src); err != nil {
		return err
	}
	if err := b.source.Start(ctx); err != nil {
		return err
	}
	dst := common
	dst.Directory, dst.Name, dst.Settings, dst.Access = filepath.Join(b.dir, "inside"), "bench-inside", postgres.DatasetSettings(), postgres.DatasetAccess()
	if b.target, err = postgres.Ensure(ctx, dst); err != nil {
		return err
	}
	if err := b.target.Start(ctx); err != nil {
		return err
	}
	b.sourceDSN = b.source.SuperuserDSN("postgres")
	return postgres.PrepareDatasetCluster(ctx, b.target, password)
}

func (b *bench) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, c := range []*postgres.Cluster{b.source, b.target} {
		if c != nil {
			errs = append(errs, c.Stop(ctx, postgres.StopImmediate))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}

func (b *bench) open(phases bool) error {
	cat, _, err := catalog.ParseCatalog("catalog.yaml", []byte(catalogYAML))
	if err != nil {
		return err
	}
	ds, _, err := catalog.ParseDatasets("datasets.yaml", []byte(datasetsYAML))
	if err != nil {
		return err
	}
	steward := b.target.SocketDSN(postgres.StewardRole, password, "postgres")
	cfg := dataset.Config{
		Catalogs: []*catalog.Catalog{cat}, Datasets: ds,
		Purposes: &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: 1}}},
		Sources:  map[string]string{"app": b.sourceDSN}, Clusters: map[string]string{"inside": steward}, Exporter: "IE",
		PseudonymKey: filepath.Join(b.dir, "p.key"), DigestKey: filepath.Join(b.dir, "d.key"), SpillDir: b.dir,
	}
	if phases {
		cfg.Progress = dataset.Lines(stamped{time.Now()})
	}
	b.b, err = dataset.Open(cfg)
	return err
}

// stamped prints lines with the time since start.
type stamped struct{ start time.Time }

func (s stamped) Write(p []byte) (int, error) {
	fmt.Printf("# %6.2f s %s", time.Since(s.start).Seconds(), p)
	return len(p), nil
}

// dumpAndRestore is the peer: into a database of its own in the dataset's cluster.
func (b *bench) dumpAndRestore(ctx context.Context) (time.Duration, error) {
	admin, err := pgx.Connect(ctx, b.target.SuperuserDSN("postgres"))
	if err != nil {
		return 0, err
	}
	defer admin.Close(ctx)
	for _, sql := range []string{"DROP DATABASE IF EXISTS restored", "CREATE DATABASE restored TEMPLATE template0 ENCODING 'UTF8'"} {
		if _, err := admin.Exec(ctx, sql); err != nil {
			return 0, err
		}
	}
	dump := filepath.Join(b.dir, "dump")
	if err := os.RemoveAll(dump); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := program(ctx, b.source.Programs().Path("pg_dump"), "-Fd", "-j2", "-f", dump, "-n", "app", b.sourceDSN); err != nil {
		return 0, err
	}
	if err := program(ctx, b.target.Programs().Path("pg_restore"), "-Fd", "-j2", "--no-owner", "-d", b.target.SuperuserDSN("restored"), dump); err != nil {
		return 0, err
	}
	return time.Since(start), nil
}

func program(ctx context.Context, path string, args ...string) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("run %s: %w", filepath.Base(path), err)
	}
	return nil
}
