package explain

import (
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// plan is one tree, prepared. Its places are the tree's nodes and leaves, each before its
// children and the left child right after its parent; place 0 is the root.
//
// The game of a leaf is f(S) = value × Π over the path's features of (hot in S: 1, cold in S: 0,
// not in S: z), with z the share of the cover that stays on the path at that feature's splits. A
// feature's Shapley value in it is
//
//	(o−z) × value × ∫₀¹ Π over the other features of (o·t + (1−t)·z) dt,   o = 1 if hot, else 0,
//
// because ∫ tˢ(1−t)^(m−1−s) dt = s!(m−1−s)!/m!. The integrand is a polynomial in t of degree
// m−1, so Gauss–Legendre quadrature with ⌈m/2⌉ points is exact, and every term of a sum of
// products has the same sign: nothing cancels. One pass down multiplies the factors at every
// point, one pass up adds leaves; an edge then adds what its feature's state there is worth, less
// what the state above it was worth (where the feature was split on before).
type plan struct {
	tree   *model.Tree
	points int
	places []place
	// Of each place: cold factors, cold worths, hot factors, hot worths; points of each. Cold and
	// hot say whether the row follows the path at every split of the edge's feature so far.
	tables []float64
}

// place is a node or a leaf, and the edge that leads to it.
type place struct {
	node    int32 // in the tree; < 0 is leaf ^node
	right   int32 // place of the right child; the left one is the next place
	parent  int32
	above   int32   // the nearest place above whose edge has the same feature, or -1
	feature int32   // of the edge
	z       float64 // share of cover that stays on the path at this feature's splits down to here
	scale   float64 // z ÷ z of above: the factor when the row had left the path at above
	value   float64 // of a leaf
	left    bool    // the edge is the left one
}

// errNoCovers is returned for models whose file holds no counts, or counts of zero.
var errNoCovers = errors.New("the model's file holds no cover (counts or Hessians) for every split: give a background sample instead")

// newPlan lays a tree out. values are multiplied by factor.
func newPlan(t *model.Tree, factor float64) (*plan, error) {
	p := &plan{tree: t}
	if len(t.Nodes) == 0 {
		p.places = []place{{node: -1, parent: -1, above: -1, z: 1, value: t.Leaves[0] * t.Weight * factor}}
		p.points = 1
		return p, nil
	}
	if t.NodeCover == nil || t.LeafCover == nil {
		return nil, errNoCovers
	}
	most, err := p.lay(0, place{parent: -1, above: -1, z: 1}, nil, 0, factor)
	if err != nil {
		return nil, err
	}
	p.points = (most + 1) / 2
	p.tabulate()
	return p, nil
}

func cover(t *model.Tree, node int32) float64 {
	if node < 0 {
		return t.LeafCover[^node]
	}
	return t.NodeCover[node]
}

// lay appends a node and what hangs below it. path holds the last place of each feature on the
// way; distinct is how many there are. It returns the most distinct features of a path below.
func (p *plan) lay(node int32, at place, path map[int32]int32, distinct int, factor float64) (int, error) {
	here := int32(len(p.places))
	at.node = node
	if node < 0 {
		at.value = p.tree.Leaves[^node] * p.tree.Weight * factor
		p.places = append(p.places, at)
		return distinct, nil
	}
	p.places = append(p.places, at)
	if path == nil {
		path = map[int32]int32{}
	}
	n := &p.tree.Nodes[node]
	whole := p.tree.NodeCover[node]
	most := distinct
	for _, left := range [2]bool{true, false} {
		child := n.Right
		if left {
			child = n.Left
		} else {
			p.places[here].right = int32(len(p.places))
		}
		part := cover(p.tree, child)
		if !(whole > 0) || !(part > 0) {
			return 0, fmt.Errorf("node %d: %w", node, errNoCovers)
		}
		before, again := path[n.Feature]
		edge := place{parent: here, above: -1, feature: n.Feature, left: left, z: part / whole, scale: 1}
		below := distinct + 1
		if again {
			edge.above, edge.scale, below = before, edge.z, distinct
			edge.z *= p.places[before].z
		}
		path[n.Feature] = int32(len(p.places))
		deep, err := p.lay(child, edge, path, below, factor)
		if err != nil {
			return 0, err
		}
		if again {
			path[n.Feature] = before
		} else {
			delete(path, n.Feature)
		}
		most = max(most, deep)
	}
	return most, nil
}

// tabulate computes factors and worths at every point.
func (p *plan) tabulate() {
	q := p.points
	t, w := gauss(q)
	p.tables = make([]float64, 4*q*len(p.places))
	for i := 1; i < len(p.places); i++ {
		at := &p.places[i]
		tab := p.tables[4*q*i:]
		for j := range q {
			cold, hot := (1-t[j])*at.z, t[j]+(1-t[j])*at.z
			tab[j], tab[2*q+j] = cold, hot
			tab[q+j], tab[3*q+j] = -w[j]/(1-t[j]), w[j]*(1-at.z)/hot
			if at.above < 0 {
				continue
			}
			z := p.places[at.above].z
			was := t[j] + (1-t[j])*z
			tab[j] /= was
			tab[2*q+j] /= was
			tab[q+j] -= w[j] * (1 - z) / was
			tab[3*q+j] -= w[j] * (1 - z) / was
		}
	}
}

// expected is the tree's value before anything is known.
func (p *plan) expected() float64 {
	sum := 0.0
	share := make([]float64, len(p.places))
	for i := range p.places {
		at := &p.places[i]
		share[i] = 1
		if at.parent >= 0 {
			share[i] = share[at.parent] * at.scaleOf()
		}
		if at.node < 0 {
			sum += share[i] * at.value
		}
	}
	return sum
}

// scaleOf is the edge's own share of its parent's cover.
func (a *place) scaleOf() float64 {
	if a.above < 0 {
		return a.z
	}
	return a.scale
}
