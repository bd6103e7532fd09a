package hostile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
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

// allowance bounds the catalog reads of a session, in bytes: a hostile gateway cannot hide much in it.
const allowance = 64 << 10

// passes is the most that comes through the valve to a client whose session has one release of a
// byte at most: three times the allowance, as its page says, and the handshake's.
const passes = 3*allowance + 16<<10 + 1<<10

// way is one way to work against the monitor, and what comes of it.
type way struct {
	name, hook   string // the page's word for it, and what makes the gateway so
	who, dataset string
	refusal      string // rule that a client hears of, if the monitor refuses
	finding      string // rule of a finding, if it finds
	stopped      bool   // the valve closes the connection
	words        string // for the page
}

// Where two ways end in a finding of one rule, the first one's comes before the second begins:
// play waits for it. So "skip, in the region" stands before the one whose end record is found too.
var ways = []way{
	{"widen", "widen", "analyst-cn", "support", "floor", "", false, "opens a clear dataset to a place that is not adequate"},
	{"greedy", "greedy", "analyst-cn", "analytics", "ceiling", "", false, "asks for 1 GiB of catalog reads, to hide rows in"},
	{"reorder", "reorder", "analyst-cn", "analytics", "gap", "", false, "numbers its chunks in another order than they leave"},
	{"skip, in the region", "skip", "analyst-ie", "support", "", "session-bytes", false, "lets results out without a record or permit, in the region, where no valve stands"},
	{"skip, through the valve", "skip", "analyst-cn", "analytics", "", "valve", true, "lets results out without a record or permit, outside the region"},
	{"understate", "understate", "analyst-cn", "analytics", "", "valve", true, "records one byte of each chunk, whatever it holds"},
}

// outcome is one line of the page.
type outcome struct {
	way
	got     int    // bytes that the client received as rows
	answer  string // what the monitor said
	records uint64 // new in the log until then
	took    time.Duration
}

// TestHostileGateway plays the first way alone; make hostile plays all, and writes the table of
// docs/design/hostile.md.
func TestHostileGateway(t *testing.T) {
	all := os.Getenv("TREFOIL_TEST_HOSTILE") != ""
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	h := &house{t: t}
	w, err := demotest.Start(ctx, t.TempDir(), demo.Options{People: 2000, Valve: true, Prepare: prepare}, "-tags", "sabotage")
	if err != nil {
		t.Fatal(err)
	}
	h.w = w
	t.Cleanup(func() {
		end, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := w.Close(end); err != nil {
			t.Error(err)
		}
	})
	var rows []outcome
	for _, x := range ways {
		if !all && len(rows) > 0 {
			break
		}
		t.Run(x.name, func(t *testing.T) {
			h.t = t
			rows = append(rows, h.play(ctx, x))
		})
	}
	if all && !t.Failed() {
		page(t, rows)
	}
}

// prepare bounds the allowance in the monitor's own rules, and tells the gateway.
func prepare(_ context.Context, dir, _ string) error {
	return errors.Join(
		demotest.Replace(filepath.Join(dir, "monitor", "rules.yaml"), "transfer_purposes:", fmt.Sprintf("ceilings: {allowance: %d}\ntransfer_purposes:", allowance)),
		demotest.Replace(filepath.Join(dir, "enclave", "enclave.yaml"), "gateway:\n", fmt.Sprintf("gateway:\n  catalog_allowance: %d\n", allowance)))
}

type house struct {
	t *testing.T
	w *demotest.World
}

// play restarts the gateway in one way, has somebody ask, and waits for what the monitor says.
func (h *house) play(ctx context.Context, x way) outcome {
	ctx, cancel := context.WithTimeout(ctx, 4*time.Minute)
	defer cancel()
	h.t.Setenv("TREFOIL_HOSTILE", x.hook)
	h.restart(ctx)
	before, o := h.findings(ctx), outcome{way: x}
	var size uint64
	var began time.Time
	var heard error
	for again := true; again; {
		size, began = h.size(ctx), time.Now()
		o.got, heard = h.ask(ctx, x)
		if again = o.got == 0 && notYet(heard); again {
			h.pause(ctx)
		}
	}
	o.answer = h.heard(x, o.got, heard)
	if x.finding != "" {
		for h.findings(ctx)[x.finding] <= before[x.finding] {
			h.pause(ctx)
		}
	}
	o.records, o.took = h.size(ctx)-size, time.Since(began)
	h.t.Logf("%s: %s: %d bytes to the client, %s after %d records, %.1f s", x.name, x.words, o.got, o.answer, o.records, o.took.Seconds())
	return o
}

// notYet reports whether nobody refused, but somebody was too slow: a gateway that has just started
// asks for acknowledgements first, and on a busy machine a permit may come too late.
func notYet(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && e.Code == "57P03"
}

// pause waits a little before a condition is looked at again.
func (h *house) pause(ctx context.Context) {
	select {
	case <-time.After(50 * time.Millisecond):
	case <-ctx.Done():
		h.t.Fatalf("nothing came of it: %v", context.Cause(ctx))
	}
}

// restart starts the gateway anew, in the way that the environment says.
func (h *house) restart(ctx context.Context) {
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
}

// heard holds what the client got and heard against what it should have, and words it.
func (h *house) heard(x way, got int, heard error) string {
	switch {
	case x.refusal != "":
		var e *pgconn.PgError
		if !errors.As(heard, &e) || !strings.Contains(e.Message, "the independent monitor refused") ||
			!strings.HasPrefix(e.Detail+";", "rule "+x.refusal+";") || got > 0 {
			h.t.Errorf("the client got %d bytes and heard %v", got, heard)
			return ""
		}
		_, reason, _ := strings.Cut(e.Message, ": ")
		return "refused by rule `" + x.refusal + "`: " + reason
	case x.stopped:
		if heard == nil || got > passes {
			h.t.Errorf("%d bytes came through the valve, and the client heard %v", got, heard)
		}
		return "the valve closed the connection; finding `" + x.finding + "`"
	case heard != nil:
		h.t.Errorf("the client heard %v", heard)
	}
	return "finding `" + x.finding + "`"
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
func (h *house) ask(ctx context.Context, x way) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, h.w.DSN(x.who, x.dataset))
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
