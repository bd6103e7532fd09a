package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"
)

// followFromZero logs so many records while no monitor follows, then has one follow all of them,
// bodies too, and prints what that took.
func followFromZero(ctx context.Context, records uint64, given string) (err error) {
	dir, clean, err := workDir(given)
	if err != nil {
		return err
	}
	defer clean()
	b, err := newBench(ctx, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	began := time.Now()
	for i := 0; b.bodies < records; i++ {
		var last *asked
		for _, body := range b.session(i, 20) {
			if last, err = b.append(ctx, body); err != nil {
				return err
			}
		}
		if i%200 == 0 { // the log takes no more than it can cosign
			if _, err := last.ticket.Witnessed(ctx); err != nil {
				return err
			}
		}
	}
	fmt.Printf("# %d records logged in %v\n", b.bodies, time.Since(began).Round(time.Second))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	used := cpu()
	began = time.Now()
	for b.m.Status(false).Logs[0].Bodies < b.bodies {
		if err := b.m.Sync(ctx); err != nil {
			return err
		}
	}
	took := time.Since(began)
	runtime.GC()
	runtime.ReadMemStats(&after)
	n := float64(b.bodies)
	fmt.Printf("figure zero_records %.0f records\nfigure zero_seconds %.0f s\nfigure zero_records_per_s %.0f records/s\n", n, took.Seconds(), n/took.Seconds())
	fmt.Printf("figure zero_cpu_us %.0f us\nfigure zero_heap_bytes_per_record %.0f bytes\n", (cpu()-used)/n*1e6, (float64(after.HeapAlloc)-float64(before.HeapAlloc))/n)
	return nil
}
