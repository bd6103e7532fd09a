package demo

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// session is a client's connection, as psql would have it: simple protocol, text results.
type session struct {
	conn    *pgconn.PgConn
	notices []string
	read    atomic.Int64 // bytes that arrived, inside TLS where they are counted there
}

// answer is what a query gave.
type answer struct {
	columns []string
	rows    [][]string
}

// connect opens a session. With counted the bytes are counted inside TLS: the protocol's own.
func connect(ctx context.Context, dsn string, counted bool) (*session, error) {
	config, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	s := &session{}
	config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { s.notices = append(s.notices, n.Message) }
	dial := config.DialFunc
	var secure *tls.Config
	if counted { // TLS is made below the counter, and the driver is told of none
		secure, config.TLSConfig, config.Fallbacks = config.TLSConfig, nil, nil
	}
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err == nil && secure != nil {
			c, err = encrypted(ctx, c, secure)
		}
		if err != nil {
			return nil, err
		}
		return &countingConn{Conn: c, read: &s.read}, nil
	}
	s.conn, err = pgconn.ConnectConfig(ctx, config)
	return s, err
}

// encrypted asks for TLS on a fresh connection and makes it.
func encrypted(ctx context.Context, c net.Conn, secure *tls.Config) (net.Conn, error) {
	if _, err := c.Write(wire.AppendSSLRequest(nil)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	t := tls.Client(c, secure)
	if err := t.HandshakeContext(ctx); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return t, nil
}

type countingConn struct {
	net.Conn
	read *atomic.Int64
}

func (c *countingConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.read.Add(int64(n))
	return n, err
}

// query runs one or more statements and returns the last one's answer.
func (s *session) query(ctx context.Context, sql string) (answer, error) {
	results, err := s.conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return answer{}, err
	}
	var out answer
	if len(results) == 0 {
		return out, nil
	}
	last := results[len(results)-1]
	for _, f := range last.FieldDescriptions {
		out.columns = append(out.columns, f.Name)
	}
	for _, row := range last.Rows {
		values := make([]string, len(row))
		for i, v := range row {
			values[i] = string(v)
		}
		out.rows = append(out.rows, values)
	}
	return out, nil
}

// close ends the session as a client should: with Terminate, and only then the socket.
func (s *session) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.conn.Close(ctx) // nothing is lost by a close that fails
}

// ask opens a session, runs sql, and closes it.
func (w *World) ask(ctx context.Context, principal, database, sql string) (answer, error) {
	s, err := connect(ctx, w.DSN(principal, database), false)
	if err != nil {
		return answer{}, err
	}
	defer s.close()
	return s.query(ctx, sql)
}

// only returns the single value of an answer.
func (a answer) only() (string, error) {
	if len(a.rows) != 1 || len(a.rows[0]) != 1 {
		return "", fmt.Errorf("expected one value, got %d rows", len(a.rows))
	}
	return a.rows[0][0], nil
}

// table prints the answer as psql does.
func (a answer) table() []string {
	width := make([]int, len(a.columns))
	for i, c := range a.columns {
		width[i] = len([]rune(c))
		for _, row := range a.rows {
			width[i] = max(width[i], len([]rune(row[i])))
		}
	}
	line := func(cells []string, pad, sep string) string {
		out := make([]string, len(cells))
		for i, c := range cells {
			out[i] = pad + c + strings.Repeat(pad, max(0, width[i]-len([]rune(c)))) + pad
		}
		return strings.TrimRight(strings.Join(out, sep), " ")
	}
	rules := make([]string, len(a.columns))
	for i := range rules {
		rules[i] = strings.Repeat("-", width[i])
	}
	out := []string{line(a.columns, " ", "|"), line(rules, "-", "+")}
	for _, row := range a.rows {
		out = append(out, line(row, " ", "|"))
	}
	return out
}

// refusal is the server's error behind err, or nil.
func refusal(err error) *pgconn.PgError {
	var e *pgconn.PgError
	if errors.As(err, &e) {
		return e
	}
	return nil
}

// shown prints a server's error as psql does.
func shown(e *pgconn.PgError) []string {
	out := []string{fmt.Sprintf("%s:  %s: %s", e.Severity, e.Code, e.Message)}
	for _, part := range [][2]string{{"DETAIL", e.Detail}, {"HINT", e.Hint}} {
		if part[1] != "" {
			out = append(out, strings.Split(part[0]+":  "+part[1], "\n")...)
		}
	}
	return out
}
