package explain

import "github.com/trefoil-eu/trefoil/internal/people/feed/model"

// The game of a leaf is f(S) = value × Π over the path's features of (in S: o, not in S: z), where
// o is 1 if the row follows the path at every split of that feature, else 0, and z is the share of
// the cover that does. Feature i's Shapley value in it is
//
//	(oᵢ−zᵢ) × value × ∫₀¹ Π over the other features of (o·t + (1−t)·z) dt,
//
// because ∫ tˢ(1−t)^(m−1−s) dt = s!(m−1−s)!/m!, the weight of a coalition of s among m players.
// The integrand is a polynomial of degree m−1, so Gauss–Legendre quadrature with ⌈m/2⌉ points is
// exact, and all its terms have one sign: nothing cancels.
//
// At a point t, let P be the sum over the leaves below a split of value × factors below it, D the
// product of weight and factors above it, s the share of the child where the row does not go, and
// δ = s·(P of the child where it goes − P of the other). With u = 1−t, for a feature that no split
// above has:
//
//	the split adds D·δ to its feature, and P = P of the child where the row goes − u·δ.
//
// Where splits above have the feature, and the row followed the path at all of them (z: their
// shares), u becomes r = u·z / (t + u·z), and D·δ is multiplied by κ = (z + (1−z)·r) / (t + u·z).
// Where the row had left the path at one of them, the split adds nothing and r is 1.
//
// So a row costs one pass down (D) and one up (P) over the splits, some six operations each at
// every point. Points go four at a time; a tree that needs more has its splits listed again.

// lanes are four points of a quadrature.
type lanes [4]float64

// split is one split of a tree at four points.
type split struct {
	node        model.Node
	share       float64 // of the cover that goes left
	parent      int32   // the split above, or -1
	above       int32   // the nearest split above on the same feature, or -1
	left, right int32   // the children's places among the values
	self        int32   // the split's own
	table       int32   // r and κ
	tree        int32
	fromLeft    bool // the split is its parent's left child
	aboveLeft   bool // the path goes left at above
}

// factors are r and κ of a split.
type factors struct{ r, k lanes }

// forest is every split of an output's trees, parents before children.
type forest struct {
	splits []split
	tables []factors
	roots  []lanes // weights of the points, by tree: D of its root
	trees  []*model.Tree
	values []lanes // by place: a leaf's value; of splits, room for P
}

// state of one split and one row.
type state struct {
	d     lanes
	share float64 // of the child where the row does not go
	left  bool    // the row goes left
	alive bool    // it followed the path at all splits above on the same feature
}

// scratch is what one computation needs: it belongs to one goroutine at a time.
type scratch struct {
	values []lanes
	states []state
}

func (f *forest) scratch() *scratch {
	return &scratch{append([]lanes(nil), f.values...), make([]state, len(f.splits))}
}

// add appends a tree, once for every four points.
func (f *forest) add(p *plan) {
	for from := 0; from < p.points; from += len(lanes{}) {
		var at, weight lanes
		for j := range at {
			at[j] = 0.5 // with weight 0 it does not matter where
			if from+j < p.points {
				at[j], weight[j] = p.nodes[from+j], p.weights[from+j]
			}
		}
		f.addLanes(p, at, weight)
	}
}

func (f *forest) addLanes(p *plan, t, w lanes) {
	tree, first, fresh := int32(len(f.trees)), int32(len(f.values)), int32(len(f.tables))
	f.trees, f.roots = append(f.trees, p.tree), append(f.roots, w)
	f.tables = append(f.tables, factorsAt(t, 1))
	number := make([]int32, len(p.places)) // of splits
	for i := range p.places {
		at := &p.places[i]
		f.values = append(f.values, lanes{at.value, at.value, at.value, at.value})
		if at.node < 0 {
			continue
		}
		left, right := &p.places[i+1], &p.places[at.right]
		s := split{node: p.tree.Nodes[at.node], share: left.share, parent: -1, above: -1, left: first + int32(i) + 1, right: first + at.right,
			self: first + int32(i), table: fresh, tree: tree, fromLeft: at.left}
		if at.parent >= 0 {
			s.parent = number[at.parent]
		}
		if right.above >= 0 {
			edge := &p.places[right.above]
			s.above, s.aboveLeft, s.table = number[edge.parent], edge.left, int32(len(f.tables))
			f.tables = append(f.tables, factorsAt(t, edge.z))
		}
		number[i] = int32(len(f.splits))
		f.splits = append(f.splits, s)
	}
}

// factorsAt computes r and κ where the splits above on the feature keep a share of z.
func factorsAt(t lanes, z float64) (f factors) {
	for j, t := range t {
		hot := t + (1-t)*z
		f.r[j] = (1 - t) * z / hot
		f.k[j] = (z + (1-z)*f.r[j]) / hot
	}
	return f
}

// contributions adds the trees' contributions to phi.
func (f *forest) contributions(row, phi []float64, s *scratch) {
	f.down(row, s.states)
	for i := len(f.splits) - 1; i >= 0; i-- {
		sp, st := &f.splits[i], &s.states[i]
		hot, cold := sp.right, sp.left
		if st.left {
			hot, cold = cold, hot
		}
		h, c, out := &s.values[hot], &s.values[cold], &s.values[sp.self]
		d0, d1, d2, d3 := st.share*(h[0]-c[0]), st.share*(h[1]-c[1]), st.share*(h[2]-c[2]), st.share*(h[3]-c[3])
		if !st.alive {
			*out = lanes{h[0] - d0, h[1] - d1, h[2] - d2, h[3] - d3}
			continue
		}
		t := &f.tables[sp.table]
		phi[sp.node.Feature] += st.d[0]*t.k[0]*d0 + st.d[1]*t.k[1]*d1 + st.d[2]*t.k[2]*d2 + st.d[3]*t.k[3]*d3
		*out = lanes{h[0] - t.r[0]*d0, h[1] - t.r[1]*d1, h[2] - t.r[2]*d2, h[3] - t.r[3]*d3}
	}
}

// down decides every split and multiplies the factors above it.
func (f *forest) down(row []float64, states []state) {
	for i := range f.splits {
		sp, st := &f.splits[i], &states[i]
		v := row[sp.node.Feature]
		left := v <= sp.node.Threshold
		if sp.node.Kind != model.AtMost || v != v {
			left = f.trees[sp.tree].GoesLeft(&sp.node, v)
		}
		st.left, st.share = left, sp.share
		if left {
			st.share = 1 - sp.share
		}
		st.alive = sp.above < 0 || states[sp.above].alive && states[sp.above].left == sp.aboveLeft
		if sp.parent < 0 {
			st.d = f.roots[sp.tree]
			continue
		}
		up := &states[sp.parent]
		cold := up.left != sp.fromLeft
		if !up.alive {
			x := up.share
			if !cold {
				x = 1 - x
			}
			st.d = lanes{up.d[0] * x, up.d[1] * x, up.d[2] * x, up.d[3] * x}
			continue
		}
		r := &f.tables[f.splits[sp.parent].table].r
		x0, x1, x2, x3 := r[0]*up.share, r[1]*up.share, r[2]*up.share, r[3]*up.share
		if !cold {
			x0, x1, x2, x3 = 1-x0, 1-x1, 1-x2, 1-x3
		}
		st.d = lanes{up.d[0] * x0, up.d[1] * x1, up.d[2] * x2, up.d[3] * x3}
	}
}
