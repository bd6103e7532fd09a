package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

func (b *bench) script() (string, error) {
	path := filepath.Join(b.dir, "tpcb.sql")
	return path, os.WriteFile(path, []byte(script), 0o644)
}

// drains lets backlogs grow while nobody follows, and measures how fast each side takes them in.
func (b *bench) drains(ctx context.Context) error {
	if err := b.subscribe(ctx); err != nil {
		return err
	}
	f, err := b.follow(ctx)
	if err != nil {
		return err
	}
	if err := errors.Join(b.settled(ctx, b.target.SuperuserDSN(name)), f.stop()); err != nil {
		return err
	}
	accounts := int64(b.scale) * 100_000
	half := b.mixed * 10 / 41 / 2 // transactions, of 4.1 changes each
	if err := b.drain(ctx, "drain", half*41/10*2, "CALL mixed(%[1]d, %[2]d, %[3]f)", half, accounts); err != nil {
		return err
	}
	return b.drain(ctx, "drain_distinct", b.distinct, "CALL apart(%[1]d, %[2]d)", b.distinct, accounts)
}

// drain makes one backlog, by two sessions where its statement takes a seed, and times both.
func (b *bench) drain(ctx context.Context, figure string, changes int64, sql string, n, accounts int64) error {
	var g errgroup.Group
	for i := range 2 {
		if figure != "drain" && i == 1 {
			break
		}
		g.Go(func() error {
			args := []any{n, accounts}
			if figure == "drain" {
				args = append(args, 0.25*float64(i+1))
			}
			return do(ctx, b.source.SuperuserDSN("postgres"), "SET synchronous_commit = off", fmt.Sprintf(sql, args...))
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.marked++
	if err := do(ctx, b.source.SuperuserDSN("postgres"), fmt.Sprintf("INSERT INTO mark VALUES (%d)", b.marked)); err != nil {
		return err
	}
	for _, c := range []string{b.source.SuperuserDSN("postgres"), b.target.SuperuserDSN(name), b.peer.SuperuserDSN("postgres")} {
		if err := do(ctx, c, "CHECKPOINT"); err != nil { // neither side pays for what came before
			return err
		}
	}
	theirs, err := b.drainPeer(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	f, err := b.follow(ctx)
	if err != nil {
		return err
	}
	err = b.arrived(ctx, b.target.SuperuserDSN(name))
	ours := time.Since(start)
	if err := errors.Join(err, f.stop()); err != nil {
		return err
	}
	fmt.Printf("figure %s_changes_per_s %.0f changes/s peer subscription %.0f ratio %.2f\n", figure,
		float64(changes)/ours.Seconds(), float64(changes)/theirs.Seconds(), theirs.Seconds()/ours.Seconds())
	fmt.Printf("figure %s_ratio %.2f ratio\n", figure, theirs.Seconds()/ours.Seconds())
	return nil
}

// subscribe makes the peer: PostgreSQL's own subscription of the same tables.
func (b *bench) subscribe(ctx context.Context) error {
	source, peer := b.source.SuperuserDSN("postgres"), b.peer.SuperuserDSN("postgres")
	version, err := count(ctx, peer, "SELECT current_setting('server_version_num')::int")
	if err == nil && version >= 150000 { // as the steward of datasets has it
		err = do(ctx, peer, "ALTER SYSTEM SET wal_compression = lz4", "SELECT pg_reload_conf()")
	}
	if err != nil {
		return err
	}
	err = do(ctx, peer, "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84), country char(2) NOT NULL)",
		"CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84))",
		"CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88))",
		"CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22), hid bigint PRIMARY KEY)",
		"CREATE TABLE mark (id bigint PRIMARY KEY)",
		fmt.Sprintf("CREATE SUBSCRIPTION peer CONNECTION '%s' PUBLICATION trefoil", source))
	if err != nil {
		return err
	}
	if err := b.settled(ctx, peer); err != nil {
		return err
	}
	for tables := 1; tables > 0; time.Sleep(50 * time.Millisecond) { // until every table is copied
		if tables, err = count(ctx, peer, "SELECT count(*) FROM pg_subscription_rel WHERE srsubstate <> 'r'"); err != nil {
			return err
		}
	}
	return do(ctx, peer, "ALTER SUBSCRIPTION peer DISABLE", "VACUUM ANALYZE")
}

func (b *bench) drainPeer(ctx context.Context) (time.Duration, error) {
	peer := b.peer.SuperuserDSN("postgres")
	start := time.Now()
	if err := do(ctx, peer, "ALTER SUBSCRIPTION peer ENABLE"); err != nil {
		return 0, err
	}
	if err := b.arrived(ctx, peer); err != nil {
		return 0, err
	}
	d := time.Since(start)
	return d, do(ctx, peer, "ALTER SUBSCRIPTION peer DISABLE")
}

func count(ctx context.Context, dsn, sql string) (n int, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, sql).Scan(&n)
	return n, err
}
