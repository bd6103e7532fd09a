package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
)

// newGatewayStatusCommand shows what the gateway of this configuration does now.
func newGatewayStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show what the running gateway does: checks, sessions, servers",
		Long: "Show what the running gateway does: what it depends on, its log, the servers it follows, its sessions.\n" +
			"It asks through the socket gateway.status of the configuration, which only the gateway's account can open.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			s, err := cfg.GatewayStatus(cmd.Context())
			if err != nil {
				return err
			}
			return report(cmd, s, func() { printGatewayStatus(cmd, s) })
		},
	}
}

// printPools shows each pool, and the clients that keep a server or wait for one.
func printPools(w io.Writer, s *enclave.Status) {
	if len(s.Pools) > 0 {
		fmt.Fprint(w, "\nPOOL\tROLE\tMODE\tCLIENTS\tWAITING\tLONGEST\tPINNED\tSERVERS\tIN USE\tMOST\tATTACHED\tREFUSED\n")
	}
	for _, p := range s.Pools {
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%d\t%d\t%d\t%d\t%d\t%d\n", p.Database, p.Role, p.Mode, len(p.Clients), p.ClientsWaiting,
			p.MaxWait.Round(time.Millisecond), p.Pinned, len(p.Servers), p.ServersActive, p.Size, p.Stats.Attached, p.Stats.Timeouts)
	}
	for _, p := range s.Pools {
		for _, c := range p.Clients {
			switch {
			case c.Pinned != "":
				fmt.Fprintf(w, "%s keeps\t%d\tbecause of\t%s\n", c.Session, c.Server, c.Pinned)
			case c.State == "waiting":
				fmt.Fprintf(w, "%s waits\tfor\t%s\t%s\n", c.Session, p.Database, c.Wait.Round(time.Millisecond))
			}
		}
	}
}

func printGatewayStatus(cmd *cobra.Command, s *enclave.Status) {
	out := cmd.OutOrStdout()
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "gateway of %s at %s\t%s\n", s.Name, s.Site, s.At.Format(time.DateTime))
	fmt.Fprintf(w, "log %s\t%d records, %d witnessed\n", s.Log.Origin, s.Log.Records, s.Log.Witnessed)
	for _, name := range slices.Sorted(maps.Keys(s.Checks)) {
		fmt.Fprintf(w, "%s\t%s\n", name, s.Checks[name])
	}
	fmt.Fprintf(w, "sessions\t%d service, %d release\n", s.Sessions["service"], s.Sessions["release"])
	if len(s.Routes) > 0 {
		fmt.Fprint(w, "\nDATABASE\tSERVER\tROLE\tLAG\tASKED\n")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Routes)) {
		for _, m := range s.Routes[name] {
			role := string(m.Role)
			if m.Error != "" {
				role = "away: " + m.Error
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s ago\n", name, m.Address, role, m.Lag, s.At.Sub(m.Asked).Round(100*time.Millisecond))
		}
	}
	printPools(w, s)
	if len(s.Clients) > 0 {
		fmt.Fprint(w, "\nDATABASE\tPATH\tPRINCIPAL\tSERVER\tSINCE\tSESSION\n")
	}
	for _, c := range s.Clients {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s ago\t%s\n", c.Database, c.Path, c.Principal, c.Server, s.At.Sub(c.Since).Round(time.Second), c.Session)
	}
}
