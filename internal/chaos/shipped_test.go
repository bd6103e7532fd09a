package chaos

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestShippedBinaryHasNoFailpoint looks for the switch and the names of failpoints in the
// binary that users get, and first shows that the search finds them in the tagged one.
func TestShippedBinaryHasNoFailpoint(t *testing.T) {
	for tag, want := range map[string]bool{"": false, "sabotage": true} {
		binary := filepath.Join(t.TempDir(), "trefoil")
		build := exec.Command("go", "build", "-tags", tag, "-o", binary, "github.com/trefoil-eu/trefoil/cmd/trefoil")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
		text, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"TREFOIL_FAULT", "checkpoint-kept", "letting-out", "flow-applied"} {
			if bytes.Contains(text, []byte(name)) != want {
				t.Errorf("tags %q: %s is in the binary: %v", tag, name, !want)
			}
		}
	}
}
