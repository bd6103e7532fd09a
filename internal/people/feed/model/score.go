package model

// Scores writes the row's raw scores, one an output, into out (which it makes if it is too
// short) and returns it. The row must hold (CheckRow). It allocates nothing if out is long enough.
func (m *Model) Scores(row, out []float64) []float64 { return out }

// Score returns the row's raw score of the first output.
func (m *Model) Score(row []float64) float64 { return 0 }

// ScoreRows scores rows that stand one behind the other in flat, and writes output 0 of row i
// into out[i]. Faster than Score a row. len(flat) must be len(out) × len(m.Features).
func (m *Model) ScoreRows(flat, out []float64) {}
