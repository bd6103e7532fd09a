package model

import (
	"errors"
	"strconv"
)

// What may stand in a LightGBM tree.
func treeKeys() []string {
	return []string{"num_leaves", "num_cat", "split_feature", "split_gain", "threshold", "decision_type", "left_child", "right_child",
		"leaf_value", "leaf_weight", "leaf_count", "internal_value", "internal_weight", "internal_count", "cat_boundaries",
		"cat_threshold", "is_linear", "leaf_const", "num_features", "leaf_features", "leaf_coeff", "shrinkage"}
}

// Bits of decision_type: 0 categorical, 1 default left, 2 and 3 the missing type.
const (
	bitCategorical = 1
	bitDefaultLeft = 2
	missingNone    = 0
	missingZero    = 1
	missingNaN     = 2
)

// tree reads one tree's block. Its leaves hold the shrinkage already.
func (l *lines) tree(features int) (Tree, error) {
	t := Tree{Weight: 1}
	b, err := l.block(treeKeys(), "")
	if err != nil {
		return t, err
	}
	leaves, err := l.whole(b, "num_leaves", 1, maxNodes)
	if err != nil {
		return t, err
	}
	cats, err := l.whole(b, "num_cat", 0, maxNodes)
	if err != nil {
		return t, err
	}
	if v := b["is_linear"]; v.text != "" && v.text != "0" {
		return t, l.at(v, "linear trees are not read: their leaves are not constants (train with linear_tree=false)")
	}
	if t.Leaves, err = list(l, b, "leaf_value", leaves, parseFinite); err != nil {
		return t, err
	}
	if leaves == 1 {
		t.LeafCover = []float64{1}
		return t, nil
	}
	if err := l.covers(&t, b, leaves); err != nil {
		return t, err
	}
	return t, l.splits(&t, b, leaves-1, cats, features)
}

// covers reads the counts of training rows. A file without them scores, but cannot be explained.
func (l *lines) covers(t *Tree, b map[string]value, leaves int) error {
	_, nodes := b["internal_count"]
	_, leaf := b["leaf_count"]
	if !nodes || !leaf {
		return nil
	}
	count := func(s string) (float64, error) {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 0 {
			return 0, errors.New("is no count")
		}
		return float64(n), nil
	}
	var err error
	if t.NodeCover, err = list(l, b, "internal_count", leaves-1, count); err != nil {
		return err
	}
	t.LeafCover, err = list(l, b, "leaf_count", leaves, count)
	return err
}

// columns are the arrays of a tree's block, one value a node.
type columns struct {
	feature, kind, left, right []int32
	threshold                  []float64
	bounds                     []int32
}

func (l *lines) columns(b map[string]value, nodes, cats int) (c columns, err error) {
	for _, in := range []struct {
		key string
		out *[]int32
	}{{"split_feature", &c.feature}, {"decision_type", &c.kind}, {"left_child", &c.left}, {"right_child", &c.right}} {
		if *in.out, err = list(l, b, in.key, nodes, parseInt32); err != nil {
			return c, err
		}
	}
	if c.threshold, err = list(l, b, "threshold", nodes, parseFinite); err != nil {
		return c, err
	}
	if cats > 0 {
		c.bounds, err = list(l, b, "cat_boundaries", cats+1, parseInt32)
	}
	return c, err
}

// splits fills in the nodes and checks that they form a tree.
func (l *lines) splits(t *Tree, b map[string]value, nodes, cats, features int) error {
	c, err := l.columns(b, nodes, cats)
	if err != nil {
		return err
	}
	if cats > 0 {
		for i, at := range c.bounds {
			if at < 0 || at > maxWords || (i == 0 && at != 0) || (i > 0 && at < c.bounds[i-1]) {
				return l.at(b["cat_boundaries"], "cat_boundaries: value %d is out of order", i)
			}
		}
		if t.Sets, err = list(l, b, "cat_threshold", int(c.bounds[cats]), parseUint32); err != nil {
			return err
		}
	}
	t.Nodes = make([]Node, nodes)
	for i := range t.Nodes {
		n := &t.Nodes[i]
		*n = Node{Threshold: c.threshold[i], Feature: c.feature[i], Left: c.left[i], Right: c.right[i]}
		if n.Feature < 0 || int(n.Feature) >= features {
			return l.at(b["split_feature"], "split_feature: node %d splits on a feature that is not there", i)
		}
		if message := n.decide(c.kind[i], c.bounds); message != "" {
			return l.at(b["decision_type"], "decision_type: node %d %s", i, message)
		}
	}
	return l.grow(t, b)
}

// decide sets how the node decides from LightGBM's decision_type. It returns what is wrong.
func (n *Node) decide(kind int32, bounds []int32) string {
	missing := kind >> 2
	if kind < 0 || missing > missingNaN {
		return "has a type that is not understood"
	}
	n.MissingLeft = kind&bitDefaultLeft != 0
	switch {
	case kind&bitCategorical != 0:
		at := int(n.Threshold)
		if n.Threshold < 0 || float64(at) != n.Threshold || at >= len(bounds)-1 {
			return "names a category set that is not there"
		}
		n.Kind, n.Set, n.Words, n.MissingLeft = InSetLeft, bounds[at], bounds[at+1]-bounds[at], false
		if n.Words > MaxCategory/32 {
			return "has a category set that is too large"
		}
	case missing == missingZero:
		n.Kind = AtMostZero
	case missing == missingNone:
		n.MissingLeft = 0 <= n.Threshold // a missing value counts as zero
	}
	return ""
}

// grow checks that the nodes form a tree.
func (l *lines) grow(t *Tree, b map[string]value) error {
	_, err := shape{len(t.Nodes), len(t.Leaves), func(i int32, right bool) int32 {
		if right {
			return t.Nodes[i].Right
		}
		return t.Nodes[i].Left
	}}.check()
	if err != nil {
		return l.at(b["left_child"], "left_child, right_child: %s", err)
	}
	return nil
}
