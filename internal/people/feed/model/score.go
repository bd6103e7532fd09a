package model

// prepare makes the model ready to score.
func (m *Model) prepare() {
	m.quick = newQuick(m)
	words := 0
	if m.quick != nil {
		words = m.quick.words
	}
	m.pool.New = func() any { w := make([]uint64, words); return &w }
}

// Scores writes the row's raw scores, one an output, into out (made anew if it is too short) and
// returns it. The row must hold (CheckRow). It allocates nothing if out is long enough.
// XGBoost's scores are its own float32 sums.
func (m *Model) Scores(row, out []float64) []float64 {
	if cap(out) < m.Outputs {
		out = make([]float64, m.Outputs)
	}
	out = out[:m.Outputs]
	alive := m.pool.Get().(*[]uint64)
	m.cut(row, *alive)
	for k := range out {
		out[k] = m.score(k, row, *alive)
	}
	m.pool.Put(alive)
	return out
}

// Score returns the row's raw score of the first output.
func (m *Model) Score(row []float64) float64 {
	alive := m.pool.Get().(*[]uint64)
	m.cut(row, *alive)
	sum := m.score(0, row, *alive)
	m.pool.Put(alive)
	return sum
}

// ScoreRows scores rows that stand one behind the other in flat, and writes the first output of
// row i into out[i]. The answers are Score's. len(flat) must be len(out) × len(m.Features).
func (m *Model) ScoreRows(flat, out []float64) {
	width := len(m.Features)
	alive := m.pool.Get().(*[]uint64)
	for i := range out {
		row := flat[i*width : (i+1)*width]
		m.cut(row, *alive)
		out[i] = m.score(0, row, *alive)
	}
	m.pool.Put(alive)
}

func (m *Model) cut(row []float64, alive []uint64) {
	if m.quick != nil {
		m.quick.cutAll(row, alive)
	}
}

// score adds the leaves of one output.
func (m *Model) score(output int, row []float64, alive []uint64) float64 {
	if m.Format == XGBoost {
		return m.score32(output, row, alive)
	}
	sum := 0.0
	for i := output; i < len(m.trees); i += m.Outputs {
		sum += m.leaf(i, row, alive)
	}
	return sum / m.divisor
}

// score32 adds as XGBoost does: in float32, from the base, in the trees' order.
func (m *Model) score32(output int, row []float64, alive []uint64) float64 {
	sum := m.base[output]
	for i := range m.trees {
		if t := &m.trees[i]; t.Output == output {
			// The conversion keeps product and sum apart: no fused multiply-add.
			sum += float32(float32(m.leaf(i, row, alive)) * float32(t.Weight))
		}
	}
	return float64(sum)
}

// Exact returns the row's raw score without the rounding of float32: what contributions add up
// to. It is Scores' value for LightGBM. It walks every tree.
func (m *Model) Exact(output int, row []float64) float64 {
	sum := m.Base(output)
	for i := range m.trees {
		if t := &m.trees[i]; t.Output == output {
			sum += t.Leaves[t.Leaf(row)] * t.Weight
		}
	}
	return sum / m.divisor
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
