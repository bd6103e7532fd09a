package explain

import (
	"math"
	"math/bits"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
	"github.com/trefoil-eu/trefoil/internal/testkit/treetest"
)

// game is the value of every coalition, by its bits.
type game []float64

// shapley sums over all subsets, by the definition.
func (g game) shapley(i, n int) float64 {
	sum := 0.0
	for set := range uint(1) << n {
		if set>>i&1 == 0 {
			s := bits.OnesCount(set)
			sum += factorial(s) * factorial(n-s-1) / factorial(n) * (g[set|1<<i] - g[set])
		}
	}
	return sum
}

// interaction is the SHAP interaction value of a pair, by the definition.
func (g game) interaction(i, j, n int) float64 {
	sum := 0.0
	for set := range uint(1) << n {
		if set>>i&1 == 0 && set>>j&1 == 0 {
			s := bits.OnesCount(set)
			sum += factorial(s) * factorial(n-s-2) / (2 * factorial(n-1)) * (g[set|1<<i|1<<j] - g[set|1<<i] - g[set|1<<j] + g[set])
		}
	}
	return sum
}

func factorial(n int) float64 {
	f := 1.0
	for ; n > 1; n-- {
		f *= float64(n)
	}
	return f
}

// covered is the path-dependent game of one tree: a split whose feature is unknown is a mean.
func covered(n *treetest.Node, known uint, row []float64, step func(*treetest.Node, []float64) *treetest.Node) float64 {
	if n.Left == nil {
		return n.Value
	}
	if known>>n.Feature&1 == 1 {
		one := &treetest.Node{Feature: n.Feature, Threshold: n.Threshold, Categories: n.Categories, Missing: n.Missing,
			DefaultLeft: n.DefaultLeft, Left: &treetest.Node{Value: 1}, Right: &treetest.Node{}}
		if step(one, row).Value == 1 {
			return covered(n.Left, known, row, step)
		}
		return covered(n.Right, known, row, step)
	}
	l, r := float64(n.Left.Cover), float64(n.Right.Cover)
	return (l*covered(n.Left, known, row, step) + r*covered(n.Right, known, row, step)) / (l + r)
}

// sample is a random model, read from one format, and its oracle.
type sample struct {
	e    *treetest.Ensemble
	m    *model.Model
	step func(*treetest.Node, []float64) *treetest.Node
}

// samples makes 200 models: numeric, categorical, missing values, deep, one leaf; both formats.
func samples(t *testing.T, f func(seed uint64, r *rand.Rand, s *sample)) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 11))
		o := treetest.Options{Features: 1 + r.IntN(7), Trees: 1 + r.IntN(4), Outputs: 1 + r.IntN(2), Depth: r.IntN(6), Float32: seed%2 == 1}
		if seed%25 == 0 {
			o.Depth, o.Trees = 12, 1
		}
		s := &sample{e: treetest.Random(r, o)}
		text := ""
		if o.Float32 {
			for range s.e.Trees {
				s.e.Weights = append(s.e.Weights, r.Float32())
			}
			text, s.step = s.e.JSON(), (*treetest.Node).XGBoost
		} else {
			s.e.Average = r.IntN(3) == 0
			text, s.step = s.e.Text(), (*treetest.Node).LightGBM
		}
		var err error
		if s.m, err = model.Read("random", strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		f(seed, r, s)
	}
}

// weight is what a tree's values are multiplied by.
func (s *sample) weight(tree int) float64 {
	switch {
	case s.e.Weights != nil:
		return float64(s.e.Weights[tree])
	case s.e.Average:
		return float64(s.e.Outputs) / float64(len(s.e.Trees))
	}
	return 1
}

func (s *sample) base() float64 {
	if s.m.Format == model.XGBoost {
		return float64(s.e.Base)
	}
	return 0
}

// value is the output's game: of says what a tree is worth to a coalition.
func (s *sample) value(output int, of func(tree *treetest.Node, known uint) float64) game {
	g := make(game, 1<<s.e.Features)
	for known := range g {
		g[known] = s.base()
		for i := output; i < len(s.e.Trees); i += s.e.Outputs {
			g[known] += s.weight(i) * of(s.e.Trees[i], uint(known))
		}
	}
	return g
}

func near(t *testing.T, seed uint64, what string, got, want float64) {
	t.Helper()
	if !(math.Abs(got-want) <= 1e-9*(1+math.Abs(want))) {
		t.Fatalf("seed %d: %s is %.17g, by all subsets %.17g", seed, what, got, want)
	}
}

func TestContributionsAndInteractionsAgainstAllSubsets(t *testing.T) {
	moved := 0
	samples(t, func(seed uint64, r *rand.Rand, s *sample) {
		n := s.e.Features
		for output := range s.e.Outputs {
			e, err := New(s.m, output)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				row := s.e.Row(r)
				g := s.value(output, func(tree *treetest.Node, known uint) float64 { return covered(tree, known, row, s.step) })
				phi, pairs := make([]float64, n), make([]float64, n*n)
				score := e.Contributions(row, phi)
				e.Interactions(row, pairs)
				near(t, seed, "expected", e.Expected(), g[0])
				near(t, seed, "the sum", score, g[len(g)-1])
				near(t, seed, "the score", s.m.Exact(output, row), g[len(g)-1])
				for i := range n {
					near(t, seed, "a contribution", phi[i], g.shapley(i, n))
					sum := 0.0
					for j := range n {
						sum += pairs[i*n+j]
						if i != j {
							near(t, seed, "an interaction", pairs[i*n+j], g.interaction(i, j, n))
							if math.Abs(pairs[i*n+j]) > 1e-6 {
								moved++
							}
						}
					}
					near(t, seed, "a row of interactions", sum, phi[i])
				}
			}
		}
	})
	if moved < 1000 {
		t.Errorf("only %d interactions are not zero", moved)
	}
}

func TestInterventionalContributionsAgainstAllSubsets(t *testing.T) {
	samples(t, func(seed uint64, r *rand.Rand, s *sample) {
		n := s.e.Features
		background := [][]float64{s.e.Row(r), s.e.Row(r), s.e.Row(r)}
		for output := range s.e.Outputs {
			e, err := NewInterventional(s.m, output, background)
			if err != nil {
				t.Fatal(err)
			}
			row := s.e.Row(r)
			g := s.value(output, func(tree *treetest.Node, known uint) float64 {
				sum := 0.0
				for _, other := range background {
					mixed := append([]float64(nil), other...)
					for i := range n {
						if known>>i&1 == 1 {
							mixed[i] = row[i]
						}
					}
					sum += s.step(tree, mixed).Value
				}
				return sum / float64(len(background))
			})
			phi := make([]float64, n)
			near(t, seed, "the sum", e.Contributions(row, phi), g[len(g)-1])
			near(t, seed, "expected", e.Expected(), g[0])
			for i := range n {
				near(t, seed, "a contribution", phi[i], g.shapley(i, n))
			}
		}
	})
}

// TestDeepPathsStayExact: quadrature must not lose digits where a path has many features.
func TestDeepPathsStayExact(t *testing.T) {
	const n = 120
	root := &treetest.Node{Value: 3, Cover: 1}
	for i := range n {
		other := &treetest.Node{Value: float64(i % 7), Cover: 1 + i%5}
		root = &treetest.Node{Feature: i, Threshold: 0.5, Left: root, Right: other, Cover: root.Cover + other.Cover}
	}
	e := &treetest.Ensemble{Features: n, Categorical: make([]bool, n), Outputs: 1, Trees: []*treetest.Node{root}}
	m, err := model.Read("deep", strings.NewReader(e.Text()))
	if err != nil {
		t.Fatal(err)
	}
	x, err := New(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	row, phi := make([]float64, n), make([]float64, n)
	near(t, 0, "the sum", x.Contributions(row, phi), 3)
	row[3] = 1
	near(t, 0, "the sum", x.Contributions(row, phi), m.Score(row))
}

func TestModelsWithoutCoversAreRefusedByNew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	e := treetest.Random(r, treetest.Options{Features: 2, Trees: 1, Depth: 3})
	for e.Trees[0].Left == nil {
		e = treetest.Random(r, treetest.Options{Features: 2, Trees: 1, Depth: 3})
	}
	text := strings.Replace(e.Text(), "tree_sizes=", "monotone_constraints=", 1)
	lines := strings.Split(text, "\n")
	kept := lines[:0]
	for _, line := range lines {
		if !strings.HasPrefix(line, "internal_count=") {
			kept = append(kept, line)
		}
	}
	m, err := model.Read("bare", strings.NewReader(strings.Join(kept, "\n")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(m, 0); err == nil || !strings.Contains(err.Error(), "background sample") {
		t.Errorf("got %v", err)
	}
	if _, err := NewInterventional(m, 0, [][]float64{{0, 0}}); err != nil {
		t.Error(err)
	}
	if _, err := New(m, 1); err == nil {
		t.Error("an output that is not there was explained")
	}
}
