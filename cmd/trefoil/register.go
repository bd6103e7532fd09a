package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/evidence"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// newRegisterCommand makes registers out of records.
func newRegisterCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "register",
		Short: "Make registers out of the records: transfers",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return fmt.Errorf("%w: say transfers", errUsage)
		},
	}
	cmd.AddCommand(newRegisterTransfersCommand())
	return cmd
}

// errNotice means that a notice leaves out what was observed: publish one that names it.
var errNotice = errors.New("the notice leaves out what was observed")

var monthForm = regexp.MustCompile(`^[0-9]{4}-(0[1-9]|1[0-2])$`)

func newRegisterTransfersCommand() *cobra.Command {
	var dir, month, notice string
	var asCSV bool
	cmd := &cobra.Command{
		Use:   "transfers [--dir MONITOR] [--month 2026-11] [--notice FILE] [--json|--csv]",
		Short: "Who received or could read what abroad, under which tool, from real accesses",
		Long: "Make the register of transfers from the mirror of a monitor (--dir), or from the site's own log (-c). With --notice FILE it is compared " +
			"with the published notice: exit code 3 if an observed transfer is not named there, or not as remote access to data stored in the region.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if month != "" && !monthForm.MatchString(month) {
				return fmt.Errorf("%w: --month is a month such as 2026-11", errUsage)
			}
			source, inside, done, err := openSource(cmd, dir)
			if err != nil {
				return err
			}
			defer done()
			t, err := register.BuildTransfers(source, month, inside)
			if err != nil {
				return err
			}
			return reportTransfers(cmd, t, notice, asCSV)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the monitor's own directory; without it the site's log that -c names")
	cmd.Flags().StringVar(&month, "month", "", "one month, by the records' own time in UTC; default all")
	cmd.Flags().StringVar(&notice, "notice", "", "the published notice: docs/design/registers.md")
	cmd.Flags().BoolVar(&asCSV, "csv", false, "comma-separated values")
	return cmd
}

func reportTransfers(cmd *cobra.Command, t *register.Transfers, notice string, asCSV bool) error {
	if notice != "" {
		src, err := os.ReadFile(notice)
		if err != nil {
			return fmt.Errorf("read notice: %w", err)
		}
		n, err := register.ParseNotice(notice, src)
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		t.Compare(n)
	}
	var err error
	if asCSV {
		err = t.CSV(cmd.OutOrStdout())
	} else {
		err = report(cmd, t, func() { printTransfers(cmd.OutOrStdout(), t) })
	}
	if err == nil && t.Notice != nil && !t.Notice.Holds() {
		return fmt.Errorf("notice %w: %w", errUnheld, errNotice)
	}
	return err
}

func printTransfers(w io.Writer, t *register.Transfers) {
	for _, l := range t.Lines {
		subjects := "subjects unknown"
		if l.Subjects != nil {
			subjects = fmt.Sprintf("%d subjects", *l.Subjects)
		}
		if l.Unknown > 0 && l.Subjects != nil {
			subjects += fmt.Sprintf(" (unknown in %d releases)", l.Unknown)
		}
		tool := "not a transfer; art. 32"
		if l.Counts {
			tool = fmt.Sprintf("art. %s %s %s, assessment %s %s", l.Article, l.Tool, l.ToolDate, l.TIA, l.TIADate)
		}
		fmt.Fprintf(w, "%s  %s (%s) from %v: %s for %s [%s]\n    %s\n    %d releases, %d rows, %d bytes and %d of catalogs, %s; %d unpermitted\n    root %s\n",
			l.Month, l.Importer, l.Country, l.From, l.Dataset, l.Purpose, l.ShowsText(), tool, l.Releases, l.Rows, l.Bytes, l.Covered, subjects, l.Without, l.Root)
	}
	fmt.Fprintf(w, "%d lines from %d records; %d release records were never permitted and are not counted\n", len(t.Lines), t.Records, t.NotPermitted)
	if t.Notice == nil {
		return
	}
	for what, list := range map[string][]string{"NOT IN THE NOTICE": t.Notice.Missing, "not named as remote access": t.Notice.Silent, "in the notice, not observed": t.Notice.Unused} {
		for _, x := range list {
			fmt.Fprintf(w, "%s: %s\n", what, x)
		}
	}
}

// openSource opens a monitor's mirror, or the site's own log.
func openSource(cmd *cobra.Command, dir string) (register.Source, register.Inside, func(), error) {
	if dir != "" {
		a, err := monitor.OpenArchive(dir)
		if err != nil {
			return nil, nil, nil, err
		}
		inside, err := evidence.Inside(a)
		return evidence.Mirror(a), inside, func() {}, err
	}
	c, err := loadConfig(cmd)
	if err != nil {
		return nil, nil, nil, err
	}
	return openSite(cmd.Context(), c)
}

// openSite opens the log of the site that a configuration is of.
func openSite(ctx context.Context, c *enclave.Config) (register.Source, register.Inside, func(), error) {
	region, err := law.NewRegion(c.Region)
	if err != nil {
		return nil, nil, nil, err
	}
	r, err := accesslog.OpenReader(c.Log.Directory)
	if err != nil {
		return nil, nil, nil, err
	}
	size := uint64(0)
	cp, _, err := r.Checkpoint(ctx)
	switch {
	case err == nil:
		size = cp.Size
	case !errors.Is(err, trefoil.ErrNotFound):
		return nil, nil, nil, errors.Join(err, r.Close())
	}
	inside := func(country string) bool { return country != "" && region.Contains(country) }
	return evidence.Site(r, size), inside, func() { _ = r.Close() }, nil // read only
}
