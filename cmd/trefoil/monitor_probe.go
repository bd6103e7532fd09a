package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe"
)

// probeParts are what a probe of a monitor's directory needs.
type probeParts struct {
	dir       string
	settings  *probe.Settings
	passwords map[string]string
	officers  []string
}

func loadProbe(dir string, rules *monitor.Rules) (*probeParts, error) {
	s, passwords, err := probe.LoadSettings(dir)
	if err != nil {
		return nil, err
	}
	p := &probeParts{dir: dir, settings: s, passwords: passwords, officers: s.Officers}
	for _, o := range rules.Officers {
		p.officers = append(p.officers, o.Key)
	}
	return p, nil
}

func (p *probeParts) enrolment() (*probe.Enrolment, error) {
	return probe.LoadEnrolment(p.dir, p.officers)
}

func (p *probeParts) probe(store *incident.Store, defined func() (monitor.Definitions, error), logger *slog.Logger) (*probe.Probe, error) {
	return probe.New(probe.Config{Settings: p.settings, Passwords: p.passwords, Enrolment: p.enrolment, Logger: logger,
		Definitions: func() (map[string][]*trefoil.Definition, error) {
			d, err := defined()
			return d, err
		},
		Open: func(f incident.Finding) error {
			_, _, err := store.Open(f)
			return err
		}})
}

// besideProbe returns what a monitor runs: itself, and its probe if probe.yaml is there.
func besideProbe(m *monitor.Monitor, dir string, rules *monitor.Rules, logger *slog.Logger) (func(context.Context) error, error) {
	parts, err := loadProbe(dir, rules)
	if errors.Is(err, os.ErrNotExist) {
		return m.Run, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnheld, err)
	}
	p, err := parts.probe(m.Incidents(), func() (monitor.Definitions, error) { return m.Definitions(), nil }, logger)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		return errors.Join(m.Run(ctx), <-done)
	}, nil
}

func newMonitorProbeCommand(dir *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "probe --dir DIR",
		Short: "Ask the operator's servers now, and compare with what is enrolled and defined",
		Long: "Looks once at every server of probe.yaml with the login trefoil_probe, as the running monitor does every half minute:\n" +
			"who is connected, what copies the server, who may come in, and what each dataset holds. Every difference opens an\n" +
			"incident, or joins the open one. It reads no table, no query text and no secret. Exit code 3 when something differs.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runProbe(cmd, *dir)
		},
	}
	cmd.AddCommand(newMonitorProbeInitCommand(dir))
	return cmd
}

func runProbe(cmd *cobra.Command, dir string) error {
	parts, err := openProbe(dir)
	if err != nil {
		return err
	}
	store, err := incident.OpenStore(incident.Config{Dir: filepath.Join(dir, monitor.IncidentsDir)})
	if err != nil {
		return err
	}
	defer store.Close()
	p, err := parts.probe(store, func() (monitor.Definitions, error) { return monitor.ReadDefinitions(dir) }, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	r, err := p.Round(cmd.Context())
	if err != nil {
		return err
	}
	if err := report(cmd, r, func() { printProbe(cmd.OutOrStdout(), r) }); err != nil {
		return err
	}
	if len(r.Differences) > 0 {
		return fmt.Errorf("what the servers report %w against what is enrolled and defined: %d differences", errUnheld, len(r.Differences))
	}
	return nil
}

func openProbe(dir string) (*probeParts, error) {
	if err := needDir(dir); err != nil {
		return nil, err
	}
	rules, err := monitor.LoadRules(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnheld, err)
	}
	return loadProbe(dir, rules)
}

func printProbe(w io.Writer, r *probe.Report) {
	for _, t := range r.Targets {
		fmt.Fprintf(w, "%s: %d facts, %d databases, %d datasets\n", t.Name, t.Facts, t.Databases, t.Datasets)
	}
	for _, d := range r.Differences {
		where := d.Target
		if d.Database != "" {
			where += ", database " + d.Database
		}
		fmt.Fprintf(w, "%s: %s: %s %s\n    enrolled or defined: %s\n    found: %s\n", where, d.Reason, d.Topic, d.Name, nothing(d.Enrolled), nothing(d.Found))
	}
	fmt.Fprintf(w, "%d differences.\n", len(r.Differences))
}

func nothing(s string) string {
	if s == "" {
		return "nothing"
	}
	return s
}

func newMonitorProbeInitCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "init --dir DIR",
		Short: "Make the probe's password and a commented probe.yaml; print the verifier for the operator",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			v, err := probe.Init(*dir)
			if err != nil {
				return err
			}
			return report(cmd, map[string]string{"verifier": v}, func() {
				fmt.Fprintln(cmd.OutOrStdout(), v)
				fmt.Fprintf(cmd.ErrOrStderr(), "give the operator this line: trefoil check --probe --verifier prints what they run; then fill in %s\n",
					filepath.Join(*dir, probe.SettingsFile))
			})
		},
	}
}

// newMonitorEnrolCommand drafts and signs what the servers should report.
func newMonitorEnrolCommand(dir *string) *cobra.Command {
	var out, sign, key string
	var peers []string
	cmd := &cobra.Command{
		Use:   "enrol --dir DIR --out DRAFT | --sign DRAFT --key FILE",
		Short: "Draft what the servers should report from what they report now; sign a draft as an officer",
		Long: "With --out, asks every server of probe.yaml and writes a draft (JSON) of what it reports: read it, and take out what should\n" +
			"not be there. What Trefoil makes of published definitions is not in it. With --sign, an officer puts a draft in force: its\n" +
			"number must follow the one in force. The difference to the enrolment in force is shown both times.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			parts, err := openProbe(*dir)
			if err != nil {
				return err
			}
			switch {
			case out != "" && sign == "" && key == "":
				return draftEnrolment(cmd, parts, out, peers)
			case out == "" && sign != "" && key != "" && len(peers) == 0:
				return signEnrolment(cmd, parts, sign, key)
			}
			return fmt.Errorf("%w: either --out DRAFT [--peer …], or --sign DRAFT --key FILE", errUsage)
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "write a draft there")
	cmd.Flags().StringArrayVar(&peers, "peer", nil, "also enrol TARGET: user=… database=… application=… backend=… address=… certificate=…; what is not given is any; may be repeated")
	cmd.Flags().StringVar(&sign, "sign", "", "sign this draft and put it in force")
	cmd.Flags().StringVar(&key, "key", "", "file with the officer's signing key")
	return cmd
}

func draftEnrolment(cmd *cobra.Command, parts *probeParts, out string, peers []string) error {
	states := map[string]*probe.State{}
	for i := range parts.settings.Targets {
		t := &parts.settings.Targets[i]
		ctx, cancel := context.WithTimeout(cmd.Context(), time.Minute)
		s, err := probe.Look(ctx, t, parts.passwords[t.Name])
		cancel()
		if err != nil {
			return err
		}
		states[t.Name] = s
	}
	old, err := parts.enrolment()
	if err != nil {
		old = nil
	}
	e := probe.Draft(parts.settings, states, old, time.Now())
	for _, p := range peers {
		if err := e.AddPeer(p); err != nil {
			return fmt.Errorf("%w: --peer %s: %w", errUsage, p, err)
		}
	}
	text, err := json.MarshalIndent(e, "", " ")
	if err != nil {
		return fmt.Errorf("write draft: %w", err)
	}
	if err := os.WriteFile(out, append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("write draft: %w", err)
	}
	return reportEnrolment(cmd, old, e, "drafted")
}

func signEnrolment(cmd *cobra.Command, parts *probeParts, draft, key string) error {
	e, err := probe.ReadDraft(draft)
	if err != nil {
		return err
	}
	raw, err := os.ReadFile(key)
	if err != nil {
		return fmt.Errorf("read the officer's key: %w", err)
	}
	signer, err := note.NewSigner(strings.TrimSpace(string(raw)))
	if err != nil {
		return errors.New("read the officer's key: it is no note signing key")
	}
	old, err := parts.enrolment()
	if err != nil {
		old = nil
	}
	text, err := probe.Sign(e, signer)
	if err != nil {
		return err
	}
	if e, err = probe.Install(parts.dir, []byte(text), parts.officers); err != nil {
		return err
	}
	return reportEnrolment(cmd, old, e, "in force")
}

func reportEnrolment(cmd *cobra.Command, old, e *probe.Enrolment, what string) error {
	more, fewer := probe.Changes(old, e)
	return report(cmd, map[string]any{"number": e.Number, "added": more, "removed": fewer}, func() {
		w := cmd.OutOrStdout()
		for _, x := range more {
			fmt.Fprintln(w, "+", x)
		}
		for _, x := range fewer {
			fmt.Fprintln(w, "-", x)
		}
		fmt.Fprintf(w, "enrolment %d %s: %d entries more, %d fewer\n", e.Number, what, len(more), len(fewer))
	})
}
