package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// newDatasetCommand plans, builds, checks and drops datasets.
func newDatasetCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dataset",
		Short: "Plan, build, check and drop datasets",
		Long: "Plan, build, check and drop datasets. A dataset is a database that holds what one purpose may see, in the\n" +
			"forms its definition gives, and nothing else. Without a name, all defined datasets are meant.",
		Example: "  trefoil dataset plan analytics\n  trefoil dataset build\n  trefoil dataset verify analytics",
	}
	cmd.AddCommand(
		newDatasetAction("plan", "Show what a build would hold, and what it would leave out; writes nothing", planDataset),
		newDatasetBuildCommand(),
		newDatasetAction("rebuild", "Build again beside what stands, and swap in place", buildDataset),
		newDatasetAction("status", "Show what stands: when it was built, from which definition, how many rows", datasetStatus),
		newDatasetVerifyCommand(),
		newDatasetFollowCommand(),
		newDatasetDriftCommand(),
		newDatasetDropCommand(),
		newDatasetEndCommand(),
		newDatasetAction("list", "List the defined datasets and whether they stand", datasetStatus),
	)
	return cmd
}

// datasetAction does one thing to one dataset and prints it; what it returns is for --json.
type datasetAction func(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error)

func newDatasetAction(use, short string, act datasetAction) *cobra.Command {
	return &cobra.Command{
		Use:   use + " [NAME…]",
		Short: short,
		RunE: func(cmd *cobra.Command, names []string) error {
			return withDatasets(cmd, func(ctx context.Context, b *dataset.Builder) error {
				if len(names) == 0 {
					names = b.Names()
				}
				return eachDataset(ctx, cmd, b, names, act)
			})
		},
	}
}

// eachDataset goes on after a dataset that fails, so that one does not hide the others.
func eachDataset(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, names []string, act datasetAction) error {
	var errs []error
	all := []any{}
	for _, name := range names {
		v, plain, err := act(ctx, cmd, b, name)
		errs = append(errs, err)
		if v == nil {
			continue
		}
		all = append(all, v)
		if asJSON, _ := cmd.Flags().GetBool("json"); !asJSON {
			plain()
		}
	}
	errs = append(errs, report(cmd, all, func() {}))
	return errors.Join(errs...)
}

func newDatasetDropCommand() *cobra.Command {
	cmd := newDatasetAction("drop", "Remove a dataset's database and its role, and count what went", dropDataset)
	cmd.Use = "drop NAME…"
	cmd.Args = cobra.MinimumNArgs(1) // never all of them by default
	return cmd
}

func planDataset(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
	p, err := b.Plan(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	return p, func() {
		w := cmd.OutOrStdout()
		class, why := catalog.ClassOf(p.Definition)
		fmt.Fprintf(w, "%s\nclass %s, cluster %s, definition %s\n", dataset.Describe(p.Definition), class, p.Definition.Cluster, p.Hash)
		if class != law.ClassPseudonymised && len(why) > 0 {
			fmt.Fprintf(w, "not pseudonymised: %s\n", why[0])
		}
		for _, t := range p.Tables {
			fmt.Fprintf(w, "  %-40s about %d rows; needs %v\n", t.Table, t.Rows, t.Needs)
		}
		for _, n := range p.Notes {
			fmt.Fprintf(w, "  without %s\n", n)
		}
	}, nil
}

func buildDataset(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
	r, err := b.BuildReport(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	return r, func() {
		w, m := cmd.OutOrStdout(), r.Measured
		fmt.Fprintf(w, "%s: %d rows, %d subjects in %s, as of %s\n", name, m.Rows, m.Subjects, r.Took.Round(time.Millisecond), r.SnapshotAt.Format(time.RFC3339))
		fmt.Fprintf(w, "  left out %d, orphans %d, values that did not fit %d\n", m.LeftOut, m.Orphans, m.BadValues)
		if r.Definition.K > 0 {
			fmt.Fprintf(w, "  smallest cell %d (at least %d), %d persons lost their columns\n", m.SmallestCell, r.Definition.K, m.Suppressed)
		}
		for _, n := range r.Notes {
			fmt.Fprintf(w, "  without %s\n", n)
		}
	}, nil
}

func datasetStatus(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
	s, err := b.Status(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	return s, func() {
		w := cmd.OutOrStdout()
		if s.Info == nil {
			fmt.Fprintf(w, "%-16s %-8s %-14s not built\n", name, s.Cluster, s.Class)
			return
		}
		state := "current"
		if !s.Current {
			state = "built from another definition: rebuild it"
		}
		fmt.Fprintf(w, "%-16s %-8s %-14s built %s, as of %s, %d rows, %s\n", name, s.Cluster, s.Class,
			s.Info.BuiltAt.Format(time.RFC3339), s.Info.FreshAsOf.Format(time.RFC3339), s.Info.Measured.Rows, state)
		if s.Flow != nil || s.Fresh.Old() {
			fmt.Fprintf(w, "%-16s %s; %s\n", "", freshLine(s.Fresh), flowLine(s.Flow))
			careLine(w, s)
		}
	}, nil
}

func dropDataset(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
	d, err := b.Drop(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	return d, func() {
		fmt.Fprintf(cmd.OutOrStdout(), "%s dropped: %d tables, %d rows, %d bytes, %d role; the cluster has neither database nor role of it\n",
			name, d.Tables, d.Rows, d.Bytes, d.Roles)
		if d.Slot {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: its replication slot at the source is gone too\n", name)
		}
	}, nil
}

// withDatasets loads the enclave, starts what clusters it runs itself, and runs f.
func withDatasets(cmd *cobra.Command, f func(context.Context, *dataset.Builder) error) error {
	return withCases(cmd, func(ctx context.Context, _ *enclave.Rules, _ *control.Store, b *dataset.Builder) error {
		return f(ctx, b)
	})
}

// withCases is withDatasets with the rules and the control store.
func withCases(cmd *cobra.Command, f func(context.Context, *enclave.Rules, *control.Store, *dataset.Builder) error) error {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return err
	}
	cfg, err := enclave.Load(path)
	if err != nil {
		return err
	}
	rules, err := enclave.LoadRules(cfg)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	clusters, err := cfg.OpenClusters(ctx, logger)
	if err != nil {
		return err
	}
	defer func() {
		if err := clusters.Stop(context.WithoutCancel(ctx)); err != nil {
			logger.Error("stop dataset clusters", "error", err)
		}
	}()
	store, err := control.Open(ctx, cfg.Control)
	if err != nil {
		return err
	}
	defer store.Close()
	with := datasetConfig(rules, clusters, outbox{store, cfg.Log.Origin}, logger, filepath.Dir(path))
	if with.Keys, err = cfg.Keyring(); err != nil {
		return err
	}
	with.Restricted = restrictions(store)
	b, err := dataset.Open(with)
	if err != nil {
		return err
	}
	if err := loadCases(ctx, store, b); err != nil {
		logger.Warn("cases are not known: the control store does not answer", "error", err)
	}
	return f(ctx, rules, store, b)
}

func datasetConfig(r *enclave.Rules, c *enclave.Clusters, rec dataset.Recorder, logger *slog.Logger, dir string) dataset.Config {
	out := dataset.Config{Catalogs: r.Files.Catalogs, Datasets: r.Files.Datasets, Purposes: r.Files.Purposes, Definitions: r.Definitions,
		Sources: map[string]string{}, Clusters: map[string]string{}, Retain: r.Config.Retain(), Exporter: r.Config.Exporter.Country,
		DigestKey: r.Config.Keys.Digests, SubjectDir: dir, SpillDir: r.Config.Gateway.SpillDir,
		Recorder: rec, Logger: logger, Progress: dataset.Lines(os.Stderr),
		Hold: func(def *trefoil.Definition) error {
			class, why := catalog.ClassOf(def)
			return r.Policy.HoldDefinition(def, class, why)
		}}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		out.Progress = dataset.Bar(os.Stderr)
	}
	for name, d := range r.Config.Databases {
		out.Sources[name] = d.Reader
	}
	for name, a := range c.Addresses {
		out.Clusters[name] = a.Steward
	}
	return out
}

// outbox records through the control store: the process that has the log takes it from
// there.
type outbox struct {
	store  *control.Store
	origin string
}

// Record implements dataset.Recorder.
func (o outbox) Record(ctx context.Context, body trefoil.CatalogBody) error {
	if err := o.store.Prepare(ctx); err != nil {
		return err
	}
	return o.store.Enqueue(ctx, &trefoil.Body{At: time.Now().UTC().Truncate(time.Microsecond), Kind: trefoil.KindCatalog, Origin: o.origin, Catalog: &body})
}
