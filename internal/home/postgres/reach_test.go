package postgres

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sys/unix"
)

func TestAServerThatVanishesIsNoticed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := pgconn.ParseConfig("postgres://nobody@" + l.Addr().String() + "/x?sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	Reach(c)
	if c.ConnectTimeout != connectWithin {
		t.Errorf("a log-in may take %s", c.ConnectTimeout)
	}
	conn, err := c.DialFunc(context.Background(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	if err := raw.Control(func(fd uintptr) {
		for name, option := range map[string]int{"unheard": unix.TCP_USER_TIMEOUT, "idle": unix.TCP_KEEPIDLE, "every": unix.TCP_KEEPINTVL, "probes": unix.TCP_KEEPCNT} {
			if got[name], err = unix.GetsockoptInt(int(fd), unix.IPPROTO_TCP, option); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	if got["unheard"] != int(unheardMost.Milliseconds()) || got["idle"] != int(idleProbe.Seconds()) || got["every"] != int(probeEvery.Seconds()) || got["probes"] != probes {
		t.Errorf("the kernel was told %v", got)
	}
	c.ConnectTimeout = 300 * time.Millisecond
	if _, err := pgconn.ConnectConfig(context.Background(), c); err == nil {
		t.Error("a server that says nothing let us in")
	}
}
