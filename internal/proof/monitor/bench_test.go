package monitor

import (
	"slices"
	"testing"
	"time"
)

// percentiles reports p50 and p99 in milliseconds.
func percentiles(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50_ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99_ms")
}

// BenchmarkMirror measures catching up with a log: leaves, tree, and a body each by HTTP.
func BenchmarkMirror(b *testing.B) {
	const n = 5000
	for range b.N {
		b.StopTimer()
		w := newWorld(b)
		w.log.pad(n)
		w.log.cosigned(w.m)
		b.StartTimer()
		if err := w.m.Sync(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
