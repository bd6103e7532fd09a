package cases

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

var requestID = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// called is what gateway.api answers to a command that must not fail.
func called(ctx context.Context, t *testing.T, keyFile string, args ...string) string {
	t.Helper()
	out, err := remotely(ctx, keyFile, args...)
	return must(t, out, err)
}

// ask has the ticket system ask for somebody over HTTP, and returns the request's id.
func ask(ctx context.Context, t *testing.T, args ...string) string {
	t.Helper()
	out := called(ctx, t, key("tickets"), append([]string{"request", "--for", "1h", "--reason", "ticket 4711"}, args...)...)
	id := requestID.FindString(out)
	if id == "" {
		t.Fatalf("a request without an id:\n%s", out)
	}
	return id
}

// listed is what gateway.api shows of a request to the owner of a key; nil if it does not.
func listed(ctx context.Context, t *testing.T, keyFile, id string) *enclave.GrantView {
	t.Helper()
	out := called(ctx, t, keyFile, "request", "list", "--json")
	var all []enclave.GrantView
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for i := range all {
		if all[i].Request.ID == id {
			return &all[i]
		}
	}
	return nil
}

// tightened has both sides ask for the monitor's approval of what leaves the region: the gateway by
// its configuration, read again; the monitor by the order of one officer, since it only tightens.
func tightened(ctx context.Context, t *testing.T) {
	t.Helper()
	const rule = "{purposes: [abuse], outside: true, all_of: [{group: monitor, of: [monitor]}]}\n"
	config, rules := world.Env["CONFIG"], world.Path("monitor", "rules.yaml")
	text, err := os.ReadFile(rules)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), rule) {
		return // by an earlier test of this world
	}
	next := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(next, []byte(strings.TrimRight(string(text), "\n")+"\napprovals:\n  - "+rule), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(ctx, "monitor", "rules", "propose", next, "--dir", world.Path("monitor"), "--key", world.Path("officers", "keys", "ada"), "--reason", "transfers are ours to approve", "--wait", "1m")
	if !strings.Contains(must(t, out, err), "obeyed") {
		t.Fatalf("one officer's order that only tightens:\n%s", out)
	}
	closed(ctx, t, "analyst-jp", "abuse") // the standing grant is the operator's alone
	if err := demotest.Replace(config, "\napprovals:\n", "\napprovals:\n  - "+rule); err != nil {
		t.Fatal(err)
	}
	reload(t)
}

// Asked for by a ticket system, approved by an approver and the monitor from where their keys are,
// used, and revoked: all over HTTP. Without the monitor nothing leaves the region.
func TestATransferNeedsTheMonitorsApproval(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	tightened(ctx, t)
	id := ask(ctx, t, "--as", "analyst-jp", "--dataset", "abuse")
	if out, err := remotely(ctx, key("tickets"), "request", "--as", "analyst-ie", "--dataset", "abuse", "--for", "1h", "--reason", "r"); err == nil || !strings.Contains(out, "may not ask for that principal") {
		t.Errorf("a caller asks for somebody else: %v\n%s", err, out)
	}
	for _, who := range []string{"nobody", "tickets"} {
		if out, err := remotely(ctx, key(who), "approve", id); err == nil {
			t.Errorf("%s approves:\n%s", who, out)
		}
	}
	called(ctx, t, key("approver"), "approve", id)
	if v := listed(ctx, t, key("approver"), id); v == nil || v.Reason != "ticket 4711" {
		t.Errorf("the approver sees %+v", v)
	}
	closed(ctx, t, "analyst-jp", "abuse")
	monitorKey := world.Path("monitor", "keys", "approver")
	until(t, "the gateway waits for the monitor", func() error { // it has read its configuration again
		if v := listed(ctx, t, monitorKey, id); v == nil || v.State != enclave.StateWaiting || len(v.Missing) != 1 || v.Reason != "" {
			return errors.New("the monitor sees something else")
		}
		return nil
	})
	approve := []string{"monitor", "approve", id, "--dir", world.Path("monitor")}
	if out := called(ctx, t, "", approve...); !strings.Contains(out, "granted") {
		t.Fatalf("the monitor approves:\n%s", out)
	}
	conn := opened(ctx, t, "analyst-jp", "abuse")
	var n int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM app.people").Scan(&n); err != nil || n == 0 {
		t.Errorf("%d people: %v", n, err)
	}
	called(ctx, t, key("approver"), "revoke", id)
	ended(ctx, t, conn, "SELECT count(*) FROM app.people")
	closed(ctx, t, "analyst-jp", "abuse")
	if v := listed(ctx, t, key("tickets"), id); v == nil || v.State != enclave.StateRevoked {
		t.Errorf("after the end: %+v", v)
	}
}

// What the monitor's own rules refuse it does not sign.
func TestTheMonitorDoesNotApproveWhatItsRulesRefuse(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	out, err := trefoil(ctx, "request", "--as", "analyst-cn", "--dataset", "abuse", "--for", "1h", "--reason", "r")
	id := requestID.FindString(must(t, out, err))
	out, err = remotely(ctx, "", "monitor", "approve", id, "--dir", world.Path("monitor"))
	if err == nil || !strings.Contains(out, "the monitor's rules refuse it") {
		t.Errorf("approved: %v\n%s", err, out)
	}
	if out := called(ctx, t, "", "monitor", "approve", id, "--deny", "--dir", world.Path("monitor")); !strings.Contains(out, "denial signed") {
		t.Errorf("denied:\n%s", out)
	}
	if v := listed(ctx, t, key("approver"), id); v == nil || v.State != enclave.StateDenied {
		t.Errorf("after the denial: %+v", v)
	}
}

// A request with subjects opens a case when the last approval is there; its end drops it.
func TestTheLastApprovalOpensACaseAndTheEndDropsIt(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	list, ids := subjects(ctx, t)
	id := ask(ctx, t, "--as", "agent", "--dataset", "support", "--subjects", list)
	name := enclave.CaseName(id)
	if out := called(ctx, t, key("approver"), "approve", id); strings.Contains(out, "granted") || !strings.Contains(out, "still needed: 1 of privacy") {
		t.Errorf("the first of two approvals:\n%s", out)
	}
	if out := called(ctx, t, key("dpo"), "approve", id); !strings.Contains(out, "granted") {
		t.Fatalf("the last approval:\n%s", out)
	}
	conn := opened(ctx, t, "agent", name)
	var people, others int
	if err := conn.QueryRow(ctx, "SELECT count(*), count(*) FILTER (WHERE id <> ALL ($1::bigint[])) FROM app.people", ids).Scan(&people, &others); err != nil || people != 3 || others != 0 {
		t.Errorf("%d people, %d of them others: %v", people, others, err)
	}
	closed(ctx, t, "analyst-ie", name)
	called(ctx, t, key("dpo"), "revoke", id)
	ended(ctx, t, conn, "SELECT count(*) FROM app.people")
	admin, err := pgx.Connect(ctx, world.Env["INSIDE_ADMIN_DSN"])
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(context.WithoutCancel(ctx)) //nolint:errcheck // read only
	until(t, "the case is dropped", func() error {
		var n int
		if err := admin.QueryRow(ctx, "SELECT count(*) FROM pg_database WHERE datname = $1", name).Scan(&n); err != nil || n > 0 {
			return errors.Join(errors.New("its database stands"), err)
		}
		return nil
	})
	closed(ctx, t, "agent", name)
}

// A grant that is bound to one statement lets its answers out, with whatever values, and no other's.
func TestAGrantForOneStatementReleasesNoOther(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	defer cancel()
	tightened(ctx, t)
	file := filepath.Join(t.TempDir(), "look.sql")
	if err := os.WriteFile(file, []byte("SELECT count(*) FROM app.people WHERE country = 'IE';\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	id := ask(ctx, t, "--as", "analyst-jp", "--dataset", "abuse", "--statement", file)
	called(ctx, t, key("approver"), "approve", id)
	called(ctx, t, "", "monitor", "approve", id, "--dir", world.Path("monitor"))
	conn := opened(ctx, t, "analyst-jp", "abuse")
	var n int
	for _, sql := range []string{"SELECT count(*) FROM app.people WHERE country = 'IE'", "select count(*)  from app.people where country = 'FR'"} {
		if err := conn.QueryRow(ctx, sql).Scan(&n); err != nil || n == 0 {
			t.Errorf("%s: %d, %v", sql, n, err)
		}
	}
	var handle string
	err := conn.QueryRow(ctx, "SELECT handle FROM app.people LIMIT 1").Scan(&handle)
	var no *pgconn.PgError
	if !errors.As(err, &no) || no.Code != "42501" || handle != "" {
		t.Errorf("another statement: %q, %v", handle, err)
	}
	ended(ctx, t, conn, "SELECT count(*) FROM app.people WHERE country = 'IE'")
	called(ctx, t, key("approver"), "revoke", id)
	closed(ctx, t, "analyst-jp", "abuse")
}
