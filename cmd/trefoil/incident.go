package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

// newIncidentCommand works on the monitor's incidents, beside the running monitor or without it.
func newIncidentCommand() *cobra.Command {
	c := &incidentCommand{}
	cmd := &cobra.Command{
		Use:   "incident --dir DIR",
		Short: "The monitor's incidents: list, judge, notify, close, export",
		Long: "The monitor's incidents, with the clocks of GDPR art. 33 and NIS2 art. 23. A finding opens one by itself; " +
			"findings of the same rule about the same thing join it. What is done is appended and never changed.",
		Args: usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&c.dir, "dir", "", "the monitor's own directory")
	cmd.PersistentFlags().StringVar(&c.by, "by", "", "who does it; default the login name")
	cmd.AddCommand(c.list(), c.show(), c.open(), c.triage(), c.notified(), c.close(), c.export())
	return cmd
}

type incidentCommand struct{ dir, by string }

// with opens the store for f, and shows the incident that f names.
func (c *incidentCommand) with(cmd *cobra.Command, f func(s *incident.Store, by string) (id string, err error)) error {
	if err := needDir(c.dir); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(c.dir, monitor.RulesFile)); err != nil {
		return fmt.Errorf("%s is no monitor's directory: %w", c.dir, err)
	}
	s, err := incident.OpenStore(incident.Config{Dir: filepath.Join(c.dir, monitor.IncidentsDir)})
	if err != nil {
		return err
	}
	defer s.Close()
	by := c.by
	if u, err := user.Current(); by == "" && err == nil {
		by = u.Username
	}
	id, err := f(s, by)
	if err != nil || id == "" {
		return err
	}
	x, err := s.Get(id)
	if err != nil {
		return err
	}
	return report(cmd, x, func() { printIncident(cmd, &x) })
}

func (c *incidentCommand) list() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "list --dir DIR [--all]",
		Short: "List the incidents that are not closed",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.with(cmd, func(s *incident.Store, _ string) (string, error) {
				found, err := s.List(func(x *incident.Incident) bool { return all || x.State != incident.StateClosed })
				if err != nil {
					return "", err
				}
				return "", report(cmd, found, func() {
					for _, x := range found {
						fmt.Fprintf(cmd.OutOrStdout(), "%s %-8s %s %s, %d findings since %s%s\n", x.ID, x.State, x.Rule, x.Origin, x.Count,
							x.Opened.Format(time.RFC3339), nextTerm(&x))
					}
				})
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "closed ones too")
	return cmd
}

// nextTerm says which clock ends first of those that run.
func nextTerm(x *incident.Incident) string {
	text, at := "", time.Time{}
	for _, t := range x.Clocks {
		if t.Applies && t.Met.IsZero() && (at.IsZero() || t.Due.Before(at)) && x.State != incident.StateClosed {
			text, at = "; "+t.Clock.ID+" due "+t.Due.Format(time.RFC3339), t.Due
			if t.Late {
				text += " (OVER)"
			}
		}
	}
	return text
}

func (c *incidentCommand) show() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID --dir DIR",
		Short: "Show one incident: clocks, evidence, history",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(*incident.Store, string) (string, error) { return args[0], nil })
		},
	}
}

func (c *incidentCommand) open() *cobra.Command {
	f := incident.Finding{}
	var evidence []string
	cmd := &cobra.Command{
		Use:   "open --dir DIR --reason TEXT [--rule NAME] [--about WHAT] [--evidence FILE]",
		Short: "Open an incident by hand",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, path := range evidence {
				raw, err := os.ReadFile(path)
				if err != nil {
					return fmt.Errorf("read evidence: %w", err)
				}
				if len(raw) > incident.MaxText {
					return fmt.Errorf("%w: %s is larger than %d bytes: give its hash instead", errUsage, path, incident.MaxText)
				}
				f.Evidence = append(f.Evidence, incident.Evidence{Text: string(raw)})
			}
			return c.with(cmd, func(s *incident.Store, by string) (string, error) {
				f.By = by
				id, _, err := s.Open(f)
				return id, err
			})
		},
	}
	cmd.Flags().StringVar(&f.Rule, "rule", "by-hand", "what was broken, in lower case and hyphens")
	cmd.Flags().StringVar(&f.Origin, "about", "", "what it is about: a log's origin, a dataset, a cluster")
	cmd.Flags().StringVar(&f.Reason, "reason", "", "one plain sentence, without anybody's data")
	cmd.Flags().StringSliceVar(&evidence, "evidence", nil, "files that show it")
	return cmd
}

func (c *incidentCommand) triage() *cobra.Command {
	var j incident.Judgement
	var aware string
	cmd := &cobra.Command{
		Use:   "triage ID --dir DIR --reason TEXT [--applies CLOCK] [--not CLOCK] [--aware TIME]",
		Short: "Judge an incident: which legal clocks apply, and from when",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if aware != "" {
				if j.Aware, err = time.Parse(time.RFC3339, aware); err != nil {
					return fmt.Errorf("%w: --aware wants a time such as 2026-11-22T09:00:00Z", errUsage)
				}
			}
			return c.with(cmd, func(s *incident.Store, by string) (string, error) {
				j.By = by
				return args[0], s.Triage(args[0], j)
			})
		},
	}
	cmd.Flags().StringVar(&j.Reason, "reason", "", "why the clocks apply or do not")
	cmd.Flags().StringSliceVar(&j.Applies, "applies", nil, "clocks that apply, such as gdpr-33")
	cmd.Flags().StringSliceVar(&j.Not, "not", nil, "clocks that do not")
	cmd.Flags().StringVar(&aware, "aware", "", "from when the clocks count; default when the incident was opened")
	return cmd
}

func (c *incidentCommand) notified() *cobra.Command {
	var clock, how, at string
	cmd := &cobra.Command{
		Use:   "notified ID --dir DIR --clock CLOCK --how TEXT [--at TIME]",
		Short: "Record that a clock's duty was done: who was notified, under which number",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			when := time.Now()
			if at != "" {
				if when, err = time.Parse(time.RFC3339, at); err != nil {
					return fmt.Errorf("%w: --at wants a time such as 2026-11-22T09:00:00Z", errUsage)
				}
			}
			return c.with(cmd, func(s *incident.Store, by string) (string, error) {
				return args[0], s.Meet(args[0], clock, by, how, when)
			})
		},
	}
	cmd.Flags().StringVar(&clock, "clock", "", "the clock, such as gdpr-33")
	cmd.Flags().StringVar(&how, "how", "", "to whom, under which number")
	cmd.Flags().StringVar(&at, "at", "", "when; default now")
	return cmd
}

func (c *incidentCommand) close() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   "close ID --dir DIR --reason TEXT",
		Short: "Close an incident whose clocks are met or do not apply",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(s *incident.Store, by string) (string, error) {
				return args[0], s.CloseIncident(args[0], by, reason)
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "what it was, and what was done")
	return cmd
}

func (c *incidentCommand) export() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "export ID --dir DIR [--out FILE]",
		Short: "Write an incident as a signed document that trefoil verify accepts",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.with(cmd, func(s *incident.Store, _ string) (string, error) {
				x, err := s.Get(args[0])
				if err != nil {
					return "", err
				}
				text, err := monitor.ExportIncident(c.dir, &x)
				if err != nil {
					return "", err
				}
				if out == "" {
					_, err := fmt.Fprint(cmd.OutOrStdout(), text)
					return "", err
				}
				if err := os.WriteFile(out, []byte(text), 0o600); err != nil {
					return "", fmt.Errorf("write export: %w", err)
				}
				return "", report(cmd, map[string]string{"exported": x.ID, "file": out}, func() { fmt.Fprintln(cmd.OutOrStdout(), "exported", x.ID, "to", out) })
			})
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "file; default standard output")
	return cmd
}

func printIncident(cmd *cobra.Command, x *incident.Incident) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s %s: %s %s\n%s\n", x.ID, x.State, x.Rule, x.Origin, x.Reason)
	if x.Baseline != "" {
		fmt.Fprintln(w, "expected:", x.Baseline)
	}
	fmt.Fprintf(w, "opened %s by %s, last seen %s, %d findings\n", x.Opened.Format(time.RFC3339), x.By, x.Seen.Format(time.RFC3339), x.Count)
	for _, t := range x.Clocks {
		how := "due " + t.Due.Format(time.RFC3339)
		switch {
		case !t.Applies:
			how = "does not apply: " + t.Why
		case !t.Met.IsZero():
			how = "done " + t.Met.Format(time.RFC3339) + ": " + t.How
		}
		if t.Late {
			how += " LATE"
		}
		fmt.Fprintf(w, "clock %-18s %s: %s\n", t.Clock.ID, t.Clock.Law, how)
	}
	for _, e := range x.Evidence {
		switch {
		case e.Index != nil:
			fmt.Fprintf(w, "evidence: record %d of %s\n", *e.Index, e.Log)
		default:
			first, _, _ := strings.Cut(e.Text, "\n")
			fmt.Fprintf(w, "evidence: %d bytes, %s\n", len(e.Text), first)
		}
	}
	for _, h := range x.History {
		fmt.Fprintf(w, "%s %s by %s: %s\n", h.At.Format(time.RFC3339), h.What, h.By, h.Text)
	}
}
