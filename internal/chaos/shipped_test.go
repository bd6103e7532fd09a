package chaos

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// TestShippedBinaryHasNoFailpoint looks for the switch and the names of failpoints in the
// binary that users get, and first shows that the search finds them in the tagged one.
func TestShippedBinaryHasNoFailpoint(t *testing.T) {
	for tag, want := range map[string]bool{"": false, "sabotage": true} {
		binary := filepath.Join(t.TempDir(), "trefoil")
		if err := demotest.Build(t.Context(), binary, "-tags", tag); err != nil {
			t.Fatal(err)
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
