package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

const (
	database = "bench"
	role     = "app"
	password = "known-to-the-bench-alone"
)

// bench is one run: a PostgreSQL and the proxies before it.
type bench struct {
	plan
	dir       string
	longer    int // seconds that runs are longer than planned, because connecting is slow
	pg        *postgres.Cluster
	authority *postgres.Authority
	pair      postgres.KeyPair
	summary   time.Duration // the gateway's interval; 0 = its default
	witness   *witness
	gateway   *proxy
	log       *ledger
	bouncer   *proxy // session pooling
	pooled    *proxy // the same with transaction pooling
	pgpool    *proxy // Pgpool-II, in the full run
	proxies   []*proxy
}

func newBench(ctx context.Context, p plan) (b *bench, err error) {
	dir, err := os.MkdirTemp("", "trefoil-bench-gateway-")
	if err != nil {
		return nil, err
	}
	b = &bench{plan: p, dir: dir}
	defer func() {
		if err != nil {
			err = errors.Join(err, b.close())
		}
	}()
	if err := os.Chmod(dir, 0o755); err != nil { // PgBouncer runs as another user
		return b, err
	}
	if b.authority, err = postgres.NewAuthority(dir, "authority", nil); err != nil {
		return b, err
	}
	if b.pair, err = b.authority.Server(dir, "server", "127.0.0.1"); err != nil {
		return b, err
	}
	if b.witness, err = startWitness(); err != nil {
		return b, err
	}
	for _, step := range []func(context.Context) error{b.startPostgres, b.startGateway, b.startBouncer, b.startPgpool} {
		if err := step(ctx); err != nil {
			return b, err
		}
	}
	return b, nil
}

func (b *bench) startPostgres(ctx context.Context) (err error) {
	b.pg, err = postgres.Ensure(ctx, postgres.Options{DieWithParent: true, Directory: filepath.Join(b.dir, "pg"), Name: "bench",
		Settings: map[string]string{"max_connections": "1300", "shared_buffers": "512MB", "jit": "off", "max_wal_size": "4GB"},
		Access:   postgres.Access{PasswordTCP: true}})
	if err != nil {
		return err
	}
	if err := b.pg.Start(ctx); err != nil {
		return err
	}
	sql := fmt.Sprintf("CREATE ROLE %s LOGIN PASSWORD '%s'; CREATE DATABASE %s OWNER %s;", role, password, database, role)
	if err := b.tool(ctx, "psql", b.pg.SuperuserDSN("postgres"), "-X", "-q", "-c", strings.SplitAfter(sql, ";")[0], "-c", strings.SplitAfter(sql, ";")[1]); err != nil {
		return err
	}
	if err := b.tool(ctx, "pgbench", b.direct(), "-i", "-q", "-s", "10"); err != nil {
		return err
	}
	return b.tool(ctx, "psql", b.direct(), "-X", "-q",
		"-c", "CREATE TABLE lines AS SELECT g AS id, md5(g::text) AS a, g % 1000 AS b, now() AS c FROM generate_series(1, 1000000) g",
		"-c", "CREATE UNLOGGED TABLE sink (LIKE lines)", "-c", "VACUUM ANALYZE")
}

// direct is the DSN without a proxy.
func (b *bench) direct() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=disable", b.pg.Port(), role, password, database)
}

// tool runs a client program of PostgreSQL to its end.
func (b *bench) tool(ctx context.Context, name, dsn string, args ...string) error {
	if name == "psql" {
		args = append(args, "-v", "ON_ERROR_STOP=1")
	}
	out, err := exec.CommandContext(ctx, b.pg.Programs().Path(name), append(args, dsn)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", name, err, lastLines(out))
	}
	return nil
}

// compare runs one case in pairs, each in random order, and prints its figures.
func (b *bench) compare(ctx context.Context, c workload) error {
	peer, name := b.bouncer, c.name
	switch {
	case c.pooled:
		peer = b.pooled
	case c.pgpool:
		peer, name = b.pgpool, c.name+"_pgpool"
	}
	var ours, theirs []sample
	for i := range b.pairs + 1 {
		var s [2]sample
		first := rand.IntN(2)
		for _, k := range []int{first, 1 - first} {
			var err error
			if s[k], err = b.once(ctx, c, peer, k == 0); err != nil {
				return err
			}
		}
		if i > 0 { // the first pair warms both up
			ours, theirs = append(ours, s[0]), append(theirs, s[1])
		}
	}
	figures(name, peer.name, ours, theirs)
	return nil
}

// once runs a case through one proxy, and again, longer, where the clients of a busy machine
// took all the time to connect. From then on every run is longer.
func (b *bench) once(ctx context.Context, c workload, peer *proxy, ours bool) (s sample, err error) {
	for {
		if ours {
			s, err = b.checked(ctx, c)
		} else {
			s, _, err = b.pgbench(ctx, c, peer)
		}
		if !errors.Is(err, errShort) || b.longer > 10 {
			return s, err
		}
		b.longer += 2
	}
}

// checked runs a case through the gateway and holds its log against pgbench's own totals.
func (b *bench) checked(ctx context.Context, c workload) (sample, error) {
	if err := b.log.skip(); err != nil {
		return sample{}, err
	}
	if err := b.gateway.pool(c.pooled); err != nil {
		return sample{}, err
	}
	stop, err := b.gateway.profile(b.plan.profile, c.name)
	if err != nil {
		return sample{}, err
	}
	s, total, err := b.pgbench(ctx, c, b.gateway)
	stop()
	if err != nil {
		return s, err
	}
	return s, b.log.holds(ctx, c, total)
}

func (b *bench) versions() string {
	out, err := exec.Command("pgbouncer", "--version").Output()
	line, _, _ := strings.Cut(string(out), "\n")
	if err != nil {
		line = "no PgBouncer"
	}
	return "PostgreSQL " + b.pg.Programs().Full + "; " + line
}

func (b *bench) close() error {
	var errs []error
	for _, p := range b.proxies {
		errs = append(errs, p.stop())
	}
	if b.witness != nil {
		errs = append(errs, b.witness.server.Close())
	}
	if b.log != nil {
		errs = append(errs, b.log.close())
	}
	if b.pg != nil {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		errs = append(errs, b.pg.Stop(ctx, postgres.StopImmediate))
	}
	return errors.Join(append(errs, os.RemoveAll(b.dir))...)
}
