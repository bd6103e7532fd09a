package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
)

// newFeedAuditCommand reports what the rankings did, in aggregates.
func newFeedAuditCommand() *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use:   "audit -c feed.yaml [--days N]",
		Short: "Report exposure by topic, region and creator size, and drift between models",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if days < 1 || days > 366 {
				return fmt.Errorf("%w: --days is 1 to 366", errUsage)
			}
			_, o, err := openFeed(cmd)
			if err != nil {
				return err
			}
			defer o.Close()
			now := time.Now().UTC()
			found, err := o.Audits(cmd.Context(), now.AddDate(0, 0, -days), now)
			if err != nil {
				return err
			}
			return report(cmd, found, func() {
				for _, a := range found {
					printAudit(cmd.OutOrStdout(), a)
				}
			})
		},
	}
	cmd.Flags().IntVar(&days, "days", 1, "how far back")
	return cmd
}

func printAudit(w io.Writer, a *feed.Audit) {
	fmt.Fprintf(w, "%s: %d decisions sampled, %.0f %% with profiling, model %.12s\n", a.Surface, a.Decisions, 100*a.Profiled, a.Model)
	for _, kind := range []string{"topic", "region", "creator_size"} {
		for _, x := range a.Exposure[kind] {
			fmt.Fprintf(w, "  %s %s: %.1f %% of attention, %.1f %% of what was offered (%.2f ×)\n", kind, x.Class, 100*x.Exposed, 100*x.Offered, x.Ratio)
		}
	}
	if d := a.Drift; d != nil {
		fmt.Fprintf(w, "  against model %.12s: %.0f %% of the first shown are the same, rank correlation %.2f\n", d.Before, 100*d.Overlap, d.Tau)
	}
}

// newFeedCheckCommand runs the production checks once.
func newFeedCheckCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "check -c feed.yaml",
		Short: "Score a sample of today's decisions again, and test the switch on them (exit 3: something differs)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, o, err := openFeed(cmd)
			if err != nil {
				return err
			}
			defer o.Close()
			found, err := o.CheckAll(cmd.Context(), time.Now())
			if err != nil {
				return err
			}
			holds := true
			for _, c := range found {
				holds = holds && c.Holds()
			}
			err = report(cmd, found, func() {
				for _, c := range found {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %d decisions; %d differ, %d without their model, %d moved with personal features, %d keep personal values\n",
						c.Surface, c.Decisions, c.Differ, c.Missing, c.Moved, c.KeptPersonal)
				}
			})
			if err == nil && !holds {
				err = fmt.Errorf("%w: an incident is open", errUnheld)
			}
			return err
		},
	}
}

// newFeedSampleCommand fills the table for vetted researchers.
func newFeedSampleCommand() *cobra.Command {
	var keep int
	cmd := &cobra.Command{
		Use:   "sample -c feed.yaml [--keep-days N]",
		Short: "Draw yesterday's sample for vetted researchers into trefoil_feed.research_sample",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if keep < 1 {
				return fmt.Errorf("%w: --keep-days is at least 1", errUsage)
			}
			_, o, err := openFeed(cmd)
			if err != nil {
				return err
			}
			defer o.Close()
			now := time.Now().UTC()
			n, err := o.SampleForResearch(cmd.Context(), now.AddDate(0, 0, -1), now.AddDate(0, 0, -keep))
			if err != nil {
				return err
			}
			return report(cmd, map[string]int{"rows": n}, func() { fmt.Fprintf(cmd.OutOrStdout(), "%d rows\n", n) })
		},
	}
	cmd.Flags().IntVar(&keep, "keep-days", 30, "days of the sample that stay")
	return cmd
}
