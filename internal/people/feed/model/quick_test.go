package model

import (
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
