//go:build sabotage

package sabotage

import "os"

// Active reports whether the claim with this id is to be made false: whether the
// environment variable TREFOIL_SABOTAGE names it.
func Active(claim string) bool { return os.Getenv("TREFOIL_SABOTAGE") == claim }
