package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// newRequestCommand asks for a dataset; with "list", it shows requests and their answers.
func newRequestCommand() *cobra.Command {
	var ask enclave.Ask
	var list, text string
	var remote grantsClient
	cmd := &cobra.Command{
		Use:   "request",
		Short: "Ask for a dataset, for a time, with a reason",
		Long: "Ask for a dataset, for a time, with a reason. Approvers answer with trefoil approve: one of them, or as many and of\n" +
			"such groups as approvals in enclave.yaml want. trefoil request list says whose answer is missing.\n\n" +
			"With --subjects, ask for a case: a dataset of these subjects' rows alone, which is opened when the last approval is there\n" +
			"and dropped when the grant ends. With --statement, only answers to that statement are released, with whatever values.\n\n" +
			"With --api and --key, a key under callers in enclave.yaml asks the gateway over HTTP.\n\n" +
			"No approval opens what the law forbids: the floor is checked when the dataset is opened.",
		Example: "  trefoil request --as wei --dataset support --for 4h --reason \"ticket 1234\"\n" +
			"  trefoil request --as wei --dataset support --subjects list.txt --for 4h --reason \"ticket 1234\"\n" +
			"  trefoil request --as wei --dataset support --statement look.sql --for 4h --reason \"ticket 1234\"",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := readAsk(&ask, list, text); err != nil {
				return err
			}
			req, err := askFor(cmd, &remote, ask)
			if err != nil {
				return err
			}
			return report(cmd, req, func() { printAsked(cmd, req, len(ask.Subjects)) })
		},
	}
	remote.flags(cmd)
	remote.keyFlag(cmd)
	f := cmd.Flags()
	f.StringVar(&ask.Principal, "as", os.Getenv("TREFOIL_PRINCIPAL"), "the principal who asks (default $TREFOIL_PRINCIPAL)")
	f.StringVar(&ask.Dataset, "dataset", "", "the dataset asked for")
	f.StringVar(&ask.Purpose, "purpose", "", "the purpose (default the dataset's)")
	f.DurationVar(&ask.For, "for", 0, "for how long, such as 4h")
	f.StringVar(&ask.Reason, "reason", "", "why, in your own words: it stays in the control store, only a salted hash is recorded")
	f.StringVar(&list, "subjects", "", "file with the keys of subjects, one a line: ask for a case of these alone")
	f.StringVar(&text, "statement", "", "file with one SQL statement: only its answers are released")
	cmd.AddCommand(newRequestListCommand())
	return cmd
}

// askFor asks the gateway, or puts the request into the control store.
func askFor(cmd *cobra.Command, remote *grantsClient, ask enclave.Ask) (req *grant.Request, err error) {
	if remote.url != "" {
		if err := remote.open(); err != nil {
			return nil, err
		}
		return remote.ask(cmd.Context(), ask)
	}
	err = withControl(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store) (err error) {
		req, err = r.Request(ctx, s, ask, time.Now())
		return err
	})
	return req, err
}

func printAsked(cmd *cobra.Command, req *grant.Request, subjects int) {
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "request %s: %s for %s until %s\nto approve: trefoil approve %s --key FILE\n",
		req.ID, req.Dataset, req.Principal, req.Until.Format(time.RFC3339), req.ID)
	if req.Subjects != "" {
		fmt.Fprintf(out, "when it is approved: dbname %s, of %d subjects\n", enclave.CaseName(req.ID), subjects)
	}
}

// readAsk reads the files that a request names.
func readAsk(ask *enclave.Ask, list, text string) (err error) {
	if list != "" {
		if ask.Subjects, err = readLines(list); err != nil {
			return err
		}
		if len(ask.Subjects) == 0 {
			return fmt.Errorf("%w: the list of subjects is empty", errUsage)
		}
	}
	if text != "" {
		raw, err := os.ReadFile(text)
		if err != nil {
			return fmt.Errorf("read statement: %w", err)
		}
		if ask.Statement = strings.TrimSpace(string(raw)); ask.Statement == "" {
			return fmt.Errorf("%w: the file of the statement is empty", errUsage)
		}
	}
	return nil
}

func newRequestListCommand() *cobra.Command {
	var limit int
	var remote grantsClient
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List requests, what was decided, and who has to approve yet, newest first",
		Long: "List requests, what was decided, and who has to approve yet, newest first. With --api and --key, an approver sees the\n" +
			"requests of their purposes, and a caller those for its principals.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if remote.url != "" {
				if err := remote.open(); err != nil {
					return err
				}
				views, err := remote.list(cmd.Context(), limit)
				if err != nil {
					return err
				}
				return report(cmd, views, func() { printRequests(cmd, views) })
			}
			return withControl(cmd, func(ctx context.Context, r *enclave.Rules, s *control.Store) error {
				found, err := s.List(ctx, limit)
				if err != nil {
					return err
				}
				now, err := s.Latest(ctx, time.Now())
				if err != nil {
					return err
				}
				views := make([]enclave.GrantView, len(found))
				for i := range found {
					views[i] = r.View(&found[i], now)
				}
				return report(cmd, views, func() { printRequests(cmd, views) })
			})
		},
	}
	remote.flags(cmd)
	remote.keyFlag(cmd)
	cmd.Flags().IntVar(&limit, "limit", 50, "how many at most")
	return cmd
}

func printRequests(cmd *cobra.Command, views []enclave.GrantView) {
	for _, v := range views {
		printRequest(cmd, v)
	}
}

// printRequest shows one request: what it is for, how it stands, who is missing.
func printRequest(cmd *cobra.Command, v enclave.GrantView) {
	out, q := cmd.OutOrStdout(), v.Request
	fmt.Fprintf(out, "%s  %-12s %-12s until %s  %s\n", q.ID, q.Principal, q.Dataset, q.Until.Format(time.RFC3339), v.State)
	if v.Reason != "" {
		fmt.Fprintf(out, "    reason: %s\n", printable(v.Reason))
	}
	if v.Case != "" {
		fmt.Fprintf(out, "    case: %s\n", v.Case)
	}
	if q.Statement != "" {
		fmt.Fprintf(out, "    for the statement with fingerprint %s alone\n", q.Statement)
	}
	for _, a := range v.Answers {
		note := ""
		if a.Kind == grant.KindApproval && !a.Counts {
			note = " (does not count)"
		}
		fmt.Fprintf(out, "    %s by %s%s\n", a.Kind, a.Approver, note)
	}
	for _, m := range v.Missing {
		fmt.Fprintf(out, "    waits for %s\n", m)
	}
	if v.Stale != "" {
		fmt.Fprintf(out, "    %s\n", v.Stale)
	}
}

// printable keeps what somebody wrote from moving the cursor of who reads it.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}

// newDecideCommand makes approve, deny and revoke: they differ in the word that is signed.
func newDecideCommand(use, short string, kind grant.Kind) *cobra.Command {
	var key, by string
	var remote grantsClient
	cmd := &cobra.Command{
		Use:   use + " REQUEST",
		Short: short,
		Long: short + ".\n\nWith --api the answer is signed here and goes to the gateway over HTTP, so that the key never leaves its machine:\n" +
			"first the request is fetched and shown, then exactly this request is signed.",
		Example: fmt.Sprintf("  trefoil %[1]s 0123456789abcdef0123456789abcdef --key approver.key\n"+
			"  trefoil %[1]s 0123456789abcdef0123456789abcdef --key approver.key --api https://gateway.example.eu:7443 --enclave example.eu/enclave/dublin-1", use),
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if key == "" {
				return fmt.Errorf("%w: --key names the approver's signing key", errUsage)
			}
			if remote.url != "" {
				remote.keyFile = key
				return answerRemotely(cmd, &remote, args[0], kind, by)
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
	cmd.Flags().StringVar(&by, "by", "", "with --api: the approver's name in enclave.yaml (default the key's)")
	remote.flags(cmd)
	return cmd
}

func answerRemotely(cmd *cobra.Command, c *grantsClient, id string, kind grant.Kind, by string) error {
	if err := c.open(); err != nil {
		return err
	}
	v, err := c.fetch(cmd.Context(), id)
	if err != nil {
		return err
	}
	if asJSON, _ := cmd.Flags().GetBool("json"); !asJSON {
		printRequest(cmd, *v)
	}
	a, err := c.answer(cmd.Context(), v, kind, by)
	if err != nil {
		return err
	}
	return report(cmd, a, func() { printAnswered(cmd, a) })
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
