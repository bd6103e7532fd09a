//go:build sabotage

package sabotage

import (
	"fmt"
	"os"
	"syscall"
)

// Active reports whether the claim with this id is to be made false: whether the
// environment variable TREFOIL_SABOTAGE names it.
func Active(claim string) bool { return os.Getenv("TREFOIL_SABOTAGE") == claim }

// Point is a failpoint. The file that the environment variable TREFOIL_FAULT names may hold
// one order: "crash NAME" ends the process here as a power cut would, "fail NAME" is an
// error here. An order is carried out once, by the first that comes to its point.
func Point(name string) error {
	path := os.Getenv("TREFOIL_FAULT")
	if path == "" {
		return nil
	}
	order, err := os.ReadFile(path)
	if err != nil {
		return nil // no order
	}
	crash := string(order) == "crash "+name
	if !crash && string(order) != "fail "+name || os.Remove(path) != nil {
		return nil // another's order, or another was faster
	}
	if crash {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
	return fmt.Errorf("failpoint %s", name)
}
