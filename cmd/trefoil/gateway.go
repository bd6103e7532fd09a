package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
)

// newGatewayCommand runs the door of one site.
func newGatewayCommand() *cobra.Command {
	var verbose, takeover bool
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run the gateway and the access log of this site",
		Long: "Run the gateway and the access log of this site until SIGTERM, then drain.\n" +
			"It starts without the monitor: services go on, and nothing leaves by the release path until the monitor is there.\n" +
			"SIGHUP reads people, policy, purposes, certificates, networks, limits and the log level again, all of it or\n" +
			"nothing, and says what changed; sessions that may not go on end. Listeners, keys and databases need a restart.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(cmd)
			if err != nil {
				return err
			}
			level := cfg.StartLevel(verbose)
			hangup := make(chan os.Signal, 1)
			signal.Notify(hangup, syscall.SIGHUP)
			defer signal.Stop(hangup)
			cfg = cfg.WithRuntime(enclave.Runtime{Hangup: hangup, Level: level, Pinned: verbose})
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			if takeover {
				return enclave.TakeOver(cmd.Context(), cfg, logger)
			}
			return enclave.RunGateway(cmd.Context(), cfg, logger)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	cmd.Flags().BoolVar(&takeover, "takeover", false, "take the place of the gateway that runs with this configuration: it drains, and no client finds the door closed")
	cmd.AddCommand(newGatewayStatusCommand())
	return cmd
}
