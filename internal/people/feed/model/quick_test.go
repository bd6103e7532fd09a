package model

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/treetest"
)

// TestAllTreesAtOnceFindTheLeavesThatAWalkFinds compares leaf by leaf, and shows that both ways
// are taken: trees that fit a word, and trees that do not.
func TestAllTreesAtOnceFindTheLeavesThatAWalkFinds(t *testing.T) {
	fit, large := 0, 0
	each(func(r *rand.Rand, o treetest.Options) {
		for _, float32s := range []bool{false, true} {
			o.Float32 = float32s
			e := treetest.Random(r, o)
			text := e.Text()
			if float32s {
				text = e.JSON()
			}
			m, err := Read("random", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			alive := make([]uint64, m.quick.words)
			for range 20 {
				row := e.Row(r)
				m.cut(row, alive)
				for i := range m.trees {
					tree := &m.trees[i]
					if got, want := m.leaf(i, row, alive), tree.Leaves[tree.Leaf(row)]; got != want {
						t.Fatalf("%s, tree %d: %v, a walk finds %v", m.Format, i, got, want)
					}
					if m.quick.base[i] < 0 {
						large++
					} else {
						fit++
					}
				}
			}
		}
	})
	if fit < 1000 || large < 100 {
		t.Errorf("%d trees fit a word, %d do not", fit, large)
	}
}

// TestWideCategoriesFallBackToAWalk: lists of every category would be larger than the model.
func TestWideCategoriesFallBackToAWalk(t *testing.T) {
	e := small()
	e.Trees[0].Right.Categories = []int{1, MaxCategory - 1}
	e.Trees = append(e.Trees, e.Trees[0], e.Trees[0], e.Trees[0])
	m, err := Read("wide", strings.NewReader(e.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	if m.quick != nil {
		t.Error("a million lists were made")
	}
	for category, want := range map[float64]float32{1: 3, 2: 2, MaxCategory - 1: 3} {
		if got := m.Score([]float64{1, category}); got != float64(0.5+4*want+0.25) {
			t.Errorf("category %v scores %v", category, got)
		}
	}
}

// TestValuesBetweenTwoFloat32GoWhereXGBoostSendsThem: XGBoost sees a value as float32.
func TestValuesBetweenTwoFloat32GoWhereXGBoostSendsThem(t *testing.T) {
	const threshold = 0.3
	root := &treetest.Node{Feature: 0, Threshold: float64(float32(threshold)), Left: &treetest.Node{Value: 1, Cover: 1}, Right: &treetest.Node{Value: 2, Cover: 1}, Cover: 2}
	e := &treetest.Ensemble{Features: 1, Categorical: []bool{false}, Outputs: 1, Objective: "rank:ndcg", Trees: []*treetest.Node{root}}
	m, err := Read("edge", strings.NewReader(e.JSON()))
	if err != nil {
		t.Fatal(err)
	}
	at := float32(threshold)
	below := math.Nextafter32(at, 0)
	middle := (float64(at) + float64(below)) / 2
	sides := map[float64]int{}
	for _, v := range []float64{float64(below), float64(below) + 1e-12, middle - 1e-12, middle, middle + 1e-12, float64(at) - 1e-12, float64(at), float64(at) + 1e-12} {
		row := []float64{v}
		want := float64(e.ScoreXGBoost(0, row))
		if got := m.Score(row); got != want || m.Exact(0, row) != want {
			t.Errorf("%v: all trees at once %v, walked %v, XGBoost's rule %v", v, got, m.Exact(0, row), want)
		}
		sides[want]++
	}
	if sides[1] < 3 || sides[2] < 3 {
		t.Errorf("sides taken: %v", sides)
	}
}
