//go:build !sabotage

package sabotage

// Active reports whether the claim with this id is to be made false. It never is.
func Active(string) bool { return false }

// Point is a failpoint: nil, and nothing else.
func Point(string) error { return nil }
