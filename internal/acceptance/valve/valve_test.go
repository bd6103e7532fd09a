package valve

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/preamble"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// house is the demonstration's enclave, whose analysts outside the region come through the
// valve. Its gateway can be made hostile.
type house struct {
	t      *testing.T
	binary string
	dir    string
	env    map[string]string
	valve  string // where clients come to
	door   string // the gateway's listener for the valve
	orders string // the file of the gateway's failpoints
}

func newHouse(t *testing.T) *house {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	h := &house{t: t, orders: filepath.Join(t.TempDir(), "order")}
	t.Setenv("TREFOIL_FAULT", h.orders)
	w, err := demotest.Start(ctx, t.TempDir(), demo.Options{People: 2000, Valve: true, Prepare: prepare}, "-tags", "sabotage")
	if err != nil {
		t.Fatal(err)
	}
	h.binary, h.dir, h.env = w.Binary, w.Dir, w.Env
	h.valve, h.door = h.env["VALVE_ADDR"], h.env["VALVE_DOOR"]
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := w.Close(end); err != nil {
			t.Error(err)
		}
	})
	return h
}

// prepare gives sessions an allowance that a hostile gateway cannot hide much in.
func prepare(_ context.Context, dir, _ string) error {
	return demotest.Replace(filepath.Join(dir, "enclave", "enclave.yaml"), "gateway:\n", fmt.Sprintf("gateway:\n  catalog_allowance: %d\n", allowance))
}

const allowance = 64 << 10

// by is a DSN of the environment by way of the valve, or of the gateway's own address.
func (h *house) by(address, name string) string {
	u, err := url.Parse(h.env[name])
	if err != nil {
		h.t.Fatal("DSN is no URI")
	}
	u.Host = address
	return u.String()
}

func (h *house) through(name string) string { return h.by(h.valve, name) }

func ask[T any](ctx context.Context, dsn, sql string) (v T, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return v, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	err = conn.QueryRow(ctx, sql).Scan(&v)
	return v, err
}

// copied reads n rows of a hundred bytes and returns how many bytes came.
func copied(ctx context.Context, dsn string, n int) (int64, error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	return copyTo(ctx, conn, n)
}

func copyTo(ctx context.Context, conn *pgx.Conn, n int) (int64, error) {
	var c counter
	_, err := conn.PgConn().CopyTo(ctx, &c, fmt.Sprintf("COPY (SELECT lpad((row_number() OVER ())::text, 99, 'x') FROM app.people, generate_series(1, %d) LIMIT %d) TO STDOUT", n, n))
	return int64(c), err
}

type counter int64

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

// officer gives an order to the monitor and returns its id.
func (h *house) officer(ctx context.Context, name string, args ...string) string {
	h.t.Helper()
	args = append(append([]string{"--json", "monitor"}, args...), "--dir", filepath.Join(h.dir, "monitor"), "--key", filepath.Join(h.dir, "officers", "keys", name))
	out, err := exec.CommandContext(ctx, h.binary, args...).Output()
	if err != nil {
		h.t.Fatalf("trefoil %s: %v", strings.Join(args, " "), err)
	}
	var answer struct{ ID string }
	if err := json.Unmarshal(out, &answer); err != nil {
		h.t.Fatalf("trefoil %s: %v", strings.Join(args, " "), err)
	}
	return answer.ID
}

// TestEverythingThroughTheValve: real clients, real TLS, every part a process.
func TestEverythingThroughTheValve(t *testing.T) {
	h := newHouse(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	const people = "SELECT count(*) FROM app.people"
	var refused *pgconn.PgError
	if _, err := ask[int64](ctx, h.by(h.env["GATEWAY_ADDR"], "ANALYST_CN_DSN"), people); !errors.As(err, &refused) || !strings.Contains(refused.Error()+refused.Detail, "valve") {
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
		if n, err := copied(ctx, h.through("ANALYST_CN_DSN"), rows); err != nil || n != int64(rows)*100 {
			t.Errorf("%d rows through the valve: %d bytes, %v", rows, n, err)
		}
	}
	h.many(ctx)
	if n, err := copied(ctx, h.through("ANALYST_IE_DSN"), 1000); err != nil || n != 100_000 {
		t.Errorf("in the region, through the valve: %d bytes, %v", n, err)
	}
	h.stop(ctx, people)
	h.audits(ctx)
	h.otherBytes(ctx)
	h.unrecorded(ctx)
	h.withoutSecrets(ctx)
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

// stop: an open session gets nothing after it, and new ones neither.
func (h *house) stop(ctx context.Context, sql string) {
	conn, err := pgx.Connect(ctx, h.through("ANALYST_CN_DSN"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // it is closed by then
	h.officer(ctx, "ada", "stop", "--all", "--reason", "drill")
	var n int64
	if err := conn.QueryRow(ctx, sql).Scan(&n); err == nil {
		h.t.Error("an answer came through after a stop")
	}
	if _, err := ask[int64](ctx, h.through("ANALYST_CN_DSN"), sql); err == nil {
		h.t.Error("a new session got an answer after a stop")
	}
	h.officer(ctx, "ben", "second", h.officer(ctx, "ada", "resume", "--reason", "drill"))
	if _, err := ask[int64](ctx, h.through("ANALYST_CN_DSN"), sql); err != nil {
		h.t.Errorf("after resuming: %v", err)
	}
}
