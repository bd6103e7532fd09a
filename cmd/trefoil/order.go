package main

import (
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/evidence"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
)

var countryForm = regexp.MustCompile(`^[A-Z]{2}$`)

// newOrderCommand states whether anything went to a country.
func newOrderCommand() *cobra.Command {
	var dir, since, to string
	cmd := &cobra.Command{
		Use:   "order --dir MONITOR --since T --to COUNTRY OUT",
		Short: "Show that since T no record went to a country, without a gap",
		Long: "Write to OUT (a zip if its name ends so, else a directory) every record since the last head that was cosigned before T, with the proof that none " +
			"is left out; `trefoil verify OUT` draws the conclusion again. Exit code 3 if anything went there or cannot be excluded: a body that is gone, an employer " +
			"or workplace that is unknown.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDir(dir); err != nil {
				return err
			}
			at, err := parseMoment(since, false)
			if err != nil || !countryForm.MatchString(to) {
				return fmt.Errorf("%w: --since is a time or a day, --to an ISO 3166-1 alpha-2 country", errUsage)
			}
			a, err := monitor.OpenArchive(dir)
			if err != nil {
				return err
			}
			o, _, err := evidence.Order(cmd.Context(), a, to, at, time.Now(), args[0])
			if err != nil {
				return err
			}
			if err := report(cmd, o, func() { printOrder(cmd.OutOrStdout(), o) }); err != nil {
				return err
			}
			if !o.Holds {
				return fmt.Errorf("order %w: something went to %s, or cannot be excluded", errUnheld, to)
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the monitor's own directory")
	cmd.Flags().StringVar(&since, "since", "", "from when on")
	cmd.Flags().StringVar(&to, "to", "", "the country")
	return cmd
}

func printOrder(w io.Writer, o *pack.Order) {
	for _, l := range o.Logs {
		from := "its beginning"
		if l.Before.Year() > 1 {
			from = "what was logged after " + l.Before.Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s: records %d to %d, from %s to the head of %s\n", l.Origin, l.Begin, l.End, from, l.Until.Format(time.RFC3339))
		if l.Holds() {
			fmt.Fprintf(w, "  none went to %s; %d refusals, %d requests that were never permitted, %d with a network of unknown country\n", o.Country, l.Refused, len(l.NotPermitted), l.NoNetwork)
			continue
		}
		fmt.Fprintf(w, "  %d went to %s (first: %v); country unknown: %v; body gone: %v\n", l.Of, o.Country, head(l.To), head(l.Unknown), head(l.NoBody))
	}
}

func head(list []uint64) []uint64 { return list[:min(len(list), 10)] }
