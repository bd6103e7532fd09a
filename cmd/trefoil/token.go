package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/enclave"
)

// maxTokenLife is the longest that a token may live.
const maxTokenLife = 366 * 24 * time.Hour

// newTokenCommand makes, lists and revokes personal access tokens.
func newTokenCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and revoke personal access tokens",
		Long: "A token is a password with an end and a scope, for a script or a tool. It is used as the password of its\n" +
			"principal, opens nothing that the principal may not open, and is kept as a verifier only. A running gateway\n" +
			"takes tokens up, and drops them, within a second; each is in the access log before it opens anything.",
	}
	cmd.AddCommand(newTokenCreateCommand(), newTokenListCommand(), newTokenRevokeCommand())
	return cmd
}

func newTokenCreateCommand() *cobra.Command {
	var name string
	var databases []string
	var life time.Duration
	cmd := &cobra.Command{
		Use:     "create ID",
		Short:   "Make a token for a principal of people.yaml and show it, once",
		Example: "  trefoil token create analyst --database analytics --for 720h --name \"weekly report\"",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(databases) == 0:
				return fmt.Errorf("%w: --database names what the token opens: a dataset, a source database, or \"*\"", errUsage)
			case life <= 0 || life > maxTokenLife:
				return fmt.Errorf("%w: --for is more than nothing and at most 8784h (366 days)", errUsage)
			}
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			token, secret, err := cfg.NewToken(args[0], name, databases, life, time.Now())
			if err != nil {
				return err
			}
			shown := struct {
				ID     string `json:"id"`
				Secret string `json:"secret"`
				Until  string `json:"until"`
			}{token.ID, secret, token.Until}
			return report(cmd, shown, func() {
				fmt.Fprintf(cmd.OutOrStdout(), "%s\n", secret)
				fmt.Fprintf(cmd.ErrOrStderr(), "token %s: use it as the password of %s until %s, for %s. It is not shown again.\n",
					token.ID, token.Principal, token.Until, strings.Join(databases, ", "))
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "name", "", "what the token is for")
	f.StringArrayVar(&databases, "database", nil, "a dataset or source database that it opens; may be repeated; \"*\" for all of the principal's")
	f.DurationVar(&life, "for", 30*24*time.Hour, "for how long, such as 720h")
	return cmd
}

// tokenRow is one line of the list.
type tokenRow struct {
	ID        string   `json:"id"`
	Principal string   `json:"principal"`
	Name      string   `json:"name,omitempty"`
	Databases []string `json:"databases"`
	Until     string   `json:"until"`
	State     string   `json:"state"`     // live, expired, revoked, stale
	LastUsed  string   `json:"last_used"` // RFC 3339, "" never
}

func newTokenListCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List tokens: whose, for what, until when, when last used",
		Long:  "A stale token is one whose principal has a new password: it no longer logs in.",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			rows, err := tokenRows(cfg, time.Now())
			if err != nil {
				return err
			}
			return report(cmd, rows, func() {
				for _, r := range rows {
					used := "never used"
					if r.LastUsed != "" {
						used = "last used " + r.LastUsed
					}
					fmt.Fprintf(cmd.OutOrStdout(), "%s  %-7s  %-12s %-20s until %s  %s  %s\n", r.ID, r.State, r.Principal,
						strings.Join(r.Databases, ","), r.Until, used, r.Name)
				}
			})
		},
	}
}

func tokenRows(cfg *enclave.Config, now time.Time) ([]tokenRow, error) {
	rules, err := enclave.LoadRules(cfg)
	if err != nil {
		return nil, err
	}
	uses, err := cfg.TokenUses()
	if err != nil {
		return nil, err
	}
	rows := []tokenRow{}
	for _, t := range rules.People.Tokens {
		r := tokenRow{ID: t.ID, Principal: t.Principal, Name: t.Name, Databases: t.Databases, Until: t.Until, State: "live"}
		if at := uses[t.ID].Used; !at.IsZero() {
			r.LastUsed = at.Format(time.RFC3339)
		}
		end, _ := t.End()
		switch {
		case t.Revoked != "":
			r.State = "revoked"
		case !now.Before(end):
			r.State = "expired"
		case rules.People.Directory.Stale(&t):
			r.State = "stale"
		}
		rows = append(rows, r)
	}
	return rows, nil
}

func newTokenRevokeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "revoke TOKEN",
		Short: "End a token; sessions that it opened end within a second",
		Long: "TOKEN is the token's id, or the token itself when that is what was found somewhere: the id is read from it.\n" +
			"Pass what you found on the command line only when it is spoiled anyway.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			id, _, _ := strings.Cut(strings.TrimPrefix(args[0], identity.TokenPrefix), "_")
			err = cfg.ChangeTokens(func(tokens []identity.Token) ([]identity.Token, error) {
				i := slices.IndexFunc(tokens, func(t identity.Token) bool { return t.ID == id })
				if i < 0 {
					return nil, fmt.Errorf("no token has the id %q: trefoil token list", id)
				}
				if tokens[i].Revoked == "" {
					tokens[i].Revoked = time.Now().UTC().Format(time.RFC3339)
				}
				return tokens, nil
			})
			if err != nil {
				return err
			}
			return report(cmd, map[string]string{"revoked": id}, func() { fmt.Fprintf(cmd.OutOrStdout(), "token %s is revoked\n", id) })
		},
	}
}
