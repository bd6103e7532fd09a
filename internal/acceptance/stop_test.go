package acceptance

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestStopReachesARunningSession: one officer stops a principal; a session of theirs that asks for
// no permit just then is told why, another principal's goes on, and two officers resume.
func TestStopReachesARunningSession(t *testing.T) {
	ctx := bounded(t)
	order := func(officer string, args ...string) string {
		t.Helper()
		args = append(append([]string{"--json", "monitor"}, args...), "--dir", filepath.Join(shared.dir, "monitor"),
			"--key", filepath.Join(shared.dir, "officers", "keys", officer))
		out := shared.must(t, args...)
		var answer struct{ ID string }
		if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), &answer); err != nil {
			t.Fatalf("%v: %s", args, out)
		}
		return answer.ID
	}
	open := func(dsn string) *pgx.Conn {
		t.Helper()
		c, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close(ctx) })
		return c
	}
	// Catalog reads go under the permit of the session's start: none of them asks the monitor.
	look := func(c *pgx.Conn) error {
		_, err := c.Exec(ctx, "SELECT oid FROM pg_catalog.pg_type LIMIT 1")
		return err
	}
	stopped, other := open(shared.env["ANALYST_CN_DSN"]), open(shared.env["ANALYST_IE_DSN"])
	for _, c := range []*pgx.Conn{stopped, other} {
		if err := look(c); err != nil {
			t.Fatal(err)
		}
	}
	id := order("ada", "stop", "--principal", "analyst-cn", "--reason", "finding 12 is looked into")
	var refused *pgconn.PgError
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		err := look(stopped)
		if errors.As(err, &refused) {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("the stop does not reach the session: %v", err)
		}
	}
	if !strings.Contains(refused.Message+refused.Detail+refused.Hint, "finding 12 is looked into") {
		t.Errorf("the client is told %q, %q", refused.Message, refused.Detail)
	}
	if err := look(other); err != nil {
		t.Errorf("another principal's session: %v", err)
	}
	if c, err := pgx.Connect(ctx, shared.env["ANALYST_CN_DSN"]); err == nil {
		_ = c.Close(ctx)
		t.Error("a new session began while stopped")
	}
	resume := order("ada", "resume", "--stop", id, "--reason", "nothing was wrong")
	order("ben", "second", resume)
	if err := look(open(shared.env["ANALYST_CN_DSN"])); err != nil {
		t.Errorf("after the resume: %v", err)
	}
}
