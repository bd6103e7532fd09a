package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	trefoil "github.com/trefoil-eu/trefoil"
)

// refuseReleases lets only records of sessions be permitted: whatever needs a release record gets nothing.
func refuseReleases(f *fakeLog) {
	f.onPermit = func(_ context.Context, b *trefoil.Body, _ *trefoil.Permit) (*trefoil.NoteReason, error) {
		if b.Release != nil {
			return &trefoil.NoteReason{Rule: "test", Reason: "no releases"}, nil
		}
		return nil, nil
	}
}

// frontend speaks the protocol by hand.
func (d *door) frontend() *pgproto3.Frontend {
	d.t.Helper()
	conn := d.must(pgx.QueryExecModeExec)
	h, err := conn.PgConn().Hijack()
	if err != nil {
		d.t.Fatal(err)
	}
	h.Conn.SetDeadline(time.Now().Add(20 * time.Second))
	d.t.Cleanup(func() { h.Conn.Close() })
	return pgproto3.NewFrontend(h.Conn, h.Conn)
}

func send(t testing.TB, f *pgproto3.Frontend, msgs ...pgproto3.FrontendMessage) {
	t.Helper()
	for _, m := range msgs {
		f.Send(m)
	}
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
}

// until reads up to n ReadyForQuery and returns everything as text.
func until(t testing.TB, f *pgproto3.Frontend, n int) (string, error) {
	t.Helper()
	var all strings.Builder
	for n > 0 {
		m, err := f.Receive()
		if err != nil {
			return all.String(), err
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			for _, v := range m.Values {
				all.WriteString("row:")
				all.Write(v)
				all.WriteByte(' ')
			}
		case *pgproto3.ErrorResponse:
			fmt.Fprint(&all, "error:"+m.Severity+":"+m.Code+":"+m.Message+m.Detail+" ")
		case *pgproto3.NoticeResponse:
			fmt.Fprint(&all, "notice:"+m.Message+" ")
		case *pgproto3.ParameterStatus:
			fmt.Fprint(&all, "set:"+m.Name+"="+m.Value+" ")
		case *pgproto3.NotificationResponse:
			fmt.Fprint(&all, "notify:"+m.Payload+" ")
		case *pgproto3.CopyData:
			fmt.Fprint(&all, "copy:"+string(m.Data)+" ")
		case *pgproto3.ReadyForQuery:
			n--
		}
	}
	return all.String(), nil
}

// Every way in which a value could leave, tried with releases refused: the value must not
// arrive, as a row or as anything else.
func TestAttacksWhileReleasesAreRefused(t *testing.T) {
	q := func(s string) pgproto3.FrontendMessage { return &pgproto3.Query{String: s} }
	bind := func(portal, stmt string) pgproto3.FrontendMessage {
		return &pgproto3.Bind{DestinationPortal: portal, PreparedStatement: stmt}
	}
	parse := func(name, s string) pgproto3.FrontendMessage { return &pgproto3.Parse{Name: name, Query: s} }
	run := func(portal string) pgproto3.FrontendMessage { return &pgproto3.Execute{Portal: portal} }
	sync, flush := &pgproto3.Sync{}, &pgproto3.Flush{}
	type messages = []pgproto3.FrontendMessage
	attacks := map[string]messages{
		"select":                {q("SELECT secret FROM person")},
		"copy":                  {q("COPY person TO STDOUT")},
		"behind covered, text":  {q("SELECT 1; SELECT secret FROM person")},
		"behind covered, cycle": {q("SELECT 1"), q("SELECT secret FROM person")},
		"behind covered, pipeline": {
			parse("", "SELECT 1"), bind("", ""), run(""), parse("", "SELECT secret FROM person"), bind("", ""), run(""), sync},
		"skipped definition": {
			parse("", "SELECT secret FROM person"), sync, bind("x", "nothing"), parse("", "SELECT 1"), sync, bind("", ""), run(""), sync},
		"skipped portal": {
			q("BEGIN"), parse("a", "SELECT secret FROM person"), bind("p", "a"), sync, parse("b", "SELECT 1"), bind("p", "b"), sync, run("p"), sync},
		"one portal name": {
			q("BEGIN"), parse("a", "SELECT 1"), bind("p", "a"), sync, &pgproto3.Close{ObjectType: 'P', Name: "p"}, sync,
			q("DECLARE p CURSOR FOR SELECT secret FROM person"), run("p"), sync},
		"flushed":    {parse("", "SELECT secret FROM person"), bind("", ""), run(""), flush},
		"shadow":     {q("CREATE TEMP TABLE pg_class AS SELECT secret AS relname FROM person"), q("SELECT relname FROM pg_class")},
		"notice":     {q("DO $$ BEGIN RAISE NOTICE '%', (SELECT secret FROM person LIMIT 1); END $$")},
		"error":      {q("DO $$ BEGIN RAISE EXCEPTION '%', (SELECT secret FROM person LIMIT 1); END $$")},
		"cast error": {q("SELECT secret::int FROM person")},
		"huge error": {q("DO $$ BEGIN RAISE EXCEPTION '%', (SELECT string_agg(repeat(secret, 100), '') FROM person); END $$")},
		"parameter":  {q("SELECT set_config('application_name', (SELECT secret FROM person LIMIT 1), false)")},
		"setting, then show": {
			parse("", "SELECT count(set_config('my.x', secret, false)) FROM person"), bind("", ""), run(""), sync, q("SHOW my.x")},
		"notify":          {q("LISTEN c"), q("SELECT pg_notify('c', secret) FROM person LIMIT 1"), q("SELECT 1")},
		"cursor":          {q("BEGIN"), q("DECLARE c CURSOR FOR SELECT secret FROM person"), q("FETCH ALL FROM c")},
		"prepared":        {q("PREPARE x AS SELECT secret FROM person"), q("EXECUTE x")},
		"function call":   {&pgproto3.FunctionCall{Function: 89}},
		"explain":         {q("EXPLAIN ANALYZE SELECT secret FROM person")},
		"portal in parts": {parse("", "SELECT secret FROM person"), bind("", ""), &pgproto3.Execute{MaxRows: 1}, flush, &pgproto3.Execute{MaxRows: 1}, sync},
		"sync hides a check": {
			q("CREATE TEMP TABLE t (s text UNIQUE DEFERRABLE INITIALLY DEFERRED)"),
			parse("", "INSERT INTO t SELECT 'secret-1' FROM person"), bind("", ""), run(""), flush, sync},
	}
	for name, msgs := range attacks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t, nil)
			refuseReleases(d.log)
			f := d.frontend()
			send(t, f, msgs...)
			all, err := until(t, f, 100)
			if strings.Contains(all, "secret-") {
				t.Fatalf("a value left: %.200s", all)
			}
			if err == nil || !strings.Contains(all, "error:FATAL:42501") {
				t.Fatalf("the session went on: %v %.300s", err, all)
			}
			if end := d.balance(); end.Released != 0 {
				t.Errorf("released %d bytes", end.Released)
			}
		})
	}
}

// The same channels with releases permitted: all of it arrives, and all of it is recorded.
func TestEveryChannelIsCounted(t *testing.T) {
	channels := map[string][2]string{
		"notice":    {"DO $$ BEGIN RAISE NOTICE '%', (SELECT secret FROM person WHERE id = 1); END $$", "notice:secret-1"},
		"error":     {"DO $$ BEGIN RAISE EXCEPTION '%', (SELECT secret FROM person WHERE id = 1); END $$", "secret-1"},
		"parameter": {"SELECT set_config('application_name', (SELECT secret FROM person WHERE id = 1), false)", "set:application_name=secret-1"},
		"notify":    {"LISTEN c; SELECT pg_notify('c', 'secret-1')", "notify:secret-1"},
		"copy":      {"COPY (SELECT secret FROM person WHERE id = 1) TO STDOUT", "copy:secret-1"},
	}
	for name, c := range channels {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t, nil)
			f := d.frontend()
			send(t, f, &pgproto3.Query{String: c[0]})
			all, err := until(t, f, 1)
			if err != nil || !strings.Contains(all, c[1]) {
				t.Fatalf("%v: %s", err, all)
			}
			send(t, f, &pgproto3.Terminate{})
			end := d.balance()
			releases, _ := d.log.permitted()
			if end.Released != releases || end.Released < int64(len(c[1])) {
				t.Errorf("released %d, records %d", end.Released, releases)
			}
		})
	}
}

func TestAsynchronousMessagesStandAlone(t *testing.T) {
	d := openDoor(t, nil)
	f := d.frontend()
	send(t, f, &pgproto3.Query{String: "LISTEN c"})
	if _, err := until(t, f, 1); err != nil {
		t.Fatal(err)
	}
	before := len(d.log.releases())
	admin, err := pgx.Connect(ctxFor(t), d.admin)
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close(ctxFor(t))
	if _, err := admin.Exec(ctxFor(t), "NOTIFY c, 'hello'"); err != nil {
		t.Fatal(err)
	}
	m, err := f.Receive()
	if n, ok := m.(*pgproto3.NotificationResponse); err != nil || !ok || n.Payload != "hello" {
		t.Fatalf("got %T, %v", m, err)
	}
	if got := d.log.releases(); len(got) != before+1 || got[before].Final {
		t.Errorf("%d release records after it", len(got)-before)
	}
}

func TestPreparedStatementAfterRevocation(t *testing.T) {
	d := openDoor(t, nil)
	conn := d.must(pgx.QueryExecModeCacheStatement)
	if _, err := conn.Exec(ctxFor(t), "SELECT secret FROM person"); err != nil {
		t.Fatal(err)
	}
	s, _ := d.last()
	start := time.Now()
	s.Stop(Revoked)
	end := d.log.end(t)
	if since := time.Since(start); since > 20*time.Second || end.Outcome != "revoked" {
		t.Errorf("ended after %v as %s", since, end.Outcome)
	}
	before := end.Released
	_, err := conn.Exec(ctxFor(t), "SELECT secret FROM person")
	if err == nil {
		t.Error("the prepared statement still runs")
	}
	if e := d.balance(); e.Released != before {
		t.Error("bytes left after the revocation")
	}
}

func TestStopDropsWhatIsHeld(t *testing.T) {
	d := openDoor(t, nil)
	waiting := make(chan struct{}, 8)
	d.log.onPermit = func(ctx context.Context, b *trefoil.Body, _ *trefoil.Permit) (*trefoil.NoteReason, error) {
		if b.Release != nil {
			waiting <- struct{}{}
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, nil
	}
	f := d.frontend()
	send(t, f, &pgproto3.Query{String: "SELECT secret FROM person"})
	<-waiting
	s, _ := d.last()
	start := time.Now()
	s.Stop(Revoked)
	all, err := until(t, f, 1)
	if since := time.Since(start); since > 20*time.Second || err == nil {
		t.Errorf("stopped after %v, %v", since, err)
	}
	if strings.Contains(all, "secret-") || !strings.Contains(all, "42501") {
		t.Errorf("got %.100s", all)
	}
	if end := d.balance(); end.Released != 0 || end.Outcome != "revoked" {
		t.Errorf("end %+v", end)
	}
}

func TestDrainWaitsForTheRunningStatement(t *testing.T) {
	d := openDoor(t, nil)
	f := d.frontend()
	send(t, f, &pgproto3.Query{String: "SELECT pg_sleep(0.3), secret FROM person WHERE id = 1"})
	time.Sleep(100 * time.Millisecond)
	s, _ := d.last()
	s.Drain()
	all, err := until(t, f, 2)
	if err == nil || !strings.Contains(all, "secret-1") || !strings.Contains(all, "57P01") {
		t.Errorf("%v %s", err, all)
	}
	if end := d.balance(); end.Outcome != "drained" {
		t.Errorf("outcome %s", end.Outcome)
	}
}

func TestDisconnectCancelsAndIsRecorded(t *testing.T) {
	d := openDoor(t, nil)
	conn := d.must(pgx.QueryExecModeSimpleProtocol)
	h, err := conn.PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	f := pgproto3.NewFrontend(h.Conn, h.Conn)
	send(t, f, &pgproto3.Query{String: "SELECT secret, pg_sleep(60) FROM person"})
	time.Sleep(50 * time.Millisecond)
	h.Conn.Close()
	if end := d.balance(); end.Outcome != "disconnected" || end.Released != 0 {
		t.Errorf("end %+v", end)
	}
	var n int
	for range 100 {
		admin, err := pgx.Connect(ctxFor(t), d.admin)
		if err != nil {
			t.Fatal(err)
		}
		err = admin.QueryRow(ctxFor(t), "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)%' AND pid <> pg_backend_pid()").Scan(&n)
		admin.Close(ctxFor(t))
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d statements still run", n)
}

func TestCancelledIsRecordedAsCancelled(t *testing.T) {
	d := openDoor(t, nil)
	conn := d.must(pgx.QueryExecModeExec)
	_, err := conn.Exec(ctxFor(t), "SET statement_timeout = '100ms'")
	if err != nil {
		t.Fatal(err)
	}
	_, err = conn.Exec(ctxFor(t), "SELECT secret, pg_sleep(10) FROM person")
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != "57014" {
		t.Fatal(err)
	}
	r := d.log.releases()
	if last := r[len(r)-1]; last.Outcome != "cancelled" || last.SQLState != "57014" {
		t.Errorf("recorded as %+v", last)
	}
}

func TestTemporaryTablesAndCopyBothWays(t *testing.T) {
	d := openDoor(t, nil)
	conn := d.must(pgx.QueryExecModeCacheStatement)
	ctx := ctxFor(t)
	if _, err := conn.Exec(ctx, "CREATE TEMP TABLE mine (a int, b text)"); err != nil {
		t.Fatal(err)
	}
	rows := make([][]any, 5000)
	for i := range rows {
		rows[i] = []any{i, strings.Repeat("x", 50)}
	}
	n, err := conn.CopyFrom(ctx, pgx.Identifier{"mine"}, []string{"a", "b"}, pgx.CopyFromRows(rows))
	if err != nil || n != 5000 {
		t.Fatal(n, err)
	}
	var sum int
	if err := conn.QueryRow(ctx, "SELECT sum(a) FROM mine").Scan(&sum); err != nil || sum != 12497500 {
		t.Fatal(sum, err)
	}
	var out strings.Builder
	if _, err := conn.PgConn().CopyTo(ctx, &out, "COPY mine TO STDOUT"); err != nil || strings.Count(out.String(), "\n") != 5000 {
		t.Fatal(err)
	}
	d.close(conn)
	r := d.log.releases()
	if last := r[len(r)-1]; last.Rows == 0 {
		t.Error("rows of COPY are not counted")
	}
}

// libpq sends Sync with the statement of an extended COPY, and again after it.
func TestSyncInsideCopyIsIgnoredAsTheServerDoes(t *testing.T) {
	d := openDoor(t, nil)
	f := d.frontend()
	send(t, f, &pgproto3.Query{String: "CREATE TEMP TABLE mine (a int)"},
		&pgproto3.Parse{Query: "COPY mine FROM STDIN"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{},
		&pgproto3.CopyData{Data: []byte("1\n")}, &pgproto3.CopyDone{}, &pgproto3.Sync{}, &pgproto3.Query{String: "SELECT a FROM mine"})
	all, err := until(t, f, 3)
	if err != nil || !strings.Contains(all, "row:1") {
		t.Fatal(err, all)
	}
	if s, _ := d.last(); s.track.lost {
		t.Error("the mirror was lost")
	}
}

func TestPipelinesShareRecords(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.Limits.Wait = 5 * time.Second })
	d.log.delay = 50 * time.Millisecond
	conn := d.must(pgx.QueryExecModeSimpleProtocol)
	h, err := conn.PgConn().Hijack()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Conn.Close()
	f := pgproto3.NewFrontend(h.Conn, h.Conn)
	start := time.Now()
	for i := range 500 {
		f.Send(&pgproto3.Query{String: fmt.Sprintf("SELECT secret FROM person WHERE id = %d", i%10+1)})
	}
	if err := f.Flush(); err != nil {
		t.Fatal(err)
	}
	if all, err := until(t, f, 500); err != nil || strings.Count(all, "row:") != 500 {
		t.Fatal(err)
	}
	n := len(d.log.releases())
	t.Logf("500 cycles in %d records, %v", n, time.Since(start))
	if n > 250 {
		t.Errorf("500 pipelined cycles made %d records", n)
	}
	for _, r := range d.log.releases() {
		if len(r.Statements) > 64 {
			t.Errorf("a record names %d statements", len(r.Statements))
		}
	}
}

func TestUnpermittedInsideTheRegion(t *testing.T) {
	d := openDoor(t, func(c *Config) {
		c.AllowUnpermitted, c.Others, c.Limits.Wait = true, c.Trust, 2*time.Second
	})
	conn := d.must(pgx.QueryExecModeSimpleProtocol)
	d.log.onPermit = func(context.Context, *trefoil.Body, *trefoil.Permit) (*trefoil.NoteReason, error) {
		return nil, errFault
	}
	var s string
	if err := conn.QueryRow(ctxFor(t), "SELECT secret FROM person WHERE id = 1").Scan(&s); err != nil || s != "secret-1" {
		t.Fatal(err)
	}
	var unpermitted int
	for _, r := range d.log.releases() {
		if r.Unpermitted {
			unpermitted++
		}
	}
	if unpermitted != 1 {
		t.Errorf("%d records say unpermitted", unpermitted)
	}
	d.log.onPermit = func(context.Context, *trefoil.Body, *trefoil.Permit) (*trefoil.NoteReason, error) {
		return &trefoil.NoteReason{Rule: "floor", Reason: "no"}, nil
	}
	s2, _ := d.last()
	s2.away.Store(0)
	if err := conn.QueryRow(ctxFor(t), "SELECT secret FROM person WHERE id = 2").Scan(&s); err == nil {
		t.Error("a refusal was overruled")
	}
	d.balance()
}

// A large answer to a client that reads slowly: memory stays bounded, spill files are unlinked.
func TestLargeResultInBoundedMemory(t *testing.T) {
	var spill string
	d := openDoor(t, func(c *Config) {
		c.Limits = Limits{ChunkBytes: 4 << 20, MemoryBytes: 4 << 20, Window: 4, Wait: 5 * time.Second}
		spill = c.SpillDir
	})
	d.log.delay = 100 * time.Millisecond
	conn := d.must(pgx.QueryExecModeSimpleProtocol)
	var before, peak runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	rows, err := conn.Query(ctxFor(t), "SELECT repeat('x', 1000) FROM generate_series(1, 60000), person WHERE id = 1")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for rows.Next() {
		if n++; n%20000 == 0 {
			time.Sleep(50 * time.Millisecond)
			runtime.ReadMemStats(&peak)
			if used := int64(peak.HeapInuse) - int64(before.HeapInuse); used > 64<<20 {
				t.Errorf("%d MiB of heap in use", used>>20)
			}
			if s, _ := d.last(); s.mem.used.Load() > 4<<20 {
				t.Errorf("%d bytes held in memory", s.mem.used.Load())
			}
		}
	}
	if err := rows.Err(); err != nil || n != 60000 {
		t.Fatal(n, err)
	}
	if files, _ := filepath.Glob(spill + "/*"); len(files) != 0 {
		t.Errorf("spill files have names: %v", files)
	}
	if end := d.close(conn); end.Released < 60_000_000 {
		t.Errorf("released %d", end.Released)
	}
}

// One message larger than everything: it goes to disk, not to memory.
func TestHugeMessageSpills(t *testing.T) {
	d := openDoor(t, func(c *Config) { c.Limits = Limits{ChunkBytes: 1 << 20, MemoryBytes: 1 << 20} })
	f := d.frontend()
	f.SetMaxBodyLen(1 << 30)
	send(t, f, &pgproto3.Query{String: "SELECT repeat('y', 50000000) FROM person WHERE id = 1"})
	all, err := until(t, f, 1)
	if err != nil || len(all) < 50000000 {
		t.Fatal(len(all), err)
	}
	if s, _ := d.last(); s.mem.used.Load() > 1<<20 {
		t.Error("held in memory")
	}
}

func TestMalformedMessageIsAnsweredAndRecorded(t *testing.T) {
	for name, raw := range map[string]string{
		"unknown type": "?\x00\x00\x00\x04", "negative length": "Q\xff\xff\xff\xff", "short length": "Q\x00\x00\x00\x03",
		"password": "p\x00\x00\x00\x08abcd", "describe of nothing": "D\x00\x00\x00\x06?\x00", "bind without names": "B\x00\x00\x00\x08abcd",
	} {
		t.Run(name, func(t *testing.T) {
			d := openDoor(t, nil)
			conn := d.must(pgx.QueryExecModeExec)
			h, err := conn.PgConn().Hijack()
			if err != nil {
				t.Fatal(err)
			}
			defer h.Conn.Close()
			if _, err := io.WriteString(h.Conn, raw); err != nil {
				t.Fatal(err)
			}
			h.Conn.SetDeadline(time.Now().Add(time.Minute))
			all, err := until(t, pgproto3.NewFrontend(h.Conn, h.Conn), 1)
			if err == nil || !strings.Contains(all, "08P01") {
				t.Errorf("%v %s", err, all)
			}
			if end := d.balance(); end.Outcome != "error" {
				t.Errorf("outcome %s", end.Outcome)
			}
		})
	}
}

// psql's own queries: covered but for those that read statistics or what principals can write.
func TestPsqlCommandsAreCovered(t *testing.T) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		t.Skip("no psql")
	}
	d := openDoor(t, nil)
	host, port, _ := strings.Cut(d.addr(), ":")
	uncovered := map[string]int{`\d person`: 1, `\d+ person`: 1, // pg_statistic_ext
		`\ddp`: 1, `\drds`: 1, `\du`: 1, `\dg`: 1} // what principals write there outlives their sessions
	for _, command := range []string{
		`\d`, `\d person`, `\d+ person`, `\d person_pkey`, `\dt`, `\dn`, `\dn+`, `\l`, `\du`, `\df`, `\dv`, `\di`, `\ds`, `\dT`, `\dx`, `\dp`, `\ddp`, `\dC`, `\dD`, `\do *.=`,
		`\db`, `\conninfo`, `\encoding`, `\drds`, `\dg`, `\sf pg_catalog.lower(text)`, `\dRp`, `\dy`, `\dF`, `\dL`, `\dO`, `\des`, `\dE`,
	} {
		before := len(d.log.releases())
		out, err := exec.Command(psql, "-X", "-h", host, "-p", port, "-U", "x", "-d", "test", "-c", command).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
			continue
		}
		got := d.log.releases()[before:]
		if len(got) != uncovered[command] {
			t.Errorf("%s: %d releases, want %d", command, len(got), uncovered[command])
		}
	}
}
