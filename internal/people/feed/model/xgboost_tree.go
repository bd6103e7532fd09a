package model

import (
	"errors"
	"fmt"
)

// xgbTree are the arrays of one tree, one value a node; leaves are nodes without children.
type xgbTree struct {
	id                    int
	nodes, deleted, width int
	features              int
	left, right, index    []int32
	defaultLeft, types    []int32
	conditions, hessian   []float32
	catNodes, catAt       []int32
	catSizes, cats        []int32
}

// tree reads one tree.
func (x *xgb) tree(i int) (Tree, error) {
	r := &xgbTree{}
	err := x.object(func(key string) (err error) {
		if ints := r.ints(key); ints != nil {
			*ints, err = x.wholes(key)
			return err
		}
		switch key {
		case "id":
			r.id, err = x.whole(key, 0, MaxTrees)
		case "split_conditions":
			r.conditions, err = x.floats(key)
		case "sum_hessian":
			r.hessian, err = x.floats(key)
		case "base_weights", "loss_changes", "parents", "leaf_child_counts":
			return x.skip()
		case "tree_param":
			return x.object(func(key string) error { return x.treeParam(r, key) })
		case "leaf_weights":
			return x.errorf("trees with vectors as leaves are not read")
		default:
			return x.unknown("a tree", key)
		}
		return err
	})
	if err != nil {
		return Tree{}, err
	}
	if r.id != i {
		return Tree{}, x.errorf("tree %d has the id %d", i, r.id)
	}
	t, err := r.build()
	if err != nil {
		return t, x.errorf("tree %d: %s", i, err)
	}
	if x.words += len(t.Sets); x.words > maxWords {
		return t, x.errorf("the model's category sets are larger than %d words", maxWords)
	}
	return t, nil
}

// ints returns where an array of whole numbers goes.
func (r *xgbTree) ints(key string) *[]int32 {
	switch key {
	case "left_children":
		return &r.left
	case "right_children":
		return &r.right
	case "split_indices":
		return &r.index
	case "default_left":
		return &r.defaultLeft
	case "split_type":
		return &r.types
	case "categories":
		return &r.cats
	case "categories_nodes":
		return &r.catNodes
	case "categories_segments":
		return &r.catAt
	case "categories_sizes":
		return &r.catSizes
	}
	return nil
}

func (x *xgb) treeParam(r *xgbTree, key string) (err error) {
	switch key {
	case "num_nodes":
		r.nodes, err = x.whole(key, 1, 2*maxNodes)
	case "num_deleted":
		r.deleted, err = x.whole(key, 0, 2*maxNodes)
	case "num_feature":
		r.features, err = x.whole(key, 0, MaxFeatures)
	case "size_leaf_vector":
		if r.width, err = x.whole(key, 0, MaxOutputs); err == nil && r.width > 1 {
			return x.errorf("trees with vectors as leaves are not read")
		}
	default:
		return x.skip() // num_roots, max_depth of old versions
	}
	return err
}

// build makes the tree: nodes that can be reached, in the order of a walk from the root.
func (r *xgbTree) build() (Tree, error) {
	t := Tree{Weight: 1}
	if r.nodes == 0 {
		return t, errors.New("tree_param has no num_nodes")
	}
	for _, a := range []struct {
		name string
		n    int
	}{{"left_children", len(r.left)}, {"right_children", len(r.right)}, {"split_indices", len(r.index)},
		{"split_conditions", len(r.conditions)}, {"default_left", len(r.defaultLeft)}} {
		if a.n != r.nodes {
			return t, fmt.Errorf("%s has %d values, num_nodes says %d", a.name, a.n, r.nodes)
		}
	}
	if n := len(r.types); n != 0 && n != r.nodes {
		return t, fmt.Errorf("split_type has %d values, num_nodes says %d", n, r.nodes)
	}
	if n := len(r.hessian); n != 0 && n != r.nodes {
		return t, fmt.Errorf("sum_hessian has %d values, num_nodes says %d", n, r.nodes)
	}
	sets, err := r.sets()
	if err != nil {
		return t, err
	}
	place, err := r.number()
	if err != nil {
		return t, err
	}
	for _, at := range place.order {
		if r.left[at] < 0 {
			t.Leaves = append(t.Leaves, float64(r.conditions[at]))
			if len(r.hessian) > 0 {
				t.LeafCover = append(t.LeafCover, float64(r.hessian[at]))
			}
			continue
		}
		n, err := r.node(&t, int(at), place.name, sets)
		if err != nil {
			return t, err
		}
		t.Nodes = append(t.Nodes, n)
		if len(r.hessian) > 0 {
			t.NodeCover = append(t.NodeCover, float64(r.hessian[at]))
		}
	}
	return t, nil
}
