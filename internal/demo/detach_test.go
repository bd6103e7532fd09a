package demo

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// build makes the real binary.
func build(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "trefoil")
	if out, err := exec.Command("go", "build", "-o", binary, "github.com/trefoil-eu/trefoil/cmd/trefoil").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}

// place makes a directory with a short name that PostgreSQL's user may enter.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "trefoil-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = Stop(context.Background(), dir) // after a failure something may still run
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// contract are the keys of demo.env that tools rely on.
var contract = []string{"ADMIN_DSN", "INSIDE_ADMIN_DSN", "OUTSIDE_ADMIN_DSN", "SERVICE_DSN", "ANALYST_IE_DSN", "ANALYST_JP_DSN",
	"ANALYST_CN_DSN", "GATEWAY_ADDR", "LOG_URL", "MONITOR_URL", "MONITOR_PID", "GATEWAY_PID", "LOG_VKEY", "MONITOR_VKEY", "CONFIG",
	"VALVE_ADDR", "VALVE_DOOR"}

func readEnv(t *testing.T, dir string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, envFile))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, line := range strings.Split(strings.TrimSpace(string(text)), "\n") {
		key, value, ok := strings.Cut(line, "='")
		value, closed := strings.CutSuffix(value, "'")
		if !ok || !closed {
			t.Errorf("%s has a line that is not KEY='value'", envFile)
		}
		env[key] = value
	}
	return env
}

func TestDetachedEnclaveRunsUntilItIsStopped(t *testing.T) {
	binary, dir := build(t), place(t)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	run := func(args ...string) (string, error) {
		out, err := exec.CommandContext(ctx, binary, append([]string{"demo", "--dir", dir}, args...)...).CombinedOutput()
		return string(out), err
	}
	if out, err := run("--detach", "--people", "300"); err != nil {
		t.Fatalf("detach: %v\n%s", err, out)
	}
	env := readEnv(t, dir)
	for _, key := range contract {
		if env[key] == "" {
			t.Errorf("%s lacks %s", envFile, key)
		}
		if dsn := env[key]; strings.HasSuffix(key, "_DSN") {
			if err := opens(ctx, dsn); err != nil {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
	if len(env) != len(contract) {
		t.Errorf("%s has %d keys, the contract %d", envFile, len(env), len(contract))
	}
	if out, err := run("--detach", "--people", "300"); err == nil || !strings.Contains(out, "--stop --dir") {
		t.Errorf("a second demonstration in the same directory: %v\n%s", err, out)
	}
	// A part that crashed must not keep the rest from being stopped.
	pid, err := strconv.Atoi(env["GATEWAY_PID"])
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatalf("the gateway's number is not that of a process of ours: %v", err)
	}
	if out, err := run("--stop"); err != nil {
		t.Errorf("stop: %v\n%s", err, out)
	}
	if left := running(dir); len(left) > 0 {
		t.Errorf("still running: %v", left)
	}
	if out, err := run("--stop"); err == nil {
		t.Errorf("stopping what does not run: %s", out)
	}
}

// opens connects and reads the one table that is everywhere.
func opens(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var n int64
	return conn.QueryRow(ctx, "SELECT count(email) FROM app.people").Scan(&n)
}

// TestNothingOutlivesALauncherThatWasKilled: the kernel tells attached parts.
func TestNothingOutlivesALauncherThatWasKilled(t *testing.T) {
	binary, dir := build(t), place(t)
	cmd := exec.Command(binary, "demo", "--once", "--people", "300", "--dir", dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(2*time.Minute, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	seen := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if strings.Contains(lines.Text(), "gateway and log") {
			seen = true
			break
		}
	}
	before := running(dir)
	if !seen || len(before) < 7 {
		t.Errorf("before the crash these ran: %v", before)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	deadline := time.Now().Add(30 * time.Second)
	for len(running(dir)) > 0 {
		if time.Now().After(deadline) {
			t.Fatalf("outlived the launcher: %v", running(dir))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// TestANumberThatBelongsToAnotherProgramIsLeftAlone: after a crash the pid file may name
// somebody else's process.
func TestANumberThatBelongsToAnotherProgramIsLeftAlone(t *testing.T) {
	dir := place(t)
	if err := os.MkdirAll(filepath.Join(dir, "pids"), 0o755); err != nil {
		t.Fatal(err)
	}
	other := exec.Command("sleep", "60")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Process.Kill(); _ = other.Wait() }()
	for _, name := range []string{"gateway", "launcher"} {
		if err := os.WriteFile(filepath.Join(dir, "pids", name), []byte(strconv.Itoa(other.Process.Pid)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Stop(context.Background(), dir); err == nil {
		t.Error("another program was taken for a part of the demonstration")
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Error("another program was stopped")
	}
}
