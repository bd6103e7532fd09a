package compat

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/lib/pq"
)

// rows collects the outcomes of one way.
type rows struct {
	w     way
	cells []cell
}

// try notes one row. release is the SQLSTATE with which the release path must refuse it, "" where it works there.
func (r *rows) try(what, release string, f func() error) {
	err := f()
	outcome := works
	switch {
	case errors.Is(err, errAsPostgreSQL):
		outcome = "as PostgreSQL: " + strings.TrimSuffix(err.Error(), "\n"+errAsPostgreSQL.Error())
	case release != "" && r.w.release():
		if outcome = "was not refused"; stateOf(err) == release {
			outcome = "refused, " + release
		} else if err != nil {
			outcome = err.Error()
		}
	case err != nil:
		outcome = err.Error()
	}
	r.cells = append(r.cells, cell{what, strings.ReplaceAll(outcome, "\n", " ")})
}

// errAsPostgreSQL, joined to a reason, says that PostgreSQL's own program refuses.
var errAsPostgreSQL = errors.New("as PostgreSQL")

func stateOf(err error) string {
	var e interface{ SQLState() string }
	if errors.As(err, &e) {
		return e.SQLState()
	}
	return ""
}

// wants makes an error of a value that is not the one wanted.
func wants[T comparable](got, want T, err error) error {
	if err == nil && got != want {
		err = fmt.Errorf("got %v, want %v", got, want)
	}
	return err
}

// refusedWith is nil when err is the server's error with this SQLSTATE.
func refusedWith(err error, code string) error {
	if stateOf(err) == code {
		return nil
	}
	return fmt.Errorf("want SQLSTATE %s: %w", code, errors.Join(err, errors.New("no such error")))
}

func pgxClient() client {
	return client{name: "pgx", about: "jackc/pgx v5, each row in its five query modes; what has no mode once.", run: runPgx}
}

func runPgx(t *testing.T, w way) []cell {
	r := &rows{w: w}
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol} {
		config, err := pgx.ParseConfig(w.dsn)
		if err != nil {
			t.Fatal("the DSN does not parse")
		}
		config.DefaultQueryExecMode = mode
		conn, err := pgx.ConnectConfig(bounded(t), config)
		if err != nil {
			t.Fatal(err)
		}
		pgxMode(bounded(t), r, conn, " ("+mode.String()+")")
		conn.Close(bounded(t))
	}
	conn, err := pgx.Connect(bounded(t), w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(bounded(t))
	pgxOnce(bounded(t), r, conn)
	return r.cells
}

func pgxMode(ctx context.Context, r *rows, conn *pgx.Conn, mode string) {
	r.try("parameters, rows"+mode, "", func() error {
		found, err := conn.Query(ctx, "SELECT id, at, watched_ms FROM app.watch_events WHERE watched_ms >= $1 LIMIT $2", 0, 700)
		if err != nil {
			return err
		}
		type event struct {
			ID int64
			At time.Time
			MS int32
		}
		all, err := pgx.CollectRows(found, pgx.RowToStructByPos[event])
		return wants(len(all), 700, err)
	})
	r.try("transaction, error, savepoint"+mode, "", func() error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		nested, err := tx.Begin(ctx)
		if err != nil {
			return err
		}
		_, err = nested.Exec(ctx, "SELECT 1/0")
		if err := refusedWith(err, "22012"); err != nil {
			return err
		}
		if err := nested.Rollback(ctx); err != nil {
			return err
		}
		var n int
		err = tx.QueryRow(ctx, "SELECT 7").Scan(&n)
		return errors.Join(wants(n, 7, err), tx.Commit(ctx))
	})
}

func pgxOnce(ctx context.Context, r *rows, conn *pgx.Conn) {
	r.try("batch (pipelined)", "", func() error {
		batch := &pgx.Batch{}
		for i := range 200 {
			batch.Queue("SELECT $1::int", i)
		}
		results := conn.SendBatch(ctx, batch)
		for i := range 200 {
			var n int
			if err := results.QueryRow().Scan(&n); err != nil || n != i {
				return errors.Join(wants(n, i, err), results.Close())
			}
		}
		return results.Close()
	})
	r.try("pipeline mode, an error in its middle", "", func() error { return pipelineWithError(ctx, conn.PgConn()) })
	r.try("CopyFrom into a temporary table (binary)", "", func() error {
		if _, err := conn.Exec(ctx, "CREATE TEMP TABLE mine (id bigint, note text)"); err != nil {
			return err
		}
		n, err := conn.CopyFrom(ctx, pgx.Identifier{"mine"}, []string{"id", "note"}, pgx.CopyFromSlice(20000, func(i int) ([]any, error) { return []any{int64(i), "n"}, nil }))
		return wants(n, 20000, err)
	})
	r.try("CopyTo (binary)", "", func() error {
		var out bytes.Buffer
		tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY (SELECT * FROM app.watch_events) TO STDOUT (FORMAT binary)")
		if err == nil && !bytes.HasPrefix(out.Bytes(), []byte("PGCOPY\n\xff")) {
			err = errors.New("no binary copy")
		}
		return wants(tag.RowsAffected() > 5000, true, err)
	})
	r.try("CopyFrom into a table", "42501", func() error {
		tx, err := conn.Begin(ctx)
		if err != nil {
			return err
		}
		defer tx.Rollback(ctx)
		_, err = tx.CopyFrom(ctx, pgx.Identifier{"app", "topics"}, []string{"id", "label"}, pgx.CopyFromRows([][]any{{int16(903), "x"}}))
		return err
	})
	r.try("context with a deadline cancels the statement", "", func() error {
		other, err := pgx.Connect(ctx, r.w.dsn)
		if err != nil {
			return err
		}
		defer other.Close(ctx)
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err = other.Exec(short, "SELECT pg_sleep(30)")
		return wants(errors.Is(err, context.DeadlineExceeded), true, nil)
	})
}

func pipelineWithError(ctx context.Context, conn *pgconn.PgConn) error {
	p := conn.StartPipeline(ctx)
	for i := range 3 {
		for range 10 {
			sql := "SELECT 1"
			if i == 1 {
				sql = "SELECT 1/0"
			}
			p.SendQueryParams(sql, nil, nil, nil, nil)
		}
		if err := p.Sync(); err != nil {
			return err
		}
	}
	good, failed, syncs := 0, 0, 0
	for syncs < 3 {
		result, err := p.GetResults()
		switch result := result.(type) {
		case *pgconn.ResultReader:
			if read := result.Read(); read.Err == nil {
				good++
			} else {
				failed++
			}
		case *pgconn.PipelineSync:
			syncs++
		default:
			if refusedWith(err, "22012") != nil {
				return fmt.Errorf("pipeline: %v %w", result, err)
			}
			failed++
		}
	}
	return errors.Join(wants(good, 20, nil), wants(failed >= 1, true, nil), p.Close())
}

func libpqClient() client {
	return client{name: "lib/pq", about: "github.com/lib/pq with database/sql.", run: runLibpq}
}

func runLibpq(t *testing.T, w way) []cell {
	ctx := bounded(t)
	db, err := sql.Open("postgres", w.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(3)
	r := &rows{w: w}
	scan := func(sql string, args ...any) (n int, err error) {
		err = db.QueryRowContext(ctx, sql, args...).Scan(&n)
		return n, err
	}
	r.try("parameters", "", func() error {
		n, err := scan("SELECT count(*) FROM app.videos WHERE topic_id = $1 AND id <> $2", 3, 0)
		return wants(n > 0, true, err)
	})
	r.try("prepared statement", "", func() error {
		s, err := db.PrepareContext(ctx, "SELECT $1::int + 1")
		if err != nil {
			return err
		}
		defer s.Close()
		for i := range 5 {
			var n int
			err := s.QueryRowContext(ctx, i).Scan(&n)
			if err := wants(n, i+1, err); err != nil {
				return err
			}
		}
		return nil
	})
	r.try("arrays", "", func() error {
		n, err := scan("SELECT count(*) FROM app.topics WHERE id = ANY($1)", pq.Array([]int64{1, 2, 3}))
		return wants(n, 3, err)
	})
	r.try("transaction, an error", "", func() error {
		tx, err := db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelRepeatableRead, ReadOnly: true})
		if err != nil {
			return err
		}
		_, first := tx.ExecContext(ctx, "SELECT no_such_column FROM app.people")
		_, second := tx.ExecContext(ctx, "SELECT 1")
		return errors.Join(refusedWith(first, "42703"), refusedWith(second, "25P02"), tx.Rollback())
	})
	r.try("COPY FROM into a temporary table", "", func() error { return copyInto(ctx, db, "pg_temp") })
	r.try("COPY FROM into a table", "42501", func() error { return copyInto(ctx, db, "app") })
	r.try("Listener", "", func() error {
		l := pq.NewListener(w.dsn, time.Second, time.Minute, nil)
		defer l.Close()
		if err := l.Listen("compat_pq"); err != nil {
			return err
		}
		if _, err := db.ExecContext(ctx, "NOTIFY compat_pq, 'hello'"); err != nil {
			return err
		}
		select {
		case n := <-l.Notify:
			return wants(n.Extra, "hello", nil)
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	r.try("context with a deadline cancels the statement", "", func() error {
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, err := db.ExecContext(short, "SELECT pg_sleep(30)")
		return wants(err != nil, true, nil)
	})
	r.try("INSERT … RETURNING", "42501", func() error {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer tx.Rollback()
		var n int
		err = tx.QueryRowContext(ctx, "INSERT INTO app.topics VALUES (904, 'x') RETURNING id").Scan(&n)
		return wants(n, 904, err)
	})
	return r.cells
}

func copyInto(ctx context.Context, db *sql.DB, schema string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if schema == "pg_temp" {
		if _, err := tx.ExecContext(ctx, "CREATE TEMP TABLE topics (id int, label text) ON COMMIT DROP"); err != nil {
			return err
		}
	}
	s, err := tx.PrepareContext(ctx, "COPY "+schema+".topics (id, label) FROM STDIN")
	if err != nil {
		return err
	}
	for i := range 50 {
		if _, err := s.ExecContext(ctx, 1000+i, "x"); err != nil {
			return err
		}
	}
	if _, err := s.ExecContext(ctx); err != nil {
		return err
	}
	return s.Close()
}
