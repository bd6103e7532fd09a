// Package explain says why a model gave a row its score: exact Shapley values, groups that users
// understand, sentences, and the smallest change of settings that would have dropped an item.
//
// The invariant it keeps: contributions and the expected value add up to the score (within 1e-9
// of its size), and no sentence names a group before one that weighed more.
//
// It implements path-dependent TreeSHAP and SHAP interaction values as Lundberg et al. define
// them (Consistent Individualized Feature Attribution for Tree Ensembles, 2018), and
// interventional SHAP against a background sample. It explains raw scores: not probabilities,
// not ranks, and not what would happen if the world were different.
package explain

import (
	"fmt"
	"sync"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// Explainer computes contributions for one output of a model. It is safe for concurrent use.
type Explainer struct {
	m        *model.Model
	output   int
	plans    []*plan
	expected float64
	deep     int // the most places × points of a plan
	places   int // the most places of a plan
	pool     sync.Pool
}

// scratch is what one computation needs beside the plans.
type scratch struct {
	buf []float64
	hot []bool
}

// New prepares a model's output for path-dependent TreeSHAP: the features' distribution is the
// one that the trees' covers tell. It fails if the model's file carries no covers.
func New(m *model.Model, output int) (*Explainer, error) {
	if output < 0 || output >= m.Outputs {
		return nil, fmt.Errorf("explain output %d of a model that has %d", output, m.Outputs)
	}
	e := &Explainer{m: m, output: output, expected: m.Base(output)}
	trees := m.Trees()
	for i := range trees {
		if trees[i].Output != output {
			continue
		}
		p, err := newPlan(&trees[i], 1/m.Divisor())
		if err != nil {
			return nil, fmt.Errorf("explain tree %d: %w", i, err)
		}
		e.expected += p.expected()
		e.deep = max(e.deep, len(p.places)*p.points)
		e.places = max(e.places, len(p.places))
		if len(p.places) > 1 {
			e.plans = append(e.plans, p)
		}
	}
	e.pool.New = func() any {
		return &scratch{make([]float64, e.deep), make([]bool, e.places)}
	}
	return e, nil
}

// Model is the model that is explained.
func (e *Explainer) Model() *model.Model { return e.m }

// Expected is the score before anything is known: contributions start from it.
func (e *Explainer) Expected() float64 { return e.expected }

// Contributions writes one contribution a feature into phi (length = features) and returns
// Expected + their sum, which is the row's score (model.Exact). It allocates nothing.
func (e *Explainer) Contributions(row, phi []float64) (score float64) {
	clear(phi)
	s := e.pool.Get().(*scratch)
	for _, p := range e.plans {
		p.add(row, phi, s)
	}
	e.pool.Put(s)
	score = e.expected
	for _, v := range phi {
		score += v
	}
	return score
}

// add adds one tree's contributions.
func (p *plan) add(row, phi []float64, s *scratch) {
	q := p.points
	buf, hot := s.buf[:q*len(p.places)], s.hot[:len(p.places)]
	for j := range q {
		buf[j] = 1
	}
	p.down(row, buf, hot)
	for i := len(p.places) - 1; i > 0; i-- {
		at := &p.places[i]
		h := buf[q*i : q*i+q : q*i+q]
		if at.node >= 0 {
			l, r := buf[q*(i+1):][:q], buf[q*int(at.right):][:q]
			for j := range h {
				h[j] = l[j] + r[j]
			}
		}
		if at.above >= 0 && !hot[at.above] {
			continue
		}
		from := 4*q*i + q
		if hot[i] {
			from += 2 * q
		}
		sum := 0.0
		for j, worth := range p.tables[from:][:q] {
			sum += h[j] * worth
		}
		phi[at.feature] += sum
	}
}

// down multiplies the factors from the root to every place, and at leaves the value.
func (p *plan) down(row, buf []float64, hot []bool) {
	q := p.points
	for i := 1; i < len(p.places); i++ {
		at := &p.places[i]
		parent := &p.places[at.parent]
		n := &p.tree.Nodes[parent.node]
		from, to := buf[q*int(at.parent):][:q], buf[q*i:][:q]
		is := p.tree.GoesLeft(n, row[n.Feature]) == at.left
		value := 1.0
		if at.node < 0 {
			value = at.value
		}
		if at.above >= 0 && !hot[at.above] {
			hot[i] = false
			value *= at.scale
			for j := range to {
				to[j] = from[j] * value
			}
			continue
		}
		hot[i] = is
		tab := p.tables[4*q*i:][:q]
		if is {
			tab = p.tables[4*q*i+2*q:][:q]
		}
		for j := range to {
			to[j] = from[j] * tab[j] * value
		}
	}
}
