// Package demotest gives a test binary the demonstration's enclave, run by a trefoil that was
// built of this very tree.
//
// The invariant it keeps: what a test binary starts ends with it, also when starting fails. It
// is imported by tests only.
package demotest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/demo"
)

// World is a running enclave and the binary that runs it.
type World struct {
	*demo.World
	Dir    string            // of the enclave
	Binary string            // the trefoil that runs
	Env    map[string]string // the lines of demo.env
}

// Main runs a test binary beside what start brings up in a fresh directory: start returns how
// to end it, also what of it stands when it fails. It returns the exit code.
func Main(m *testing.M, start func(ctx context.Context, dir string) (stop func(context.Context) error, err error)) int {
	dir, err := os.MkdirTemp("", "trefoil-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	stop, err := start(ctx, dir)
	if stop != nil {
		defer func() {
			end, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			if err := stop(end); err != nil {
				fmt.Fprintln(os.Stderr, "stop the enclave:", err)
			}
		}()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "start the enclave:", err)
		return 1
	}
	return m.Run()
}

// Start builds trefoil into dir and starts an enclave of o.People with it in dir/e; flags are
// go build's. The caller closes the world. It is nil when nothing was started.
func Start(ctx context.Context, dir string, o demo.Options, flags ...string) (*World, error) {
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL's user passes through
		return nil, err
	}
	w := &World{Dir: filepath.Join(dir, "e"), Binary: filepath.Join(dir, "trefoil"), Env: map[string]string{}}
	if err := Build(ctx, w.Binary, flags...); err != nil {
		return nil, err
	}
	o.Dir, o.Binary = w.Dir, w.Binary
	if o.Out == nil {
		o.Out = os.Stderr
	}
	var err error
	if w.World, err = demo.Start(ctx, o); err != nil {
		return nil, err
	}
	for _, kv := range w.Environment() {
		w.Env[kv[0]] = kv[1]
	}
	return w, nil
}

// Build makes the trefoil of this tree; flags are go build's.
func Build(ctx context.Context, binary string, flags ...string) error {
	args := append(append([]string{"build"}, flags...), "-o", binary, "github.com/trefoil-eu/trefoil/cmd/trefoil")
	if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	return nil
}

// Edit changes a file of the enclave's configuration.
func Edit(path string, change func(text string) string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(change(string(text))), 0o600)
}

// Replace changes the one place of a file that holds old.
func Replace(path, old, with string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if strings.Count(string(text), old) != 1 {
		return fmt.Errorf("%s does not have %q once", path, old)
	}
	return os.WriteFile(path, []byte(strings.Replace(string(text), old, with, 1)), 0o600)
}
