package model

import (
	"math"
	"math/bits"
	"slices"
)

// quick finds the leaves of a row in all small trees at once (after QuickScorer, Lucchese et al.
// 2015). A tree of at most 64 leaves, numbered from the left, has a word with a bit a leaf. Every
// split where the row goes right clears the bits of the leaves on its left; the lowest bit that
// stands is the leaf. Which splits go right is found feature by feature: numeric splits stand
// sorted by threshold, categorical ones in a list a category. No branch depends on the tree.
//
// The decisions are GoesLeft's; the random models of the tests compare both.
type quick struct {
	runs   []run
	base   []int32   // by tree: where its leaves begin among values; -1: too large, walk it
	word   []int32   // by tree: its word
	values []float64 // leaves from the left
	words  int
}

// maxQuickLeaves is how many leaves fit a word; maxCuts bounds the lists of all categories, and
// maxAsked how many decisions are taken to make them.
const (
	maxQuickLeaves = 64
	maxCuts        = 1 << 21
	maxAsked       = 1 << 24
)

// room is what is left of both bounds.
type room struct{ cuts, asked int }

// cut is a split where the row goes right.
type cut struct {
	keep uint64 // the leaves that stay
	word int32
}

// run is all splits of one kind on one feature.
type run struct {
	feature    int32
	kind       Kind
	thresholds []float64 // ascending: right where threshold < value
	cuts       []cut     // of each threshold
	missing    []cut     // where a missing value goes right
	category   [][]cut   // by category; the last is every other
}

// newQuick prepares the trees, or returns nil where lists would be too large.
func newQuick(m *Model) *quick {
	q := &quick{}
	type key struct {
		feature int32
		kind    Kind
	}
	runs := map[key]*collected{}
	var order []key
	for i := range m.trees {
		t := &m.trees[i]
		if len(t.Leaves) > maxQuickLeaves {
			q.base, q.word = append(q.base, -1), append(q.word, -1)
			continue
		}
		word := int32(q.words)
		q.base, q.word = append(q.base, int32(len(q.values))), append(q.word, word)
		q.words++
		q.number(t, func(n *Node, left uint64) {
			k := key{n.Feature, n.Kind}
			if runs[k] == nil {
				runs[k] = &collected{}
				order = append(order, k)
			}
			runs[k].splits = append(runs[k].splits, placed{t, n, cut{^left, word}})
		})
	}
	left := &room{maxCuts, maxAsked}
	for _, k := range order {
		r := runs[k].run(k.feature, k.kind, left)
		if left.cuts < 0 || left.asked < 0 {
			return nil
		}
		q.runs = append(q.runs, r)
	}
	return q
}

// number appends the tree's leaves from the left, and calls visit with every split and the bits
// of the leaves on its left.
func (q *quick) number(t *Tree, visit func(n *Node, left uint64)) {
	if len(t.Nodes) == 0 {
		q.values = append(q.values, t.Leaves[0])
		return
	}
	next := 0
	var walk func(node int32) uint64
	walk = func(node int32) uint64 {
		if node < 0 {
			q.values = append(q.values, t.Leaves[^node])
			next++
			return 1 << (next - 1)
		}
		n := &t.Nodes[node]
		left := walk(n.Left)
		visit(n, left)
		return left | walk(n.Right)
	}
	walk(0)
}

// placed is a split, its tree, and what it cuts.
type placed struct {
	tree *Tree
	node *Node
	cut  cut
}

// collected is what becomes a run.
type collected struct{ splits []placed }

func (c *collected) run(feature int32, kind Kind, left *room) run {
	r := run{feature: feature, kind: kind}
	for _, s := range c.splits {
		if !s.tree.GoesLeft(s.node, math.NaN()) {
			r.missing = append(r.missing, s.cut)
		}
	}
	if kind.Categorical() {
		c.byCategory(&r, left)
		return r
	}
	slices.SortStableFunc(c.splits, func(a, b placed) int {
		switch {
		case a.node.Threshold < b.node.Threshold:
			return -1
		case a.node.Threshold > b.node.Threshold:
			return 1
		}
		return 0
	})
	for _, s := range c.splits {
		threshold := s.node.Threshold
		if kind == Below { // value ≥ threshold goes right: the float32 before it is below every such value
			threshold = float64(math.Nextafter32(float32(threshold), float32(math.Inf(-1))))
		}
		r.thresholds, r.cuts = append(r.thresholds, threshold), append(r.cuts, s.cut)
	}
	return r
}

// byCategory lists the cuts of every category below the largest that a set names, and of the
// rest. It stops where left has no room.
func (c *collected) byCategory(r *run, left *room) {
	most := int32(0)
	for _, s := range c.splits {
		most = max(most, s.node.Words*32)
	}
	for category := range most + 1 {
		var cuts []cut
		for _, s := range c.splits {
			if !s.tree.GoesLeft(s.node, float64(category)) {
				cuts = append(cuts, s.cut)
			}
		}
		left.cuts -= len(cuts) + 2 // a list takes as much as two of its entries
		if left.asked -= len(c.splits); left.cuts < 0 || left.asked < 0 {
			return
		}
		r.category = append(r.category, cuts)
	}
}

// cutAll clears in alive (one word a tree) every leaf that the row cannot reach.
func (q *quick) cutAll(row []float64, alive []uint64) {
	for i := range alive {
		alive[i] = ^uint64(0)
	}
	for i := range q.runs {
		r := &q.runs[i]
		v := row[r.feature]
		cuts := r.missing
		switch {
		case v != v:
		case r.kind == InSetLeft, r.kind == OutsideLeft:
			cuts = r.category[r.index(v)]
		case r.kind == AtMostZero && v >= -zeroBound && v <= zeroBound:
		default:
			if r.kind == Below {
				v = float64(float32(v))
			}
			cuts = r.cuts[:below(r.thresholds, v)]
		}
		for j := range cuts {
			alive[cuts[j].word] &= cuts[j].keep
		}
	}
}

// below counts the thresholds below a value, by halving.
func below(thresholds []float64, v float64) int {
	from, n := 0, len(thresholds)
	for n > 0 {
		half := (n + 1) / 2
		step := 0
		if thresholds[from+half-1] < v {
			step = half
		}
		from += step
		n -= half
	}
	return from
}

// index is a value's place among the lists of categories.
func (r *run) index(v float64) int {
	rest := len(r.category) - 1
	if r.kind == OutsideLeft {
		v = float64(float32(v))
		if v < 0 {
			return rest
		}
	}
	if !(v > -1 && v < float64(rest)) {
		return rest
	}
	return int(v)
}

// leaf is the value of the leaf that a row ends in.
func (m *Model) leaf(tree int, row []float64, alive []uint64) float64 {
	q := m.quick
	if q == nil || q.base[tree] < 0 {
		t := &m.trees[tree]
		return t.Leaves[t.Leaf(row)]
	}
	return q.values[int(q.base[tree])+bits.TrailingZeros64(alive[q.word[tree]])]
}
