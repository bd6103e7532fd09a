package main

import (
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/proof/valve"
)

// newValveCommand runs the monitor's relay before the gateway.
func newValveCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "valve -c valve.yaml",
		Short: "Run the monitor's valve: a relay of ciphertext that lets through what is permitted",
		Long: "Run the valve until SIGTERM. The monitor runs it before the gateway, on the only route out. It relays TLS that\n" +
			"it cannot read; toward a client it passes a small allowance for the handshake, and then what the monitor permitted\n" +
			"for this very connection. Anything more waits, and then the connection is closed and the monitor told.\n" +
			"While the monitor has stopped releases, or is not heard, nothing that it permitted passes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("config") {
				return fmt.Errorf("%w: -c valve.yaml names the valve's configuration", errUsage)
			}
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			f, err := valve.Load(path)
			if err != nil {
				return fmt.Errorf("%w: %w", errUnheld, err)
			}
			c, err := f.Config()
			if err != nil {
				return err
			}
			c.Logger = slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
			if c.Keep, err = f.Store(c.Logger); err != nil {
				return err
			}
			if c.Listener, err = net.Listen("tcp", f.Listen); err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			v, err := valve.New(c)
			if err != nil {
				return errors.Join(err, c.Listener.Close())
			}
			fmt.Fprintf(cmd.OutOrStdout(), "valve listens on %s\n", c.Listener.Addr())
			return v.Run(cmd.Context())
		},
	}
}
