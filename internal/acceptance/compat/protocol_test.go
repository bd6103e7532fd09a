package compat

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

func protocolClient() client {
	return client{name: "The protocol itself", about: "Messages written by hand, and programs that lean on rarely used parts.", run: runProtocol}
}

// open gives a session with messages in the clear of a driver's cleverness.
func open(t testing.TB, dsn string, params ...string) *pgproto3.Frontend {
	t.Helper()
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		t.Fatal("the DSN does not parse")
	}
	for i := 0; i+1 < len(params); i += 2 {
		config.RuntimeParams[params[i]] = params[i+1]
	}
	conn, err := pgconn.ConnectConfig(bounded(t), config)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	h, err := conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Conn.Close() })
	if err := h.Conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return h.Frontend
}

// talk sends messages and reads until n times ReadyForQuery. It returns the types of the
// answers, one letter each, with rows folded, and the values of the first column.
func talk(f *pgproto3.Frontend, n int, messages ...pgproto3.FrontendMessage) (shape string, values []string, err error) {
	for _, m := range messages {
		f.Send(m)
	}
	if err := f.Flush(); err != nil {
		return "", nil, err
	}
	for n > 0 {
		m, err := f.Receive()
		if err != nil {
			return shape, values, fmt.Errorf("after %q: %w", shape, err)
		}
		switch m := m.(type) {
		case *pgproto3.DataRow:
			if len(m.Values) > 0 {
				values = append(values, string(m.Values[0]))
			}
			if strings.HasSuffix(shape, "D") {
				continue
			}
			shape += "D"
		case *pgproto3.RowDescription:
			shape += "T"
		case *pgproto3.CommandComplete:
			shape += "C"
		case *pgproto3.PortalSuspended:
			shape += "s"
		case *pgproto3.EmptyQueryResponse:
			shape += "I"
		case *pgproto3.FunctionCallResponse:
			shape += "V"
			values = append(values, string(m.Result))
		case *pgproto3.ErrorResponse:
			shape += "E(" + m.Code + ")"
		case *pgproto3.ReadyForQuery:
			shape += "Z"
			n--
		case *pgproto3.CopyData:
			if !strings.HasSuffix(shape, "d") {
				shape += "d"
			}
		}
	}
	return shape, values, nil
}

func query(sql string) pgproto3.FrontendMessage { return &pgproto3.Query{String: sql} }

func runProtocol(t *testing.T, w way) []cell {
	r := &rows{w: w}
	f := open(t, w.dsn)
	shapes := func(want string, n int, messages ...pgproto3.FrontendMessage) func() error {
		return func() error {
			got, _, err := talk(f, n, messages...)
			return wants(got, want, err)
		}
	}
	r.try("several statements in one text, one fails", "", shapes("TDCTDCE(22012)Z", 1, query("SELECT 1; SELECT 2; SELECT 1/0; SELECT 3")))
	r.try("empty text", "", shapes("IZ", 1, query("")))
	r.try("transaction over several texts", "", shapes("CZTDCZE(22012)ZE(25P02)ZCZ", 5, query("BEGIN"), query("SELECT 1"), query("SELECT 1/0"), query("SELECT 1"), query("ROLLBACK")))
	r.try("500 statements pipelined before the first answer is read", "", func() error { return pipelined(f) })
	r.try("portal read in parts", "", shapes("CZDsDsDCZCZ", 3, query("BEGIN"),
		&pgproto3.Parse{Query: "SELECT id FROM app.topics ORDER BY id"}, &pgproto3.Bind{DestinationPortal: "p"},
		&pgproto3.Execute{Portal: "p", MaxRows: 5}, &pgproto3.Execute{Portal: "p", MaxRows: 5}, &pgproto3.Execute{Portal: "p"}, &pgproto3.Sync{}, query("COMMIT")))
	r.try("an error skips to Sync", "", shapes("E(22012)ZDCZ", 2, &pgproto3.Parse{Query: "SELECT 1/0"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Parse{Query: "SELECT 2"}, &pgproto3.Sync{},
		&pgproto3.Parse{Query: "SELECT 3"}, &pgproto3.Bind{}, &pgproto3.Execute{}, &pgproto3.Sync{}))
	r.try("FunctionCall", "", func() error {
		shape, values, err := talk(f, 1, &pgproto3.FunctionCall{Function: 1397, ArgFormatCodes: []uint16{0}, Arguments: [][]byte{[]byte("-42")}, ResultFormatCode: 0})
		return wants(shape+strings.Join(values, ""), "VZ42", err) // abs(int4)
	})
	r.try("binary parameters and results", "", func() error {
		_, values, err := talk(f, 1, &pgproto3.Parse{Query: "SELECT $1::int8 + 1", ParameterOIDs: []uint32{20}},
			&pgproto3.Bind{ParameterFormatCodes: []int16{1}, Parameters: [][]byte{{0, 0, 0, 0, 0, 0, 1, 0}}, ResultFormatCodes: []int16{1}}, &pgproto3.Execute{}, &pgproto3.Sync{})
		return wants(strings.Join(values, ""), "\x00\x00\x00\x00\x00\x00\x01\x01", err)
	})
	r.try("settings given at connect", "", func() error {
		_, values, err := talk(open(t, w.dsn, "application_name", "compat", "DateStyle", "German, DMY", "statement_timeout", "31s"), 1,
			query("SELECT current_setting('application_name') || '|' || current_setting('DateStyle') || '|' || current_setting('statement_timeout')"))
		return wants(strings.Join(values, ""), "compat|German, DMY|31s", err)
	})
	r.try("cursor WITH HOLD, settings and temporary tables live on after COMMIT", "", func() error { return keeps(f) })
	r.try("a failed COMMIT of a deferred check", "", shapes("CZCZCZE(23505)Z", 4, query("CREATE TEMP TABLE once (n int UNIQUE DEFERRABLE INITIALLY DEFERRED)"), query("BEGIN"), query("INSERT INTO once VALUES (1), (1)"), query("COMMIT")))
	r.try("DISCARD ALL", "", func() error {
		_, values, err := talk(f, 2, query("DISCARD ALL"), query("SELECT count(*) FROM pg_catalog.pg_prepared_statements"))
		return wants(strings.Join(values, ""), "0", err)
	})
	r.try("LISTEN, NOTIFY between sessions", "", func() error { return listens(bounded(t), w.dsn) })
	r.try("cancel under load: only the right session", "", func() error { return cancels(t, w.dsn) })
	r.try("COPY TO, 100 MB", "", func() error {
		return copies(bounded(t), w.dsn, "COPY (SELECT repeat('x', 1000) FROM generate_series(1, 100000)) TO STDOUT", 100_100_000)
	})
	r.try("COPY FROM, 50 MB into a temporary table", "", func() error { return copiesIn(bounded(t), w.dsn) })
	r.try("advisory locks", "", shapes("TDCZTDCZ", 2, query("SELECT pg_advisory_lock(42)"), query("SELECT pg_advisory_unlock(42)")))
	r.try("a text of 1 MB", "", func() error {
		_, values, err := talk(f, 1, query("SELECT length('"+strings.Repeat("x", 1<<20)+"')"))
		return wants(strings.Join(values, ""), "1048576", err)
	})
	r.try("a value of 12 MB", "", func() error {
		_, values, err := talk(f, 1, query("SELECT repeat('y', 12000000)"))
		return wants(len(strings.Join(values, "")), 12_000_000, err)
	})
	r.try("a value of 20 MB (the monitor's ceiling of a chunk is 16 MiB)", "42501", func() error {
		conn, err := pgconn.Connect(bounded(t), w.dsn)
		if err != nil {
			return err
		}
		defer conn.Close(bounded(t))
		found, err := conn.Exec(bounded(t), "SELECT repeat('y', 20000000)").ReadAll()
		if err != nil {
			return err
		}
		return wants(len(found[0].Rows[0][0]), 20_000_000, nil)
	})
	r.try("the session ends with Terminate", "", func() error {
		f.Send(&pgproto3.Terminate{})
		if err := f.Flush(); err != nil {
			return err
		}
		_, err := f.Receive()
		if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("no end: %w", err)
		}
		return nil
	})
	return r.cells
}

func pipelined(f *pgproto3.Frontend) error {
	var all []pgproto3.FrontendMessage
	for i := range 500 {
		all = append(all, &pgproto3.Parse{Query: fmt.Sprintf("SELECT %d", i)}, &pgproto3.Bind{}, &pgproto3.Execute{})
		if i%50 == 49 {
			all = append(all, &pgproto3.Sync{})
		}
	}
	_, values, err := talk(f, 10, all...)
	for i, v := range values {
		if v != fmt.Sprint(i) {
			return fmt.Errorf("answer %d is %s", i, v)
		}
	}
	return wants(len(values), 500, err)
}

func keeps(f *pgproto3.Frontend) error {
	if _, _, err := talk(f, 1, query("BEGIN; SET TIME ZONE 'Europe/Dublin'; CREATE TEMP TABLE kept AS SELECT id FROM app.topics; DECLARE held CURSOR WITH HOLD FOR SELECT id FROM kept ORDER BY id; COMMIT")); err != nil {
		return err
	}
	shape, values, err := talk(f, 4, query("FETCH 2 FROM held"), query("FETCH 1 FROM held"), query("SELECT count(*) FROM kept"), query("SHOW timezone"))
	if err := wants(shape, "TDCZTDCZTDCZTDCZ", err); err != nil {
		return err
	}
	if err := wants(strings.Join(values[3:], "|"), "16|Europe/Dublin", nil); err != nil {
		return err
	}
	_, _, err = talk(f, 1, query("CLOSE held; DROP TABLE kept; RESET ALL"))
	return err
}

func listens(ctx context.Context, dsn string) error {
	listener, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer listener.Close(ctx)
	sender, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer sender.Close(ctx)
	if _, err := listener.Exec(ctx, "LISTEN compat_wire"); err != nil {
		return err
	}
	for i := range 3 {
		if _, err := sender.Exec(ctx, "SELECT pg_notify('compat_wire', $1)", fmt.Sprint(i)); err != nil {
			return err
		}
		n, err := listener.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.Payload != fmt.Sprint(i) {
			return fmt.Errorf("payload %q", n.Payload)
		}
	}
	return nil
}

// cancels ends one of several sessions' statements while the others work.
func cancels(t *testing.T, dsn string) error {
	ctx := bounded(t)
	others := make(chan error, 3)
	for range cap(others) {
		go func() {
			conn, err := pgx.Connect(ctx, dsn)
			if err != nil {
				others <- err
				return
			}
			defer conn.Close(ctx)
			for range 5 {
				if _, err = conn.Exec(ctx, "SELECT count(*), pg_sleep(0.1) FROM app.topics"); err != nil {
					break
				}
			}
			others <- err
		}()
	}
	var errs []error
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		errs = append(errs, err)
	} else {
		defer conn.Close(ctx)
		stop := time.AfterFunc(400*time.Millisecond, func() { _ = conn.PgConn().CancelRequest(ctx) }) // an error shows as no cancel
		defer stop.Stop()
		_, err := conn.Exec(ctx, "SELECT pg_sleep(30)")
		errs = append(errs, refusedWith(err, "57014"))
	}
	for range cap(others) {
		errs = append(errs, <-others)
	}
	return errors.Join(errs...)
}

// counter counts what is written.
type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }

func copies(ctx context.Context, dsn, sql string, want int64) error {
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var n counter
	_, err = conn.CopyTo(ctx, &n, sql)
	return wants(int64(n), want, err)
}

// lines50 is a COPY text of 50 MB.
func lines50() io.Reader {
	line := strings.Repeat("z", 999) + "\n"
	return io.LimitReader(repeated(line), 50_000*1000)
}

type repeated string

func (r repeated) Read(p []byte) (int, error) {
	n := 0
	for len(p)-n >= len(r) {
		n += copy(p[n:], r)
	}
	if n == 0 {
		return 0, io.ErrShortBuffer
	}
	return n, nil
}

func copiesIn(ctx context.Context, dsn string) error {
	conn, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "CREATE TEMP TABLE large (t text)").ReadAll(); err != nil {
		return err
	}
	tag, err := conn.CopyFrom(ctx, lines50(), "COPY large FROM STDIN")
	return wants(tag.RowsAffected(), 50_000, err)
}

func dumpClient() client {
	const programs = "/usr/lib/postgresql/15/bin/"
	return client{name: "pg_dump, pgbench", about: "PostgreSQL 15's own programs; pg_dump 15 dumps no server of version 18, whoever is between. On the release path each table is a release; what Trefoil keeps in a dataset for itself is not for dumping.",
		missing: func() error {
			_, dump := exec.LookPath(programs + "pg_dump")
			_, bench := exec.LookPath(programs + "pgbench")
			return errors.Join(dump, bench)
		},
		run: func(t *testing.T, w way) []cell {
			r := &rows{w: w}
			program := func(want string, name string, args ...string) error {
				out, err := exec.CommandContext(bounded(t), programs+name, append(args, w.dsn)...).CombinedOutput()
				switch said := string(out); {
				case w.major == 18 && name == "pg_dump" && strings.Contains(said, "server version mismatch"):
					return errors.Join(errors.New("server version mismatch"), errAsPostgreSQL)
				case strings.Contains(said, "permission denied for schema trefoil_"):
					return &pgconn.PgError{Code: "42501", Message: said}
				}
				if err == nil && !strings.Contains(string(out), want) {
					err = errors.New("not in its output: " + want)
				}
				if err != nil {
					err = fmt.Errorf("%w: %.800s", err, out)
				}
				return err
			}
			r.try("pg_dump, whole database", map[int]string{15: "42501"}[w.major], func() error { return program("PostgreSQL database dump complete", "pg_dump") })
			r.try("pg_dump, schemas of the application", "", func() error {
				return program("PostgreSQL database dump complete", "pg_dump", "-n", "app", "-n", "billing")
			})
			r.try("pg_dump, one table, custom format", "", func() error { return program("PGDMP", "pg_dump", "-Fc", "-t", "app.topics") })
			r.try("pgbench, own script, prepared", "", func() error {
				return program("number of failed transactions: 0", "pgbench", "-n", "-M", "prepared", "-c", "2", "-t", "3", "-f", "testdata/bench.sql")
			})
			return r.cells
		}}
}
