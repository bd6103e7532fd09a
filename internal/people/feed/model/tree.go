package model

import (
	"math"
	"math/bits"
)

// zeroBound is how far from zero LightGBM still counts a value as zero (its float 1e-35).
const zeroBound = float64(float32(1e-35))

// Kind says how a node decides.
type Kind uint8

// How nodes decide. A missing value is NaN; Node.MissingLeft says where it goes.
const (
	AtMost      Kind = iota // LightGBM: value ≤ threshold goes left
	AtMostZero              // the same, but zero is a missing value, and missing values are zero
	Below                   // XGBoost: value < threshold, both as float32, goes left
	InSetLeft               // LightGBM: a category in the set goes left, all else (NaN too) right
	OutsideLeft             // XGBoost: a category in the set goes right, all else left
)

// Categorical says whether the node asks for a category.
func (k Kind) Categorical() bool { return k >= InSetLeft }

// Node is one split. A child ≥ 0 is a node, a child < 0 is leaf ^child.
type Node struct {
	Threshold   float64
	Feature     int32
	Left, Right int32
	Set, Words  int32 // first word, and number of words, of the category set in Tree.Sets
	Kind        Kind
	MissingLeft bool
}

// Tree is one tree. Node 0 is its root; without nodes it is its only leaf.
type Tree struct {
	Output    int // the score it adds to
	Nodes     []Node
	Sets      []uint32  // bit sets of categories
	Leaves    []float64 // values, before Weight
	Weight    float64   // factor of the leaves: XGBoost's weight of a dropped tree, else 1
	NodeCover []float64 // training rows (LightGBM) or Hessian (XGBoost) that passed; nil if the file has none
	LeafCover []float64
}

// GoesLeft says where a value goes at a node of the tree.
func (t *Tree) GoesLeft(n *Node, v float64) bool {
	switch n.Kind {
	case AtMost:
		return v <= n.Threshold || (v != v && n.MissingLeft)
	case AtMostZero:
		if v != v || (v >= -zeroBound && v <= zeroBound) {
			return n.MissingLeft
		}
		return v <= n.Threshold
	case Below:
		return float64(float32(v)) < n.Threshold || (v != v && n.MissingLeft)
	case InSetLeft:
		return v == v && v > -1 && v < MaxCategory*32 && t.has(n, uint32(int32(v)))
	default:
		if v != v {
			return n.MissingLeft
		}
		c := float32(v)
		return c < 0 || c >= 1<<24 || !t.has(n, uint32(c))
	}
}

// has says whether a category is in the node's set.
func (t *Tree) has(n *Node, category uint32) bool {
	word := category / 32
	return word < uint32(n.Words) && t.Sets[uint32(n.Set)+word]>>(category%32)&1 == 1
}

// Leaf returns the index of the leaf that a row ends in.
func (t *Tree) Leaf(row []float64) int {
	if len(t.Nodes) == 0 {
		return 0
	}
	i := int32(0)
	for i >= 0 {
		n := &t.Nodes[i]
		v := row[n.Feature]
		left := v <= n.Threshold
		if n.Kind != AtMost || v != v {
			left = t.GoesLeft(n, v)
		}
		if left {
			i = n.Left
		} else {
			i = n.Right
		}
	}
	return int(^i)
}

// categories calls visit for every category in the node's set.
func (t *Tree) categories(n *Node, visit func(int)) {
	for w := range n.Words {
		for word := t.Sets[n.Set+w]; word != 0; word &= word - 1 {
			visit(int(w)*32 + bits.TrailingZeros32(word))
		}
	}
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
