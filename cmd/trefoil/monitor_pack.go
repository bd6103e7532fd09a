package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/evidence"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
)

// newMonitorPackCommand writes the evidence of a period.
func newMonitorPackCommand(dir *string) *cobra.Command {
	var from, to string
	var records []string
	cmd := &cobra.Command{
		Use:   "pack --dir DIR --from T [--to T] OUT",
		Short: "Write the evidence of a period, which `trefoil verify` checks alone",
		Long: "Write heads, findings with the receipts of their records, incidents, statements, rules in force and the monitor's own log " +
			"of a period to OUT: a zip if its name ends so, else a directory. T is a time (RFC 3339) or a day.",
		Args: usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			p, err := parsePeriod(from, to, time.Now())
			if err != nil {
				return err
			}
			for _, r := range records {
				one, err := parseRecordName(r)
				if err != nil {
					return err
				}
				p.Records = append(p.Records, one)
			}
			return packPeriod(cmd.Context(), cmd, *dir, p, args[0])
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "first moment of the period")
	cmd.Flags().StringVar(&to, "to", "", "last moment; default now")
	cmd.Flags().StringSliceVar(&records, "receipt", nil, "a record whose receipt is wanted too: ORIGIN#INDEX")
	return cmd
}

func packPeriod(ctx context.Context, cmd *cobra.Command, dir string, p evidence.Period, out string) error {
	a, err := monitor.OpenArchive(dir)
	if err != nil {
		return err
	}
	e, r, err := evidence.Pack(ctx, a, p, time.Now(), out)
	if err != nil {
		return err
	}
	return report(cmd, map[string]any{"path": out, "evidence": e, "report": r}, func() {
		w := cmd.OutOrStdout()
		fmt.Fprintf(w, "%s: %d files, signed by %s\n", out, r.Files, r.Signer)
		for _, line := range r.Proven {
			fmt.Fprintln(w, "holds:", line)
		}
		for _, x := range e.Absent {
			fmt.Fprintf(w, "no receipt: record %d of %s\n", x.Index, x.Origin)
		}
	})
}

// parsePeriod reads --from and --to.
func parsePeriod(from, to string, now time.Time) (evidence.Period, error) {
	p := evidence.Period{Until: now}
	var err error
	if p.From, err = parseMoment(from, false); err != nil {
		return p, fmt.Errorf("%w: --from: %w", errUsage, err)
	}
	if to != "" {
		if p.Until, err = parseMoment(to, true); err != nil {
			return p, fmt.Errorf("%w: --to: %w", errUsage, err)
		}
	}
	if p.Until.Before(p.From) {
		return p, fmt.Errorf("%w: the period ends before it begins", errUsage)
	}
	return p, nil
}

// parseMoment reads a time or a day in UTC; of a day the first moment, or the last.
func parseMoment(s string, last bool) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, fmt.Errorf("%q is neither a time such as 2026-11-22T00:00:00Z nor a day such as 2026-11-22", s)
	}
	if last {
		t = t.AddDate(0, 0, 1).Add(-time.Microsecond)
	}
	return t, nil
}

func parseRecordName(s string) (r pack.ReceiptOf, err error) {
	origin, index, ok := strings.Cut(s, "#")
	if !ok || origin == "" {
		return r, fmt.Errorf("%w: %q is not ORIGIN#INDEX", errUsage, s)
	}
	r.Origin = origin
	r.Index, err = parseIndex(index)
	return r, err
}
