// Command flow measures how a dataset follows its source beside PostgreSQL's own logical
// replication of the same tables: lag under pgbench TPC-B, what following costs the source,
// and how fast a backlog is drained.
//
// It prints lines "figure NAME VALUE UNIT …" (docs/performance.md says what each means).
// Everything runs on clusters of its own in a temporary directory, fsync on; the flow runs
// in a process of its own, whose memory is measured. At the end the dataset is verified
// against the source. It uses no network. QUICK=1 takes smaller tables and shorter runs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// size is how much is measured.
type size struct {
	scale    int           // of pgbench: 100,000 accounts each
	load     time.Duration // of one run of pgbench at full speed
	rounds   int           // pairs of such runs, with and without a flow
	lag      time.Duration // of the run in which lag is measured
	mixed    int64         // changes in the mixed backlog
	distinct int64         // changes in the backlog of mostly distinct rows
}

func main() {
	s := size{scale: 20, load: 10 * time.Second, rounds: 5, lag: 40 * time.Second, mixed: 2_000_000, distinct: 1_500_000}
	if os.Getenv("QUICK") != "" {
		s = size{scale: 5, load: 5 * time.Second, rounds: 2, lag: 10 * time.Second, mixed: 400_000, distinct: 300_000}
	}
	dir := flag.String("follow", "", "only follow the dataset of the bench in this directory (the bench runs itself with it)")
	only := flag.String("only", "", "measure lag or drain alone")
	flag.StringVar(&profile, "profile", "", "write CPU profiles of the flow's processes to files of this name and a number")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *dir != "" {
		err = followHere(ctx, *dir)
	} else {
		err = run(ctx, s, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench flow:", err)
		os.Exit(1)
	}
}

var profile string // of the flow's process, for whoever works on it

const (
	name     = "bench"
	password = "steward-of-the-bench"
)

// bench is one run: a source, a cluster of datasets, and one of the same settings that
// subscribes to the source.
type bench struct {
	size
	dir                  string
	source, target, peer *postgres.Cluster
	b                    *dataset.Builder
	memory               int64 // most bytes that a process of the flow held
	marked               int64 // the newest row of table mark
	built                time.Time
	runs                 int // of a flow's process that was profiled
}

func run(ctx context.Context, s size, only string) (err error) {
	dir, err := os.MkdirTemp("", "trefoil-bench-flow-")
	if err != nil {
		return err
	}
	b := &bench{size: s, dir: dir}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, step := range []func(context.Context) error{b.start, b.fill, b.open} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	if err := b.standing(ctx); err != nil {
		return err
	}
	if only != "drain" {
		if err := b.underLoad(ctx); err != nil {
			return err
		}
	}
	if only != "lag" {
		if err := b.drains(ctx); err != nil {
			return err
		}
	}
	fmt.Printf("figure memory_mb %.0f MiB\n", float64(b.memory)/(1<<20))
	return b.verify(ctx)
}

// verify makes sure that what was measured was right.
func (b *bench) verify(ctx context.Context) error {
	f, err := b.follow(ctx)
	if err != nil {
		return err
	}
	err = b.settled(ctx, b.target.SuperuserDSN(name))
	if err := errors.Join(err, f.stop()); err != nil {
		return err
	}
	v, err := b.b.Verify(ctx, name)
	if err != nil {
		return err
	}
	i, err := b.b.Info(ctx, name)
	if err != nil {
		return err
	}
	if !i.BuiltAt.Equal(b.built) {
		return errors.New("the dataset was built again, not followed")
	}
	if !v.Equal {
		return fmt.Errorf("the dataset differs from a fresh build: %+v", v)
	}
	fmt.Println("# the dataset equals a fresh build")
	return nil
}

func (b *bench) start(ctx context.Context) error {
	var err error
	settings := postgres.DatasetSettings()
	open := func(dir string, s map[string]string, a postgres.Access) (*postgres.Cluster, error) {
		c, err := postgres.Ensure(ctx, postgres.Options{DieWithParent: true, NoTCP: true, Directory: filepath.Join(b.dir, dir), Name: "bench-" + dir, Settings: s, Access: a})
		if err != nil {
			return nil, err
		}
		return c, c.Start(ctx)
	}
	b.source, err = open("source", map[string]string{"wal_level": "logical", "shared_buffers": "512MB", "jit": "off", "max_wal_size": "8GB",
		"checkpoint_timeout": "15min", "max_connections": "100"}, postgres.Access{})
	if err != nil {
		return err
	}
	if b.target, err = open("inside", settings, postgres.DatasetAccess()); err != nil {
		return err
	}
	// The same settings as the dataset's, and what a subscriber needs.
	settings["wal_level"], settings["max_replication_slots"], settings["max_logical_replication_workers"] = "replica", "10", "4"
	if b.peer, err = open("peer", settings, postgres.Access{}); err != nil {
		return err
	}
	return postgres.PrepareDatasetCluster(ctx, b.target, password)
}

func (b *bench) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var errs []error
	for _, c := range []*postgres.Cluster{b.peer, b.target, b.source} {
		if c != nil {
			errs = append(errs, c.Stop(ctx, postgres.StopImmediate))
		}
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}
