package postgres

import (
	"context"
	"net"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

// Patience with a server across a network that may lose it without a word.
const (
	connectWithin = 30 * time.Second // from the first packet to the end of the log-in
	idleProbe     = 10 * time.Second // an idle peer is asked after so long,
	probeEvery    = 5 * time.Second  // again and again,
	probes        = 4                // and given up after so many
	unheardMost   = 2 * time.Minute  // what was sent must be acknowledged within so long
)

// Reach makes long-lived sessions of a configuration notice that the server is gone, also when
// nobody closes the connection: a machine that lost its power, a firewall that forgot. Without
// it the kernel may take a quarter of an hour.
func Reach(c *pgconn.Config) {
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectWithin
	}
	c.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: idleProbe, Interval: probeEvery, Count: probes}, Control: acknowledged}
		return d.DialContext(ctx, network, addr)
	}
}

// acknowledged sets how long sent bytes may stay without an answer of the peer's kernel.
func acknowledged(network, _ string, c syscall.RawConn) error {
	if network != "tcp" && network != "tcp4" && network != "tcp6" {
		return nil
	}
	var failed error
	err := c.Control(func(fd uintptr) {
		failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(unheardMost.Milliseconds()))
	})
	if err != nil {
		return err
	}
	return failed
}
