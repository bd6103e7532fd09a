package main

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// newMonitorApproveCommand answers requests with the monitor's own approver's key.
func newMonitorApproveCommand(dir *string) *cobra.Command {
	var c grantsClient
	var by string
	var deny bool
	cmd := &cobra.Command{
		Use:   "approve REQUEST --api URL --enclave ORIGIN",
		Short: "Hold a request against the monitor's own rules, and sign an approval (or, with --deny, a denial)",
		Long: "Fetch a request from the enclave's gateway.api, hold it against this monitor's own rules, show it, and sign exactly this\n" +
			"request with the monitor's own approver's key (keys/approver: trefoil key new approver). What the rules refuse is not\n" +
			"approved: exit code 3. The gateway counts the approval where approvals in its enclave.yaml name this approver, with\n" +
			"outside: true for requests by which data leaves the region; the monitor asks for it by approvals in its own rules.yaml.",
		Example: "  trefoil monitor approve 0123456789abcdef0123456789abcdef --dir monitor --api https://gateway.example.eu:7443 --enclave example.eu/enclave/dublin-1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			if c.keyFile == "" {
				c.keyFile = filepath.Join(*dir, "keys", monitor.UseApprover)
			}
			return monitorAnswers(cmd, &c, *dir, args[0], by, deny)
		},
	}
	c.flags(cmd)
	cmd.Flags().StringVar(&c.keyFile, "key", "", "file with the monitor's approver's key (default keys/approver in --dir)")
	cmd.Flags().StringVar(&by, "by", "", "the approver's name in enclave.yaml (default the key's)")
	cmd.Flags().BoolVar(&deny, "deny", false, "sign a denial")
	return cmd
}

func monitorAnswers(cmd *cobra.Command, c *grantsClient, dir, id, by string, deny bool) error {
	if c.url == "" {
		return fmt.Errorf("%w: --api URL says where the enclave takes answers", errUsage)
	}
	if err := c.open(); err != nil {
		return err
	}
	v, err := c.fetch(cmd.Context(), id)
	if err != nil {
		return err
	}
	kind := grant.KindDenial
	if !deny {
		kind = grant.KindApproval
		no, err := monitor.Consider(dir, v.Request, time.Now())
		if err != nil {
			return err
		}
		if no != nil {
			return fmt.Errorf("%w: the monitor's rules refuse it: %s (rule %s; %s)", errUnheld, no.Reason, no.Rule, no.Law)
		}
	}
	a, err := c.answer(cmd.Context(), v, kind, by)
	if err != nil {
		return err
	}
	return report(cmd, a, func() { printRequest(cmd, *v); printAnswered(cmd, a) })
}
