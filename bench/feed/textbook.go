package main

import "github.com/trefoil-eu/trefoil/internal/people/feed/model"

// textbook is path-dependent TreeSHAP in the form of Lundberg et al. 2018, algorithm 2: it
// extends and unwinds a path of (feature, zero fraction, one fraction, weight) down every tree.
type textbook struct {
	m     *model.Model
	paths []element
}

// element is one feature of a path.
type element struct {
	feature           int32
	zero, one, weight float64
}

// newTextbook makes room for the paths of the deepest tree.
func newTextbook(m *model.Model) *textbook {
	deepest := 0
	for i := range m.Trees() {
		if t := &m.Trees()[i]; len(t.Nodes) > 0 {
			deepest = max(deepest, depth(t, 0))
		}
	}
	return &textbook{m, make([]element, (deepest+2)*(deepest+3))}
}

func depth(t *model.Tree, node int32) int {
	if node < 0 {
		return 0
	}
	return 1 + max(depth(t, t.Nodes[node].Left), depth(t, t.Nodes[node].Right))
}

func (b *textbook) contributions(row, phi []float64) {
	clear(phi)
	for i := range b.m.Trees() {
		if t := &b.m.Trees()[i]; len(t.Nodes) > 0 {
			walk{t, row, phi}.down(0, b.paths, 0, 1, 1, -1)
		}
	}
}

// walk is one tree and one row.
type walk struct {
	t        *model.Tree
	row, phi []float64
}

func (w walk) down(node int32, parent []element, n int, zero, one float64, feature int32) {
	path := parent[n:]
	copy(path, parent[:n])
	extend(path, n, zero, one, feature)
	if node < 0 {
		for i := 1; i <= n; i++ {
			e := path[i]
			w.phi[e.feature] += unwound(path, n, i) * (e.one - e.zero) * w.t.Leaves[^node]
		}
		return
	}
	split := &w.t.Nodes[node]
	hot, cold := split.Right, split.Left
	if w.t.GoesLeft(split, w.row[split.Feature]) {
		hot, cold = cold, hot
	}
	inZero, inOne := 1.0, 1.0
	for i := 1; i <= n; i++ {
		if path[i].feature == split.Feature {
			inZero, inOne = path[i].zero, path[i].one
			unwind(path, n, i)
			n--
			break
		}
	}
	whole := w.t.NodeCover[node]
	w.down(hot, path, n+1, inZero*w.cover(hot)/whole, inOne, split.Feature)
	w.down(cold, path, n+1, inZero*w.cover(cold)/whole, 0, split.Feature)
}

func (w walk) cover(node int32) float64 {
	if node < 0 {
		return w.t.LeafCover[^node]
	}
	return w.t.NodeCover[node]
}

func extend(path []element, n int, zero, one float64, feature int32) {
	path[n] = element{feature, zero, one, 0}
	if n == 0 {
		path[n].weight = 1
	}
	for i := n - 1; i >= 0; i-- {
		path[i+1].weight += one * path[i].weight * float64(i+1) / float64(n+1)
		path[i].weight *= zero * float64(n-i) / float64(n+1)
	}
}

func unwind(path []element, n, at int) {
	one, zero, next := path[at].one, path[at].zero, path[n].weight
	for i := n - 1; i >= 0; i-- {
		if one != 0 {
			was := path[i].weight
			path[i].weight = next * float64(n+1) / (float64(i+1) * one)
			next = was - path[i].weight*zero*float64(n-i)/float64(n+1)
		} else {
			path[i].weight = path[i].weight * float64(n+1) / (zero * float64(n-i))
		}
	}
	for i := at; i < n; i++ {
		path[i].feature, path[i].zero, path[i].one = path[i+1].feature, path[i+1].zero, path[i+1].one
	}
}

func unwound(path []element, n, at int) float64 {
	one, zero, next, total := path[at].one, path[at].zero, path[n].weight, 0.0
	for i := n - 1; i >= 0; i-- {
		if one != 0 {
			part := next * float64(n+1) / (float64(i+1) * one)
			total += part
			next = path[i].weight - part*zero*float64(n-i)/float64(n+1)
		} else {
			total += path[i].weight / (zero * float64(n-i) / float64(n+1))
		}
	}
	return total
}
