package acceptance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

// With another witness and a quorum that does without the monitor, sessions in the region go
// on while it is away, and their records say so. Nothing leaves the region.
func TestWithoutTheMonitorOnlyTheRegionGoesOnUnderAnotherWitness(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	dir := filepath.Join(t.TempDir(), "e")
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil { // PostgreSQL's user passes through
		t.Fatal(err)
	}
	w, err := demo.Start(ctx, demo.Options{Dir: dir, People: 300, Binary: shared.binary, Out: os.Stderr,
		Prepare: func(_ context.Context, dir, _ string) error {
			return addWitness(t, filepath.Join(dir, "enclave", "enclave.yaml"))
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Close(end); err != nil {
			t.Error(err)
		}
	})
	env := map[string]string{}
	for _, kv := range w.Environment() {
		env[kv[0]] = kv[1]
	}
	for _, who := range []string{"ANALYST_IE_DSN", "ANALYST_CN_DSN"} {
		if err := count(ctx, env[who]); err != nil {
			t.Fatalf("%s with the monitor: %v", who, err)
		}
	}
	pid, err := strconv.Atoi(env["MONITOR_PID"])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := count(ctx, env["ANALYST_IE_DSN"]); err != nil {
		t.Errorf("in the region, with another witness: %v", err)
	}
	var refused *pgconn.PgError
	if err := count(ctx, env["ANALYST_CN_DSN"]); !errors.As(err, &refused) || refused.Code != "57P03" {
		t.Errorf("from outside, without the monitor: %v", err)
	}
	out, err := exec.CommandContext(ctx, shared.binary, "log", "tail", "-n", "40", "--json", "-c", env["CONFIG"]).Output()
	if err != nil || !strings.Contains(strings.ReplaceAll(string(out), " ", ""), `"unpermitted":true`) {
		t.Errorf("no record says unpermitted: %v\n%.2000s", err, out)
	}
}

// addWitness adds a second witness to a configuration, and a quorum of one.
func addWitness(t *testing.T, path string) error {
	c, err := enclave.Load(path)
	if err != nil {
		return err
	}
	trust, err := c.Trust()
	if err != nil {
		return err
	}
	second := witnesstest.Start(t, "second.example", trust.Log)
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	more := fmt.Sprintf("log:\n  quorum: 1\n  witnesses: [{url: %q, key: %q}]\n", second.URL, second.VKey)
	return os.WriteFile(path, []byte(strings.Replace(string(text), "log:\n", more, 1)), 0o600)
}

// count opens a session, reads one row that no catalog holds, and closes it.
func count(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	var n int64
	return conn.QueryRow(ctx, "SELECT count(*) FROM app.people").Scan(&n)
}
