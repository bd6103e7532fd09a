package main

import (
	"fmt"
	"slices"
)

// sample is what one run of one proxy gave.
type sample struct {
	tps      float64
	p50, p99 float64 // milliseconds
	cpu      float64 // microseconds of the proxy a transaction
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// figure prints one comparison: medians of both sides, the median of the pairs' ratios, and
// their range.
func figure(name, unit, peer, format string, ours, theirs []float64) {
	ratios := make([]float64, len(ours))
	for i := range ours {
		ratios[i] = ours[i] / theirs[i]
	}
	fmt.Printf("figure %s "+format+" %s peer %s "+format+" ratio %.2f range %.2f-%.2f\n",
		name, median(ours), unit, peer, median(theirs), median(ratios), slices.Min(ratios), slices.Max(ratios))
}

// figures prints a case.
func figures(name, peer string, ours, theirs []sample) {
	pick := func(list []sample, f func(sample) float64) (v []float64) {
		for _, s := range list {
			v = append(v, f(s))
		}
		return v
	}
	for _, k := range []struct {
		prefix, unit, format string
		f                    func(sample) float64
	}{
		{"cpu_", "us", "%.2f", func(s sample) float64 { return s.cpu }},
		{"tps_", "tps", "%.0f", func(s sample) float64 { return s.tps }},
		{"p50_", "ms", "%.3f", func(s sample) float64 { return s.p50 }},
		{"p99_", "ms", "%.3f", func(s sample) float64 { return s.p99 }},
	} {
		figure(k.prefix+name, k.unit, peer, k.format, pick(ours, k.f), pick(theirs, k.f))
	}
}
