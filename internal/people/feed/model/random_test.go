package model

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/treetest"
)

// each calls f for models of every kind.
func each(f func(r *rand.Rand, o treetest.Options)) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 7))
		o := treetest.Options{Features: 1 + r.IntN(8), Trees: 1 + r.IntN(6), Outputs: 1 + r.IntN(3), Depth: r.IntN(7)}
		if seed%20 == 0 {
			o.Depth, o.Trees = 14, 1 // more leaves than a word has bits
		}
		f(r, o)
	}
}

func TestRandomLightGBMModelsAgainstBruteForce(t *testing.T) {
	each(func(r *rand.Rand, o treetest.Options) {
		e := treetest.Random(r, o)
		e.Average = r.IntN(3) == 0
		m, err := Read("random", strings.NewReader(e.Text()))
		if err != nil {
			t.Fatal(err)
		}
		var flat, want []float64
		for range 40 {
			row := e.Row(r)
			got := m.Scores(row, nil)
			for k := range got {
				if w := e.ScoreLightGBM(k, row); math.Abs(got[k]-w) > 1e-12 {
					t.Fatalf("output %d: %v, want %v", k, got[k], w)
				}
			}
			flat, want = append(flat, row...), append(want, got[0])
		}
		out := make([]float64, len(want))
		m.ScoreRows(flat, out)
		for i := range out {
			if out[i] != want[i] {
				t.Fatalf("in a batch row %d scores %v, alone %v", i, out[i], want[i])
			}
		}
	})
}

func TestRandomXGBoostModelsAgainstBruteForce(t *testing.T) {
	each(func(r *rand.Rand, o treetest.Options) {
		o.Float32 = true
		e := treetest.Random(r, o)
		if r.IntN(2) == 0 {
			for range e.Trees {
				e.Weights = append(e.Weights, r.Float32())
			}
		}
		m, err := Read("random", strings.NewReader(e.JSON()))
		if err != nil {
			t.Fatal(err)
		}
		var flat, want []float64
		for range 40 {
			row := e.Row(r)
			got := m.Scores(row, nil)
			for k := range got {
				if w := float64(e.ScoreXGBoost(k, row)); got[k] != w {
					t.Fatalf("output %d: %v, want %v bit by bit", k, got[k], w)
				}
				if exact := m.Exact(k, row); math.Abs(exact-got[k]) > 1e-5*(1+math.Abs(exact)) {
					t.Fatalf("output %d: exact %v, float32 %v", k, exact, got[k])
				}
			}
			flat, want = append(flat, row...), append(want, got[0])
		}
		out := make([]float64, len(want))
		m.ScoreRows(flat, out)
		for i := range out {
			if out[i] != want[i] {
				t.Fatalf("in a batch row %d scores %v, alone %v", i, out[i], want[i])
			}
		}
	})
}
