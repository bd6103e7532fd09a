package model

import (
	"errors"
	"fmt"
	"math"
)

// numbering gives the nodes that can be reached their new names.
type numbering struct {
	order []int32 // old numbers, in the order of the walk
	name  []int32 // by old number: ≥ 0 a node, < 0 leaf ^name
}

// number walks from node 0: no node may be reached twice, and those that are not reached must be
// the ones that pruning deleted.
func (r *xgbTree) number() (numbering, error) {
	out := numbering{name: make([]int32, r.nodes)}
	seen := make([]bool, r.nodes)
	type stop struct {
		node  int32
		depth int
	}
	nodes, leaves := int32(0), int32(0)
	for open := []stop{{0, 0}}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if seen[at.node] {
			return out, fmt.Errorf("node %d has two parents or is its own ancestor", at.node)
		}
		seen[at.node] = true
		out.order = append(out.order, at.node)
		left, right := r.left[at.node], r.right[at.node]
		if left == -1 && right == -1 {
			out.name[at.node] = ^leaves
			leaves++
			continue
		}
		if left < 0 || right < 0 || int(left) >= r.nodes || int(right) >= r.nodes {
			return out, fmt.Errorf("node %d has a child that is not there", at.node)
		}
		if at.depth >= MaxDepth {
			return out, fmt.Errorf("node %d is more than %d splits deep", at.node, MaxDepth)
		}
		out.name[at.node] = nodes
		nodes++
		open = append(open, stop{right, at.depth + 1}, stop{left, at.depth + 1})
	}
	if lost := r.nodes - len(out.order); lost != r.deleted {
		return out, fmt.Errorf("%d nodes hang on nothing, num_deleted says %d", lost, r.deleted)
	}
	return out, nil
}

// span is a node's part of the array of categories.
type span struct{ from, to int }

// sets maps categorical nodes to their categories.
func (r *xgbTree) sets() (map[int]span, error) {
	if len(r.catNodes) != len(r.catAt) || len(r.catNodes) != len(r.catSizes) {
		return nil, errors.New("categories_nodes, categories_segments and categories_sizes differ in length")
	}
	out := make(map[int]span, len(r.catNodes))
	for i, node := range r.catNodes {
		from, size := int(r.catAt[i]), int(r.catSizes[i])
		if from < 0 || size < 1 || from+size > len(r.cats) {
			return nil, fmt.Errorf("categories of node %d are not there", node)
		}
		if _, twice := out[int(node)]; twice {
			return nil, fmt.Errorf("node %d has two sets of categories", node)
		}
		out[int(node)] = span{from, from + size}
	}
	return out, nil
}

// node makes one split.
func (r *xgbTree) node(t *Tree, at int, name []int32, sets map[int]span) (Node, error) {
	n := Node{Threshold: float64(r.conditions[at]), Feature: r.index[at], Left: name[r.left[at]], Right: name[r.right[at]],
		Kind: Below, MissingLeft: r.defaultLeft[at] == 1}
	if n.Feature < 0 || n.Feature >= MaxFeatures {
		return n, fmt.Errorf("node %d splits on a feature that is not there", at)
	}
	if d := r.defaultLeft[at]; d != 0 && d != 1 {
		return n, fmt.Errorf("default_left of node %d is neither 0 nor 1", at)
	}
	set, ok := sets[at]
	kind := int32(0)
	if len(r.types) > 0 {
		kind = r.types[at]
	}
	switch {
	case kind == 0 && !ok:
		return n, nil
	case kind != 1 || !ok:
		return n, fmt.Errorf("split_type of node %d does not fit its categories", at)
	}
	n.Kind, n.Set = OutsideLeft, int32(len(t.Sets))
	most := int32(0)
	for _, c := range r.cats[set.from:set.to] {
		if c < 0 || c >= MaxCategory {
			return n, fmt.Errorf("node %d has a category outside 0 to %d", at, MaxCategory-1)
		}
		most = max(most, c)
	}
	n.Words = most/32 + 1
	if len(t.Sets)+int(n.Words) > maxWords || len(t.Sets) > math.MaxInt32-int(n.Words) {
		return n, fmt.Errorf("the tree's category sets are larger than %d words", maxWords)
	}
	t.Sets = append(t.Sets, make([]uint32, n.Words)...)
	for _, c := range r.cats[set.from:set.to] {
		t.Sets[n.Set+c/32] |= 1 << (c % 32)
	}
	return n, nil
}
