package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/canary"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

// canaryResult is what came of one canary.
type canaryResult struct {
	canary.Got
	Findings []incident.Finding `json:"findings"`
}

// canaryDoubt is how far the log's clock may be from this one.
const canaryDoubt = 2 * time.Minute

func newMonitorCanaryCommand(dir *string) *cobra.Command {
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "canary --dir DIR",
		Short: "Look at datasets with the monitor's own ordinary accounts, and compare with what the log says",
		Long: "Opens one session for each account of canary.yaml through the gateway, counts the rows and bytes that it gets, waits until\n" +
			"the mirror has the session's end, and compares. Run it at times that nobody can foresee, beside the running monitor.\n" +
			"A difference opens an incident. Exit code 3 when the log tells less, or more, than the account got.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			return runCanaries(cmd, *dir, wait)
		},
	}
	cmd.Flags().DurationVar(&wait, "wait", time.Minute, "how long the session's records may take to come")
	return cmd
}

func runCanaries(cmd *cobra.Command, dir string, wait time.Duration) error {
	s, passwords, err := canary.Load(dir)
	if err != nil {
		return err
	}
	store, err := incident.OpenStore(incident.Config{Dir: filepath.Join(dir, monitor.IncidentsDir)})
	if err != nil {
		return err
	}
	defer store.Close()
	results, found := []canaryResult{}, 0
	for i := range s.Accounts {
		a := &s.Accounts[i]
		got, err := canary.Ask(cmd.Context(), a, passwords[a.Principal], time.Now)
		if err != nil {
			return err
		}
		r := canaryResult{Got: *got}
		if r.Findings, err = compareCanary(cmd.Context(), dir, got, wait); err != nil {
			return err
		}
		for _, f := range r.Findings {
			if _, _, err := store.Open(f); err != nil {
				return err
			}
			found++
		}
		results = append(results, r)
	}
	if err := report(cmd, results, func() {
		for _, r := range results {
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rows, %d bytes: %d findings\n", r.Principal, r.Rows, r.Bytes, len(r.Findings))
			for _, f := range r.Findings {
				fmt.Fprintf(cmd.OutOrStdout(), "    %s: %s\n", f.Rule, f.Reason)
			}
		}
	}); err != nil {
		return err
	}
	if found > 0 {
		return fmt.Errorf("what the log says of the canaries %w: %d findings", errUnheld, found)
	}
	return nil
}

// compareCanary compares until the records are there, or the time for them is over: then what is
// missing is a finding.
func compareCanary(ctx context.Context, dir string, got *canary.Got, wait time.Duration) ([]incident.Finding, error) {
	names, err := monitor.Pseudonyms(dir, got.Principal, got.From, got.To)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(wait); ; {
		mirrored, err := monitor.Records(dir)
		if err != nil {
			return nil, err
		}
		records := make([]canary.Record, len(mirrored))
		for i, r := range mirrored {
			records[i] = canary.Record{Origin: r.Origin, Index: r.Index, Body: r.Body}
		}
		found, err := canary.Compare(got, records, names, canaryDoubt)
		if !errors.Is(err, canary.ErrNotYet) {
			return found, err
		}
		if time.Now().After(deadline) {
			if len(found) == 0 {
				found = []incident.Finding{{Rule: "canary-untold", Origin: "canary " + got.Principal, At: got.To, Reason: "the end of a canary's session is in no record"}}
			}
			return found, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// newMonitorServicesCommand learns what rules.yaml could say of services.
func newMonitorServicesCommand(dir *string) *cobra.Command {
	var since time.Duration
	cmd := &cobra.Command{
		Use:   "services --dir DIR",
		Short: "Print, for rules.yaml, what each service's account did: its statements and twice its most rows of an hour",
		Long: "Reads the summaries in the mirror and prints a section services: for rules.yaml, to be read before it becomes a rule. With it in\n" +
			"force, a statement that is not in the list, or more rows in an hour, opens an incident: a person behind a service's account.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			found, err := monitor.LearnServices(*dir, time.Now().Add(-since))
			if err != nil {
				return err
			}
			return report(cmd, found, func() {
				fmt.Fprintln(cmd.OutOrStdout(), "services:")
				for _, s := range found {
					fmt.Fprintf(cmd.OutOrStdout(), "  - principal: %s\n    rows_per_hour: %d\n    fingerprints:\n", s.Principal, max(1, s.RowsPerHour))
					for _, f := range s.Fingerprints {
						fmt.Fprintf(cmd.OutOrStdout(), "      - %q\n", f)
					}
				}
			})
		},
	}
	cmd.Flags().DurationVar(&since, "since", 30*24*time.Hour, "how far back to read")
	return cmd
}
