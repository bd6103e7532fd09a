package cases

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An inspector's sample is drawn at the site while the gateway writes its log, and an outsider
// finds it to be what the seed draws; of a changed sample they say so.
func TestAnInspectorsSampleIsDrawnBesideTheGateway(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	subjects(ctx, t) // a session and a release at least
	for _, args := range [][]string{{"--n", "5"}, {"--n", "1", "--kind", "release"}} {
		dir := filepath.Join(t.TempDir(), "sample")
		out, err := trefoil(ctx, append([]string{"draw", "--seed", "drawn by lot in Cork", dir}, args...)...)
		if must(t, out, err); !strings.Contains(out, "holds:") {
			t.Errorf("%v: nothing is said to hold:\n%s", args, out)
		}
		keys := []string{"--log-key", world.Env["LOG_VKEY"]}
		out, err = run(ctx, append([]string{"verify", dir}, keys...)...)
		must(t, out, err)
		t.Log(out)
		drawn := filepath.Join(dir, "draw.json")
		text, err := os.ReadFile(drawn)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(drawn, bytes.Replace(text, []byte("in Cork"), []byte("in Kork"), 1), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := run(ctx, append([]string{"verify", dir}, keys...)...); err == nil {
			t.Errorf("%v: a sample of another seed:\n%s", args, out)
		}
	}
}
