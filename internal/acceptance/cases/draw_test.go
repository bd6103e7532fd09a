package cases

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
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

// The inspector takes the head first, and tells the seed when more has been logged: the sample is of
// that head, and one of a head that the log never had is none.
func TestAnInspectorsSampleIsOfTheHeadTakenBefore(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, world.Env["LOG_URL"]+"/checkpoint", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	head, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%d: %v", resp.StatusCode, err)
	}
	subjects(ctx, t) // the log goes on
	dir := t.TempDir()
	taken, sample := filepath.Join(dir, "head"), filepath.Join(dir, "sample.zip")
	if err := os.WriteFile(taken, head, 0o600); err != nil {
		t.Fatal(err)
	}
	draw := []string{"draw", "--seed", "drawn by lot in Galway", "--n", "3", "--head", taken}
	out, err := trefoil(ctx, append(draw, sample)...)
	must(t, out, err)
	size := strings.Split(string(head), "\n")[1]
	if out, err = run(ctx, "verify", sample, "--log-key", world.Env["LOG_VKEY"]); err != nil || !strings.Contains(out, "at size "+size+",") {
		t.Errorf("a sample of size %s: %v\n%s", size, err, out)
	}
	if err := os.WriteFile(taken, bytes.Replace(head, []byte("\n"+size+"\n"), []byte("\n"+size+"0\n"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := trefoil(ctx, append(draw, sample+".2")...); err == nil {
		t.Errorf("a head that nobody signed:\n%s", out)
	}
	if _, err := os.Stat(sample + ".2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a sample that failed is there: %v", err)
	}
}
