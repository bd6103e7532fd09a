package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

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
			return serveFeed(cmd.Context(), o.Service, h, l)
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

// serveFeed owns the server and the service's duties: requests end first, then the duties.
func serveFeed(ctx context.Context, s *feed.Service, h http.Handler, l net.Listener) error {
	server := feed.NewServer(h)
	duties, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served, done := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	go func() { done <- s.Run(duties) }()
	var err error
	select {
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err = server.Shutdown(grace); err != nil {
			err = errors.Join(err, server.Close())
		}
		<-served
	case err = <-served:
	}
	stop()
	return errors.Join(err, <-done)
}
