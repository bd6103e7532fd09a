package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// newMonitorCommand runs the independent monitor, or speaks to one.
func newMonitorCommand() *cobra.Command {
	var dir, listen string
	cmd := &cobra.Command{
		Use:   "monitor --dir DIR",
		Short: "Run the independent monitor: witness, permits, mirror",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return runMonitor(cmd, dir, listen)
		},
	}
	cmd.PersistentFlags().StringVar(&dir, "dir", "", "the monitor's own directory")
	cmd.Flags().StringVar(&listen, "listen", "", "address to serve on; default that of rules.yaml")
	cmd.AddCommand(newMonitorInitCommand(&dir), newMonitorStatusCommand(&dir), newMonitorVerifyCommand(&dir),
		newMonitorProbeCommand(&dir), newMonitorEnrolCommand(&dir), newMonitorCanaryCommand(&dir), newMonitorServicesCommand(&dir),
		newMonitorStopCommand(&dir), newMonitorResumeCommand(&dir), newMonitorSecondCommand(&dir), newMonitorRulesCommand(&dir),
		newMonitorAcknowledgeCommand(&dir), newMonitorOrdersCommand(&dir), newMonitorDiffCommand(&dir), newMonitorRotateCommand(&dir))
	cmd.AddCommand(newMonitorApproveCommand(&dir), newMonitorStatementCommand(&dir), newMonitorPackCommand(&dir))
	return cmd
}

func needDir(dir string) error {
	if dir == "" {
		return fmt.Errorf("%w: --dir DIR names the monitor's directory", errUsage)
	}
	return nil
}

// runMonitor serves until the context ends, then lets running requests finish.
func runMonitor(cmd *cobra.Command, dir, listen string) error {
	if err := needDir(dir); err != nil {
		return err
	}
	ctx := cmd.Context()
	rules, err := monitor.LoadRules(dir)
	if err != nil {
		return fmt.Errorf("%w: %w", errUnheld, err)
	}
	if listen == "" {
		listen = rules.Listen
	}
	logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	m, err := monitor.New(ctx, monitor.Config{Dir: dir, Rules: rules, Logger: logger})
	if err != nil {
		return err
	}
	run, err := besideProbe(m, dir, rules, logger)
	if err != nil {
		return errors.Join(err, m.Close(ctx))
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen: %w", err), m.Close(ctx))
	}
	secure, err := rules.ServerTLS(dir)
	if err != nil {
		return errors.Join(err, l.Close(), m.Close(ctx))
	}
	scheme := "http"
	if secure != nil {
		l, scheme = tls.NewListener(l, secure), "https"
	}
	fmt.Fprintf(cmd.OutOrStdout(), "monitor %s listens on %s://%s\n", rules.Name, scheme, l.Addr())
	return serveMonitor(ctx, m, run, l)
}

// serveMonitor owns the server and the monitor's goroutines. Requests end first, then the loops, so
// that every decision that was answered is also on its way to the own log.
func serveMonitor(ctx context.Context, m *monitor.Monitor, run func(context.Context) error, l net.Listener) error {
	server := monitor.NewServer(m.Handler())
	server.RegisterOnShutdown(m.EndStreams)
	err := serveUntil(ctx, server, l, run)
	return errors.Join(err, m.Close(context.WithoutCancel(ctx)))
}

func newMonitorInitCommand(dir *string) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "init --dir DIR --name NAME",
		Short: "Make keys and a commented rules.yaml; print MONITOR_VKEY (witness,permit)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if *dir == "" || name == "" {
				return fmt.Errorf("%w: --dir DIR and --name NAME are needed", errUsage)
			}
			keys, err := monitor.Init(*dir, name)
			if err != nil {
				return err
			}
			return report(cmd, keys, func() {
				fmt.Fprintf(cmd.OutOrStdout(), "MONITOR_VKEY='%s'\nMONITOR_LOG_VKEY='%s'\n", keys, keys.Log)
				fmt.Fprintf(cmd.ErrOrStderr(), "fill in %s, then run: trefoil monitor --dir %s\n", filepath.Join(*dir, monitor.RulesFile), *dir)
			})
		},
	}
	cmd.Flags().StringVar(&name, "name", "", "the monitor's name in its keys, such as monitor.example.eu")
	return cmd
}

func newMonitorVerifyCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "verify --dir DIR",
		Short: "Verify the whole mirror again: every tree, every body",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			found, err := monitor.Verify(cmd.Context(), *dir, nil)
			if errors.Is(err, monitor.ErrFault) {
				err = fmt.Errorf("%w: %w", errUnheld, err)
			}
			if found == nil {
				return err
			}
			return errors.Join(report(cmd, found, func() {
				for _, r := range found {
					verdict := "holds"
					if r.Fault != "" {
						verdict = "DOES NOT HOLD: " + r.Fault
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %d leaves, %d bodies, %d permitted, %d bytes permitted: %s\n",
						r.Origin, r.Leaves, r.Bodies, r.Permitted, r.Released, verdict)
				}
			}), err)
		},
	}
}

func newMonitorStatusCommand(dir *string) *cobra.Command {
	var url string
	cmd := &cobra.Command{
		Use:   "status --dir DIR | --url URL",
		Short: "Show heads, permits, findings",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (*dir == "") == (url == "") {
				return fmt.Errorf("%w: one of --dir DIR and --url URL is needed", errUsage)
			}
			token := ""
			if url == "" {
				rules, err := monitor.LoadRules(*dir)
				if err != nil {
					return err
				}
				url = "http://" + rules.Listen
				if token, err = rules.ReadBodiesToken(*dir); err != nil {
					return err
				}
			}
			s, err := monitorStatus(cmd.Context(), url, token)
			if err != nil {
				return err
			}
			return report(cmd, s, func() { printStatus(cmd.OutOrStdout(), s) })
		},
	}
	cmd.Flags().StringVar(&url, "url", "", "the monitor's address")
	return cmd
}

func monitorStatus(ctx context.Context, url, token string) (*monitor.Status, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimRight(url, "/")+"/status", nil)
	if err != nil {
		return nil, fmt.Errorf("ask monitor: %w", err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Timeout: 10 * time.Second}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask monitor: %w", err)
	}
	defer resp.Body.Close()
	var s monitor.Status
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("ask monitor: it answered %d", resp.StatusCode)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&s); err != nil {
		return nil, fmt.Errorf("ask monitor: %w", err)
	}
	return &s, nil
}

func printStatus(w io.Writer, s *monitor.Status) {
	state := "permits"
	if s.Stopped {
		state = "STOPPED"
	}
	fmt.Fprintf(w, "%s: %s (stop epoch %d), %d findings, own log %d\n", s.Name, state, s.Epoch, s.Findings, s.OwnLog)
	for _, l := range s.Logs {
		fmt.Fprintf(w, "%s: cosigned %d, mirrored %d, bodies up to %d; %d permits, %d refusals, %d unpermitted, %d bytes permitted\n",
			l.Origin, l.Cosigned, l.Mirrored, l.Bodies, l.Permits, l.Refusals, l.Without, l.Permitted)
	}
	for rule, n := range s.ByRule {
		fmt.Fprintf(w, "finding %s: %d\n", rule, n)
	}
}
