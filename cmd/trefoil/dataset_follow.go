package main

import (
	"context"
	"fmt"
	"slices"
	"time"

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
			"reader with REPLICATION. Datasets of one source share a replication slot there once they have caught up, and have\n" +
			"one each until then; the source keeps its log for it while this does not run. Drop removes what a dataset has, or is the\n" +
			"last to use, and so does build, which ends following. Slots of datasets that left the file are\n" +
			"removed as it starts. A slot for which the source keeps more than databases.NAME.retain (32GiB) is given up: the\n" +
			"dataset is compared with its source then, and only the rows that differ are written.\n\n" +
			"Without names, cases are followed too, from when they are opened until they end: then they are dropped, and that is\n" +
			"recorded.\n\n" +
			"With --metrics, Prometheus reads /metrics there, and /healthz answers 503 while a dataset does not follow or is\n" +
			"older than its bound.",
		Example: "  trefoil dataset follow\n  trefoil dataset follow analytics support\n  trefoil dataset follow --metrics :9187",
		RunE: func(cmd *cobra.Command, names []string) error {
			return withCases(cmd, func(ctx context.Context, r *enclave.Rules, store *control.Store, b *dataset.Builder) error {
				f := &following{cmd: cmd, rules: r, store: store, b: b, names: names, metrics: metrics}
				return f.run(ctx)
			})
		},
	}
	cmd.Flags().StringVar(&metrics, "metrics", "", "serve /metrics and /healthz at this address; :PORT is loopback")
	return cmd
}

// following is one run of the command.
type following struct {
	cmd     *cobra.Command
	rules   *enclave.Rules
	store   *control.Store
	b       *dataset.Builder
	names   []string
	metrics string
}

// run follows until ctx ends; it begins anew when keys have new epochs.
func (f *following) run(ctx context.Context) error {
	for {
		once, cancel := context.WithCancel(ctx)
		rotated := make(chan *enclave.Rules, 1)
		go func() {
			defer close(rotated)
			if next := f.rotated(once); next != nil {
				rotated <- next
				cancel()
			}
		}()
		err := f.once(once)
		cancel()
		next := <-rotated
		if err != nil || next == nil || ctx.Err() != nil {
			return err
		}
		fmt.Fprintln(f.cmd.ErrOrStderr(), "keys have new epochs: their datasets are built anew, beside those that stand")
		f.rules, f.b = next, f.b.Renewed(next.Files.Purposes, next.Definitions)
	}
}

// rotatedEvery is how often the file of purposes is looked at.
const rotatedEvery = time.Second

// rotated waits for new epochs; nil when ctx ends. A file that cannot be read, or in which
// something else changed, is said and left alone.
func (f *following) rotated(ctx context.Context) *enclave.Rules {
	said := ""
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(rotatedEvery):
		}
		next, err := f.rules.Rotated()
		if next != nil && err == nil {
			return next
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && text != "" {
			fmt.Fprintln(f.cmd.ErrOrStderr(), "following goes on as before:", text)
		}
		said = text
	}
}

func (f *following) once(ctx context.Context) error {
	names, cases := f.names, len(f.names) == 0 // they come and go while this runs
	if cases {
		names = slices.DeleteFunc(f.b.Names(), func(name string) bool { return slices.Contains(f.b.Cases(), name) })
	}
	out := f.cmd.ErrOrStderr()
	tidySlots(ctx, out, f.b)
	stop, err := serveMetrics(ctx, out, f.b, names, f.metrics)
	if err != nil {
		return err
	}
	defer stop()
	var g errgroup.Group // one that cannot be followed does not stop the others
	for _, name := range names {
		g.Go(func() error {
			fmt.Fprintf(out, "%s: following until SIGTERM; trefoil dataset status tells how far it is\n", name)
			err := f.b.Follow(ctx, name)
			if err != nil && len(names) > 1 {
				fmt.Fprintln(out, err)
			}
			return err
		})
	}
	if cases {
		g.Go(func() error { return (&caseKeeper{cmd: f.cmd, rules: f.rules, store: f.store, b: f.b}).run(ctx) })
	}
	return g.Wait()
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
