package explain

import (
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

// maxBackground bounds the background sample.
const maxBackground = 10_000

// Interventional explains against a background sample: a feature that is not known takes its
// value from a row of the sample, whatever the other features are. It is safe for concurrent use.
type Interventional struct {
	m          *model.Model
	output     int
	background [][]float64
	expected   float64
	weights    [][]float64 // weights[a][b] = (a−1)!·b! ÷ (a+b)!
}

// NewInterventional takes the background's rows, 1 to 10,000, which it keeps.
func NewInterventional(m *model.Model, output int, background [][]float64) (*Interventional, error) {
	if output < 0 || output >= m.Outputs {
		return nil, fmt.Errorf("explain output %d of a model that has %d", output, m.Outputs)
	}
	if len(background) == 0 || len(background) > maxBackground {
		return nil, fmt.Errorf("a background sample has 1 to %d rows, not %d", maxBackground, len(background))
	}
	e := &Interventional{m: m, output: output, background: background}
	for i, row := range background {
		if err := m.CheckRow(row); err != nil {
			return nil, fmt.Errorf("background row %d: %w", i, err)
		}
		e.expected += m.Exact(output, row) / float64(len(background))
	}
	most := min(len(m.Features), model.MaxDepth) + 1
	if most > 600 {
		return nil, errors.New("the model has too many features for a background sample")
	}
	e.weights = make([][]float64, most+1)
	for a := 1; a <= most; a++ {
		e.weights[a] = make([]float64, most+1)
		e.weights[a][0] = 1 / float64(a)
		for b := 1; a+b <= most; b++ {
			e.weights[a][b] = e.weights[a][b-1] * float64(b) / float64(a+b)
		}
	}
	return e, nil
}

// Expected is the background's mean score.
func (e *Interventional) Expected() float64 { return e.expected }

// Contributions writes one contribution a feature into phi (length = features) and returns
// Expected + their sum, which is the row's score (model.Exact).
func (e *Interventional) Contributions(row, phi []float64) (score float64) {
	clear(phi)
	w := &walk{e: e, row: row, phi: phi, side: make([]int8, len(e.m.Features))}
	trees := e.m.Trees()
	scale := 1 / (float64(len(e.background)) * e.m.Divisor())
	for i := range trees {
		if w.tree = &trees[i]; w.tree.Output != e.output || len(w.tree.Nodes) == 0 {
			continue
		}
		w.scale = w.tree.Weight * scale
		for _, other := range e.background {
			w.other = other
			w.down(0)
		}
	}
	score = e.expected
	for _, v := range phi {
		score += v
	}
	return score
}

// walk compares a row with one row of the background in one tree.
type walk struct {
	e          *Interventional
	tree       *model.Tree
	row, other []float64
	phi        []float64
	scale      float64
	side       []int8 // of each feature on the way: 1 only the row goes here, -1 only the other, 0 both or none yet
	ours       []int32
	theirs     []int32
}

// down goes where the row, the other, or each of them alone would go. At a leaf the game is 1
// exactly for coalitions that hold all of ours and none of theirs.
func (w *walk) down(node int32) {
	if node < 0 {
		w.leaf(w.tree.Leaves[^node] * w.scale)
		return
	}
	n := &w.tree.Nodes[node]
	x, y := n.Right, n.Right
	if w.tree.GoesLeft(n, w.row[n.Feature]) {
		x = n.Left
	}
	if w.tree.GoesLeft(n, w.other[n.Feature]) {
		y = n.Left
	}
	switch side := w.side[n.Feature]; {
	case x == y || side > 0:
		w.down(x)
	case side < 0:
		w.down(y)
	default:
		w.side[n.Feature] = 1
		w.ours = append(w.ours, n.Feature)
		w.down(x)
		w.ours = w.ours[:len(w.ours)-1]
		w.side[n.Feature] = -1
		w.theirs = append(w.theirs, n.Feature)
		w.down(y)
		w.theirs = w.theirs[:len(w.theirs)-1]
		w.side[n.Feature] = 0
	}
}

func (w *walk) leaf(value float64) {
	a, b := len(w.ours), len(w.theirs)
	for _, f := range w.ours {
		w.phi[f] += value * w.e.weights[a][b]
	}
	for _, f := range w.theirs {
		w.phi[f] -= value * w.e.weights[b][a]
	}
}
