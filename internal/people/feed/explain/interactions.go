package explain

// Interactions writes SHAP interaction values into out, n × n by rows for n features: out[i·n+j]
// for i ≠ j is half of what i and j do only together (the matrix is symmetric), out[i·n+i] is the
// rest of i's contribution. Row i sums to i's contribution; all sum to the score less Expected.
//
// For a leaf, i and j on its path are together worth
// ½·(oᵢ−zᵢ)·(oⱼ−zⱼ) × value × ∫₀¹ Π over the others of (o·t + (1−t)·z) dt.
func (e *Explainer) Interactions(row, out []float64) {
	n := len(e.m.Features)
	phi := make([]float64, n)
	e.Contributions(row, phi)
	clear(out[:n*n])
	for _, p := range e.plans {
		p.pairs(row, out, n)
	}
	for i := range n {
		rest := phi[i]
		for j := range n {
			if i != j {
				rest -= out[i*n+j]
			}
		}
		out[i*n+i] = rest
	}
}

// stretch is what the splits of one feature on the way to a leaf make of a row.
type stretch struct {
	feature int32
	hot     bool
	z       float64
}

// pairs adds one tree's interactions between different features, leaf by leaf: the product of all
// factors at a point, times gain ÷ factor of both. No factor is 0: points lie within (0, 1).
func (p *plan) pairs(row, out []float64, n int) {
	hot := make([]bool, len(p.places))
	p.follow(row, hot)
	var path []stretch
	var ratios []float64 // gain ÷ factor, by feature of the path and point
	whole := make([]float64, p.points)
	for i := range p.places {
		if p.places[i].node >= 0 {
			continue
		}
		path = p.path(path[:0], i, hot)
		for q, w := range p.weights {
			whole[q] = w * p.places[i].value / 2
		}
		ratios = ratios[:0]
		for _, s := range path {
			for q, t := range p.nodes {
				f := s.factor(t)
				whole[q] *= f
				ratios = append(ratios, s.gain()/f)
			}
		}
		for a := range path {
			for b := range a {
				v := 0.0
				x, y := ratios[a*p.points:][:p.points], ratios[b*p.points:][:p.points]
				for q, w := range whole {
					v += w * x[q] * y[q]
				}
				x1, y1 := int(path[a].feature), int(path[b].feature)
				out[x1*n+y1] += v
				out[y1*n+x1] += v
			}
		}
	}
}

// follow notes of every place whether the row follows its path at every split of its edge's feature.
func (p *plan) follow(row []float64, hot []bool) {
	for i := 1; i < len(p.places); i++ {
		at := &p.places[i]
		n := &p.tree.Nodes[p.places[at.parent].node]
		hot[i] = p.tree.GoesLeft(n, row[n.Feature]) == at.left && (at.above < 0 || hot[at.above])
	}
}

// path lists the features between a leaf and the root, each with its state at the leaf.
func (p *plan) path(out []stretch, leaf int, hot []bool) []stretch {
	for i := int32(leaf); i > 0; i = p.places[i].parent {
		at := &p.places[i]
		again := false
		for _, s := range out {
			again = again || s.feature == at.feature
		}
		if !again { // the place nearest to the leaf holds what all splits above made of it
			out = append(out, stretch{at.feature, hot[i], at.z})
		}
	}
	return out
}

// factor is o·t + (1−t)·z.
func (s stretch) factor(t float64) float64 {
	if s.hot {
		return t + (1-t)*s.z
	}
	return (1 - t) * s.z
}

// gain is o − z.
func (s stretch) gain() float64 {
	if s.hot {
		return 1 - s.z
	}
	return -s.z
}
