package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// newLogCommand reads this site's access log, also while the gateway writes it.
func newLogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Read this site's access log: records, and receipts to hand out",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return fmt.Errorf("%w: say tail, show or prove", errUsage)
		},
	}
	cmd.AddCommand(newLogTailCommand(), newLogShowCommand(), newLogProveCommand())
	return cmd
}

// openLogReader opens the log that the configuration names.
func openLogReader(cmd *cobra.Command) (*accesslog.Reader, error) {
	path, err := cmd.Flags().GetString("config")
	if err != nil {
		return nil, err
	}
	c, err := enclave.Load(path)
	if err != nil {
		return nil, err
	}
	if c.Log.Directory == "" {
		return nil, fmt.Errorf("%s names no log directory (log: directory:)", path)
	}
	return accesslog.OpenReader(c.Log.Directory)
}

func newLogTailCommand() *cobra.Command {
	var count uint64
	var follow bool
	cmd := &cobra.Command{
		Use:   "tail",
		Short: "Print the last records, a line each",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := openLogReader(cmd)
			if err != nil {
				return err
			}
			defer r.Close()
			return tailLog(cmd, r, count, follow)
		},
	}
	cmd.Flags().Uint64VarP(&count, "lines", "n", 20, "how many records")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new records until interrupted")
	return cmd
}

// tailLog prints what the published checkpoint covers.
func tailLog(cmd *cobra.Command, r *accesslog.Reader, count uint64, follow bool) error {
	c, _, err := r.Checkpoint(cmd.Context())
	if err != nil && !errors.Is(err, trefoil.ErrNotFound) {
		return err
	}
	next := uint64(0)
	if c != nil && c.Size > count {
		next = c.Size - count
	}
	for {
		for ; c != nil && next < c.Size; next++ {
			if err := printLine(cmd, r, next); err != nil {
				return err
			}
		}
		if !follow {
			return nil
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
		if c, _, err = r.Checkpoint(cmd.Context()); err != nil && !errors.Is(err, trefoil.ErrNotFound) {
			return err
		}
	}
}

// logLine is one record of `log tail --json` and `log show --json`.
type logLine struct {
	Index  uint64          `json:"index"`
	Body   json.RawMessage `json:"body,omitempty"`  // deterministic JSON: docs/record-format.md
	Permit bool            `json:"permit"`          // whether a permit is stored
	Gone   bool            `json:"gone,omitempty"`  // the body was deleted or has expired
	Error  string          `json:"error,omitempty"` // the body cannot be read
}

func readLine(r *accesslog.Reader, index uint64) logLine {
	record, permit, err := r.Body(index)
	line := logLine{Index: index, Permit: permit != ""}
	switch {
	case errors.Is(err, accesslog.ErrNoBody):
		line.Gone = true
	case err != nil:
		line.Error = err.Error()
	default:
		line.Body = record.Body
	}
	return line
}

func printLine(cmd *cobra.Command, r *accesslog.Reader, index uint64) error {
	line := readLine(r, index)
	asJSON, err := cmd.Flags().GetBool("json")
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if asJSON {
		return json.NewEncoder(out).Encode(line)
	}
	_, err = fmt.Fprintln(out, plainLine(line))
	return err
}

func plainLine(line logLine) string {
	switch {
	case line.Gone:
		return fmt.Sprintf("%8d  (body deleted or expired)", line.Index)
	case line.Error != "":
		return fmt.Sprintf("%8d  unreadable: %s", line.Index, line.Error)
	}
	b, err := trefoil.DecodeBody(line.Body)
	if err != nil {
		return fmt.Sprintf("%8d  unreadable: %v", line.Index, err)
	}
	return fmt.Sprintf("%8d  %s  %-10s %s", line.Index, b.At.Format("2006-01-02T15:04:05.000Z"), b.Kind, summary(b))
}

// summary says in a few words what a record is about.
func summary(b *trefoil.Body) string {
	switch {
	case b.Release != nil:
		r := b.Release
		s := fmt.Sprintf("%s by %s (%s): %d rows, %d bytes, %s", r.Access.Dataset, r.Access.Principal, importer(r.Access), r.Rows, r.Bytes, r.Outcome)
		if r.Unpermitted {
			s += ", UNPERMITTED"
		}
		return s
	case b.Session != nil:
		s := b.Session
		text := fmt.Sprintf("%s %s path: %s by %s (%s)", s.Event, s.Path, s.Access.Dataset, s.Access.Principal, importer(s.Access))
		if s.Event == "end" {
			text += fmt.Sprintf(": released %d, covered %d, fixed %d bytes, %s", s.Released, s.Covered, s.Fixed, s.Outcome)
		}
		return text
	case b.Refusal != nil:
		return fmt.Sprintf("%s to %s at %s: %s (%s)", b.Refusal.Access.Dataset, b.Refusal.Access.Principal, b.Refusal.Stage, b.Refusal.Reason, b.Refusal.Rule)
	case b.Summary != nil:
		return fmt.Sprintf("%s: %d rows, %d bytes out", b.Summary.Access.Principal, b.Summary.Rows, b.Summary.BytesOut)
	case b.Catalog != nil:
		return fmt.Sprintf("%s %.12s", b.Catalog.Event, b.Catalog.Hash)
	case b.Grant != nil:
		return fmt.Sprintf("%s %s for %s", b.Grant.Event, b.Grant.Grant, b.Grant.Dataset)
	case b.Policy != nil:
		return fmt.Sprintf("rules %.12s, catalog %.12s", b.Policy.Hashes.Policy, b.Policy.Hashes.Catalog)
	case b.Site != nil:
		return fmt.Sprintf("%s %s at %s", b.Site.Part, b.Site.Event, b.Site.Site)
	case b.Incident != nil:
		return fmt.Sprintf("%s: %s", b.Incident.Event, b.Incident.Reason)
	case b.Key != nil:
		return fmt.Sprintf("%s key %s", b.Key.Use, b.Key.Event)
	}
	return ""
}

func importer(a trefoil.Access) string {
	if a.Importer.Country == "" {
		return "country unknown"
	}
	return a.Importer.Country
}

func newLogShowCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "show INDEX",
		Short: "Print one record",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := parseIndex(args[0])
			if err != nil {
				return err
			}
			r, err := openLogReader(cmd)
			if err != nil {
				return err
			}
			defer r.Close()
			record, permit, err := r.Body(index)
			if err != nil {
				return fmt.Errorf("show record %d: %w", index, err)
			}
			var body any
			if err := json.Unmarshal(record.Body, &body); err != nil {
				return fmt.Errorf("show record %d: %w", index, err)
			}
			return report(cmd, logLine{Index: index, Body: record.Body, Permit: permit != ""}, func() {
				pretty, _ := json.MarshalIndent(body, "", "  ")
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", pretty)
			})
		},
	}
}

func newLogProveCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "prove INDEX",
		Short: "Write a record's receipt, which `trefoil verify` checks offline",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			index, err := parseIndex(args[0])
			if err != nil {
				return err
			}
			r, err := openLogReader(cmd)
			if err != nil {
				return err
			}
			defer r.Close()
			receipt, err := r.Receipt(cmd.Context(), index)
			if err != nil {
				return err
			}
			text, err := receipt.Marshal()
			if err != nil {
				return err
			}
			return writeOutput(cmd.OutOrStdout(), output, text)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "-", "file to write, - for standard output")
	return cmd
}

// writeOutput writes a new file; it never overwrites another.
func writeOutput(stdout io.Writer, path string, text []byte) error {
	if path == "-" {
		_, err := stdout.Write(text)
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("write receipt: %w", err)
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Close())
}

func parseIndex(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 62)
	if err != nil {
		return 0, fmt.Errorf("%w: %q is not the index of a record", errUsage, s)
	}
	return n, nil
}

// usageArgs makes a wrong number of arguments wrong usage.
func usageArgs(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		return nil
	}
}
