package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/intake"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
)

// newCheckCommand validates every file of an enclave against each other and the live
// databases.
func newCheckCommand() *cobra.Command {
	var offline, probe bool
	var verifier string
	var accept []string
	c := &cobra.Command{
		Use:   "check",
		Short: "Validate every file of the enclave, and hold it against the live databases",
		Long: "Validates enclave.yaml, catalogs, datasets, purposes, people and policies (with their corpus of cases),\n" +
			"all errors at once with line and column, and compares the catalog with the live database. It says what\n" +
			"waits for review, what drifted, and what the source lacks, with the SQL that mends it. It changes\n" +
			"nothing, except with --accept: that marks columns as reviewed, and says which.\n" +
			"Exit code 3 when something does not hold, or waits for review.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			if probe || verifier != "" {
				return printProbeInstall(cmd, path, verifier)
			}
			if len(accept) > 0 {
				return runAccept(cmd, path, accept)
			}
			r := enclave.Check(cmd.Context(), path, offline)
			if err := report(cmd, r, func() { printCheck(cmd.OutOrStdout(), r) }); err != nil {
				return err
			}
			if !r.Holds {
				return fmt.Errorf("%s %w", path, errUnheld)
			}
			return nil
		},
	}
	c.Flags().BoolVar(&probe, "probe", false, "print what a superuser of each server runs once for the monitor's probe, and check nothing")
	c.Flags().StringVar(&verifier, "verifier", "", "of --probe: the line that trefoil monitor probe init printed at the monitor")
	c.Flags().BoolVar(&offline, "offline", false, "only the files: connect to nothing")
	c.Flags().StringArrayVar(&accept, "accept", nil, "mark as reviewed: SCHEMA.TABLE, SCHEMA.TABLE.COLUMN, or a dataset's name for what it holds; may be repeated")
	return c
}

// printProbeInstall prints SQL that psql takes as it is.
func printProbeInstall(cmd *cobra.Command, path, verifier string) error {
	servers, err := enclave.ProbeInstall(path, verifier)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnheld, err)
	}
	return report(cmd, servers, func() {
		w := cmd.OutOrStdout()
		for _, s := range servers {
			fmt.Fprintf(w, "-- %s: as a superuser, in the database %s. %s\n", s.Server, s.Database, s.How)
			for _, text := range s.Statements {
				fmt.Fprintf(w, "%s;\n", text)
			}
			for _, text := range s.Built {
				fmt.Fprintf(w, "%s; -- if it is built already\n", text)
			}
			if verifier == "" {
				fmt.Fprintf(w, "-- Nobody can log in as trefoil_probe yet: ALTER ROLE trefoil_probe PASSWORD 'the line from the monitor';\n")
			}
			fmt.Fprintln(w)
		}
	})
}

func printCheck(w io.Writer, r *enclave.CheckReport) {
	heads := map[intake.Severity]string{
		intake.Error: "Does not hold:", intake.Review: "Waits for review (withheld until then; --accept marks what you have read):",
		intake.Lacks: "Is lacking:", intake.Drift: "Is in the database and not in the catalog (withheld):", intake.Warning: "Worth a look:",
	}
	counts := map[intake.Severity]int{}
	for _, f := range r.Findings {
		if counts[f.Severity] == 0 {
			fmt.Fprintln(w, heads[f.Severity])
		}
		counts[f.Severity]++
		fmt.Fprintf(w, "  %s\n", f)
		if f.SQL != "" {
			fmt.Fprintf(w, "      %s\n", f.SQL)
		}
	}
	fmt.Fprintf(w, "%d errors, %d to review, %d lacking, %d drifted, %d warnings; %d of %d columns reviewed; %d policy cases.\n",
		counts[intake.Error], counts[intake.Review], counts[intake.Lacks], counts[intake.Drift], counts[intake.Warning], r.Reviewed, r.Columns, r.PolicyCases)
	if r.Holds {
		fmt.Fprintln(w, "Holds.")
	}
}

// runAccept marks columns as reviewed in every catalog that knows them.
func runAccept(cmd *cobra.Command, path string, names []string) error {
	c, _, err := enclave.LoadLenient(path)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnheld, err)
	}
	src, err := os.ReadFile(c.Datasets)
	if err != nil {
		return fmt.Errorf("read datasets: %w", err)
	}
	datasets, _, err := catalog.ParseDatasets(c.Datasets, src)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnheld, err)
	}
	all := []intake.Accepted{}
	known := map[string]int{}
	for _, file := range c.Catalogs {
		src, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read catalog: %w", err)
		}
		out, accepted, unknown, err := intake.Accept(file, src, datasets, names)
		if err != nil {
			return err
		}
		for _, n := range unknown {
			known[n]++
		}
		if len(accepted) > 0 {
			if err := replaceFile(file, out); err != nil {
				return err
			}
		}
		all = append(all, accepted...)
	}
	for _, n := range names {
		if known[n] == len(c.Catalogs) {
			return fmt.Errorf("%w: --accept %s: neither a dataset nor a table or column of a catalog", errUsage, n)
		}
	}
	return report(cmd, all, func() {
		for _, a := range all {
			fmt.Fprintf(cmd.OutOrStdout(), "reviewed %s.%s: %s %s (%s)\n", a.Table, a.Column, a.Category, a.Trait, a.Why)
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%d columns are now reviewed.\n", len(all))
	})
}

// replaceFile replaces a file at once: a reader sees the old text or the new one.
func replaceFile(path string, text []byte) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
