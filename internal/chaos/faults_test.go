package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// fault is something that goes wrong at one step of a release.
type fault struct {
	name  string
	order string // of a failpoint, given before the statement
	stop  bool   // the monitor's order to refuse everything
	away  bool   // the monitor is killed before the statement
	quits string // the part that ends by it
	after int64  // the client vanishes after so many rows
	slow  bool   // takes the gateway's whole patience: left out of the short form
	rows  bool   // some rows may arrive: the step is after the permit
	state string // SQLSTATE that the client gets, if the gateway lives
}

// steps of a release in their order. What append, witness and permit do inside the gateway is
// tested there (internal/door/release); here parts are real and so is the mirror.
var steps = []fault{
	{name: "append fails", order: "fail append", state: "57P03"},
	{name: "append persisted, answer lost", order: "fail appended", state: "57P03"},
	{name: "gateway killed with the body on disk and no leaf", order: "crash bodies-kept gateway", quits: "gateway"},
	{name: "monitor away", slow: true, away: true, quits: "monitor", state: "57P03"},
	{name: "monitor killed with the checkpoint kept and the cosignature not given", slow: true, order: "crash checkpoint-kept", quits: "monitor", state: "57P03"},
	{name: "witnessed, and the gateway killed", order: "crash witnessed", quits: "gateway"},
	{name: "permit refused", stop: true, state: "42501"},
	{name: "permit persisted, answer lost", order: "fail permit-kept", state: "57P03"},
	{name: "permit persisted, monitor killed", order: "crash permit-kept", quits: "monitor", state: "57P03"},
	{name: "permit lost at the gateway", order: "fail permitted", state: "57P03"},
	{name: "gateway killed between permit and release", order: "crash cleared", quits: "gateway"},
	{name: "gateway killed in the middle of a release", order: "crash letting-out", quits: "gateway", rows: true},
	{name: "client vanishes in the middle of a release", after: 40, rows: true},
}

// faults: whatever step fails, before or after it is on disk, no byte arrives that no permitted
// record in the mirror has; and the next session is right to the byte.
func faults(t *testing.T, e *enclave, short bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var visits []*visit
	for _, f := range steps {
		if short && f.slow {
			continue
		}
		if !t.Run(f.name, func(t *testing.T) { visits = append(visits, e.play(ctx, t, f)...) }) {
			return // what it broke may not be mended
		}
	}
	sum := e.settled(ctx, t, visits)
	t.Logf("%d visits: %d bytes at the sockets, %d permitted; %d equal to the byte", sum.visits, sum.socket, sum.permitted, sum.equal)
	if want := len(visits) / 2; sum.equal < want {
		t.Errorf("only %d of %d sessions after a fault were compared to the byte", sum.equal, want)
	}
}

// play runs one statement into the fault, mends what broke, and runs another.
func (e *enclave) play(ctx context.Context, t *testing.T, f fault) []*visit {
	hurt := e.dial(ctx, analyst("analytics", 0), "analytics")
	if !hurt.open {
		t.Fatal(hurt.err)
	}
	switch {
	case f.order != "":
		e.order(f.order)
	case f.stop:
		e.monitorOrder(ctx, t, "stop")
	case f.away:
		e.kill(ctx, "monitor", "")
	}
	dies := 0
	if f.quits != "" && !f.away {
		dies = e.pid(f.quits)
	}
	e.strike(ctx, t, f, hurt)
	if f.order != "" && !e.obeyed(10*time.Second) {
		t.Error("the failpoint was never reached")
	}
	if f.stop {
		e.monitorOrder(ctx, t, "resume")
	}
	if dies != 0 && !gone(dies, 30*time.Second) {
		t.Fatalf("the %s lives", f.quits)
	}
	if f.quits == "gateway" {
		e.kills = append(e.kills, time.Now())
	}
	if f.quits != "" {
		t.Logf("%s answers again after %.1f s", f.quits, e.revive(ctx, f.quits).Seconds())
	}
	return []*visit{hurt.visit, e.recovers(ctx, t)}
}

// strike runs the statement, and looks at what the client got.
func (e *enclave) strike(ctx context.Context, t *testing.T, f fault, c *client) {
	sql := "SELECT * FROM app.watch_events ORDER BY id LIMIT 1000" // one chunk
	if f.rows {
		sql = large[1]
	}
	err := c.query(ctx, sql, func(n int64) error {
		if n == f.after {
			return errAway
		}
		return nil
	})
	if f.after == 0 {
		c.drain()
	}
	c.vanish(err)
	if f.quits == "gateway" || f.state == "" {
		if err == nil {
			t.Error("the whole answer arrived")
		}
	} else if c.state != f.state {
		t.Errorf("the client got %v, not SQLSTATE %s", err, f.state)
	}
	var server *pgconn.PgError
	if errors.As(err, &server) && server.Severity != "FATAL" {
		t.Errorf("the session goes on after %v", err)
	}
	if !f.rows && (c.rows > 0 || c.after > slack) {
		t.Errorf("%d rows and %d bytes arrived", c.rows, c.after)
	}
	if f.rows && c.after == 0 {
		t.Error("nothing was let out: the step was never reached")
	}
}

// recovers runs one whole session, as soon as one is let in.
func (e *enclave) recovers(ctx context.Context, t *testing.T) *visit {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		c := e.dial(ctx, analyst("analytics", 1), "analytics")
		if c.open {
			err := c.query(ctx, large[1], nil)
			if err == nil {
				c.close()
				return c.visit
			}
			c.vanish(err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no session works after the fault: %v", c.err)
		}
	}
}

// monitorOrder gives the monitor's operator's order.
func (e *enclave) monitorOrder(ctx context.Context, t *testing.T, order string) {
	t.Helper()
	run := func(officer string, args ...string) string {
		t.Helper()
		args = append(append([]string{"--json", "monitor"}, args...), "--dir", e.Path("monitor"), "--key", e.Path("officers", "keys", officer))
		out, err := exec.CommandContext(ctx, e.binary, args...).Output()
		if err != nil {
			t.Fatalf("monitor %v: %v\n%s", args, err, out)
		}
		var answer struct{ ID string }
		if err := json.Unmarshal(out, &answer); err != nil {
			t.Fatalf("monitor %v: %v\n%s", args, err, out)
		}
		return answer.ID
	}
	if order == "stop" {
		run("ada", "stop", "--all", "--reason", "drill")
		return
	}
	run("ben", "second", run("ada", "resume", "--reason", "drill"))
}
