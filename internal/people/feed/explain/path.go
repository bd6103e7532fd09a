package explain

import (
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// plan is one tree as paths from its root to its leaves. Its places are the tree's nodes and
// leaves, each before its children and the left child right after its parent; place 0 is the root.
type plan struct {
	tree    *model.Tree
	places  []place
	points  int // of the quadrature that is exact on every path
	nodes   []float64
	weights []float64
}

// place is a node or a leaf, and the edge that leads to it.
type place struct {
	node    int32 // in the tree; < 0 is leaf ^node
	right   int32 // place of the right child; the left one is the next place
	parent  int32
	above   int32   // the nearest place above whose edge has the same feature, or -1
	feature int32   // of the edge
	left    bool    // the edge is the left one
	share   float64 // of the parent's cover that goes here
	z       float64 // product of the shares at all splits of this feature down to here
	value   float64 // of a leaf
}

// errNoCovers is returned for models whose file holds no counts, or counts of zero.
var errNoCovers = errors.New("the model's file holds no cover (counts or Hessians) for every split: give a background sample instead")

// newPlan lays a tree out. Leaves' values are multiplied by factor.
func newPlan(t *model.Tree, factor float64) (*plan, error) {
	p := &plan{tree: t, points: 1}
	root := place{node: -1, parent: -1, above: -1, share: 1, z: 1}
	if len(t.Nodes) == 0 {
		root.value = t.Leaves[0] * t.Weight * factor
		p.places = []place{root}
		return p, nil
	}
	if t.NodeCover == nil || t.LeafCover == nil {
		return nil, errNoCovers
	}
	root.node = 0
	most, err := p.lay(root, map[int32]int32{}, factor)
	p.points = (most + 1) / 2
	p.nodes, p.weights = gauss(p.points)
	return p, err
}

func cover(t *model.Tree, node int32) float64 {
	if node < 0 {
		return t.LeafCover[^node]
	}
	return t.NodeCover[node]
}

// lay appends a place and what hangs below it. path holds the last place of each feature on the
// way. It returns the most different features of a path through it.
func (p *plan) lay(at place, path map[int32]int32, factor float64) (int, error) {
	here := int32(len(p.places))
	if at.node < 0 {
		at.value = p.tree.Leaves[^at.node] * p.tree.Weight * factor
		p.places = append(p.places, at)
		return len(path), nil
	}
	p.places = append(p.places, at)
	n := &p.tree.Nodes[at.node]
	left, right := cover(p.tree, n.Left), cover(p.tree, n.Right)
	if !(left > 0) || !(right > 0) {
		return 0, fmt.Errorf("node %d: %w", at.node, errNoCovers)
	}
	before, again := path[n.Feature]
	most := 0
	for _, edge := range [2]place{{node: n.Left, left: true, share: left / (left + right)}, {node: n.Right, share: right / (left + right)}} {
		edge.parent, edge.feature, edge.above, edge.z = here, n.Feature, -1, edge.share
		if again {
			edge.above, edge.z = before, edge.share*p.places[before].z
		}
		next := int32(len(p.places))
		if !edge.left {
			p.places[here].right = next
		}
		path[n.Feature] = next
		deep, err := p.lay(edge, path, factor)
		if err != nil {
			return 0, err
		}
		most = max(most, deep)
	}
	if delete(path, n.Feature); again {
		path[n.Feature] = before
	}
	return most, nil
}

// expected is the tree's value before anything is known.
func (p *plan) expected() float64 {
	sum := 0.0
	share := make([]float64, len(p.places))
	for i := range p.places {
		at := &p.places[i]
		share[i] = at.share
		if at.parent >= 0 {
			share[i] *= share[at.parent]
		}
		if at.node < 0 {
			sum += share[i] * at.value
		}
	}
	return sum
}
