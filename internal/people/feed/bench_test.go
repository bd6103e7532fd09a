package feed_test

import "testing"

// The whole way of a request of 500 items but HTTP and JSON.
func BenchmarkRank(b *testing.B) {
	w, q := start(b), ask("anna", 500, 1)
	for b.Loop() {
		if _, err := w.Rank(b.Context(), q); err != nil {
			b.Fatal(err)
		}
	}
}
