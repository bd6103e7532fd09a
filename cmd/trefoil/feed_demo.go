package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/spf13/cobra"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// newFeedDemoCommand serves a feed of invented videos.
func newFeedDemoCommand() *cobra.Command {
	var listen, dsn string
	var memory bool
	cmd := &cobra.Command{
		Use:   "demo [--listen ADDR] [--database DSN | --memory]",
		Short: "Show a feed of thirty invented videos with reasons, the switch and the parameter sheet",
		Long: "Show a feed of thirty invented videos with reasons on each, the switch without profiling and the parameter sheet.\n" +
			"Decisions go to the database given, else to a PostgreSQL of its own that ends with the demonstration; with --memory, or\n" +
			"where no PostgreSQL is installed, they are kept in memory. It says which.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if memory && dsn != "" {
				return fmt.Errorf("%w: --memory and --database exclude each other", errUsage)
			}
			return runFeedDemo(cmd, listen, dsn, memory)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:7480", "address to serve on; port 0 picks a free one")
	cmd.Flags().StringVar(&dsn, "database", "", "keep decisions in this PostgreSQL")
	cmd.Flags().BoolVar(&memory, "memory", false, "keep decisions in memory")
	return cmd
}

func runFeedDemo(cmd *cobra.Command, listen, dsn string, memory bool) (err error) {
	ctx := cmd.Context()
	dir, err := os.MkdirTemp("", "trefoil-feed-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// A server of ours runs as another user where we are root: it must reach its directory.
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	c, err := demo.Write(dir)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: slog.LevelWarn}))
	o, where, stop, err := openFeedDemo(ctx, c, filepath.Join(dir, "postgres"), dsn, memory, logger)
	defer func() { err = errors.Join(err, stop()) }()
	if err != nil {
		return err
	}
	if err := errors.Join(demo.Traffic(ctx, o.Service, 150), o.CheckSheets(ctx)); err != nil {
		return err
	}
	h, err := demo.Handler(o.Service, where)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "%s\nfeed http://%s/\nsheet http://%s/sheet/%s\nCtrl-C ends it.\n", where.EN, l.Addr(), l.Addr(), demo.Surface)
	return serveUntil(ctx, feed.NewServer(h), l, o.Service.Run)
}

// openFeedDemo opens the service on the storage there is, and says which. stop is never nil.
func openFeedDemo(ctx context.Context, c *feed.Config, dir, dsn string, memory bool, logger *slog.Logger) (o *feed.Opened, where features.Text, stop func() error, err error) {
	stop = func() error { return nil }
	where = features.Text{EN: "Decisions are kept in the database given.", FR: "Les décisions sont conservées dans la base indiquée."}
	if dsn == "" && !memory {
		where = features.Text{EN: "Decisions are kept in a PostgreSQL of the demonstration's own.", FR: "Les décisions sont conservées dans un PostgreSQL propre à la démonstration."}
		dsn, stop, err = ownPostgres(ctx, dir)
		if errors.Is(err, postgres.ErrNoPrograms) {
			logger.Warn("no PostgreSQL is installed: decisions are kept in memory")
			memory, err = true, nil
		}
		if err != nil {
			return nil, where, stop, err
		}
	}
	if memory {
		where = features.Text{EN: "Decisions are kept in memory and forgotten at the end.", FR: "Les décisions sont gardées en mémoire et oubliées à la fin."}
		o, err = feed.OpenMemory(ctx, c, logger)
		return o, where, stop, err
	}
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, where, stop, errors.New("the database's DSN does not parse")
	}
	end := stop
	stop = func() error { pool.Close(); return end() }
	o, err = feed.OpenPool(ctx, c, pool, logger)
	return o, where, stop, err
}

// ownPostgres starts a cluster that ends with this process.
func ownPostgres(ctx context.Context, dir string) (string, func() error, error) {
	none := func() error { return nil }
	cluster, err := postgres.Create(ctx, postgres.Options{Directory: dir, Name: "feed", NoTCP: true, DieWithParent: true,
		Settings: map[string]string{"synchronous_commit": "off"}})
	if err != nil {
		return "", none, err
	}
	if err := cluster.Start(ctx); err != nil {
		return "", none, err
	}
	return cluster.SuperuserDSN("postgres"), func() error {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
		defer cancel()
		return cluster.Stop(grace, postgres.StopFast)
	}, nil
}
