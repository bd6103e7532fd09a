// Command monitor measures the independent monitor: how fast it permits, verifies and checks, and
// what a record costs it at rest.
//
// It sets up a monitor, its rules and a real access log with the monitor as its only witness, in
// one process over loopback HTTP, fsync on. Records are those of an analyst outside the region on
// a pseudonymised dataset: sessions of a start, twenty releases and an end. It prints lines
// "figure NAME VALUE UNIT": docs/performance.md says what each means. QUICK=1 takes fewer records;
// -records N follows that many from zero and prints time and memory alone (make chaos-monitor).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// plan is how much is measured.
type plan struct {
	sessions int // of releases+2 records each
	releases int
	clients  int // that ask for permits at once, at saturation
	dir      string
}

func main() {
	p := plan{sessions: 2000, releases: 20, clients: 32}
	if os.Getenv("QUICK") != "" {
		p.sessions = 300
	}
	records := flag.Uint64("records", 0, "follow this many records from zero, and nothing else")
	flag.StringVar(&p.dir, "dir", "", "where to work; default a temporary directory")
	flag.IntVar(&p.sessions, "sessions", p.sessions, "sessions of records")
	flag.IntVar(&p.clients, "clients", p.clients, "clients that ask for permits at once")
	valveAlone := flag.Bool("valve", false, "measure the valve, and nothing else")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case *records > 0:
		err = followFromZero(ctx, *records, p.dir)
	case *valveAlone:
		err = new(bench).valve(ctx, p)
	default:
		err = run(ctx, p)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench-monitor:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, p plan) (err error) {
	dir, clean, err := workDir(p.dir)
	if err != nil {
		return err
	}
	defer clean()
	b, err := newBench(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	fmt.Printf("# %d processors, fsync on; %d sessions of %d records\n", runtime.NumCPU(), p.sessions, p.releases+2)
	for _, step := range []func(context.Context, plan) error{b.permits, b.follow, b.atRest, b.verify, b.valve} {
		if err := step(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// workDir returns a directory to work in, and what removes it.
func workDir(given string) (string, func(), error) {
	if given != "" {
		return given, func() {}, os.MkdirAll(given, 0o700)
	}
	dir, err := os.MkdirTemp("", "bench-monitor-")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

// cpu is the processor time of this process, in seconds.
func cpu() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(u.Utime) + seconds(u.Stime)
}
