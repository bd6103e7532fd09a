package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// newDatasetFollowCommand keeps datasets following their sources until it is told to end.
func newDatasetFollowCommand() *cobra.Command {
	var metrics string
	cmd := &cobra.Command{
		Use:   "follow [NAME…]",
		Short: "Keep datasets within a second of their source; runs until it is stopped",
		Long: "Keep datasets within a second of their source, by its change stream. A dataset that was not built to follow, or that\n" +
			"cannot go on from where it was, is built first, beside what stands. Runs until it gets SIGINT or SIGTERM, and goes on\n" +
			"from where it was when it is started again. While it runs, build and drop of these datasets are refused.\n\n" +
			"The source must have wal_level = logical, a publication named trefoil of the tables that the datasets read, and a\n" +
			"reader with REPLICATION. Each dataset has a replication slot there, for which the source keeps its log while this\n" +
			"does not run. Drop removes it, and so does build, which ends following. Slots of datasets that left the file are\n" +
			"removed as it starts. A slot for which the source keeps more than databases.NAME.retain (32GiB) is given up: the\n" +
			"dataset is compared with its source then, and only the rows that differ are written.\n\n" +
			"Without names, cases are followed too, from when they are opened until they end: then they are dropped, and that is\n" +
			"recorded.\n\n" +
			"With --metrics, Prometheus reads /metrics there, and /healthz answers 503 while a dataset does not follow or is\n" +
			"older than its bound.",
		Example: "  trefoil dataset follow\n  trefoil dataset follow analytics support\n  trefoil dataset follow --metrics :9187",
		RunE: func(cmd *cobra.Command, names []string) error {
			return withCases(cmd, func(ctx context.Context, r *enclave.Rules, store *control.Store, b *dataset.Builder) error {
				cases := len(names) == 0 // they come and go while this runs
				if cases {
					names = slices.DeleteFunc(b.Names(), func(name string) bool { return slices.Contains(b.Cases(), name) })
				}
				tidySlots(ctx, cmd.ErrOrStderr(), b)
				stop, err := serveMetrics(ctx, cmd.ErrOrStderr(), b, names, metrics)
				if err != nil {
					return err
				}
				defer stop()
				var g errgroup.Group // one that cannot be followed does not stop the others
				for _, name := range names {
					g.Go(func() error {
						fmt.Fprintf(cmd.ErrOrStderr(), "%s: following until SIGTERM; trefoil dataset status tells how far it is\n", name)
						err := b.Follow(ctx, name)
						if err != nil && len(names) > 1 {
							fmt.Fprintln(cmd.ErrOrStderr(), err)
						}
						return err
					})
				}
				if cases {
					g.Go(func() error { return (&caseKeeper{cmd: cmd, rules: r, store: store, b: b}).run(ctx) })
				}
				return g.Wait()
			})
		},
	}
	cmd.Flags().StringVar(&metrics, "metrics", "", "serve /metrics and /healthz at this address; :PORT is loopback")
	return cmd
}

// flowLine says how a dataset follows.
func flowLine(s *dataset.FlowState) string {
	if s == nil {
		return "does not follow its source"
	}
	if s.State != "following" {
		return fmt.Sprintf("stale: %s", s.Reason)
	}
	return fmt.Sprintf("follows from %s, %d batches, %d rows looked at, last at %s", s.Position, s.Batches, s.Rows, s.AppliedAt.Format("2006-01-02T15:04:05Z"))
}
