package chaos

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// analysts of each dataset; together well above the 20 releases that must be in flight.
const analysts = 16

var datasets = [...]string{"support", "analytics"}

var clusterOf = map[string]string{"support": "inside", "analytics": "outside"}

// enclave is a running world that the tests may hurt.
type enclave struct {
	*demo.World
	t        *testing.T
	binary   string
	password string
	orders   string // the file of the failpoints' order
	logDisk  string // mount point under the access log, "" without the privilege to mount
	env      map[string]string
	kills    []time.Time            // of the gateway
	hurt     map[string][]time.Time // of databases: each kill, and when its last process had ended
}

// start builds the binary with failpoints and starts an enclave of it. With disk the access
// log stands on a file system of its own, which can be made small.
func start(t *testing.T, people int64, disk bool) *enclave {
	t.Helper()
	e := &enclave{t: t, env: map[string]string{}, hurt: map[string][]time.Time{}}
	began := time.Now()
	e.binary = filepath.Join(t.TempDir(), "trefoil")
	if err := demotest.Build(t.Context(), e.binary, "-tags", "sabotage"); err != nil {
		t.Fatal(err)
	}
	t.Logf("built after %.1f s", time.Since(began).Seconds())
	dir, err := os.MkdirTemp("", "trefoil-chaos-") // short, and PostgreSQL's user may enter
	if err != nil {
		t.Fatal(err)
	}
	e.orders = filepath.Join(dir+"-orders", "order")
	if err := os.MkdirAll(filepath.Dir(e.orders), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TREFOIL_FAULT", e.orders)
	t.Cleanup(func() { e.remove(dir) })
	random := make([]byte, 16)
	if _, err := rand.Read(random); err != nil {
		t.Fatal(err)
	}
	e.password = hex.EncodeToString(random)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	e.World, err = demo.Start(ctx, demo.Options{Dir: dir, People: people, Binary: e.binary, Out: testLog{t},
		Prepare: func(_ context.Context, dir, _ string) error { return e.prepare(dir, disk) }})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	for _, kv := range e.Environment() {
		e.env[kv[0]] = kv[1]
	}
	t.Logf("the enclave stands after %.1f s", time.Since(began).Seconds())
	return e
}

type testLog struct{ t *testing.T }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}

// remove stops everything and deletes it.
func (e *enclave) remove(dir string) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if e.t.Failed() {
		for _, part := range []string{"gateway", "monitor"} {
			text, _ := os.ReadFile(filepath.Join(dir, "logs", part+".log")) // it may not be there yet
			lines := strings.Split(strings.TrimSpace(string(text)), "\n")
			e.t.Logf("last lines of the %s:\n%s", part, strings.Join(lines[max(0, len(lines)-12):], "\n"))
		}
	}
	began := time.Now()
	defer func() { e.t.Logf("stopped and removed in %.1f s", time.Since(began).Seconds()) }()
	if err := demo.Stop(ctx, dir); err != nil && !errors.Is(err, demo.ErrNothingRuns) {
		e.t.Error(err)
	}
	if e.logDisk != "" {
		if err := unix.Unmount(e.logDisk, unix.MNT_DETACH); err != nil {
			e.t.Error(err)
		}
	}
	if err := errors.Join(os.RemoveAll(dir), os.RemoveAll(filepath.Dir(e.orders))); err != nil {
		e.t.Error(err)
	}
}

func analyst(dataset string, i int) string { return fmt.Sprintf("chaos-%s-%02d", dataset, i) }

// prepare adds the analysts, and lets the gateway hold little in memory, so that it spills.
func (e *enclave) prepare(dir string, disk bool) error {
	if disk {
		at := filepath.Join(dir, "log")
		if err := os.MkdirAll(at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=256m"); err == nil {
			e.logDisk = at
		}
	}
	verifier, err := identity.NewVerifier(e.password, identity.MinIterations)
	if err != nil {
		return err
	}
	people, rules := "", ""
	for _, dataset := range datasets {
		employer, country, group := "clover-ie", "IE", "support"
		if dataset == "analytics" {
			employer, country, group = "clover-cn", "CN", "analysts"
		}
		for i := range analysts {
			who := analyst(dataset, i)
			people += fmt.Sprintf("  - {id: %s, verifier: %q, groups: [%s], employer: %s, workplace: %s, purposes: [%s], attested: {by: HR register, at: 2026-11-01}}\n",
				who, verifier, group, employer, country, dataset)
			rules += fmt.Sprintf("  - {id: %s, employer: %s, workplace: %s, groups: [%s]}\n", who, employer, country, group)
		}
	}
	return errors.Join(
		demotest.Replace(filepath.Join(dir, "enclave", "people.yaml"), "people:\n", "people:\n"+people),
		demotest.Replace(filepath.Join(dir, "monitor", monitor.RulesFile), "principals:\n", "principals:\n"+rules),
		demotest.Replace(filepath.Join(dir, "enclave", "enclave.yaml"), "  summary_interval:", "  memory_bytes: 300000\n  summary_interval:"))
}

// dsn of an analyst: TLS, verified.
func (e *enclave) dsn(who, dataset string) string {
	u, err := url.Parse(e.DSN("app", dataset))
	if err != nil {
		e.t.Error("the enclave's DSN is no URI")
		return ""
	}
	u.User = url.UserPassword(who, e.password)
	return u.String()
}

// pid of gateway or monitor as it runs now.
func (e *enclave) pid(part string) int {
	for _, kv := range e.Environment() {
		if kv[0] == strings.ToUpper(part)+"_PID" {
			pid, err := strconv.Atoi(kv[1])
			if err != nil {
				e.t.Fatal(err)
			}
			return pid
		}
	}
	e.t.Fatalf("no number of the %s", part)
	return 0
}

// gone waits for a process to end.
func gone(pid int, limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if err := syscall.Kill(pid, 0); errors.Is(err, syscall.ESRCH) {
			return true
		}
	}
	return false
}

// order arms a failpoint: "crash NAME" or "fail NAME", and the part that it is for where
// several come to it.
func (e *enclave) order(text string) {
	if err := os.WriteFile(e.orders+".new", []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Rename(e.orders+".new", e.orders); err != nil {
		e.t.Fatal(err)
	}
}

// obeyed says whether the order was carried out within the limit, and takes it back if not.
func (e *enclave) obeyed(limit time.Duration) bool {
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(e.orders); errors.Is(err, os.ErrNotExist) {
			return true
		}
	}
	return os.Remove(e.orders) != nil // carried out at the last moment
}

// kill ends a part as a power cut of its machine would; at a failpoint if one is named.
func (e *enclave) kill(ctx context.Context, part, point string) {
	e.t.Helper()
	if part == "gateway" {
		e.kills = append(e.kills, time.Now())
	}
	if cluster := e.Clusters()[part]; cluster != nil {
		e.hurt[part] = append(e.hurt[part], time.Now())
		if err := cluster.Kill(ctx); err != nil {
			e.t.Fatal(err)
		}
		e.hurt[part] = append(e.hurt[part], time.Now())
		return
	}
	pid := e.pid(part)
	if point != "" {
		e.order("crash " + point + " " + part)
		if !e.obeyed(30 * time.Second) {
			e.t.Errorf("%s never came to its failpoint %s", part, point)
		}
	}
	if point == "" || !gone(pid, 5*time.Second) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			e.t.Fatal(err)
		}
	}
	if !gone(pid, 30*time.Second) {
		e.t.Fatalf("%s does not end", part)
	}
	if part == "gateway" {
		e.kills = append(e.kills, time.Now())
	}
}

// revive starts a part again and waits until it answers.
func (e *enclave) revive(ctx context.Context, part string) time.Duration {
	e.t.Helper()
	began := time.Now()
	var err error
	switch cluster := e.Clusters()[part]; {
	case part == "gateway":
		err = e.StartGateway(ctx)
	case part == "monitor":
		err = e.StartMonitor(ctx)
	default:
		if err = cluster.Start(ctx); err == nil {
			err = cluster.AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error { return conn.Ping(ctx) })
		}
	}
	if err != nil {
		e.t.Fatalf("start %s again: %v", part, err)
	}
	return time.Since(began)
}

// trust is what an outsider knows of this enclave.
func (e *enclave) trust() *trefoil.Trust {
	trust, err := trefoil.ParseTrust(e.env["LOG_VKEY"], strings.Split(e.env["MONITOR_VKEY"], ","))
	if err != nil {
		e.t.Fatal(err)
	}
	return trust
}

// checkpoint reads the log's head as anyone can, and verifies its signatures.
func (e *enclave) checkpoint(ctx context.Context) ([]byte, *trefoil.Checkpoint) {
	e.t.Helper()
	raw, err := trefoil.NewClient(e.env["LOG_URL"], &http.Client{Timeout: 20 * time.Second}).Checkpoint(ctx)
	if err != nil {
		e.t.Fatal(err)
	}
	head, err := e.trust().VerifyCheckpoint(raw)
	if err != nil {
		e.t.Fatal(err)
	}
	return raw, head
}
