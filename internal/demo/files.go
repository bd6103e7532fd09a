package demo

import (
	"bytes"
	"crypto/rand"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

//go:embed files
var templates embed.FS

// Files and directories of a demonstration.
const (
	envFile = "demo.env"
	marker  = ".trefoil-demo" // this directory was made by a demonstration, and may be cleared by one
)

// ErrBusy: the directory cannot be used now. Stop what runs there, or choose another.
var ErrBusy = errors.New("directory is in use")

func (w *World) path(parts ...string) string {
	return filepath.Join(append([]string{w.o.Dir}, parts...)...)
}

// claim takes the directory: an empty one, or one that a demonstration left behind.
func (w *World) claim() error {
	if err := os.MkdirAll(w.o.Dir, 0o755); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	if all := running(w.o.Dir); len(all) > 0 {
		return fmt.Errorf("%w: a demonstration runs in %s; stop it with: trefoil demo --stop --dir %s", ErrBusy, w.o.Dir, w.o.Dir)
	}
	there, err := os.ReadDir(w.o.Dir)
	if err != nil {
		return fmt.Errorf("read directory: %w", err)
	}
	ours := false
	for _, e := range there {
		ours = ours || e.Name() == marker
	}
	if len(there) > 0 && !ours {
		return fmt.Errorf("%w: %s is not empty, and no demonstration made it", ErrBusy, w.o.Dir)
	}
	for _, e := range there {
		if e.Name() != marker {
			if err := os.RemoveAll(w.path(e.Name())); err != nil {
				return fmt.Errorf("clear what an earlier demonstration left: %w", err)
			}
		}
	}
	if err := os.WriteFile(w.path(marker), []byte("A trefoil demonstration made this directory. The next one here clears it.\n"), 0o644); err != nil {
		return fmt.Errorf("mark directory: %w", err)
	}
	for _, dir := range []string{"pids", "logs", "pg", "spill", "enclave/keys", "enclave/tls", "enclave/policy", "monitor/keys", "officers/keys", "receipts"} {
		if err := os.MkdirAll(w.path(dir), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	pid := []byte(strconv.Itoa(os.Getpid()) + "\n")
	return os.WriteFile(w.path("pids", "launcher"), pid, 0o644)
}

// render writes a template of files/ to path.
func (w *World) render(name, path string, values any) error {
	text, err := templates.ReadFile("files/" + name)
	if err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	t, err := template.New(name).Funcs(template.FuncMap{"quote": strconv.Quote}).Option("missingkey=error").Parse(string(text))
	if err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	var out bytes.Buffer
	if err := t.Execute(&out, values); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	return nil
}

// secret draws n random bytes in hex.
func secret(n int) (string, error) {
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		return "", fmt.Errorf("draw secret: %w", err)
	}
	return hex.EncodeToString(b), nil
}

// writeSecrets draws one secret and writes it to each of the files: what two parts share.
// There is no line break at its end: some readers take the bytes as they are.
func writeSecrets(paths ...string) error {
	text, err := secret(32)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return fmt.Errorf("write secret: %w", err)
		}
	}
	return nil
}

// keepPorts finds n ports of the loopback address that nobody listens on, and keeps them:
// until their parts start, seconds later, another demonstration must not find them free too.
func (w *World) keepPorts(n int) ([]string, error) {
	var out []string
	for len(out) < n {
		port, err := postgres.FreePort("127.0.0.1")
		if err != nil {
			return nil, err
		}
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue // taken this very moment
		}
		w.kept = append(w.kept, l)
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// freePorts lets go of the kept ports with these addresses.
func (w *World) freePorts(addresses ...string) {
	w.kept = slices.DeleteFunc(w.kept, func(l net.Listener) bool {
		mine := slices.Contains(addresses, l.Addr().String())
		if mine {
			_ = l.Close()
		}
		return mine
	})
}

// writeEnv writes demo.env: lines KEY='value', for shells and tools. It appears complete or
// not at all.
func (w *World) writeEnv() error {
	var b strings.Builder
	for _, kv := range w.Environment() {
		fmt.Fprintf(&b, "%s='%s'\n", kv[0], strings.ReplaceAll(kv[1], "'", `'\''`))
	}
	if err := os.WriteFile(w.path(envFile+".new"), []byte(b.String()), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", envFile, err)
	}
	if err := os.Rename(w.path(envFile+".new"), w.path(envFile)); err != nil {
		return fmt.Errorf("write %s: %w", envFile, err)
	}
	return nil
}
