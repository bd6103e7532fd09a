// Package treetest makes random tree models for tests: it writes them in both formats and answers
// for them by walking its own trees, so that readers and explainers have something to be equal to.
//
// The invariant it keeps: nothing here is shared with what it tests. It is for tests only.
package treetest

import (
	"math"
	"math/rand/v2"
)

// Node is a split, or a leaf where Left is nil.
type Node struct {
	Feature     int
	Threshold   float64
	Categories  []int // of the set, where the split is categorical
	Missing     int   // LightGBM's missing type: 0 none, 1 zero, 2 NaN
	DefaultLeft bool
	Left, Right *Node
	Value       float64
	Cover       int
}

// Ensemble is a model.
type Ensemble struct {
	Features    int
	Categorical []bool
	Outputs     int
	Average     bool      // LightGBM only
	Weights     []float32 // XGBoost's dart; nil: gbtree
	Base        float32   // XGBoost's base score
	Objective   string
	Trees       []*Node // tree i adds to output i mod Outputs
}

// Options of Random.
type Options struct {
	Features, Trees, Outputs int
	Depth                    int // the most splits on a path
	Float32                  bool
}

// MostCategories is above every category that a split names.
const MostCategories = 40

// Random makes a model. With Float32 every number fits XGBoost's precision.
func Random(r *rand.Rand, o Options) *Ensemble {
	e := &Ensemble{Features: o.Features, Outputs: max(1, o.Outputs), Objective: "rank:ndcg", Base: float32(r.NormFloat64())}
	for range o.Features {
		e.Categorical = append(e.Categorical, r.IntN(3) == 0)
	}
	for range max(1, o.Trees) * e.Outputs {
		e.Trees = append(e.Trees, e.grow(r, o, o.Depth))
	}
	return e
}

func (e *Ensemble) grow(r *rand.Rand, o Options, depth int) *Node {
	if depth == 0 || r.IntN(5) == 0 {
		return &Node{Value: number(r, o), Cover: 1 + r.IntN(50)}
	}
	n := &Node{Feature: r.IntN(e.Features), DefaultLeft: r.IntN(2) == 0}
	if e.Categorical[n.Feature] {
		n.Categories = append(n.Categories, r.Perm(MostCategories)[:1+r.IntN(MostCategories-1)]...)
	} else {
		n.Threshold, n.Missing = number(r, o), r.IntN(3)
	}
	n.Left, n.Right = e.grow(r, o, depth-1), e.grow(r, o, depth-1)
	n.Cover = n.Left.Cover + n.Right.Cover
	return n
}

// number is often one that rows hold too, and often a zero.
func number(r *rand.Rand, o Options) float64 {
	v := r.NormFloat64()
	switch r.IntN(8) {
	case 0:
		v = 0
	case 1:
		v = float64(r.IntN(5) - 2)
	case 2:
		v = 1e-36
	}
	if o.Float32 {
		v = float64(float32(v))
	}
	return v
}

// Row makes a row: numbers, zeros, categories known and unknown, missing values.
func (e *Ensemble) Row(r *rand.Rand) []float64 {
	row := make([]float64, e.Features)
	for i := range row {
		switch {
		case r.IntN(6) == 0:
			row[i] = math.NaN()
		case e.Categorical[i]:
			row[i] = float64(r.IntN(MostCategories+4) - 2)
			if r.IntN(10) == 0 {
				row[i] = []float64{1e9, -0.5, 3.7, 1 << 24, -1e12, 1e300}[r.IntN(6)]
			}
		default:
			row[i] = number(r, Options{})
		}
	}
	return row
}

// LightGBM says where LightGBM sends a row: its tree.h, NumericalDecision and CategoricalDecision.
func (n *Node) LightGBM(row []float64) *Node {
	if n.Left == nil {
		return n
	}
	v, left := row[n.Feature], false
	switch {
	case n.Categories != nil:
		left = !math.IsNaN(v) && math.Abs(v) < 1e6 && holds(n.Categories, int(v))
	default:
		if math.IsNaN(v) && n.Missing != 2 {
			v = 0
		}
		if n.Missing == 1 && math.Abs(v) <= float64(float32(1e-35)) || n.Missing == 2 && math.IsNaN(v) {
			left = n.DefaultLeft
		} else {
			left = v <= n.Threshold
		}
	}
	if left {
		return n.Left.LightGBM(row)
	}
	return n.Right.LightGBM(row)
}

// XGBoost says where XGBoost sends a row: its predict_fn.h and categorical.h.
func (n *Node) XGBoost(row []float64) *Node {
	if n.Left == nil {
		return n
	}
	v, left := float32(row[n.Feature]), false
	switch {
	case v != v:
		left = n.DefaultLeft
	case n.Categories != nil:
		left = v < 0 || v >= 1<<24 || !holds(n.Categories, int(v))
	default:
		left = v < float32(n.Threshold)
	}
	if left {
		return n.Left.XGBoost(row)
	}
	return n.Right.XGBoost(row)
}

func holds(list []int, c int) bool {
	for _, x := range list {
		if x == c {
			return true
		}
	}
	return false
}

// ScoreLightGBM adds as LightGBM does.
func (e *Ensemble) ScoreLightGBM(output int, row []float64) float64 {
	sum, n := 0.0, 0
	for i := output; i < len(e.Trees); i += e.Outputs {
		sum += e.Trees[i].LightGBM(row).Value
		n++
	}
	if e.Average {
		sum /= float64(n)
	}
	return sum
}

// ScoreXGBoost adds as XGBoost does, in float32.
func (e *Ensemble) ScoreXGBoost(output int, row []float64) float32 {
	sum := e.Base
	for i := output; i < len(e.Trees); i += e.Outputs {
		leaf := float32(e.Trees[i].XGBoost(row).Value)
		if e.Weights != nil {
			product := leaf * e.Weights[i]
			leaf = product
		}
		sum += leaf
	}
	return sum
}
