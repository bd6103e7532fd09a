package main

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
)

// newFeedServeCommand runs the ranking service.
func newFeedServeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "serve -c feed.yaml",
		Short: "Run the ranking service: order, decisions, reasons, parameter sheets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, o, err := openFeed(cmd)
			if err != nil {
				return err
			}
			defer o.Close()
			h, err := o.Handler(o.Token)
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", c.Listen)
			if err != nil {
				return fmt.Errorf("listen: %w", err)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "feed listens on http://%s\n", l.Addr())
			return serveUntil(cmd.Context(), feed.NewServer(h), l, o.Service.Run)
		},
	}
}

// openFeed loads feed.yaml, named by -c, and opens the service.
func openFeed(cmd *cobra.Command) (*feed.Config, *feed.Opened, error) {
	path, err := feedConfigPath(cmd)
	if err != nil {
		return nil, nil, err
	}
	c, err := feed.LoadConfig(path)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errUnheld, err)
	}
	o, err := feed.Open(cmd.Context(), c, slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil)))
	return c, o, err
}

// feedConfigPath is -c, or feed.yaml where -c was not given: its default is another file's name.
func feedConfigPath(cmd *cobra.Command) (string, error) {
	if !cmd.Flags().Changed("config") {
		return "feed.yaml", nil
	}
	return cmd.Flags().GetString("config")
}
