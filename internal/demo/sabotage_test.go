package demo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// verdict is a line of the story: its mark and the claim's id.
var verdict = regexp.MustCompile(`(?m)^(✓|✗) .* \[(\w+), [0-9.]+ s\]$`)

// tell runs the story of a binary with one claim sabotaged, and returns
// the ids of the claims that held and of those that did not.
func tell(t *testing.T, binary, claim string) (held, failed []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 6*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, "demo", "--once", "--people", "2000")
	cmd.Env = append(os.Environ(), "TREFOIL_SABOTAGE="+claim)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	out, err := cmd.CombinedOutput()
	for _, m := range verdict.FindAllStringSubmatch(string(out), -1) {
		if m[1] == "✓" {
			held = append(held, m[2])
		} else {
			failed = append(failed, m[2])
		}
	}
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if want := map[bool]int{true: 3, false: 0}[len(failed) > 0]; code != want || len(held)+len(failed) != len(Story()) {
		t.Fatalf("exit %d with %d claims told:\n%s", code, len(held)+len(failed), out)
	}
	if len(failed) > 1 || t.Failed() {
		t.Log(string(out))
	}
	return held, failed
}

// TestSabotage makes each claim false in a tagged build, and wants exactly this claim to
// fail. It runs the whole story a dozen times: `make test` does so, after the other tests.
func TestSabotage(t *testing.T) {
	if os.Getenv("TREFOIL_TEST_SABOTAGE") == "" {
		t.Skip("minutes long: scripts/sabotage.sh runs it")
	}
	binary := filepath.Join(t.TempDir(), "trefoil")
	if out, err := exec.Command("go", "build", "-tags", "sabotage", "-o", binary, "github.com/trefoil-eu/trefoil/cmd/trefoil").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	t.Run("nothing", func(t *testing.T) {
		t.Parallel()
		if _, failed := tell(t, binary, ""); len(failed) > 0 {
			t.Errorf("without sabotage these fail: %v", failed)
		}
	})
	for _, claim := range Story() {
		t.Run(claim.ID, func(t *testing.T) {
			t.Parallel()
			if _, failed := tell(t, binary, claim.ID); !slices.Equal(failed, []string{claim.ID}) {
				t.Errorf("sabotage of %s makes these fail: %v", claim.ID, failed)
			}
		})
	}
}

// TestEveryClaimHasItsHook looks for the place in the shipped code that each sabotage names.
func TestEveryClaimHasItsHook(t *testing.T) {
	hooks := map[string]int{}
	call := regexp.MustCompile(`sabotage\.Active\("(\w+)"\)`)
	err := filepath.WalkDir("../..", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.Contains(path, "internal/sabotage/") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range call.FindAllSubmatch(text, -1) {
			hooks[string(m[1])]++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, claim := range Story() {
		if hooks[claim.ID] == 0 {
			t.Errorf("no code asks sabotage.Active(%q)", claim.ID)
		}
		delete(hooks, claim.ID)
	}
	for id := range hooks {
		t.Errorf("sabotage.Active(%q) belongs to no claim", id)
	}
}
