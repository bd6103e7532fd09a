package main

import (
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

// newCoverageCommand shows what is measured of every system that holds personal data.
func newCoverageCommand() *cobra.Command {
	var dir, path string
	cmd := &cobra.Command{
		Use:   "coverage [--dir MONITOR] [--file coverage.yaml]",
		Short: "Every system that holds personal data: measured, attested, or not covered",
		Long: "Set the systems that coverage.yaml names beside what the records say of datasets, sources and logs, from the mirror of a monitor (--dir) " +
			"or from the site's own log (-c). A system is measured only if records of it were seen; what was seen and is not in the file is listed too.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			src, err := os.ReadFile(path)
			if err != nil {
				return fmt.Errorf("%w: --file: %w", errUsage, err)
			}
			file, err := register.ParseCoverage(path, src)
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			source, _, done, err := openSource(cmd, dir)
			if err != nil {
				return err
			}
			defer done()
			lines, err := register.BuildCoverage(source, file, time.Now())
			if err != nil {
				return err
			}
			return report(cmd, lines, func() { printCoverage(cmd, lines) })
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the monitor's own directory; without it the site's log that -c names")
	cmd.Flags().StringVar(&path, "file", "coverage.yaml", "the systems that hold personal data: docs/design/registers.md")
	return cmd
}

func printCoverage(cmd *cobra.Command, lines []*register.CoverageLine) {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "STATUS\tSYSTEM\tKIND\tCOUNTRY\tHOLDS\tLAST SEEN\tWHY")
	for _, l := range lines {
		country, name := l.Country, l.System
		if country == "" {
			country = "unknown"
		}
		if !l.Named {
			name += " (not in the file)"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Status, name, l.Kind, country, strings.Join(l.Holds, ","), l.LastSeen, l.Why)
	}
	_ = w.Flush() // the terminal's own errors are its owner's
}
