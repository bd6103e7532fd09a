package model

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/treetest"
)

// holds checks what must be true of whatever is read.
func holds(t *testing.T, text string) {
	m, err := Read("fuzz", strings.NewReader(text))
	if err != nil {
		if len(err.Error()) > 1000 {
			t.Fatalf("the error has %d bytes", len(err.Error()))
		}
		return
	}
	r := rand.New(rand.NewPCG(1, 2))
	row := make([]float64, len(m.Features))
	for range 4 {
		for i := range row {
			if row[i] = r.NormFloat64() * 10; r.IntN(3) == 0 {
				row[i] = math.NaN()
			}
		}
		scores := m.Scores(row, nil)
		if len(scores) != m.Outputs {
			t.Fatalf("%d scores of %d outputs", len(scores), m.Outputs)
		}
		if m.Format == LightGBM && m.Exact(0, row) != scores[0] && !math.IsNaN(scores[0]) {
			t.Fatalf("all trees at once %v, walked %v", scores[0], m.Exact(0, row))
		}
		out := make([]float64, 1)
		m.ScoreRows(row, out)
		if out[0] != scores[0] && !math.IsNaN(scores[0]) {
			t.Fatalf("alone %v, in a batch %v", scores[0], out[0])
		}
	}
}

func FuzzLightGBM(f *testing.F) {
	f.Add(small().Text())
	f.Add(unsized(small().Text()))
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		e := treetest.Random(r, treetest.Options{Features: 3, Trees: 2, Outputs: 1 + r.IntN(2), Depth: 4})
		e.Average = seed%2 == 0
		f.Add(unsized(e.Text()))
	}
	f.Fuzz(func(t *testing.T, text string) { holds(t, "tree"+strings.TrimPrefix(text, "tree")) })
}

func FuzzXGBoost(f *testing.F) {
	f.Add(small().JSON())
	for seed := range uint64(8) {
		r := rand.New(rand.NewPCG(seed, 3))
		e := treetest.Random(r, treetest.Options{Features: 3, Trees: 2, Outputs: 1 + r.IntN(2), Depth: 4, Float32: true})
		if seed%2 == 0 {
			e.Weights = make([]float32, len(e.Trees))
		}
		f.Add(e.JSON())
	}
	f.Fuzz(func(t *testing.T, text string) { holds(t, "{"+strings.TrimPrefix(text, "{")) })
}

func FuzzRows(f *testing.F) {
	m, err := Read("m", strings.NewReader(small().Text()))
	if err != nil {
		f.Fatal(err)
	}
	f.Add("y\tColumn_1\tColumn_0\n1\t33\tnan\n", 0)
	f.Add("Column_0,Column_1\n0.5,NA\r\n", -1)
	f.Fuzz(func(t *testing.T, text string, label int) {
		rows, err := NewRows("rows", strings.NewReader(text), m, label)
		for err == nil {
			var row []float64
			if row, err = rows.Next(); err == nil && m.CheckRow(row) != nil {
				t.Fatal("a row was read that cannot be scored")
			}
		}
	})
}
