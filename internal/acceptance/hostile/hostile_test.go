package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// way is one way to work against the monitor, and what comes of it.
type way struct {
	name, env, value string // the variable that makes the gateway so
	who, dataset     string
	refusal          string // rule that a client hears of, if the monitor refuses
	finding          string // rule of a finding, if it finds
	stopped          bool   // the valve closes the connection
	words            string // for the page
}

var ways = []way{
	{"widen", "TREFOIL_HOSTILE", "widen", "analyst-cn", "support", "floor", "", false, "opens a clear dataset to a place that is not adequate"},
	{"skip, through the valve", "TREFOIL_HOSTILE", "skip", "analyst-cn", "analytics", "", "valve", true, "lets results out without a record or permit, outside the region"},
	{"skip, in the region", "TREFOIL_HOSTILE", "skip", "analyst-ie", "support", "", "session-bytes", false, "lets results out without a record or permit, in the region, where no valve stands"},
	{"reorder", "TREFOIL_HOSTILE", "reorder", "analyst-cn", "analytics", "gap", "", false, "numbers its chunks in another order than they leave"},
	{"understate", "TREFOIL_HOSTILE", "understate", "analyst-cn", "analytics", "", "valve", true, "records one byte of each chunk, whatever it holds"},
}

// outcome is one line of the page.
type outcome struct {
	way
	got     int    // bytes that the client received as rows
	answer  string // what the monitor said
	records uint64 // new in the log until then
	took    time.Duration
}

// TestHostileGateway is minutes long: make hostile runs it and writes the table of
// docs/design/hostile.md.
func TestHostileGateway(t *testing.T) {
	if os.Getenv("TREFOIL_TEST_HOSTILE") == "" {
		t.Skip("minutes long: make hostile runs it")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	w, err := demotest.Start(ctx, t.TempDir(), demo.Options{People: 2000, Valve: true}, "-tags", "sabotage")
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
	h := &house{t: t, w: w}
	var rows []outcome
	for _, x := range ways {
		t.Run(x.name, func(t *testing.T) {
			h.t = t
			rows = append(rows, h.play(ctx, x))
		})
	}
	if !t.Failed() {
		page(t, rows)
	}
}

type house struct {
	t *testing.T
	w *demotest.World
}

// play restarts the gateway in one way, has somebody ask, and waits for what the monitor says.
func (h *house) play(ctx context.Context, x way) outcome {
	h.t.Setenv(x.env, x.value)
	pid, err := strconv.Atoi(h.env("GATEWAY_PID"))
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err == nil {
		err = h.w.StartGateway(ctx)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	before, size, began := h.findings(ctx), h.size(ctx), time.Now()
	o := outcome{way: x}
	var heard error
	o.got, heard = h.ask(ctx, x.who, x.dataset)
	switch {
	case x.refusal != "":
		var e *pgconn.PgError
		if !errors.As(heard, &e) || !strings.Contains(e.Message+e.Detail+e.Hint, "monitor") || o.got > 0 {
			h.t.Errorf("the client got %d bytes and heard %v", o.got, heard)
		} else {
			o.answer = "refused: " + e.Message
		}
	case x.stopped && o.got > 100_000:
		h.t.Errorf("%d bytes came through the valve", o.got)
	case !x.stopped && heard != nil:
		h.t.Errorf("the client heard %v", heard)
	}
	if x.finding != "" {
		for end := time.Now().Add(time.Minute); h.findings(ctx)[x.finding] <= before[x.finding]; {
			if time.Now().After(end) {
				h.t.Fatalf("no finding %s; the client got %d bytes and heard %v", x.finding, o.got, heard)
			}
			time.Sleep(50 * time.Millisecond)
		}
		o.answer = "finding " + x.finding
		if x.stopped {
			o.answer = "the valve closed the connection; " + o.answer
		}
	}
	o.records, o.took = h.size(ctx)-size, time.Since(began)
	h.t.Logf("%s: %s: %d bytes to the client, %s after %d records, %.1f s", x.name, x.words, o.got, o.answer, o.records, o.took.Seconds())
	return o
}

func (h *house) env(name string) string {
	for _, kv := range h.w.Environment() {
		if kv[0] == name {
			return kv[1]
		}
	}
	h.t.Fatalf("no %s", name)
	return ""
}

// ask reads a large result in one session, and counts what came.
func (h *house) ask(ctx context.Context, who, dataset string) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, h.w.DSN(who, dataset))
	for err != nil && ctx.Err() == nil && strings.Contains(err.Error(), "has not acknowledged") { // a gateway that has just started asks for that first
		time.Sleep(200 * time.Millisecond)
		conn, err = pgconn.Connect(ctx, h.w.DSN(who, dataset))
	}
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	var c counter
	_, err = conn.CopyTo(ctx, &c, "COPY (SELECT p.* FROM app.people p, generate_series(1, 40)) TO STDOUT")
	return int(c), err
}

type counter int

func (c *counter) Write(b []byte) (int, error) { *c += counter(len(b)); return len(b), nil }

func (h *house) findings(ctx context.Context) map[string]int {
	var s struct {
		ByRule map[string]int `json:"findings_by_rule"`
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.env("MONITOR_URL")+"/status", nil)
	if err != nil {
		h.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		h.t.Fatal(err)
	}
	return s.ByRule
}

func (h *house) size(ctx context.Context) uint64 {
	raw, err := trefoil.NewClient(h.env("LOG_URL"), nil).Checkpoint(ctx)
	if err != nil {
		h.t.Fatal(err)
	}
	c, err := trefoil.ParseCheckpoint(raw)
	if err != nil {
		h.t.Fatal(err)
	}
	return c.Size
}

const (
	pagePath  = "../../../docs/design/hostile.md"
	tableHead = "| the gateway | what it does | bytes of rows at the client | the monitor | new records by then | seconds |\n|---|---|---|---|---|---|\n"
)

// page writes the table, between the marks that the page has.
func page(t *testing.T, rows []outcome) {
	if os.Getenv("TREFOIL_UPDATE") == "" {
		return
	}
	text, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(text), "<!-- table -->\n")
	_, after, ok2 := strings.Cut(rest, "<!-- end -->\n")
	if !ok1 || !ok2 {
		t.Fatal("the page has no place for the table")
	}
	table := tableHead
	for _, o := range rows {
		table += fmt.Sprintf("| %s | %s | %d | %s | %d | %.1f |\n", o.name, o.words, o.got, strings.ReplaceAll(o.answer, "|", "/"), o.records, o.took.Seconds())
	}
	if err := os.WriteFile(pagePath, []byte(before+"<!-- table -->\n"+table+"<!-- end -->\n"+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
