//go:build !sabotage

package sabotage

// Active reports whether the claim with this id is to be made false. It never is.
func Active(string) bool { return false }

// Hostile reports whether the operator's side is to behave in this way. It never does.
func Hostile(string) bool { return false }

// Point is a failpoint: nil, and nothing else.
func Point(string) error { return nil }
