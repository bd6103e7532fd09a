// Command gateway measures the service path beside PgBouncer (and, in the full run, Pgpool-II)
// on the same machine, in the same run, before the same PostgreSQL: throughput, latency, the
// proxy's own CPU time a transaction, large transfers, and the memory of idle clients.
//
// Pairs of runs are made in random order; medians are printed, with the range of the ratio of
// the pairs. Accounting is on, into an access log of its own; a figure is printed only if the
// log's totals are pgbench's own. It prints lines
// "figure NAME VALUE UNIT [peer PEER VALUE ratio R range LOW-HIGH]": docs/performance.md says
// what each means. QUICK=1 takes simple and prepared statements at 1 and 64 clients.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// plan is how much is measured.
type plan struct {
	quick   bool
	pairs   int
	run     time.Duration // of one run of pgbench
	only    string        // part of a figure's name; "" = all
	profile string        // directory for CPU profiles of the gateway
}

func main() {
	p := plan{quick: os.Getenv("QUICK") != "", pairs: 7, run: 1500 * time.Millisecond}
	serve := flag.String("serve", "", "only be the gateway of the bench in this directory (the bench runs itself with it)")
	flag.IntVar(&p.pairs, "pairs", p.pairs, "pairs of runs a case")
	flag.DurationVar(&p.run, "run", p.run, "length of one run")
	flag.StringVar(&p.only, "only", "", "measure the cases whose name holds this alone")
	flag.StringVar(&p.profile, "profile", "", "write CPU profiles of the gateway into this directory")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *serve != "" {
		err = serveHere(ctx, *serve)
	} else {
		err = run(ctx, p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-gateway:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan) (err error) {
	b, err := newBench(ctx, p)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	fmt.Printf("# %s; %d pairs a case, %v each; SCRAM on both sides of each proxy\n", b.versions(), p.pairs, p.run)
	for _, c := range cases(p.quick) {
		if !strings.Contains(c.name, p.only) {
			continue
		}
		if err := b.compare(ctx, c); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for _, m := range []struct {
		name string
		f    func(context.Context) error
	}{{"rows", b.rows}, {"idle", b.idle}} {
		if !strings.Contains(m.name, p.only) {
			continue
		}
		if err := m.f(ctx); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
	}
	return nil
}
