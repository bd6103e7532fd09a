package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/trefoil-eu/trefoil"
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
		for range 20 {
			if last, err = b.append(ctx, b.summary(i)); err != nil {
				return err
			}
		}
		if i%1000 == 999 { // the log takes no more than it can cosign
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

// summary is what a service of the region did in one interval: a kind of record that needs no
// permit, so that following it makes no finding.
func (b *bench) summary(i int) *trefoil.Body {
	a := b.access(i % 200)
	a.Dataset, a.Forms, a.Instrument = "", map[string][]string{}, trefoil.Instrument{}
	a.Importer = trefoil.Party{Country: "IE", Entity: "Example Ltd", Role: "controller"}
	for p := range a.Location {
		a.Location[p].Country = "IE"
	}
	return &trefoil.Body{At: time.Now().UTC(), Kind: trefoil.KindSummary, Origin: origin,
		Summary: &trefoil.SummaryBody{Access: a, BytesIn: int64(i), BytesOut: int64(i) * 91, From: time.Now().UTC().Add(-time.Minute), To: time.Now().UTC(), Rows: 100,
			Statements: []trefoil.StatementSummary{{Calls: 100, Fingerprint: "00112233445566aa", Kind: "select", Rows: 100}}}}
}
