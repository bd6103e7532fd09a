package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/home/intake"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
)

// newInitCommand reads a live database and writes an enclave's files for it.
func newInitCommand() *cobra.Command {
	var s intake.Settings
	var o intake.Options
	c := &cobra.Command{
		Use:   "init --from DSN DIR",
		Short: "Read a live PostgreSQL and write an enclave's files with a proposed classification",
		Long: "Reads the tables, keys and bounded samples of a live PostgreSQL in a read-only transaction and writes\n" +
			"enclave.yaml, catalog.yaml, datasets.yaml, purposes.yaml, people.yaml, policy/ and keys/ to DIR. Every\n" +
			"classification is a guess with its reason; what is not reviewed is withheld. No sampled value is kept\n" +
			"or shown. A read-only role is enough; what it may not read is listed.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if s.From == "" {
				return fmt.Errorf("%w: name the source with --from postgres://USER@HOST:PORT/DATABASE", errUsage)
			}
			s.Dir, s.Policy = args[0], policy.Shipped()
			asJSON, _ := cmd.Flags().GetBool("json")
			return runInit(cmd.Context(), cmd.OutOrStdout(), s, o, asJSON)
		},
	}
	f := c.Flags()
	f.StringVar(&s.From, "from", "", "the source, as a URI; its password may also come from PGPASSWORD or a passfile")
	f.StringVar(&s.Name, "name", "", "name of the enclave (default the database's)")
	f.StringVar(&s.Exporter, "exporter", "", "legal entity whose data this is")
	f.StringVar(&s.Country, "country", "", "its country, ISO 3166-1 alpha-2")
	f.StringVar(&o.Person, "person", "", "the table with one row a person, as SCHEMA.TABLE (default found)")
	f.IntVar(&o.SampleRows, "sample", 400, "rows of each table to look at")
	f.BoolVar(&s.Force, "force", false, "overwrite files that are there; keys are never replaced")
	return c
}

func runInit(ctx context.Context, w io.Writer, s intake.Settings, o intake.Options, asJSON bool) error {
	cfg, err := pgx.ParseConfig(s.From)
	if err != nil {
		return fmt.Errorf("%w: --from is not a DSN that can be read", errUsage) // the cause would repeat a password
	}
	cfg.RuntimeParams["application_name"] = "trefoil init"
	dial, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	conn, err := pgx.ConnectConfig(dial, cfg)
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	p, err := intake.Propose(ctx, conn, o)
	if errors.Is(err, intake.ErrEmpty) {
		return err
	}
	noPerson := errors.Is(err, intake.ErrNoPerson)
	if err != nil && !noPerson {
		return err
	}
	written, werr := intake.Write(p, s)
	if werr != nil {
		return werr
	}
	report := intake.Summarise(p, s.Dir, written)
	if asJSON {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err = errors.Join(err, e.Encode(report))
	} else {
		printInit(w, report)
	}
	return err
}

func printInit(w io.Writer, r intake.Summary) {
	fmt.Fprintf(w, "Read %d tables, %d columns of %s (PostgreSQL %d, %s).\n", r.Tables, r.Columns, r.Database, r.Version/10000, r.Encoding)
	if r.Person != "" {
		fmt.Fprintf(w, "One row a person: %s, key %s", r.Person, r.Key)
		if r.Residence != "" {
			fmt.Fprintf(w, ", country of residence %s", r.Residence)
		}
		fmt.Fprintf(w, ".\nTables about people: %d; about nobody: %d; not decided: %d.\n", r.AboutPeople, r.AboutNobody, r.Undecided)
	}
	for _, c := range r.Categories {
		fmt.Fprintf(w, "  %-11s %4d columns\n", c.Name, c.Columns)
	}
	for _, n := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", n)
	}
	fmt.Fprintf(w, "Wrote to %s: %s.\n", r.Directory, strings.Join(r.Written, ", "))
	fmt.Fprintf(w, "\nNothing is reviewed yet, so everything is withheld. Next:\n%s", r.Next)
}
