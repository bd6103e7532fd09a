package main

import (
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/enclave"
)

// newGatewayCommand runs the door of one site.
func newGatewayCommand() *cobra.Command {
	var verbose bool
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "Run the gateway and the access log of this site",
		Long: "Run the gateway and the access log of this site until SIGTERM, then drain.\n" +
			"It starts without the monitor: services go on, and nothing leaves by the release path until the monitor is there.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := cmd.Flags().GetString("config")
			if err != nil {
				return err
			}
			cfg, err := enclave.Load(path)
			if err != nil {
				return err
			}
			level := slog.LevelInfo
			if verbose {
				level = slog.LevelDebug
			}
			logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
			return enclave.RunGateway(cmd.Context(), cfg, logger)
		},
	}
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "log more")
	cmd.AddCommand(newGatewayStatusCommand())
	return cmd
}
