package chaos

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// patience bounds everything a client waits for.
const patience = 90 * time.Second

// visit is one connection of an analyst, as the analyst saw it.
type visit struct {
	who, dataset string
	from, to     time.Time
	open         bool  // it got as far as ReadyForQuery
	login, after int64 // bytes at the socket after TLS: until then, and since
	covered      bool  // it ran statements that the session's own permit covers
	clean        bool  // it read every answer to its end, and said Terminate
	rows         int64
	state        string // SQLSTATE of the error that ended it
	err          error
}

// socket counts what arrives at a client, after TLS.
type socket struct {
	net.Conn
	read atomic.Int64
}

func (s *socket) Read(b []byte) (int, error) {
	n, err := s.Conn.Read(b)
	s.read.Add(int64(n))
	return n, err
}

// client is a visit that goes on.
type client struct {
	*visit
	conn   *pgconn.PgConn
	socket *socket
}

// dial opens a visit. Without a connection the visit is over, and tells why.
func (e *enclave) dial(ctx context.Context, who, dataset string) *client {
	c := &client{visit: &visit{who: who, dataset: dataset, from: time.Now()}}
	config, err := pgconn.ParseConfig(e.dsn(who, dataset))
	if err != nil {
		c.over(errors.New("the DSN does not parse"))
		return c
	}
	config.ConnectTimeout = patience
	config.AfterNetConnect = func(_ context.Context, _ *pgconn.Config, conn net.Conn) (net.Conn, error) {
		c.socket = &socket{Conn: conn}
		return c.socket, nil
	}
	c.conn, err = pgconn.ConnectConfig(ctx, config)
	if c.socket != nil {
		c.login = c.socket.read.Load()
	}
	if err != nil {
		c.over(err)
		return c
	}
	c.open = true
	return c
}

// over ends the visit's account.
func (c *client) over(err error) {
	c.err, c.to = err, time.Now()
	var server *pgconn.PgError
	if errors.As(err, &server) {
		c.state = server.Code
	}
	if c.socket != nil {
		c.after = c.socket.read.Load() - c.login
	}
}

// query reads the whole answer; row, if set, is called after each row and may end it.
func (c *client) query(ctx context.Context, sql string, row func(n int64) error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	results := c.conn.Exec(ctx, sql)
	n := int64(0)
	for results.NextResult() {
		rows := results.ResultReader()
		for rows.NextRow() {
			n++
			c.rows++
			if row == nil {
				continue
			}
			if err := row(n); err != nil {
				_ = c.socket.Close()
				_ = results.Close() // the connection is gone
				return err
			}
		}
	}
	return results.Close()
}

// close says Terminate and reads to the end of the stream.
func (c *client) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c.clean = c.conn.Conn().SetDeadline(time.Now().Add(5*time.Second)) == nil
	_ = c.conn.Close(ctx) // the account tells whether something was lost
	c.over(nil)
}

// vanish closes the socket and says nothing.
func (c *client) vanish(err error) {
	_ = c.socket.Close()
	c.over(err)
}

// drain reads what the server still says to a session that it has ended.
func (c *client) drain() {
	_ = c.socket.SetReadDeadline(time.Now().Add(2 * time.Second))
	_, _ = io.Copy(io.Discard, c.socket)
}
