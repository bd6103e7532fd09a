package explain

import (
	"errors"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// Interactions writes SHAP interaction values into out, n × n by rows for n features.
func (e *Explainer) Interactions(row, out []float64) {}

// Interventional explains against a background sample instead of the covers.
type Interventional struct{ m *model.Model }

// NewInterventional takes the background's rows, at least one.
func NewInterventional(m *model.Model, output int, background [][]float64) (*Interventional, error) {
	return nil, errors.New("not yet")
}

// Expected is the background's mean score.
func (e *Interventional) Expected() float64 { return 0 }

// Contributions is as Explainer.Contributions.
func (e *Interventional) Contributions(row, phi []float64) (score float64) { return 0 }
