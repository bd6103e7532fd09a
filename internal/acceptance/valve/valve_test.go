package valve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
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
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/preamble"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// house is the demonstration's enclave with a valve before it.
type house struct {
	t      *testing.T
	binary string
	dir    string
	env    map[string]string
	valve  string // where clients come to
	door   string // the gateway's listener for the valve
}

func newHouse(t *testing.T) *house {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	h := &house{t: t}
	for _, at := range []*string{&h.valve, &h.door} {
		port, err := postgres.FreePort("127.0.0.1")
		if err != nil {
			t.Fatal(err)
		}
		*at = fmt.Sprintf("127.0.0.1:%d", port)
	}
	w, err := demotest.Start(ctx, t.TempDir(), demo.Options{People: 2000, Prepare: h.prepare})
	if err != nil {
		t.Fatal(err)
	}
	h.binary, h.dir, h.env = w.Binary, w.Dir, w.Env
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := w.Close(end); err != nil {
			t.Error(err)
		}
	})
	h.require(ctx, w.World)
	h.run()
	return h
}

// require has the monitor start again with rules that require the valve: the demonstration
// itself looks from outside while it starts.
func (h *house) require(ctx context.Context, w *demo.World) {
	h.t.Helper()
	pid, err := strconv.Atoi(h.env["MONITOR_PID"])
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	path := filepath.Join(h.dir, "monitor", "rules.yaml")
	text, readErr := os.ReadFile(path)
	text = append(text, "\nvalve: required\n"...)
	if err := errors.Join(err, readErr, os.WriteFile(path, text, 0o600)); err != nil {
		h.t.Fatal(err)
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = w.StartMonitor(ctx); err == nil {
			return
		}
		if time.Now().After(end) {
			h.t.Fatal(err)
		}
	}
}

// prepare gives monitor and gateway their halves of the valve's configuration.
func (h *house) prepare(_ context.Context, dir, _ string) error {
	key := strings.Repeat("k", 40) + "\n"
	var errs []error
	for path, text := range map[string]string{"enclave/keys/valve": key, "monitor/keys/valve": key, "monitor/keys/valve-token": "valve's own token\n",
		"monitor/valve.yaml": fmt.Sprintf("version: 1\nlisten: %s\ngateway: %s\nkey: keys/valve\nmonitor: { url: %q, token: keys/valve-token }\nlimits: { hold: 2s }\n",
			h.valve, h.door, "http://MONITOR")} {
		errs = append(errs, os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600))
	}
	return errors.Join(append(errs,
		demotest.Replace(filepath.Join(dir, "enclave", "enclave.yaml"), "gateway:\n", fmt.Sprintf("gateway:\n  valve: { listen: %q, key: keys/valve }\n", h.door)),
		demotest.Replace(filepath.Join(dir, "monitor", "rules.yaml"), "staff_key:", "valve_token: keys/valve-token\nstaff_key:"))...)
}

// run starts the valve.
func (h *house) run() {
	h.t.Helper()
	path := filepath.Join(h.dir, "monitor", "valve.yaml")
	text, err := os.ReadFile(path)
	if err != nil {
		h.t.Fatal(err)
	}
	text = []byte(strings.Replace(string(text), "http://MONITOR", h.env["MONITOR_URL"], 1))
	if err := os.WriteFile(path, text, 0o600); err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(h.binary, "valve", "-c", path)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			h.t.Errorf("valve: %v", err)
		}
	})
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", h.valve)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			h.t.Fatal("the valve does not listen")
		}
	}
}

// through is a DSN of the environment by way of the valve.
func (h *house) through(name string) string {
	u, err := url.Parse(h.env[name])
	if err != nil {
		h.t.Fatal("DSN is no URI")
	}
	u.Host = h.valve
	return u.String()
}

func ask[T any](ctx context.Context, dsn, sql string) (v T, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return v, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	err = conn.QueryRow(ctx, sql).Scan(&v)
	return v, err
}

// copied reads n rows of a hundred bytes and returns how many bytes came, and how long it took.
func copied(ctx context.Context, dsn string, n int) (int64, time.Duration, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	var c counter
	began := time.Now()
	_, err = conn.PgConn().CopyTo(ctx, &c, fmt.Sprintf("COPY (SELECT repeat('x', 99) FROM app.people, generate_series(1, %d) LIMIT %d) TO STDOUT", n, n))
	return int64(c), time.Since(began), err
}

type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

func (h *house) order(ctx context.Context, what string) {
	h.t.Helper()
	if out, err := exec.CommandContext(ctx, h.binary, "monitor", what, "--dir", filepath.Join(h.dir, "monitor")).CombinedOutput(); err != nil {
		h.t.Fatalf("monitor %s: %v\n%s", what, err, out)
	}
}

// TestEverythingThroughTheValve: real clients, real TLS, every part a process.
func TestEverythingThroughTheValve(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	const people = "SELECT count(*) FROM app.people"
	var refused *pgconn.PgError
	if _, err := ask[int64](ctx, h.env["ANALYST_CN_DSN"], people); !errors.As(err, &refused) || !strings.Contains(refused.Error()+refused.Detail, "valve") {
		t.Errorf("from outside, past the valve: %v, want the monitor's refusal", err)
	}
	if n, err := ask[int64](ctx, h.through("ANALYST_CN_DSN"), people); err != nil || n == 0 {
		t.Errorf("from outside, through the valve: %d, %v", n, err)
	}
	if _, err := ask[int64](ctx, h.env["ANALYST_IE_DSN"], people); err != nil {
		t.Errorf("in the region, past the valve: %v", err)
	}
	if _, err := ask[int64](ctx, h.through("SERVICE_DSN"), "SELECT 1::bigint"); !errors.As(err, &refused) {
		t.Errorf("a service through the valve: %v, want a refusal", err)
	}
	for _, rows := range []int{1, 1000, 400_000} { // small answers, and many chunks
		if n, _, err := copied(ctx, h.through("ANALYST_CN_DSN"), rows); err != nil || n != int64(rows)*100 {
			t.Errorf("%d rows through the valve: %d bytes, %v", rows, n, err)
		}
	}
	h.many(ctx)
	h.compare(ctx)
	h.stop(ctx, people)
	if c, err := net.Dial("tcp", h.door); err != nil {
		t.Error(err)
	} else {
		defer c.Close()
		_, _ = c.Write((&preamble.Preamble{At: time.Now()}).Append(nil, []byte(strings.Repeat("x", 40))))
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 10)); n != 0 || err == nil {
			t.Errorf("the gateway's door for the valve answers a stranger: %d bytes", n)
		}
	}
}

// many asks a session for many small answers, covered ones and released ones: the overhead of
// small TLS records is within what is stated.
func (h *house) many(ctx context.Context) {
	conn, err := pgx.Connect(ctx, h.through("ANALYST_CN_DSN"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	for i := range 3000 {
		if _, err := conn.Exec(ctx, "", pgx.QueryExecModeSimpleProtocol); err != nil {
			h.t.Fatalf("empty answer %d: %v", i, err)
		}
	}
	for i := range 20 {
		var n int64
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM app.people").Scan(&n); err != nil {
			h.t.Fatalf("small answer %d: %v", i, err)
		}
	}
}

// compare prints how a large read goes with the valve and without it.
func (h *house) compare(ctx context.Context) {
	best := map[bool]time.Duration{}
	for range 3 {
		for _, valve := range []bool{false, true} {
			dsn := h.env["ANALYST_IE_DSN"]
			if valve {
				dsn = h.through("ANALYST_IE_DSN")
			}
			_, took, err := copied(ctx, dsn, 400_000)
			if err != nil {
				h.t.Fatal(err)
			}
			if best[valve] == 0 || took < best[valve] {
				best[valve] = took
			}
		}
	}
	h.t.Logf("40 MB: %v without the valve, %v with it: ratio %.2f", best[false], best[true], best[false].Seconds()/best[true].Seconds())
}

// stop: an open session gets nothing after it, and new ones neither.
func (h *house) stop(ctx context.Context, sql string) {
	conn, err := pgx.Connect(ctx, h.through("ANALYST_CN_DSN"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it is closed by then
	h.order(ctx, "stop")
	var n int64
	if err := conn.QueryRow(ctx, sql).Scan(&n); err == nil {
		h.t.Error("an answer came through after a stop")
	}
	if _, err := ask[int64](ctx, h.through("ANALYST_CN_DSN"), sql); err == nil {
		h.t.Error("a new session got an answer after a stop")
	}
	h.order(ctx, "resume")
	if _, err := ask[int64](ctx, h.through("ANALYST_CN_DSN"), sql); err != nil {
		h.t.Errorf("after resuming: %v", err)
	}
}
