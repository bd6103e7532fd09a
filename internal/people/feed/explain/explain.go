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
	plans    []*plan // of the trees that split
	forest   forest
	expected float64
	pool     sync.Pool // of *scratch
}

// maxSplits bounds what New takes: about 250 bytes each.
const maxSplits = 1 << 21

// New prepares a model's output for path-dependent TreeSHAP: the features' distribution is the
// one that the trees' covers tell. It fails if the model's file carries no covers.
func New(m *model.Model, output int) (*Explainer, error) {
	if output < 0 || output >= m.Outputs {
		return nil, fmt.Errorf("explain output %d of a model that has %d", output, m.Outputs)
	}
	e := &Explainer{m: m, expected: m.Base(output)}
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
		if len(p.places) > 1 {
			e.plans = append(e.plans, p)
			e.forest.add(p)
		}
		if len(e.forest.splits) > maxSplits {
			return nil, fmt.Errorf("explain tree %d: the model has too many splits on long paths (more than %d, four points of a path each)", i, maxSplits)
		}
	}
	e.pool.New = func() any { return e.forest.scratch() }
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
	e.forest.contributions(row, phi, s)
	e.pool.Put(s)
	score = e.expected
	for _, v := range phi {
		score += v
	}
	return score
}
