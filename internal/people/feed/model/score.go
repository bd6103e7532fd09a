package model

// Scores writes the row's raw scores, one an output, into out (made anew if it is too short) and
// returns it. The row must hold (CheckRow). It allocates nothing if out is long enough.
// XGBoost's scores are its own float32 sums.
func (m *Model) Scores(row, out []float64) []float64 {
	if cap(out) < m.Outputs {
		out = make([]float64, m.Outputs)
	}
	out = out[:m.Outputs]
	for k := range out {
		out[k] = m.score(k, row)
	}
	return out
}

// Score returns the row's raw score of the first output.
func (m *Model) Score(row []float64) float64 { return m.score(0, row) }

func (m *Model) score(output int, row []float64) float64 {
	if m.Format == XGBoost {
		return m.score32(output, row)
	}
	sum := 0.0
	for i := output; i < len(m.trees); i += m.Outputs {
		t := &m.trees[i]
		sum += t.Leaves[t.Leaf(row)]
	}
	return sum / m.divisor
}

// score32 adds as XGBoost does: in float32, from the base, in the trees' order.
func (m *Model) score32(output int, row []float64) float64 {
	sum := m.base[output]
	for i := range m.trees {
		if t := &m.trees[i]; t.Output == output {
			// The conversion keeps product and sum apart: no fused multiply-add.
			sum += float32(float32(t.Leaves[t.Leaf(row)]) * float32(t.Weight))
		}
	}
	return float64(sum)
}

// Exact returns the row's raw score without the rounding of float32: what contributions add up
// to. It is Scores' value for LightGBM.
func (m *Model) Exact(output int, row []float64) float64 {
	if m.Format != XGBoost {
		return m.score(output, row)
	}
	sum := float64(m.base[output])
	for i := range m.trees {
		if t := &m.trees[i]; t.Output == output {
			sum += t.Leaves[t.Leaf(row)] * t.Weight
		}
	}
	return sum
}

// Base is what an output's score starts from before any tree: XGBoost's base score as a margin.
func (m *Model) Base(output int) float64 {
	if m.base == nil {
		return 0
	}
	return float64(m.base[output])
}

// Divisor is what an output's sum over its trees is divided by: 1, or their number where Average.
func (m *Model) Divisor() float64 { return m.divisor }

// ScoreRows scores rows that stand one behind the other in flat, and writes the first output of
// row i into out[i]: tree by tree, so that a tree stays in the cache. The answers are Score's.
// len(flat) must be len(out) × len(m.Features).
func (m *Model) ScoreRows(flat, out []float64) {
	width := len(m.Features)
	if m.Format == XGBoost || len(out) < 4 {
		for i := range out {
			out[i] = m.Score(flat[i*width : (i+1)*width])
		}
		return
	}
	clear(out)
	for i := 0; i < len(m.trees); i += m.Outputs {
		t := &m.trees[i]
		for r := range out {
			out[r] += t.Leaves[t.Leaf(flat[r*width:(r+1)*width])]
		}
	}
	for r := range out {
		out[r] /= m.divisor
	}
}
