package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// officerFlags say who orders, and which monitor.
type officerFlags struct {
	dir                     *string
	url, token, key, reason string
	wait                    time.Duration
}

func (f *officerFlags) add(cmd *cobra.Command, signs bool) {
	cmd.Flags().StringVar(&f.url, "url", "", "the monitor's address, in place of --dir")
	cmd.Flags().StringVar(&f.token, "token", "", "with --url: file with the token of the monitor's own readers")
	if signs {
		cmd.Flags().StringVar(&f.key, "key", "", "file with the officer's signing key (trefoil key new officer)")
		cmd.Flags().DurationVar(&f.wait, "wait", 30*time.Second, "how long to wait for the monitor")
	}
}

func (f *officerFlags) reach() (monitor.Reach, error) {
	r := monitor.Reach{Dir: *f.dir, URL: f.url}
	if (r.Dir == "") == (r.URL == "") {
		return r, fmt.Errorf("%w: one of --dir DIR and --url URL is needed", errUsage)
	}
	if f.token == "" {
		return r, nil
	}
	raw, err := os.ReadFile(f.token)
	if err != nil {
		return r, fmt.Errorf("read token: %w", err)
	}
	r.Token = strings.TrimSpace(string(raw))
	return r, nil
}

// order makes, signs and submits one order; fill adds what its action needs.
func (f *officerFlags) order(cmd *cobra.Command, action officers.Action, fill func(context.Context, monitor.Reach, *officers.Order) (string, error)) error {
	if f.key == "" || f.reason == "" {
		return fmt.Errorf("%w: --key FILE and --reason TEXT are needed", errUsage)
	}
	r, err := f.reach()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
	defer cancel()
	name, err := r.Name(ctx)
	if err != nil {
		return err
	}
	o, err := officers.New(action, name, f.reason, time.Now())
	if err != nil {
		return err
	}
	rules, err := fill(ctx, r, &o)
	if err != nil {
		return err
	}
	signer, err := monitor.ReadSigner(f.key)
	if err != nil {
		return err
	}
	text, err := officers.Sign(o, signer)
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	return submit(ctx, cmd, r, monitor.Submission{Order: text, Rules: rules})
}

func submit(ctx context.Context, cmd *cobra.Command, r monitor.Reach, s monitor.Submission) error {
	a, err := r.Submit(ctx, s)
	if err != nil {
		return err
	}
	if a.Refused != "" {
		return fmt.Errorf("the monitor refused the order: %s", a.Refused)
	}
	return report(cmd, a, func() {
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "%s %s: ", a.Action, a.ID)
		switch {
		case !a.Done:
			fmt.Fprintln(out, "waits for", a.Waits)
		case len(a.Looser) > 0:
			fmt.Fprintf(out, "taken; it loosens, so it counts from %s\n", a.From.Format(time.RFC3339))
		default:
			fmt.Fprintln(out, "obeyed")
		}
		for _, l := range a.Looser {
			fmt.Fprintln(out, "looser:", l)
		}
	})
}

func newMonitorStopCommand(dir *string) *cobra.Command {
	f := &officerFlags{dir: dir}
	var scope officers.Scope
	cmd := &cobra.Command{
		Use:     "stop --key FILE --reason TEXT [--all | --country CC | --principal ID | --purpose P]",
		Short:   "Stop permits at once: one officer's order",
		Long:    "Stop permits at once: one officer's order. Flags of different kinds narrow each other: --country CN --purpose analytics stops what is both.",
		Example: "  trefoil monitor stop --dir DIR --key ada.key --all --reason \"finding 12 is being looked into\"",
		Args:    usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.order(cmd, officers.Stop, func(_ context.Context, _ monitor.Reach, o *officers.Order) (string, error) {
				o.Scope = &scope
				return "", nil
			})
		},
	}
	f.add(cmd, true)
	cmd.Flags().StringVar(&f.reason, "reason", "", "one line, shown to the clients and kept in the monitor's own log")
	cmd.Flags().BoolVar(&scope.All, "all", false, "everything")
	cmd.Flags().StringSliceVar(&scope.Countries, "country", nil, "accesses with a place in this country")
	cmd.Flags().StringSliceVar(&scope.Principals, "principal", nil, "accesses of this principal")
	cmd.Flags().StringSliceVar(&scope.Purposes, "purpose", nil, "accesses for this purpose")
	return cmd
}

func newMonitorResumeCommand(dir *string) *cobra.Command {
	f := &officerFlags{dir: dir}
	var stops []string
	cmd := &cobra.Command{
		Use:   "resume --key FILE --reason TEXT [--stop ID]",
		Short: "Propose to end stops; another officer seconds",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.order(cmd, officers.Resume, func(ctx context.Context, r monitor.Reach, o *officers.Order) (string, error) {
				o.Stops = stops
				if len(stops) > 0 {
					return "", nil
				}
				now, err := r.Ordered(ctx)
				if err != nil {
					return "", err
				}
				for _, s := range now.Stops {
					o.Stops = append(o.Stops, s.ID)
				}
				if len(o.Stops) == 0 {
					return "", fmt.Errorf("nothing is stopped")
				}
				return "", nil
			})
		},
	}
	f.add(cmd, true)
	cmd.Flags().StringVar(&f.reason, "reason", "", "one line, kept in the monitor's own log")
	cmd.Flags().StringSliceVar(&stops, "stop", nil, "id of a stop that ends; default all in force")
	return cmd
}

func newMonitorSecondCommand(dir *string) *cobra.Command {
	f := &officerFlags{dir: dir}
	cmd := &cobra.Command{
		Use:   "second ORDER --key FILE",
		Short: "Sign an order that another officer proposed",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if f.key == "" {
				return fmt.Errorf("%w: --key FILE is needed", errUsage)
			}
			r, err := f.reach()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), f.wait)
			defer cancel()
			s, err := r.Proposed(ctx, args[0])
			if err != nil {
				return err
			}
			signer, err := monitor.ReadSigner(f.key)
			if err != nil {
				return err
			}
			text, o, err := officers.Second(s.Order, signer)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "you sign: %s, because: %s %s%s%s\n", o.Action, o.Reason, strings.Join(o.Stops, " "), o.Rules, o.Definition)
			s.Order = text
			return submit(ctx, cmd, r, s)
		},
	}
	f.add(cmd, true)
	return cmd
}

func newMonitorRulesCommand(dir *string) *cobra.Command {
	cmd := &cobra.Command{Use: "rules", Short: "Change the monitor's rules while it runs"}
	f := &officerFlags{dir: dir}
	propose := &cobra.Command{
		Use:   "propose FILE --key FILE --reason TEXT",
		Short: "Order other rules: tighter ones count at once, looser ones need two officers and wait 72 hours",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read rules: %w", err)
			}
			return f.order(cmd, officers.Rules, func(ctx context.Context, r monitor.Reach, o *officers.Order) (string, error) {
				sum := sha256.Sum256(raw)
				o.Rules = hex.EncodeToString(sum[:])
				var err error
				o.Base, err = r.InForce(ctx)
				return string(raw), err
			})
		},
	}
	f.add(propose, true)
	propose.Flags().StringVar(&f.reason, "reason", "", "one line, kept in the monitor's own log")
	g := &officerFlags{dir: dir}
	withdraw := &cobra.Command{
		Use:   "withdraw HASH --key FILE --reason TEXT",
		Short: "Drop rules that wait: one officer's order",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.order(cmd, officers.Withdraw, func(_ context.Context, _ monitor.Reach, o *officers.Order) (string, error) {
				o.Rules = args[0]
				return "", nil
			})
		},
	}
	g.add(withdraw, true)
	withdraw.Flags().StringVar(&g.reason, "reason", "", "one line, kept in the monitor's own log")
	cmd.AddCommand(propose, withdraw, newMonitorRulesCompareCommand(dir))
	return cmd
}

func newMonitorRulesCompareCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "compare FILE --dir DIR",
		Short: "Say what other rules loosen; nothing is changed",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			now, err := monitor.LoadRules(*dir)
			if err != nil {
				return err
			}
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read rules: %w", err)
			}
			other, err := monitor.ParseRules(args[0], raw)
			if err != nil {
				return fmt.Errorf("%w: %w", errUnheld, err)
			}
			looser := monitor.Looser(now, other)
			return report(cmd, map[string]any{"looser": looser}, func() {
				for _, l := range looser {
					fmt.Fprintln(cmd.OutOrStdout(), "looser:", l)
				}
				if len(looser) == 0 {
					fmt.Fprintln(cmd.OutOrStdout(), "nothing is looser")
				}
			})
		},
	}
}

func newMonitorAcknowledgeCommand(dir *string) *cobra.Command {
	f := &officerFlags{dir: dir}
	cmd := &cobra.Command{
		Use:   "acknowledge DATASET HASH --key FILE --reason TEXT",
		Short: "Let another definition of a dataset count: one officer's order",
		Args:  usageArgs(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.order(cmd, officers.Acknowledge, func(_ context.Context, _ monitor.Reach, o *officers.Order) (string, error) {
				o.Dataset, o.Definition = args[0], args[1]
				return "", nil
			})
		},
	}
	f.add(cmd, true)
	cmd.Flags().StringVar(&f.reason, "reason", "", "one line, kept in the monitor's own log")
	return cmd
}

func newMonitorOrdersCommand(dir *string) *cobra.Command {
	f := &officerFlags{dir: dir}
	cmd := &cobra.Command{
		Use:   "orders --dir DIR | --url URL",
		Short: "Show what officers stopped, which rules are in force, and what waits",
		Args:  usageArgs(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := f.reach()
			if err != nil {
				return err
			}
			o, err := r.Ordered(cmd.Context())
			if err != nil {
				return err
			}
			return report(cmd, o, func() { printOrdered(cmd, o) })
		},
	}
	f.add(cmd, false)
	return cmd
}

func printOrdered(cmd *cobra.Command, o *monitor.Ordered) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "%s: stop epoch %d, rules %s\n", o.Monitor, o.Epoch, o.Rules)
	for _, s := range o.Stops {
		what := "everything"
		if !s.Scope.All {
			what = strings.TrimSpace(strings.Join(s.Scope.Countries, " ") + " " + strings.Join(s.Scope.Principals, " ") + " " + strings.Join(s.Scope.Purposes, " "))
		}
		fmt.Fprintf(out, "stopped %s since %s: %s (%s)\n", what, s.At.Format(time.RFC3339), s.Reason, s.ID)
	}
	if p := o.Pending; p != nil {
		fmt.Fprintf(out, "rules %s wait until %s: %s\n", p.Rules, p.From.Format(time.RFC3339), p.Reason)
		for _, l := range p.Looser {
			fmt.Fprintln(out, "  looser:", l)
		}
	}
	for _, s := range o.Proposals {
		if p, err := officers.Read(s.Order); err == nil {
			fmt.Fprintf(out, "%s %s waits for another officer: %s\n", p.Action, p.ID, p.Reason)
		}
	}
}

func newMonitorDiffCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use:   "diff --dir DIR [DATASET]",
		Short: "Show how the datasets' definitions changed, dated: what each shows beyond the one before",
		Args:  usageArgs(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			all, err := monitor.DefinitionChanges(*dir)
			if err != nil {
				return err
			}
			var found []monitor.DefinitionChange
			for _, c := range all {
				if len(args) == 0 || c.Dataset == args[0] {
					found = append(found, c)
				}
			}
			return report(cmd, found, func() {
				for _, c := range found {
					fmt.Fprintf(cmd.OutOrStdout(), "%s  %s  %s %s\n", c.At.Format(time.RFC3339), c.Dataset, c.Event, c.Hash)
					for _, w := range c.Widened {
						fmt.Fprintln(cmd.OutOrStdout(), "    +", w)
					}
					if c.Order != "" {
						fmt.Fprintf(cmd.OutOrStdout(), "    by order %s: %s\n", c.Order, c.Reason)
					}
				}
			})
		},
	}
}
