package treetest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// flat numbers a tree's splits and leaves.
type flat struct {
	nodes, leaves []*Node
	id            map[*Node]int // splits ≥ 0, leaves ^number
}

func flatten(root *Node) *flat {
	f := &flat{id: map[*Node]int{}}
	var walk func(n *Node)
	walk = func(n *Node) {
		if n.Left == nil {
			f.id[n] = ^len(f.leaves)
			f.leaves = append(f.leaves, n)
			return
		}
		f.id[n] = len(f.nodes)
		f.nodes = append(f.nodes, n)
		walk(n.Left)
		walk(n.Right)
	}
	walk(root)
	return f
}

func join[T any](list []T, word func(T) string) string {
	words := make([]string, len(list))
	for i, x := range list {
		words[i] = word(x)
	}
	return strings.Join(words, " ")
}

func float(v float64) string { return strconv.FormatFloat(v, 'g', 17, 64) }

// Text writes the model as LightGBM 4 does.
func (e *Ensemble) Text() string {
	var b strings.Builder
	names, infos := make([]string, e.Features), make([]string, e.Features)
	for i := range names {
		names[i], infos[i] = "Column_"+strconv.Itoa(i), "[-5:5]"
		if e.Categorical[i] {
			infos[i] = "-1:3:1:0"
		}
	}
	trees, sizes := make([]string, len(e.Trees)), make([]string, len(e.Trees))
	for i, t := range e.Trees {
		trees[i] = fmt.Sprintf("Tree=%d\n%s\n", i, textTree(t))
		sizes[i] = strconv.Itoa(len(trees[i]))
	}
	fmt.Fprintf(&b, "tree\nversion=v4\nnum_class=%d\nnum_tree_per_iteration=%d\nlabel_index=0\nmax_feature_idx=%d\nobjective=lambdarank\n",
		e.Outputs, e.Outputs, e.Features-1)
	if e.Average {
		b.WriteString("average_output\n")
	}
	fmt.Fprintf(&b, "feature_names=%s\nfeature_infos=%s\ntree_sizes=%s\n\n%send of trees\n\nfeature_importances:\n\nparameters:\n[seed: 3]\nend of parameters\n\npandas_categorical:null\n",
		strings.Join(names, " "), strings.Join(infos, " "), strings.Join(sizes, " "), strings.Join(trees, ""))
	return b.String()
}

func textTree(root *Node) string {
	f := flatten(root)
	var bounds, words []string
	bounds = append(bounds, "0")
	threshold := func(n *Node) string {
		if n.Categories == nil {
			return float(n.Threshold)
		}
		var set [(MostCategories + 31) / 32]uint32
		for _, c := range n.Categories {
			set[c/32] |= 1 << (c % 32)
		}
		for _, w := range set {
			words = append(words, strconv.FormatUint(uint64(w), 10))
		}
		bounds = append(bounds, strconv.Itoa(len(words)))
		return strconv.Itoa(len(bounds) - 2)
	}
	thresholds := join(f.nodes, threshold)
	kind := func(n *Node) string {
		k := n.Missing << 2
		if n.DefaultLeft {
			k |= 2
		}
		if n.Categories != nil {
			k = 1
		}
		return strconv.Itoa(k)
	}
	id := func(n *Node) string { return strconv.Itoa(f.id[n]) }
	count := func(n *Node) string { return strconv.Itoa(n.Cover) }
	var b strings.Builder
	fmt.Fprintf(&b, "num_leaves=%d\nnum_cat=%d\n", len(f.leaves), len(bounds)-1)
	for _, line := range [][2]string{
		{"split_feature", join(f.nodes, func(n *Node) string { return strconv.Itoa(n.Feature) })},
		{"split_gain", join(f.nodes, func(*Node) string { return "1" })},
		{"threshold", thresholds},
		{"decision_type", join(f.nodes, kind)},
		{"left_child", join(f.nodes, func(n *Node) string { return id(n.Left) })},
		{"right_child", join(f.nodes, func(n *Node) string { return id(n.Right) })},
		{"leaf_value", join(f.leaves, func(n *Node) string { return float(n.Value) })},
		{"leaf_weight", join(f.leaves, func(*Node) string { return "1" })},
		{"leaf_count", join(f.leaves, count)},
		{"internal_value", join(f.nodes, func(*Node) string { return "0" })},
		{"internal_weight", join(f.nodes, func(*Node) string { return "1" })},
		{"internal_count", join(f.nodes, count)},
	} {
		fmt.Fprintf(&b, "%s=%s\n", line[0], line[1])
	}
	if len(words) > 0 {
		fmt.Fprintf(&b, "cat_boundaries=%s\ncat_threshold=%s\n", strings.Join(bounds, " "), strings.Join(words, " "))
	}
	b.WriteString("is_linear=0\nshrinkage=0.1\n\n")
	return b.String()
}

// JSON writes the model as XGBoost 2 does.
func (e *Ensemble) JSON() string {
	trees, info := []any{}, []int{}
	for i, t := range e.Trees {
		trees, info = append(trees, e.jsonTree(i, t)), append(info, i%e.Outputs)
	}
	inner := map[string]any{
		"gbtree_model_param": map[string]string{"num_parallel_tree": "1", "num_trees": strconv.Itoa(len(e.Trees))},
		"iteration_indptr":   []int{0, len(e.Trees)}, "tree_info": info, "trees": trees,
	}
	booster := map[string]any{"name": "gbtree", "model": inner}
	if e.Weights != nil {
		booster = map[string]any{"name": "dart", "gbtree": booster, "weight_drop": e.Weights}
	}
	classes := 0
	if e.Outputs > 1 {
		classes = e.Outputs
	}
	out, err := json.Marshal(map[string]any{"version": []int{2, 1, 0}, "learner": map[string]any{
		"attributes": map[string]string{"best_iteration": "7"}, "feature_names": []string{}, "feature_types": []string{},
		"gradient_booster": booster, "objective": map[string]any{"name": e.Objective, "lambdarank_param": map[string]string{}},
		"learner_model_param": map[string]string{"base_score": strconv.FormatFloat(float64(e.Base), 'E', -1, 32), "boost_from_average": "1",
			"num_class": strconv.Itoa(classes), "num_feature": strconv.Itoa(e.Features), "num_target": "1"},
	}})
	if err != nil {
		panic(err) // numbers and strings only
	}
	return string(out)
}

func (e *Ensemble) jsonTree(id int, root *Node) map[string]any {
	var all []*Node
	number := map[*Node]int{}
	for queue := []*Node{root}; len(queue) > 0; queue = queue[1:] {
		n := queue[0]
		number[n] = len(all)
		all = append(all, n)
		if n.Left != nil {
			queue = append(queue, n.Left, n.Right)
		}
	}
	ints := map[string][]int{"left_children": {}, "right_children": {}, "split_indices": {}, "default_left": {}, "split_type": {},
		"categories": {}, "categories_nodes": {}, "categories_segments": {}, "categories_sizes": {}}
	add := func(key string, v ...int) { ints[key] = append(ints[key], v...) }
	conditions, hessian := []float64{}, []float64{}
	for i, n := range all {
		left, right, byDefault, kind, condition := -1, -1, 0, 0, n.Value
		if n.Left != nil {
			left, right, condition = number[n.Left], number[n.Right], n.Threshold
			if n.DefaultLeft {
				byDefault = 1
			}
			if n.Categories != nil {
				kind = 1
				add("categories_nodes", i)
				add("categories_segments", len(ints["categories"]))
				add("categories_sizes", len(n.Categories))
				add("categories", n.Categories...)
			}
		}
		add("left_children", left)
		add("right_children", right)
		add("split_indices", n.Feature)
		add("default_left", byDefault)
		add("split_type", kind)
		conditions, hessian = append(conditions, condition), append(hessian, float64(n.Cover))
	}
	out := map[string]any{"id": id, "split_conditions": conditions, "sum_hessian": hessian, "base_weights": conditions, "loss_changes": hessian,
		"tree_param": map[string]string{"num_deleted": "0", "num_feature": strconv.Itoa(e.Features), "num_nodes": strconv.Itoa(len(all)), "size_leaf_vector": "1"}}
	for k, v := range ints {
		out[k] = v
	}
	return out
}
