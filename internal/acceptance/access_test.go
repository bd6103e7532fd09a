package acceptance

import (
	"context"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

// with adds start-up parameters to a DSN.
func with(t *testing.T, dsn string, params ...string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	q := u.Query()
	for i := 0; i < len(params); i += 2 {
		q.Set(params[i], params[i+1])
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// attempt connects and reads one value.
func attempt(t *testing.T, dsn, sql string) (got string, err error) {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), dsn)
	if err != nil {
		return "", err
	}
	defer conn.Close(context.Background())
	err = conn.QueryRow(bounded(t), sql).Scan(&got)
	return got, err
}

const aPerson = "SELECT email FROM app.people ORDER BY id LIMIT 1"

// TestAServiceThatServesPeopleOpensWhatTheyMayOpen: its sessions take the release path in
// the name of the person behind them.
func TestAServiceThatServesPeopleOpensWhatTheyMayOpen(t *testing.T) {
	m := openMirror(t)
	from := m.size(t)
	got, err := attempt(t, with(t, shared.dsn("dashboard", "support"), "trefoil.actor", "analyst-ie"), aPerson)
	if err != nil || !strings.Contains(got, "@") {
		t.Fatalf("for somebody in Ireland: %q, %v", got, err)
	}
	m.follow(t, from, func(b *trefoil.Body) bool {
		if b.Release == nil || b.Release.Access.Dataset != "support" {
			return false
		}
		if !m.of(b, "analyst-ie") {
			t.Error("the release is not recorded as that of the person behind the service")
		}
		if !slices.ContainsFunc(b.Release.Access.Location, func(p trefoil.Place) bool { return p.By == "service dashboard" }) {
			t.Error("the record does not say that the service vouches for the person")
		}
		return true
	})
	got, err = attempt(t, with(t, shared.dsn("dashboard", "analytics"), "trefoil.actor", "analyst-cn"), aPerson)
	if err != nil || strings.Contains(got, "@") {
		t.Errorf("pseudonymised, for somebody in China: %q, %v", got, err)
	}
	for _, c := range []struct{ name, user, database, actor, reason string }{
		{"a dashboard in the region used by somebody in China", "dashboard", "support", "analyst-cn", "floor"},
		{"with a dataset that an approval opens in China", "dashboard", "abuse", "analyst-cn", "floor"},
		{"nobody behind it", "dashboard", "support", "", "say for whom"},
		{"an unknown person behind it", "dashboard", "support", "nobody", "say for whom"},
		{"a service behind it", "dashboard", "support", "app", "say for whom"},
		{"the source itself", "dashboard", "platform", "analyst-ie", "not source databases"},
		{"a dashboard outside the region", "dashboard-us", "support", "analyst-ie", "must itself be in the region"},
		{"a dashboard outside the region, pseudonymised", "dashboard-us", "analytics", "analyst-cn", "must itself be in the region"},
		{"a person who names another", "hostile-cn", "support", "analyst-ie", ""},
	} {
		dsn := shared.dsn(c.user, c.database)
		if c.actor != "" {
			dsn = with(t, dsn, "trefoil.actor", c.actor)
		}
		_, err := attempt(t, dsn, "SELECT 1::text")
		e := refused(t, err)
		if said := e.Message + e.Detail; e.Code != "28000" && e.Code != "42501" || !strings.Contains(said, c.reason) {
			t.Errorf("%s: %s %s %s", c.name, e.Code, e.Message, e.Detail)
		}
	}
}

// TestWhatIsNotYoursIsRefused: wrong names, wrong places, the replication protocol. Each
// refusal is in the log.
func TestWhatIsNotYoursIsRefused(t *testing.T) {
	m := openMirror(t)
	from := m.size(t)
	service, ireland, china := shared.env["SERVICE_DSN"], shared.env["ANALYST_IE_DSN"], shared.env["ANALYST_CN_DSN"]
	on := func(dsn, database string) string {
		u, _ := url.Parse(dsn)
		u.Path = "/" + database
		return u.String()
	}
	cases := map[string]string{
		"a service outside the region":               shared.dsn("app-us", "platform"),
		"an analyst in Ireland at the source":        on(ireland, "platform"),
		"an analyst in China at the source":          on(china, "platform"),
		"China, a clear dataset":                     on(china, "support"),
		"China, the other clear dataset":             on(china, "abuse"),
		"no such name":                               on(china, "nosuch"),
		"other letters":                              on(china, "ANALYTICS"),
		"with a space":                               on(china, "analytics "),
		"PostgreSQL's own database":                  on(china, "postgres"),
		"a template":                                 on(china, "template1"),
		"the control store":                          on(service, "trefoil"),
		"the service at a dataset":                   on(service, "support"),
		"the service at the twin, which is not its":  on(service, "twin"),
		"Japan, a dataset that asks for a grant":     shared.dsn("visitor-jp", "abuse"),
		"a path":                                     on(china, "..%2Fanalytics"),
		"a connection string in the database's name": on(china, "dbname=platform"),
	}
	for name, dsn := range cases {
		got, err := attempt(t, dsn, "SELECT current_database()::text")
		if err == nil {
			t.Errorf("%s: opened %s", name, got)
			continue
		}
		if e := refused(t, err); e.Code != "28000" && e.Code != "42501" {
			t.Errorf("%s: %s %s", name, e.Code, e.Message)
		}
	}
	replication := 0
	for _, dsn := range []string{service, china} {
		for _, value := range []string{"true", "database", "1", "on", "yes", "TRUE", "Database", "tru", "2"} {
			target := through(t, dsn)
			target.Params = map[string]string{"replication": value}
			c, _, err := wiretest.Open(target)
			replication++
			var no *wiretest.Refused
			if !errors.As(err, &no) || no.SQLState == "" {
				t.Errorf("replication=%s was not refused: %v", value, err)
			}
			if c != nil {
				c.Close()
			}
		}
	}
	want, seen := len(cases)+replication, 0
	m.follow(t, from, func(b *trefoil.Body) bool {
		if b.Refusal != nil {
			seen++
		}
		return seen == want
	})
}

var requestID = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// granted asks for a dataset and approves it, and returns the request's number.
func granted(t *testing.T, who, dataset, term string) string {
	t.Helper()
	id := requestID.FindString(shared.must(t, "request", "--as", who, "--dataset", dataset, "--for", term, "--reason", "a test"))
	if id == "" {
		t.Fatal("the request has no number")
	}
	if _, err := attempt(t, shared.dsn(who, dataset), "SELECT 1::text"); err == nil {
		t.Fatal("a request opened the dataset before it was approved")
	}
	shared.must(t, "approve", id, "--key", shared.dir+"/enclave/keys/approver")
	return id
}

// ended waits until a session is ended by the server, and returns its last word.
func ended(t *testing.T, conn *pgx.Conn, limit time.Duration) (*pgconn.PgError, time.Duration) {
	t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for {
		err := conn.PgConn().WaitForNotification(ctx) // reads, and asks for nothing
		var e *pgconn.PgError
		if errors.As(err, &e) {
			return e, time.Since(began)
		}
		if err != nil {
			return nil, time.Since(began)
		}
	}
}

// TestAGrantOpensAndItsRevocationEnds: what a grant opens is closed by its revocation, without waiting for a
// statement, and at its end.
func TestAGrantOpensAndItsRevocationEnds(t *testing.T) {
	id := granted(t, "visitor-jp", "abuse", "1h")
	conn := connect(t, shared.dsn("visitor-jp", "abuse"))
	var handle string
	if err := conn.QueryRow(bounded(t), "SELECT handle FROM app.people LIMIT 1").Scan(&handle); err != nil || handle == "" {
		t.Fatalf("with a grant: %q, %v", handle, err)
	}
	busy := connect(t, shared.dsn("visitor-jp", "abuse")) // revocation does not wait for a statement's end
	working := make(chan error, 1)
	go func() {
		_, err := busy.Exec(context.Background(), "SELECT pg_sleep(120)")
		working <- err
	}()
	revoked := time.Now()
	shared.must(t, "revoke", id, "--key", shared.dir+"/enclave/keys/approver")
	e, _ := ended(t, conn, 30*time.Second)
	if took := time.Since(revoked); e == nil || e.Severity != "FATAL" || took > 20*time.Second {
		t.Errorf("the open session's end: %v after %s", e, took)
	} else {
		t.Logf("revoked, and ended after %s: %s %s", took.Round(time.Millisecond), e.Code, e.Message)
	}
	select {
	case err := <-working:
		if err == nil {
			t.Error("a statement went on to its end")
		}
	case <-time.After(30 * time.Second):
		t.Error("a working session goes on after the revocation")
	}
	if _, err := attempt(t, shared.dsn("visitor-jp", "abuse"), "SELECT 1::text"); refused(t, err).Code != "42501" {
		t.Errorf("after the revocation: %v", err)
	}
}

func TestAGrantEndsAtItsTime(t *testing.T) {
	began := time.Now()
	granted(t, "visitor-jp", "abuse", "10s")
	conn := connect(t, shared.dsn("visitor-jp", "abuse"))
	if _, err := conn.Exec(bounded(t), "SELECT count(*) FROM app.people"); err != nil {
		t.Fatalf("with a grant: %v", err)
	}
	e, _ := ended(t, conn, 60*time.Second)
	if took := time.Since(began); e == nil || e.Severity != "FATAL" || !strings.Contains(e.Message, "expired") || took < 9*time.Second || took > 40*time.Second {
		t.Errorf("the session's end: %v after %s", e, took)
	}
	if _, err := attempt(t, shared.dsn("visitor-jp", "abuse"), "SELECT 1::text"); refused(t, err).Code != "42501" {
		t.Errorf("after the end: %v", err)
	}
}

// TestARebuildDoesNotDisturbAnOpenCursor: it goes on with the rows it began with, and the
// next statement sees the new ones.
func TestARebuildDoesNotDisturbAnOpenCursor(t *testing.T) {
	ctx := bounded(t)
	conn := connect(t, shared.env["ANALYST_IE_DSN"])
	hijacked, f := record(t, shared.env["ANALYST_IE_DSN"]) // a portal of the extended protocol
	defer hijacked.Close()
	exec := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
	handles := func(sql string) map[string]int {
		t.Helper()
		rows, err := conn.Query(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			t.Fatal(err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		out := map[string]int{}
		for _, h := range found {
			out[h[:min(3, len(h))]]++
		}
		return out
	}
	var people int
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM app.people").Scan(&people); err != nil {
		t.Fatal(err)
	}
	exec("BEGIN")
	exec("DECLARE c CURSOR FOR SELECT handle FROM app.people")
	first := handles("FETCH 10 FROM c")
	if err := f.begin("SELECT handle FROM app.people", 10); err != nil || f.rows != 10 {
		t.Fatalf("open a portal: %d rows, %v", f.rows, err)
	}

	admin(t, shared.env["ADMIN_DSN"], "UPDATE app.people SET handle = 'new_' || handle")
	shared.must(t, "dataset", "rebuild", "support")

	rest := handles("FETCH ALL FROM c")
	total := 0
	for _, n := range rest {
		total += n
	}
	if rest["new"] != 0 || first["new"] != 0 || total != people-10 {
		t.Errorf("the open cursor gave %d new rows of %d, want %d old ones", rest["new"], total, people-10)
	}
	if now := handles("SELECT handle FROM app.people"); now["new"] != people {
		t.Errorf("the next statement in the same transaction sees %d new rows of %d", now["new"], people)
	}
	exec("COMMIT")
	held := 0
	if err := connect(t, shared.env["INSIDE_ADMIN_DSN"]).QueryRow(ctx, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'trefoil!_old%' ESCAPE '!'").Scan(&held); err != nil || held == 0 {
		t.Errorf("nothing of the former build is held for the open portal: %v", err)
	}
	rows := f.rows
	if err := f.more(); err != nil || f.rows-rows != people-10 || f.errors > 0 {
		t.Errorf("the open portal gave %d more rows and %d errors, want %d rows: %v", f.rows-rows, f.errors, people-10, err)
	}
	if err := f.simple("SELECT handle FROM app.people LIMIT 1"); err != nil {
		t.Error(err)
	}
	if !strings.Contains(string(hijacked.buf.Bytes()[hijacked.buf.Len()-80:]), "new_") {
		t.Error("the second session does not see the new rows")
	}
	erasedRowsGo(t)
}

// erasedRowsGo waits for the gateway to drop what the rebuild had to leave to the open
// sessions: no later build has to come.
func erasedRowsGo(t *testing.T) {
	t.Helper()
	conn, old := connect(t, shared.env["INSIDE_ADMIN_DSN"]), 0
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if err := conn.QueryRow(bounded(t), "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^trefoil_(old|next)'").Scan(&old); err != nil {
			t.Fatal(err)
		}
		if old == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d schemas of the former build stay", old)
		}
	}
}
