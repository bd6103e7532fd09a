package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/evidence"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

// newDossierCommand sets published claims against what was seen.
func newDossierCommand() *cobra.Command {
	var dir, claims, out string
	var open bool
	cmd := &cobra.Command{
		Use:   "dossier --dir MONITOR --claims FILE [--open] [--pack OUT]",
		Short: "Set published claims against what was seen: claim, test, first failure, awareness, notification",
		Long: "Test each claim of FILE against the records and findings of a monitor. Exit code 3 if one is contradicted. --open opens an incident for it; " +
			"--pack writes the receipts of its records as a pack that `trefoil verify` checks alone.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needDir(dir); err != nil {
				return err
			}
			src, err := os.ReadFile(claims)
			if err != nil {
				return fmt.Errorf("%w: --claims: %w", errUsage, err)
			}
			file, err := register.ParseClaims(claims, src)
			if err != nil {
				return fmt.Errorf("%w: %w", errUsage, err)
			}
			return dossiers(cmd, dir, file, open, out)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the monitor's own directory")
	cmd.Flags().StringVar(&claims, "claims", "claims.yaml", "the published claims: docs/design/registers.md")
	cmd.Flags().BoolVar(&open, "open", false, "open an incident for each claim that is contradicted")
	cmd.Flags().StringVar(&out, "pack", "", "where to write the receipts: a zip if the name ends so, else a directory")
	return cmd
}

func dossiers(cmd *cobra.Command, dir string, claims *register.ClaimsFile, open bool, out string) (err error) {
	a, err := monitor.OpenArchive(dir)
	if err != nil {
		return err
	}
	store, err := incident.OpenStore(incident.Config{Dir: filepath.Join(dir, monitor.IncidentsDir)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	look := func() ([]*evidence.Dossier, error) {
		all, err := store.List(func(*incident.Incident) bool { return true })
		if err != nil {
			return nil, err
		}
		return evidence.Dossiers(a, claims, all)
	}
	all, err := look()
	if err == nil && open {
		if _, err = evidence.OpenContradictions(store, all); err == nil {
			all, err = look()
		}
	}
	if err != nil {
		return err
	}
	if err := packDossiers(cmd, a, all, out); err != nil {
		return err
	}
	if err := report(cmd, all, func() { printDossiers(cmd.OutOrStdout(), all) }); err != nil {
		return err
	}
	for _, d := range all {
		if !d.Holds {
			return fmt.Errorf("claim %s %w: %s", d.Claim, errUnheld, d.First.What)
		}
	}
	return nil
}

// packDossiers packs the receipts of every record that a dossier names.
func packDossiers(cmd *cobra.Command, a *monitor.Archive, all []*evidence.Dossier, out string) error {
	if out == "" {
		return nil
	}
	p := evidence.Period{From: time.Now(), Until: time.Now()}
	for _, d := range all {
		if d.First != nil && d.First.At.Before(p.From) {
			p.From = d.First.At
		}
		p.Records = append(p.Records, d.Records...)
	}
	_, _, err := evidence.Pack(cmd.Context(), a, p, time.Now(), out)
	return err
}

func printDossiers(w io.Writer, all []*evidence.Dossier) {
	for _, d := range all {
		fmt.Fprintf(w, "%s: %q\n  published %s, %s\n", d.Claim, d.Text, d.Published, d.Where)
		if d.Holds {
			fmt.Fprintln(w, "  nothing seen contradicts it")
			continue
		}
		fmt.Fprintf(w, "  CONTRADICTED %d times, first at %s: %s; last at %s\n  the monitor knew at %s\n",
			d.Failures, d.First.At.Format(time.RFC3339), d.First.What, d.Last.At.Format(time.RFC3339), d.Aware.Format(time.RFC3339))
		for _, x := range d.Incidents {
			fmt.Fprintf(w, "  incident %s (%s, %s), opened %s\n", x.ID, x.Rule, x.State, x.Opened.Format(time.RFC3339))
			for _, t := range x.Notified {
				fmt.Fprintf(w, "    done: %s at %s: %s\n", t.Clock.Duty, t.Met.Format(time.RFC3339), t.How)
			}
			for _, t := range x.Due {
				fmt.Fprintf(w, "    due: %s by %s\n", t.Clock.Duty, t.Due.Format(time.RFC3339))
			}
		}
		if len(d.Incidents) == 0 {
			fmt.Fprintln(w, "  no incident was opened, nobody was told: --open")
		}
	}
}
