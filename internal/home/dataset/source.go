package dataset

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// source is one consistent look at a source database: a leader that exported its snapshot,
// and workers that share it. All of it is read only.
type source struct {
	leader  *pgx.Conn
	tx      pgx.Tx
	workers chan *pgx.Conn
	n       int
	schema  *postgres.Schema
	at      time.Time // the source's clock at the snapshot
}

// settings make the source print values as the transforms read them, whatever its own
// encoding, time zone and formats are. row_security off makes a row policy an error: rows
// that it hid in silence would be missing.
const settings = `SET client_encoding = 'UTF8'; SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'; SET IntervalStyle = 'postgres';
	SET extra_float_digits = 1; SET bytea_output = 'hex'; SET xmlbinary = 'base64'; SET statement_timeout = 0; SET lock_timeout = '60s';
	SET idle_in_transaction_session_timeout = 0; SET row_security = off; SET search_path = ''; SET application_name = 'trefoil dataset'`

// connect opens a connection and applies the settings.
func connect(ctx context.Context, dsn, more string) (*pgx.Conn, error) {
	return connectTo(ctx, dsn, "", more)
}

// connectTo is connect with another database than the connection string's.
func connectTo(ctx context.Context, dsn, database, more string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("read connection string: it is not one") // pgx's error may repeat a password
	}
	if database != "" {
		cfg.Database = database
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	cfg.RuntimeParams["application_name"] = "trefoil dataset" // from the first moment: who looks at sessions sees whose it is
	postgres.Reach(&cfg.Config)
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, safe(err)
	}
	if _, err := conn.PgConn().Exec(ctx, settings+more).ReadAll(); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("prepare session: %w", safe(err))
	}
	return conn, nil
}

// closeTimeout bounds the farewell of a connection whose context may be over.
const closeTimeout = 5 * time.Second

func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = c.Close(ctx) // nothing is left to lose: it only reads, or its transaction is over
}

// openSource takes the snapshot and reads the schema in it.
func openSource(ctx context.Context, dsn string, workers int) (*source, error) {
	return openSourceAt(ctx, dsn, workers, "", time.Time{})
}

// openSourceAt looks at the source as of a snapshot that another session exported at a time;
// "" takes a new one. The other must hold it until this returns.
func openSourceAt(ctx context.Context, dsn string, workers int, snapshot string, at time.Time) (*source, error) {
	s := &source{workers: make(chan *pgx.Conn, workers), at: at.UTC()}
	var err error
	if s.leader, err = connect(ctx, dsn, ""); err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	if err := s.share(ctx, dsn, workers, snapshot); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

func (s *source) share(ctx context.Context, dsn string, workers int, id string) error {
	var err error
	s.tx, err = s.leader.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return fmt.Errorf("begin snapshot: %w", safe(err))
	}
	if id != "" {
		if _, err := s.tx.Exec(ctx, "SET TRANSACTION SNAPSHOT "+literal(id)); err != nil {
			return fmt.Errorf("share snapshot: %w", safe(err))
		}
	} else if err := s.tx.QueryRow(ctx, "SELECT pg_catalog.pg_export_snapshot(), pg_catalog.clock_timestamp()").Scan(&id, &s.at); err != nil {
		return fmt.Errorf("export snapshot: %w", safe(err))
	}
	s.at = s.at.UTC()
	for range workers {
		c, err := connect(ctx, dsn, "")
		if err != nil {
			return fmt.Errorf("connect to the source: %w", err)
		}
		s.workers <- c
		s.n++
		begin := "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT " + literal(id)
		if _, err := c.PgConn().Exec(ctx, begin).ReadAll(); err != nil {
			return fmt.Errorf("share snapshot: %w", safe(err))
		}
	}
	if s.schema, err = postgres.Inspect(ctx, s.tx); err != nil {
		return safe(err)
	}
	return nil
}

// close ends the snapshot. All workers must have been given back.
func (s *source) close() {
	for range s.n {
		closeConn(<-s.workers)
	}
	closeConn(s.leader)
}

// copyOut sends the rows of t to r: only the columns that are needed leave the source. need
// nil means all that the table reads; else the others are sent as NULL.
func (s *source) copyOut(ctx context.Context, t *table, r *rowReader, need []int) error {
	var c *pgx.Conn
	select {
	case c = <-s.workers:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { s.workers <- c }()
	if err := sameTable(ctx, c.PgConn(), t); err != nil {
		return err
	}
	if _, err := c.PgConn().CopyTo(ctx, r, copySQL(t, need)); err != nil {
		return fmt.Errorf("read %s from the source: %w", t.name, safe(err))
	}
	r.flushReport()
	return nil
}

// copySQL reads a plain table by COPY itself, which is faster than a query; a partitioned
// or inherited one, or one with virtual columns, by a query.
func copySQL(t *table, need []int) string {
	plain := t.src.Kind == postgres.Ordinary && need == nil && !t.inherited
	columns := make([]string, len(t.read))
	for i, name := range t.read {
		columns[i] = postgres.Quote(name)
		if need != nil && !slices.Contains(need, i) {
			columns[i] = "NULL"
		}
		plain = plain && t.src.Column(name).Generated == ""
	}
	list := strings.Join(columns, ", ")
	if plain {
		return fmt.Sprintf("COPY %s (%s) TO STDOUT", t.src.Name.Quoted(), list)
	}
	return fmt.Sprintf("COPY (SELECT %s FROM %s) TO STDOUT", list, t.src.Name.Quoted())
}

// safe makes an error of PostgreSQL fit to be shown: messages about data may carry values,
// so of those only the code, the table and the constraint stay.
func safe(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	text := "SQLSTATE " + pg.Code
	if len(pg.Code) == 5 && slices.Contains([]string{"08", "25", "28", "3D", "3F", "42", "53", "55", "57", "58"}, pg.Code[:2]) {
		text = pg.Message + " (" + text + ")"
	}
	for _, part := range []struct{ what, name string }{{"table", pg.TableName}, {"column", pg.ColumnName}, {"constraint", pg.ConstraintName}} {
		if part.name != "" {
			text += ", " + part.what + " " + part.name
		}
	}
	return &pgError{text: text, Code: pg.Code}
}

// pgError is an error of PostgreSQL without what may be a value.
type pgError struct {
	text string
	Code string // SQLSTATE
}

func (e *pgError) Error() string { return e.text }

// sqlState is the code of an error of PostgreSQL, "" of any other.
func sqlState(err error) string {
	var safe *pgError
	var raw *pgconn.PgError
	switch {
	case errors.As(err, &safe):
		return safe.Code
	case errors.As(err, &raw):
		return raw.Code
	}
	return ""
}
