// Command release measures what the release path costs: the wait it adds before the first
// row, and how fast a large result streams, side by side with the same query sent directly
// to the dataset's cluster in the same run.
//
// Directly means: over TLS, with the gateway's certificate, as the same role. It needs a running
// enclave, e.g. of trefoil demo --detach --dir D: -env D/demo.env, or ANALYST_CN_DSN (through
// the gateway), OUTSIDE_ADMIN_DSN (for the name of the largest table) and CONFIG in the environment. With
// -monitor-proxy and -monitor-target it also measures with the monitor 25 ms away; the
// enclave's monitor URL must then point at the proxy. It prints lines
// "figure NAME VALUE UNIT [peer PEER VALUE ratio R]".
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/enclave"
)

type options struct {
	gateway, direct string
	config          string
	table           string
	pairs, rounds   int
	listen, target  string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	o, err := parse()
	if err == nil {
		err = run(ctx, o)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-release:", err)
		os.Exit(1)
	}
}

func parse() (*options, error) {
	o := &options{}
	env := flag.String("env", os.Getenv("TREFOIL_DEMO_ENV"), "demo.env of a detached demo")
	flag.StringVar(&o.gateway, "gateway", os.Getenv("ANALYST_CN_DSN"), "DSN through the gateway")
	flag.StringVar(&o.direct, "direct", os.Getenv("OUTSIDE_ADMIN_DSN"), "DSN of the same dataset, direct")
	flag.StringVar(&o.config, "config", os.Getenv("CONFIG"), "enclave.yaml")
	flag.StringVar(&o.table, "table", "", "table to read; default the largest of the dataset")
	flag.IntVar(&o.pairs, "pairs", 200, "interleaved pairs of first rows")
	flag.IntVar(&o.rounds, "rounds", 7, "interleaved pairs of large results")
	flag.StringVar(&o.listen, "monitor-proxy", "", "address to delay the monitor at")
	flag.StringVar(&o.target, "monitor-target", "", "the monitor's own address")
	flag.Parse()
	if *env != "" {
		values, err := readEnv(*env)
		if err != nil {
			return nil, err
		}
		o.gateway, o.direct, o.config = values["ANALYST_CN_DSN"], values["OUTSIDE_ADMIN_DSN"], values["CONFIG"]
	}
	if o.gateway == "" || o.direct == "" {
		return nil, errors.New("no DSNs: give -env, or ANALYST_CN_DSN and OUTSIDE_ADMIN_DSN")
	}
	return o, nil
}

// readEnv reads lines KEY='value'.
func readEnv(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read environment: %w", err)
	}
	defer f.Close()
	values := map[string]string{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if key, value, ok := strings.Cut(lines.Text(), "="); ok {
			values[key] = strings.Trim(value, "'")
		}
	}
	return values, lines.Err()
}

// pair is the same dataset by both ways.
type pair struct{ gateway, direct *pgx.Conn }

func run(ctx context.Context, o *options) error {
	suffix := ""
	var proxy *delayProxy
	if o.listen != "" {
		var err error
		if proxy, err = startDelay(o.listen, o.target); err != nil {
			return err
		}
		defer proxy.Close()
	}
	for {
		if err := measure(ctx, o, suffix); err != nil {
			return err
		}
		if proxy == nil || suffix != "" {
			return nil
		}
		suffix = "_25ms"
		proxy.SetRoundTrip(25 * time.Millisecond)
	}
}

func measure(ctx context.Context, o *options, suffix string) error {
	p := &pair{}
	for _, c := range []struct {
		dsn string
		to  **pgx.Conn
	}{{o.gateway, &p.gateway}, {o.direct, &p.direct}} {
		cfg, err := pgx.ParseConfig(c.dsn)
		if err != nil {
			return fmt.Errorf("parse DSN: %w", err)
		}
		cfg.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
		conn, err := connect(ctx, cfg)
		if err != nil {
			return err
		}
		defer conn.Close(context.WithoutCancel(ctx))
		*c.to = conn
	}
	table := o.table
	if table == "" {
		var err error
		if table, err = largest(ctx, p.direct); err != nil {
			return err
		}
	}
	same, err := p.sameRole(ctx, o.config)
	if err != nil {
		return err
	}
	defer same.Close(context.WithoutCancel(ctx))
	p.direct = same
	if err := p.firstRows(ctx, table, o.pairs, suffix); err != nil {
		return err
	}
	if suffix != "" {
		return nil
	}
	return p.large(ctx, table, o.rounds)
}

// sameRole connects to the dataset's cluster as the gateway does for this principal.
func (p *pair) sameRole(ctx context.Context, config string) (*pgx.Conn, error) {
	c, err := enclave.Load(config)
	if err != nil {
		return nil, err
	}
	cfg, err := pgx.ParseConfig(c.Clusters["outside"].DSN)
	if err != nil {
		return nil, fmt.Errorf("parse DSN of the cluster outside: %w", err)
	}
	if err := p.gateway.QueryRow(ctx, "SELECT current_user, current_database()").Scan(&cfg.User, &cfg.Database); err != nil {
		return nil, fmt.Errorf("ask for the role: %w", err)
	}
	return connect(ctx, cfg)
}

// connect waits until the gateway is up and the monitor, behind the relay of this program,
// has acknowledged the dataset.
func connect(ctx context.Context, cfg *pgx.ConnConfig) (*pgx.Conn, error) {
	const wait = 60 * time.Second
	for start := time.Now(); ; time.Sleep(time.Second / 2) {
		conn, err := pgx.ConnectConfig(ctx, cfg)
		if err == nil {
			return conn, nil
		}
		if time.Since(start) > wait || ctx.Err() != nil {
			return nil, fmt.Errorf("connect: %w", err)
		}
	}
}

func largest(ctx context.Context, direct *pgx.Conn) (table string, err error) {
	err = direct.QueryRow(ctx, `SELECT quote_ident(n.nspname) || '.' || quote_ident(c.relname)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT LIKE 'trefoil%' AND n.nspname <> 'information_schema'
		ORDER BY pg_table_size(c.oid) DESC LIMIT 1`).Scan(&table)
	if err != nil {
		return "", fmt.Errorf("find the largest table: %w", err)
	}
	return table, nil
}

// firstRows measures the time to the first row, both ways in turn, and prints what the
// release path adds in each pair.
func (p *pair) firstRows(ctx context.Context, table string, pairs int, suffix string) error {
	sql := "SELECT * FROM " + table + " LIMIT 1"
	var added []float64
	for i := range pairs + 3 {
		direct, err := first(ctx, p.direct, sql)
		if err != nil {
			return err
		}
		gateway, err := first(ctx, p.gateway, sql)
		if err != nil {
			return err
		}
		if i >= 3 { // the first ones warm both up
			added = append(added, float64(gateway-direct)/1e6)
		}
		// Requests that come in step with the log's checkpoints would flatter it.
		time.Sleep(time.Duration(i*37%101) * time.Millisecond)
	}
	slices.Sort(added)
	fmt.Printf("figure first_row_p50_ms%s %.1f ms\n", suffix, added[len(added)/2])
	fmt.Printf("figure first_row_p99_ms%s %.1f ms\n", suffix, added[min(len(added)-1, len(added)*99/100)])
	return nil
}

func first(ctx context.Context, conn *pgx.Conn, sql string) (time.Duration, error) {
	start := time.Now()
	results := conn.PgConn().Exec(ctx, sql)
	if !results.NextResult() || !results.ResultReader().NextRow() {
		return 0, fmt.Errorf("read first row: %w", errors.Join(errors.New("there is none"), results.Close()))
	}
	d := time.Since(start)
	return d, results.Close()
}

// large streams the whole table, both ways in turn.
func (p *pair) large(ctx context.Context, table string, rounds int) error {
	sql := "SELECT * FROM " + table
	var gateway, direct, ratio []float64
	var bytes int64
	for i := range rounds + 1 {
		d, _, err := stream(ctx, p.direct, sql)
		if err != nil {
			return err
		}
		g, n, err := stream(ctx, p.gateway, sql)
		if err != nil {
			return err
		}
		if i > 0 {
			bytes = n
			direct, gateway = append(direct, d.Seconds()), append(gateway, g.Seconds())
			ratio = append(ratio, d.Seconds()/g.Seconds())
		}
	}
	slices.Sort(gateway)
	slices.Sort(direct)
	slices.Sort(ratio)
	rate := func(s []float64) float64 { return float64(bytes) / 1e6 / s[len(s)/2] }
	fmt.Printf("figure large_result_ratio %.2f x peer direct 1.00 ratio %.2f\n", ratio[len(ratio)/2], ratio[len(ratio)/2])
	fmt.Printf("figure large_result_rate %.0f MB/s peer direct %.0f ratio %.2f\n", rate(gateway), rate(direct), rate(gateway)/rate(direct))
	fmt.Printf("figure large_result_ratio_range %.2f-%.2f x\n", ratio[0], ratio[len(ratio)-1])
	return nil
}

func stream(ctx context.Context, conn *pgx.Conn, sql string) (time.Duration, int64, error) {
	start := time.Now()
	results := conn.PgConn().Exec(ctx, sql)
	var bytes int64
	for results.NextResult() {
		for rows := results.ResultReader(); rows.NextRow(); {
			for _, v := range rows.Values() {
				bytes += int64(len(v))
			}
		}
	}
	if err := results.Close(); err != nil {
		return 0, 0, fmt.Errorf("read large result: %w", err)
	}
	return time.Since(start), bytes, nil
}
