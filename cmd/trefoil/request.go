package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// newRequestCommand asks for a dataset; with "list", it shows requests and their answers.
func newRequestCommand() *cobra.Command {
	var ask enclave.Ask
	cmd := &cobra.Command{
		Use:   "request",
		Short: "Ask for a dataset, for a time, with a reason",
		Long: "Ask for a dataset, for a time, with a reason. An approver answers with trefoil approve.\n" +
			"No approval opens what the law forbids: the floor is checked when the dataset is opened.",
		Example: "  trefoil request --as wei --dataset support --for 4h --reason \"ticket 1234\"",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withControl(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store) error {
				req, err := r.Request(ctx, s, ask, time.Now())
				if err != nil {
					return err
				}
				return report(cmd, req, func() {
					fmt.Fprintf(cmd.OutOrStdout(), "request %s: %s for %s until %s\nto approve: trefoil approve %s --key FILE\n",
						req.ID, req.Dataset, req.Principal, req.Until.Format(time.RFC3339), req.ID)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&ask.Principal, "as", os.Getenv("TREFOIL_PRINCIPAL"), "the principal who asks (default $TREFOIL_PRINCIPAL)")
	f.StringVar(&ask.Dataset, "dataset", "", "the dataset asked for")
	f.StringVar(&ask.Purpose, "purpose", "", "the purpose (default the dataset's)")
	f.DurationVar(&ask.For, "for", 0, "for how long, such as 4h")
	f.StringVar(&ask.Reason, "reason", "", "why, in your own words: it stays in the control store, only a salted hash is recorded")
	cmd.AddCommand(newRequestListCommand())
	return cmd
}

func newRequestListCommand() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List requests and what was decided, newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withControl(cmd, func(ctx context.Context, _ *enclave.Rules, s *control.Store) error {
				found, err := s.List(ctx, limit)
				if err != nil {
					return err
				}
				return report(cmd, found, func() {
					for _, g := range found {
						fmt.Fprintf(cmd.OutOrStdout(), "%s  %-12s %-12s until %s  %s\n", g.Request.ID, g.Request.Principal,
							g.Request.Dataset, g.Request.Until.Format(time.RFC3339), answers(g))
					}
				})
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	return cmd
}

func answers(g control.Grant) string {
	if len(g.Decisions) == 0 {
		return "waits for an approver"
	}
	out := ""
	for i, d := range g.Decisions {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("%s by %s", d.Kind, d.Approver)
	}
	return out
}

// newDecideCommand makes approve, deny and revoke: they differ in the word that is signed.
func newDecideCommand(use, short string, kind grant.Kind) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:     use + " REQUEST",
		Short:   short,
		Example: fmt.Sprintf("  trefoil %s 0123456789abcdef0123456789abcdef --key approver.key", use),
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return fmt.Errorf("%w: --key names the approver's signing key", errUsage)
			}
			return withControl(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store) error {
				a, err := r.Decide(ctx, s, args[0], kind, key, time.Now())
				if err != nil {
					return err
				}
				return report(cmd, a, func() { printAnswered(cmd, a) })
			})
		},
	}
	cmd.Flags().StringVar(&key, "key", "", "file with the approver's signing key (trefoil key new approver)")
	return cmd
}

// withControl loads the enclave's rules, opens its control store and runs f.
func withControl(cmd *cobra.Command, f func(context.Context, *enclave.Rules, *control.Store) error) error {
	cfg, err := loadConfig(cmd)
	if err != nil {
		return err
	}
	rules, err := enclave.LoadRules(cfg)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	store, err := control.Open(ctx, cfg.Control)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Prepare(ctx); err != nil {
		return err
	}
	return f(ctx, rules, store)
}

func printAnswered(cmd *cobra.Command, a *enclave.Answered) {
	q := a.Request
	fmt.Fprintf(cmd.OutOrStdout(), "%s signed: %s for %s until %s\n", a.Kind, q.Dataset, q.Principal, q.Until.Format(time.RFC3339))
	if a.Granted {
		fmt.Fprintln(cmd.OutOrStdout(), "granted")
	}
	for _, m := range a.Missing {
		fmt.Fprintf(cmd.OutOrStdout(), "still needed: %s\n", m)
	}
}
