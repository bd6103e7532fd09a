package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// newDatasetVerifyCommand compares datasets with what a fresh build would give.
func newDatasetVerifyCommand() *cobra.Command {
	cmd := newDatasetAction("verify", "Compare with a fresh transform of the source by keyed digests; exit 3 when they differ", verifyDataset)
	cmd.Long = "Compare a dataset with a fresh transform of its source by keyed digests of key ranges, and name the rows that differ by\n" +
		"their keys as the dataset holds them. Exit code 3 when anything differs.\n\n" +
		"A dataset that is being followed is compared as of one snapshot of the source to which its flow is brought, however\n" +
		"much is written meanwhile; the flow waits for that moment alone. One that nobody follows is compared with the source\n" +
		"as it is now, so what was written there since differs. Small cells of a dataset that follows may be withheld longer\n" +
		"than a fresh build would withhold them: that is said, and is no difference.\n\n" +
		"The source holds one snapshot open for as long as this runs, as it does for a build."
	cmd.Example = "  trefoil dataset verify analytics\n  trefoil dataset verify --json analytics"
	return cmd
}

func verifyDataset(ctx context.Context, cmd *cobra.Command, b *dataset.Builder, name string) (any, func(), error) {
	v, err := b.Verify(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if !v.Equal {
		err = fmt.Errorf("dataset %s %w: it differs from a fresh build", name, errUnheld)
	}
	return v, func() { printVerification(cmd.OutOrStdout(), v) }, err
}

func printVerification(w io.Writer, v *dataset.Verification) {
	fmt.Fprintf(w, "%s compared as of %s", v.Dataset, v.AsOf.Format(time.RFC3339))
	if v.Position != "" {
		fmt.Fprintf(w, ", which its flow reached at %s", v.Position)
	}
	fmt.Fprintln(w)
	if v.Note != "" {
		fmt.Fprintf(w, "%s: %s\n", v.Dataset, v.Note)
	}
	for i := range v.Tables {
		printTableVerification(w, v.Dataset, &v.Tables[i])
	}
	for _, e := range v.Extra {
		fmt.Fprintf(w, "%s %-40s is not in the definition\n", v.Dataset, e)
	}
	if v.Stale {
		fmt.Fprintf(w, "%s was built from another definition\n", v.Dataset)
	}
}

func printTableVerification(w io.Writer, name string, t *dataset.TableVerification) {
	switch {
	case t.Problem != "":
		fmt.Fprintf(w, "%s %-40s cannot be compared: %s\n", name, t.Table, t.Problem)
		return
	case t.Equal:
		fmt.Fprintf(w, "%s %-40s equal, %d rows\n", name, t.Table, t.Held)
	default:
		fmt.Fprintf(w, "%s %-40s differs: %d rows, a fresh build has %d; %d key ranges of 4096\n", name, t.Table, t.Held, t.Fresh, len(t.Ranges))
	}
	if t.Withheld > 0 {
		fmt.Fprintf(w, "%s %-40s %d rows are withheld in cells that have grown since, and will have their columns at the next build\n", name, "", t.Withheld)
	}
	if t.SmallCells > 0 {
		fmt.Fprintf(w, "%s %-40s %d cells hold fewer persons than they must\n", name, "", t.SmallCells)
	}
	for _, r := range t.Rows {
		fmt.Fprintf(w, "  %-8s %s", r.Kind, strings.Join(r.Key, " "))
		if len(r.Columns) > 0 {
			fmt.Fprintf(w, ", column %s", strings.Join(r.Columns, ", "))
		}
		if r.Place != "" {
			fmt.Fprintf(w, ", at %s", r.Place)
		}
		fmt.Fprintln(w)
	}
	if t.More > 0 || t.Unnamed > 0 {
		fmt.Fprintf(w, "  and %d rows more, and %d ranges that were not looked at\n", t.More, t.Unnamed)
	}
}
