package chaos

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// succeed starts a gateway that takes the place of the one that runs.
func (e *enclave) succeed(ctx context.Context) *exec.Cmd {
	e.t.Helper()
	cmd := exec.CommandContext(ctx, e.binary, "gateway", "--takeover", "-c", e.Path("enclave", "enclave.yaml"))
	log, err := os.Create(filepath.Join(e.t.TempDir(), "successor.log"))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		if e.t.Failed() {
			text, _ := os.ReadFile(log.Name()) // it was made above
			e.t.Logf("the successor said:\n%s", text)
		}
		log.Close()
	})
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait() // how it ended is in its log
	})
	return cmd
}

// TestTakeoverClosesTheDoorToNobody: a second gateway takes the place of the first while clients
// come and go, over TCP and over a socket. None is refused, a transaction that is open ends as
// its client wants, and one log goes on.
func TestTakeoverClosesTheDoorToNobody(t *testing.T) {
	e := start(t, 200, false)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	e.kill(ctx, "gateway", "")
	socket := filepath.Join(e.Path(), ".s.PGSQL.6432")
	if err := demotest.Replace(e.Path("enclave", "enclave.yaml"), "  summary_interval:", "  metrics: 127.0.0.1:"+freePort(t)+"\n  listen_also: [\"unix:"+socket+"\"]\n  summary_interval:"); err != nil {
		t.Fatal(err)
	}
	e.revive(ctx, "gateway")

	busy, err := pgx.Connect(ctx, e.DSN("app", "platform"))
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close(ctx)
	tx, err := busy.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "CREATE TEMP TABLE held (n int)"); err != nil {
		t.Fatal(err)
	}
	local, err := url.Parse(e.DSN("app", "platform"))
	if err != nil {
		t.Fatal(err)
	}
	local.Host, local.RawQuery = "", url.Values{"host": {e.Path()}, "port": {"6432"}, "sslmode": {"disable"}}.Encode()
	work, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	var mu sync.Mutex
	visits := 0
	for _, dsn := range []string{e.DSN("app", "platform"), local.String(), e.DSN("app", "platform")} {
		all.Go(func() {
			for work.Err() == nil {
				conn, err := pgx.Connect(ctx, dsn)
				if err != nil {
					t.Errorf("the door was closed: %v", err)
					return
				}
				_ = conn.Close(ctx)
				mu.Lock()
				visits++
				mu.Unlock()
			}
		})
	}
	count := func() int { mu.Lock(); defer mu.Unlock(); return visits }
	until(ctx, t, "visits", func() bool { return count() > 5 })
	first := e.pid("gateway")
	e.succeed(ctx)
	until(ctx, t, "draining", func() bool {
		text, err := os.ReadFile(e.Path("logs", "gateway.log"))
		return err == nil && strings.Contains(string(text), "takes over")
	})
	if err := tx.Commit(ctx); err != nil {
		t.Errorf("the open transaction: %v", err)
	}
	if !gone(first, time.Minute) {
		t.Fatal("the first gateway does not end")
	}
	before := count()
	until(ctx, t, "visits to the successor", func() bool { return count() > before+5 || t.Failed() })
	stop()
	all.Wait()
	e.operated(ctx, t)
}

// operated looks at the successor as its operator does.
func (e *enclave) operated(ctx context.Context, t *testing.T) {
	t.Helper()
	config := e.Path("enclave", "enclave.yaml")
	out, err := exec.CommandContext(ctx, e.binary, "gateway", "status", "--json", "-c", config).Output()
	if err != nil {
		t.Fatal(err)
	}
	var status struct {
		Checks map[string]string
		Log    struct{ Records uint64 }
	}
	if err := json.Unmarshal(out, &status); err != nil || status.Checks["log"] != "ok" || status.Log.Records == 0 {
		t.Errorf("status %s, %v", out, err)
	}
	if info, err := os.Stat(e.Path("enclave", "gateway.sock")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("status socket: %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	_, address, _ := strings.Cut(string(text), "  metrics: ")
	address, _, _ = strings.Cut(address, "\n")
	for path, want := range map[string]string{"/metrics": "trefoil_records_total{kind=\"session\"}", "/healthz": "ok", "/readyz": `"log":"ok"`} {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || !strings.Contains(string(body), want) {
			t.Errorf("%s: %d, %v, without %s", path, resp.StatusCode, err, want)
		}
		if strings.Contains(string(body), `"app"`) || strings.Contains(string(body), "analyst") {
			t.Errorf("%s names a principal", path)
		}
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := postgres.FreePort("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}
