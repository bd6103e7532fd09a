package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// newMonitorStatementCommand prints what a monitor stated: the signed text, or what it says.
func newMonitorStatementCommand(dir *string) *cobra.Command {
	var url, day string
	cmd := &cobra.Command{
		Use:   "statement --dir DIR | --url URL",
		Short: "Print the newest daily statement, or a day's, as it was signed",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (*dir == "") == (url == "") {
				return fmt.Errorf("%w: one of --dir DIR and --url URL is needed", errUsage)
			}
			if day != "" {
				if _, err := time.Parse(time.DateOnly, day); err != nil {
					return fmt.Errorf("%w: --day wants YYYY-MM-DD", errUsage)
				}
			}
			text, err := readStatement(*dir, url, day)
			if err != nil {
				return err
			}
			return report(cmd, map[string]string{"statement": text}, func() { fmt.Fprint(cmd.OutOrStdout(), text) })
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "the monitor's address")
	cmd.Flags().StringVar(&day, "day", "", "YYYY-MM-DD; default the newest")
	return cmd
}

func readStatement(dir, url, day string) (string, error) {
	name := "latest"
	if day != "" {
		name = day + ".note"
	}
	if url != "" {
		resp, err := (&http.Client{Timeout: 10 * time.Second}).Get(strings.TrimRight(url, "/") + "/statements/" + name)
		if err != nil {
			return "", fmt.Errorf("ask monitor: %w", err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return "", fmt.Errorf("ask monitor: it answered %d", resp.StatusCode)
		}
		raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
		return string(raw), err
	}
	dir = filepath.Join(dir, monitor.StatementsDir)
	names, err := filepath.Glob(filepath.Join(dir, "????-??-??.note"))
	if err != nil || len(names) == 0 {
		return "", fmt.Errorf("no statement yet: the first is made at midnight, UTC: %w", os.ErrNotExist)
	}
	slices.Sort(names)
	path := names[len(names)-1]
	if day != "" {
		path = filepath.Join(dir, name)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read statement: %w", err)
	}
	return string(raw), nil
}

// readDocuments returns the monitor's signed documents at path: one file, or the statements of a
// directory, oldest first. It returns nil if there is something else.
func readDocuments(path string) []string {
	files, err := filepath.Glob(filepath.Join(path, "????-??-??.note"))
	single := err != nil || len(files) == 0
	if single {
		files = []string{path}
	}
	slices.Sort(files)
	var texts []string
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil || single && !slices.Contains([]string{trefoil.StatementHeader, trefoil.IncidentHeader}, trefoil.DocumentHeader(string(raw))) {
			return nil
		}
		texts = append(texts, string(raw))
	}
	return texts
}

// documents checks a monitor's signed documents: one statement or incident, or statements that
// follow each other.
func (v *verdict) documents(texts []string, f *verifyFlags) error {
	if f.statementKey == "" {
		return fmt.Errorf("%w: --statement-key says whose statement to believe", errUsage)
	}
	key, err := note.NewVerifier(f.statementKey)
	if err != nil {
		return fmt.Errorf("%w: --statement-key is no verifier key", errUsage)
	}
	if trefoil.DocumentHeader(texts[0]) == trefoil.IncidentHeader {
		return v.incident(texts[0], key)
	}
	trust := map[string]*trefoil.Trust{}
	if f.logKey != "" {
		t, err := f.trust()
		if err != nil {
			return fmt.Errorf("%w: %w", errUsage, err)
		}
		plain := *t // a mirror's head carries the log's signature; not every one the monitor's too
		plain.Quorum = -1
		trust[t.Log.Name()] = &plain
	}
	all, err := trefoil.VerifyStatements(texts, key, trust)
	if err != nil {
		return err
	}
	for _, s := range all {
		v.prove("statement %d of %s, %s to %s: %d findings, %d open incidents, stopped: %s", s.Number, s.Monitor, s.From.Format(time.RFC3339),
			s.Until.Format(time.RFC3339), sum(s.Findings), s.Incidents.Open, orNothing(strings.Join(s.Orders.Stopped, "; ")))
		for _, l := range s.Logs {
			v.prove("it states %d entries of %s; since the one before %d permits, %d refusals, %d bytes permitted", l.Size, l.Origin,
				l.Day.Permits, l.Day.Refusals, l.Day.Permitted)
		}
	}
	if len(all) > 1 {
		v.prove("%d statements follow each other without a gap, and none takes an earlier one back", len(all))
	}
	v.Caveats = append(v.Caveats, "that what the monitor states is true: its heads can be compared with the logs, its counts with its records")
	return nil
}

func (v *verdict) incident(text string, key note.Verifier) error {
	var x trefoil.IncidentExport
	if err := trefoil.OpenDocument(trefoil.IncidentHeader, text, &x, key); err != nil {
		return &trefoil.VerifyError{Reason: trefoil.ReasonStatement, Text: err.Error()}
	}
	v.prove("%s states incident %s of %s: %s, %s", key.Name(), x.ID, x.Opened.Format(time.RFC3339), x.Rule, x.State)
	v.Caveats = append(v.Caveats, "that the finding is true: its evidence says what shows it")
	return nil
}

func sum(counts map[string]int64) (n int64) {
	for _, c := range counts {
		n += c
	}
	return n
}

func orNothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}
