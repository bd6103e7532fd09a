package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
)

// underLoad measures the source's own limit with and without a dataset that follows, and the
// lag at 70 % of that limit.
func (b *bench) underLoad(ctx context.Context) error {
	if _, err := b.pgbench(ctx, b.load/2, 0); err != nil { // fills caches
		return err
	}
	var alone, ratios []float64
	for range b.rounds {
		without, err := b.pgbench(ctx, b.load, 0)
		if err != nil {
			return err
		}
		f, err := b.follow(ctx)
		if err != nil {
			return err
		}
		err = b.settled(ctx, b.target.SuperuserDSN(name))
		with := 0.0
		if err == nil {
			with, err = b.pgbench(ctx, b.load, 0)
		}
		if err == nil {
			err = b.settled(ctx, b.target.SuperuserDSN(name))
		}
		if err := errors.Join(err, f.stop()); err != nil {
			return err
		}
		fmt.Printf("# round: %.0f transactions a second alone, %.0f followed\n", without, with)
		alone, ratios = append(alone, without), append(ratios, with/without)
	}
	slices.Sort(alone)
	slices.Sort(ratios)
	limit := alone[len(alone)/2]
	fmt.Printf("figure source_tps %.0f transactions/s\n", limit)
	fmt.Printf("figure source_tps_ratio %.2f ratio\n", ratios[len(ratios)/2])
	return b.lagAt(ctx, 0.7*limit)
}

var tpsLine = regexp.MustCompile(`tps = ([0-9.]+)`)

// script is pgbench's own TPC-B, with the columns of its history named.
const script = `\set aid random(1, 100000 * :scale)
\set bid random(1, 1 * :scale)
\set tid random(1, 10 * :scale)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, :bid, :aid, :delta, CURRENT_TIMESTAMP);
END;
`

// pgbench runs TPC-B, at a rate where one is given, and tells transactions a second.
func (b *bench) pgbench(ctx context.Context, d time.Duration, rate float64) (float64, error) {
	path, err := b.script()
	if err != nil {
		return 0, err
	}
	args := []string{"-n", "-M", "prepared", "-c", "8", "-j", "1", "-T", fmt.Sprint(int(d.Seconds())), "-f", path, "-D", fmt.Sprintf("scale=%d", b.scale)}
	if rate > 0 {
		args = append(args, "-R", fmt.Sprintf("%.0f", rate))
	}
	out, err := exec.CommandContext(ctx, b.source.Programs().Path("pgbench"), append(args, b.source.SuperuserDSN("postgres"))...).CombinedOutput()
	m := tpsLine.FindSubmatch(out)
	if err != nil || m == nil {
		return 0, fmt.Errorf("pgbench: %w: %s", err, out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}

// lagAt measures from the moment that a commit returns at the source to the moment that a
// reader of the dataset sees it.
func (b *bench) lagAt(ctx context.Context, rate float64) error {
	f, err := b.follow(ctx)
	if err != nil {
		return err
	}
	if err = b.settled(ctx, b.target.SuperuserDSN(name)); err == nil {
		done := make(chan error, 1)
		go func() { _, err := b.pgbench(ctx, b.lag, rate); done <- err }()
		var lags []time.Duration
		lags, err = b.probe(ctx, b.lag-2*time.Second)
		err = errors.Join(err, <-done)
		if err == nil {
			slices.Sort(lags)
			at := func(q float64) float64 { return lags[int(q*float64(len(lags)-1))].Seconds() * 1000 }
			fmt.Printf("# lag at %.0f transactions a second, %d marks: least %.0f, greatest %.0f ms\n", rate, len(lags), at(0), at(1))
			fmt.Printf("figure lag_p50_ms %.0f ms\nfigure lag_p99_ms %.0f ms\n", at(0.5), at(0.99))
		}
	}
	return errors.Join(err, f.stop())
}

// probe writes a mark about every 20 ms and watches the dataset for it.
func (b *bench) probe(ctx context.Context, d time.Duration) ([]time.Duration, error) {
	source, err := pgx.Connect(ctx, b.source.SuperuserDSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer source.Close(ctx)
	target, err := pgx.Connect(ctx, b.target.SuperuserDSN(name))
	if err != nil {
		return nil, err
	}
	defer target.Close(ctx)
	type mark struct {
		id int64
		at time.Time
	}
	marks := make(chan mark, 100_000)
	failed := make(chan error, 1)
	go func() {
		defer close(marks)
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(19 * time.Millisecond) {
			b.marked++
			if _, err := source.Exec(ctx, "INSERT INTO mark VALUES ($1)", b.marked); err != nil {
				failed <- err
				return
			}
			marks <- mark{b.marked, time.Now()}
		}
	}()
	var lags []time.Duration
	var seen int64
	for m := range marks {
		for seen < m.id {
			if err := target.QueryRow(ctx, "SELECT max(id) FROM mark").Scan(&seen); err != nil {
				return nil, err
			}
			if seen < m.id {
				time.Sleep(2 * time.Millisecond)
			}
		}
		lags = append(lags, time.Since(m.at))
	}
	select {
	case err := <-failed:
		return nil, err
	default:
		return lags, nil
	}
}
