package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/demo"
)

// valve measures what the valve costs a session of the release path: a large read and a round
// trip, through it and past it, in turns, on an enclave of its own. The analyst is in the region:
// only there both ways are open.
func (b *bench) valve(ctx context.Context, p plan) (err error) {
	dir, err := os.MkdirTemp("", "bench-valve-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user passes through
		return err
	}
	binary := filepath.Join(dir, "trefoil")
	if out, err := exec.CommandContext(ctx, "go", "build", "-o", binary, "github.com/trefoil-eu/trefoil/cmd/trefoil").CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	w, err := demo.Start(ctx, demo.Options{Dir: filepath.Join(dir, "e"), Binary: binary, People: 2000, Valve: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close(context.WithoutCancel(ctx))) }()
	env := map[string]string{}
	for _, kv := range w.Environment() {
		env[kv[0]] = kv[1]
	}
	var ways [2]*pgx.Conn // past the valve, through it
	for i, address := range []string{env["GATEWAY_ADDR"], env["VALVE_ADDR"]} {
		if ways[i], err = open(ctx, env["ANALYST_IE_DSN"], address); err != nil {
			return err
		}
		defer ways[i].Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	}
	if err := largeReads(ctx, ways, p); err != nil {
		return err
	}
	return roundTrips(ctx, ways)
}

func open(ctx context.Context, dsn, address string) (*pgx.Conn, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, errors.New("the DSN is no URI")
	}
	u.Host = address
	c, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, fmt.Errorf("parse DSN: %w", err)
	}
	c.OnNotice = func(*pgconn.PgConn, *pgconn.Notice) {}
	return pgx.ConnectConfig(ctx, c)
}

// reads are the pairs of large reads.
const reads = 7

// largeReads prints the medians of both ways, and of the ratios of the pairs.
func largeReads(ctx context.Context, ways [2]*pgx.Conn, p plan) error {
	rows := 200 * p.sessions
	sql := fmt.Sprintf("COPY (SELECT repeat('x', 99) FROM app.people, generate_series(1, %d) LIMIT %d) TO STDOUT", rows, rows)
	var took [2][]float64
	var ratios []float64
	for n := range reads + 1 {
		var pair [2]float64
		for i := range ways {
			i = (i + n) % 2 // first one, then the other
			began := time.Now()
			if _, err := ways[i].PgConn().CopyTo(ctx, discard{}, sql); err != nil {
				return fmt.Errorf("large read: %w", err)
			}
			pair[i] = time.Since(began).Seconds()
		}
		if n == 0 {
			continue // warms both
		}
		took[0], took[1] = append(took[0], pair[0]), append(took[1], pair[1])
		ratios = append(ratios, pair[0]/pair[1])
	}
	mb := float64(rows) * 100 / 1e6
	past, through := median(took[0]), median(took[1])
	fmt.Printf("figure valve_ratio %.2f x\n", median(ratios))
	fmt.Printf("figure valve_large_read %.0f MB/s peer without %.0f ratio %.2f\n", mb/through, mb/past, past/through)
	return nil
}

type discard struct{}

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// roundTrips prints the time of an answer that the session's permit covers.
func roundTrips(ctx context.Context, ways [2]*pgx.Conn) error {
	var took [2][]float64
	for n := range 4000 {
		i := n % 2
		began := time.Now()
		if _, err := ways[i].Exec(ctx, "", pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("round trip: %w", err)
		}
		took[i] = append(took[i], time.Since(began).Seconds()*1000)
	}
	past, through := median(took[0]), median(took[1])
	fmt.Printf("figure valve_round_trip_p50 %.3f ms peer without %.3f ratio %.2f\n", through, past, through/past)
	fmt.Printf("figure valve_added_p50 %.3f ms\n", through-past)
	return nil
}

func median(v []float64) float64 {
	slices.Sort(v)
	return v[len(v)/2]
}
