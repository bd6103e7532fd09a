package explain

import "math"

// gauss returns the n nodes and weights of Gauss–Legendre quadrature on [0, 1], which integrates
// polynomials of degree 2n-1 exactly. Nodes are the roots of the Legendre polynomial, found by
// Newton's method from Chebyshev's guess.
func gauss(n int) (nodes, weights []float64) {
	nodes, weights = make([]float64, n), make([]float64, n)
	for i := range n {
		x := math.Cos(math.Pi * (float64(i) + 0.75) / (float64(n) + 0.5))
		slope := 0.0
		for range 100 {
			var p float64
			p, slope = legendre(n, x)
			step := p / slope
			x -= step
			if math.Abs(step) < 1e-16 {
				break
			}
		}
		_, slope = legendre(n, x)
		nodes[i] = (1 - x) / 2
		weights[i] = 1 / ((1 - x*x) * slope * slope)
	}
	return nodes, weights
}

// legendre returns the n-th Legendre polynomial and its derivative at x, |x| < 1.
func legendre(n int, x float64) (p, slope float64) {
	before, p := 1.0, x
	for k := 2; k <= n; k++ {
		before, p = p, ((2*float64(k)-1)*x*p-(float64(k)-1)*before)/float64(k)
	}
	return p, float64(n) * (x*p - before) / (x*x - 1)
}
