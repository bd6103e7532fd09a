package model

import (
	"fmt"
	"math/bits"
)

// finish fills in what follows from the trees: which features are categories, and which
// categories the model knows.
func (m *Model) finish(name string) error {
	if m.divisor == 0 {
		m.divisor = 1
	}
	seen := map[string]int{}
	for i, f := range m.Features {
		if first, twice := seen[f.Name]; twice {
			return &Error{File: name, Message: fmt.Sprintf("features %d and %d have one name, %q", first, i, clip(f.Name))}
		}
		seen[f.Name] = i
	}
	numeric := make([]bool, len(m.Features))
	known := make([]known, len(m.Features))
	for ti := range m.trees {
		t := &m.trees[ti]
		for i := range t.Nodes {
			n := &t.Nodes[i]
			if n.Kind.Categorical() {
				m.Features[n.Feature].Categorical = true
				t.categories(n, known[n.Feature].add)
			} else {
				numeric[n.Feature] = true
			}
		}
	}
	return m.settle(name, numeric, known)
}

// known is a set of categories, as bits.
type known []uint64

func (k *known) add(category int) {
	for len(*k) <= category/64 {
		*k = append(*k, 0)
	}
	(*k)[category/64] |= 1 << (category % 64)
}

func (k known) list() []int {
	out := []int{}
	for w, word := range k {
		for ; word != 0; word &= word - 1 {
			out = append(out, w*64+bits.TrailingZeros64(word))
		}
	}
	return out
}

// settle lists each feature's categories, and refuses a feature that is a number in one split and
// a category in another.
func (m *Model) settle(name string, numeric []bool, known []known) error {
	total := 0
	for i := range m.Features {
		f := &m.Features[i]
		if f.Categorical && numeric[i] {
			return &Error{File: name, Message: fmt.Sprintf("feature %q is split as a number and as a category", clip(f.Name))}
		}
		if !f.Categorical {
			continue
		}
		for _, c := range f.Categories {
			known[i].add(c)
		}
		f.Categories = known[i].list()
		if total += len(f.Categories); total > maxKnown {
			return &Error{File: name, Message: fmt.Sprintf("the model knows more than %d categories", maxKnown)}
		}
	}
	return nil
}

// shape is a tree's form as a file gives it, before it is known to be a tree.
type shape struct {
	nodes  int
	leaves int
	child  func(node int32, right bool) int32 // as Node.Left: < 0 is leaf ^child
}

// check walks from node 0: every node and leaf must be reached exactly once, at most MaxDepth
// splits below the root. It returns the nodes in the order of the walk, parents first.
func (s shape) check() ([]int32, error) {
	type stop struct {
		node  int32
		depth int
	}
	seenNode, seenLeaf := make([]bool, s.nodes), make([]bool, s.leaves)
	order := make([]int32, 0, s.nodes)
	leaves := 0
	for open := []stop{{0, 1}}; len(open) > 0; {
		at := open[len(open)-1]
		open = open[:len(open)-1]
		if seenNode[at.node] {
			return nil, fmt.Errorf("node %d has two parents or is its own ancestor", at.node)
		}
		seenNode[at.node] = true
		order = append(order, at.node)
		if at.depth > MaxDepth {
			return nil, fmt.Errorf("node %d is more than %d splits deep", at.node, MaxDepth)
		}
		for _, right := range [2]bool{true, false} {
			c := s.child(at.node, right)
			switch {
			case c >= 0 && int(c) >= s.nodes, c < 0 && int(^c) >= s.leaves:
				return nil, fmt.Errorf("node %d has a child that is not there", at.node)
			case c >= 0:
				open = append(open, stop{c, at.depth + 1})
			case seenLeaf[^c]:
				return nil, fmt.Errorf("leaf %d has two parents", ^c)
			default:
				seenLeaf[^c] = true
				leaves++
			}
		}
	}
	if len(order) != s.nodes || leaves != s.leaves {
		return nil, fmt.Errorf("%d nodes and %d leaves hang on nothing", s.nodes-len(order), s.leaves-leaves)
	}
	return order, nil
}

// clip bounds what a message repeats of a file.
func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
