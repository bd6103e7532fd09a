package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
)

// cli runs one command line and returns what it printed.
func cli(t *testing.T, ctx context.Context, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(&out)
	root.SetErr(new(bytes.Buffer))
	err := root.ExecuteContext(ctx)
	return out.String(), err
}

func TestKeyNewIsPrivateAndNeverReplaced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "witness")
	out, err := cli(t, t.Context(), "key", "new", "witness", "--out", file, "monitor.example/witness")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := trefoil.NewWitnessVerifier(strings.TrimSpace(out)); err != nil {
		t.Errorf("printed %q: %v", out, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if again, err := cli(t, t.Context(), "key", "show", "witness", file); err != nil || again != out {
		t.Errorf("show: %q, %v; want %q", again, err, out)
	}
	if _, err := cli(t, t.Context(), "key", "new", "witness", "--out", file, "x"); err == nil {
		t.Error("an existing key was replaced")
	}
	for _, args := range [][]string{{"key", "new", "king", "--out", file + "2", "x"}, {"key", "new", "log", "x"}, {"monitor"}, {"monitor", "init"}, {"monitor", "status"}} {
		if code := run(t.Context(), args); code != exitUsage {
			t.Errorf("%v: exit code %d, want %d", args, code, exitUsage)
		}
	}
}

// TestMonitorCommand sets a monitor up, runs it, stops its permits and asks it.
func TestMonitorCommand(t *testing.T) {
	dir := t.TempDir()
	out, err := cli(t, t.Context(), "--json", "monitor", "init", "--dir", dir, "--name", "monitor.example")
	if err != nil {
		t.Fatal(err)
	}
	var keys monitor.VerifierKeys
	if err := json.Unmarshal([]byte(out), &keys); err != nil {
		t.Fatal(err)
	}
	logKey, err := monitor.NewKey(monitor.UseLog, "example.eu/log", filepath.Join(dir, "other"))
	if err != nil {
		t.Fatal(err)
	}
	if trust, err := trefoil.ParseTrust(logKey, strings.Split(keys.String(), ",")); err != nil || len(trust.Witnesses) != 1 || trust.Permit == nil {
		t.Errorf("MONITOR_VKEY %q: %v", keys, err)
	}
	if code := run(t.Context(), []string{"monitor", "--dir", dir}); code != exitUnheld {
		t.Errorf("rules that are not filled in: exit code %d, want %d", code, exitUnheld)
	}
	rules := filepath.Join(dir, monitor.RulesFile)
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	officers := "\nofficers:\n"
	for _, name := range []string{"ada", "ben"} {
		vkey, err := cli(t, t.Context(), "key", "new", "officer", "--out", filepath.Join(dir, name), name)
		if err != nil {
			t.Fatal(err)
		}
		officers += "  - { name: " + name + ", person: " + name + ", key: " + strings.TrimSpace(vkey) + " }\n"
	}
	text = append(text, officers...)
	filled := strings.NewReplacer("\nlogs: []\n", "\nlogs:\n  - { origin: example.eu/log, key: "+logKey+" }\n",
		"listen: 127.0.0.1:7480", "listen: 127.0.0.1:0").Replace(string(text))
	if err := os.WriteFile(rules, []byte(filled), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "keys", "staff"), make([]byte, 32), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := cli(t, ctx, "monitor", "--dir", dir)
		done <- err
	}()
	order := func(args ...string) string {
		t.Helper()
		out, err := cli(t, t.Context(), append([]string{"--json", "monitor"}, append(args, "--dir", dir)...)...)
		if err != nil {
			t.Fatalf("%v: %v", args, err)
		}
		var answer monitor.OrderAnswer
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			t.Fatal(err)
		}
		return answer.ID
	}
	key := func(name string) string { return filepath.Join(dir, name) }
	stop := order("stop", "--all", "--reason", "drill", "--key", key("ada"))
	if code := run(t.Context(), []string{"monitor", "stop", "--dir", dir, "--reason", "drill", "--key", key("ada")}); code != exitUsage {
		t.Errorf("a stop of nothing: exit code %d, want %d", code, exitUsage)
	}
	resume := order("resume", "--stop", stop, "--reason", "drill is over", "--key", key("ben"))
	if code := run(t.Context(), []string{"monitor", "second", resume, "--dir", dir, "--key", key("ben")}); code != exitDone {
		t.Errorf("seconding one's own: exit code %d", code)
	}
	if kept, err := os.ReadDir(filepath.Join(dir, "state", "orders", "proposed")); err != nil || len(kept) != 1 {
		t.Errorf("one person resumed: %v, %v", kept, err)
	}
	order("second", resume, "--key", key("ada"))
	tighter := filepath.Join(dir, "tighter.yaml")
	if err := os.WriteFile(tighter, []byte(strings.Replace(filled, "chunk_rows: 10000000", "chunk_rows: 10", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := cli(t, t.Context(), "monitor", "rules", "compare", tighter, "--dir", dir); err != nil || !strings.Contains(out, "nothing is looser") {
		t.Errorf("compare: %s, %v", out, err)
	}
	order("rules", "propose", tighter, "--reason", "smaller answers", "--key", key("ben"))
	if now, err := os.ReadFile(rules); err != nil || !strings.Contains(string(now), "chunk_rows: 10\n") && !strings.Contains(string(now), "chunk_rows: 10 ") {
		t.Errorf("the rules in force are not the proposed ones: %v", err)
	}
	if _, err := cli(t, t.Context(), "monitor", "diff", "--dir", dir); err != nil {
		t.Errorf("diff: %v", err)
	}
	if _, err := cli(t, t.Context(), "monitor", "verify", "--dir", dir); err != nil {
		t.Errorf("verify: %v", err)
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("monitor ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the monitor does not end")
	}
}
