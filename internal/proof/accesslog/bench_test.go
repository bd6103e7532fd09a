package accesslog_test

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// BenchmarkRecords measures records per second, one a leaf, appended by 512 goroutines until all
// are integrated: bodies synced, leaves in the tree.
func BenchmarkRecords(b *testing.B) {
	f := newFixture(b, 1)
	f.config.MaxPending = 1 << 20
	l := f.open(b)
	const workers = 512
	records := make([]trefoil.Record, b.N)
	for i := range records {
		records[i] = recordAt(b, i, trefoil.KindRelease)
	}
	tickets := make([]*accesslog.Ticket, b.N)
	b.ResetTimer()
	start := time.Now()
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := w; i < b.N; i += workers {
				ticket, err := l.Append(b.Context(), records[i], nil)
				if err != nil {
					b.Error(err)
					return
				}
				tickets[i] = ticket
			}
		})
	}
	wg.Wait()
	for _, t := range tickets {
		if t == nil {
			return
		}
		if _, err := t.Index(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	integrated := time.Since(start)
	if _, err := tickets[b.N-1].Witnessed(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	rate := float64(b.N) / integrated.Seconds()
	b.ReportMetric(rate, "records/s")
	if b.N >= 10_000 { // fewer measure the wait, not the rate
		fmt.Printf("figure records_per_s %.0f 1/s\n", rate)
	}
}

// BenchmarkWait measures Append to a verified proof under a cosigned checkpoint, one record
// after the other: without a pause, and after one longer than the checkpoint interval.
func BenchmarkWait(b *testing.B) {
	for name, pause := range map[string]time.Duration{"at once": 0, "after a pause": 150 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			f := newFixture(b, 2)
			l := f.open(b)
			var waits []time.Duration
			for i := range b.N {
				r := recordAt(b, i, trefoil.KindRelease)
				time.Sleep(pause)
				start := time.Now()
				witnessed(b, appendRecord(b, l, r))
				waits = append(waits, time.Since(start))
			}
			slices.Sort(waits)
			for _, p := range []int{50, 95, 99} {
				b.ReportMetric(float64(waits[(len(waits)-1)*p/100].Microseconds())/1000, fmt.Sprintf("p%d-ms", p))
			}
		})
	}
}
