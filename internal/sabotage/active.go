//go:build sabotage

package sabotage

import (
	"fmt"
	"os"
	"strings"
	"syscall"
)

// Active reports whether the claim with this id is to be made false: whether the
// environment variable TREFOIL_SABOTAGE names it.
func Active(claim string) bool { return os.Getenv("TREFOIL_SABOTAGE") == claim }

// Hostile reports whether the operator's side is to behave in this way: whether the environment
// variable TREFOIL_HOSTILE names it.
func Hostile(way string) bool { return os.Getenv("TREFOIL_HOSTILE") == way }

// Point is a failpoint. The file that the environment variable TREFOIL_FAULT names may hold
// one order: "crash NAME" ends the process here as a power cut would, "fail NAME" is an
// error here; a third word is the only subcommand that it is for. An order is carried out
// once, by the first that comes to its point.
func Point(name string) error {
	path := os.Getenv("TREFOIL_FAULT")
	if path == "" {
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil // no order
	}
	order := strings.Fields(string(text))
	switch {
	case len(order) < 2 || order[1] != name:
		return nil
	case len(order) > 2 && (len(os.Args) < 2 || os.Args[1] != order[2]):
		return nil
	case os.Remove(path) != nil:
		return nil // another was faster
	}
	if order[0] == "crash" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return fmt.Errorf("failpoint %s", name)
}
