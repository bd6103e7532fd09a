package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// newMonitorRotateCommand replaces one of the monitor's keys.
func newMonitorRotateCommand(dir *string) *cobra.Command {
	var overlap time.Duration
	cmd := &cobra.Command{
		Use:   "rotate witness|permit --dir DIR",
		Short: "Replace a key of a monitor that does not run; the outgoing one signs the succession, and on until the overlap ends",
		Args:  usageArgs(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := needDir(*dir); err != nil {
				return err
			}
			if args[0] != monitor.UseWitness && args[0] != monitor.UsePermit {
				return fmt.Errorf("%w: %q is neither witness nor permit", errUsage, args[0])
			}
			vkey, succession, err := monitor.Rotate(*dir, args[0], overlap, time.Now())
			if err != nil {
				return err
			}
			return report(cmd, map[string]string{"vkey": vkey, "succession": succession}, func() {
				fmt.Fprint(cmd.OutOrStdout(), succession)
				fmt.Fprintln(cmd.ErrOrStderr(), "hand the note to the operator (monitor.successions) and to all who verify (trefoil verify --succession), then start the monitor")
			})
		},
	}
	cmd.Flags().DurationVar(&overlap, "overlap", 30*24*time.Hour, "how long the outgoing key counts on")
	return cmd
}
