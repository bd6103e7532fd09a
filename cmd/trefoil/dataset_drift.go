package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// newDatasetDriftCommand tells what changed at the sources of datasets.
func newDatasetDriftCommand() *cobra.Command {
	var accept bool
	cmd := newDatasetAction("drift", "Show what changed at the source, when, what was done about it, and what to do", func(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
		if accept {
			return acceptDrift(ctx, cmd, b, name)
		}
		return showDrift(ctx, cmd, b, name)
	})
	cmd.Long = "Shows what changed at the source of a dataset since it was built first: columns and tables that came, went, were renamed or\n" +
		"have another type, keys, partitions, the publication, and the source itself. For each, when it was noticed, what was done\n" +
		"about it, and what you should do.\n\n" +
		"A name of the dataset that has come to mean another column is held: no build and no flow reads it, and what stands\n" +
		"stays as it was. Look at what the column holds, then --accept it; the flow goes on within a minute."
	cmd.Example = "  trefoil dataset drift\n  trefoil dataset drift analytics --json\n  trefoil dataset drift --accept analytics"
	cmd.Flags().BoolVar(&accept, "accept", false, "the columns whose names mean something else were looked at, and are what the catalog says; name the dataset")
	cmd.Args = func(cmd *cobra.Command, names []string) error {
		if accept && len(names) != 1 { // never all of them by default
			return fmt.Errorf("%w: --accept needs the name of one dataset", errUsage)
		}
		return nil
	}
	return cmd
}

// driftOf is what --json prints of one dataset.
type driftOf struct {
	Dataset  string          `json:"dataset"`
	Accepted []dataset.Drift `json:"accepted,omitempty"`
	Drift    []dataset.Drift `json:"drift"`
}

func showDrift(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
	all, err := b.Drift(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if all == nil {
		all = []dataset.Drift{}
	}
	return driftOf{Dataset: name, Drift: all}, func() {
		w := cmd.OutOrStdout()
		if len(all) == 0 {
			fmt.Fprintf(w, "%s: nothing has drifted\n", name)
		}
		for _, d := range all {
			fmt.Fprintf(w, "%s %s %s: %s\n  done: %s\n", name, d.At.Format(time.RFC3339), d.Kind, d.What, d.Done)
			if d.Advice != "" {
				fmt.Fprintf(w, "  to do: %s\n", d.Advice)
			}
		}
	}, nil
}

func acceptDrift(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
	accepted, err := b.AcceptDrift(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	return driftOf{Dataset: name, Accepted: accepted, Drift: []dataset.Drift{}}, func() {
		w := cmd.OutOrStdout()
		if len(accepted) == 0 {
			fmt.Fprintf(w, "%s: no column waits for review\n", name)
		}
		for _, d := range accepted {
			fmt.Fprintf(w, "%s: accepted: %s\n", name, d.What)
		}
	}, nil
}
