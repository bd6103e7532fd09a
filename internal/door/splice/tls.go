package splice

import (
	"crypto/tls"
	"io"
	"net"
	"time"
)

// TLS is a TLS connection that a Loop can take over after its handshake. Until then it is an
// ordinary net.Conn.
type TLS struct {
	*tls.Conn
	line *line
}

// Server returns the server's side of a TLS connection over raw; the handshake is the
// caller's. Records are as long as they may be: a loop sends what it has at once.
func Server(raw net.Conn, c *tls.Config) *TLS {
	l := &line{Conn: raw}
	return &TLS{tls.Server(l, whole(c)), l}
}

// Client returns the client's side of a TLS connection over raw.
func Client(raw net.Conn, c *tls.Config) *TLS {
	l := &line{Conn: raw}
	return &TLS{tls.Client(l, whole(c)), l}
}

func whole(c *tls.Config) *tls.Config {
	if c.DynamicRecordSizingDisabled {
		return c
	}
	c = c.Clone()
	c.DynamicRecordSizingDisabled = true
	return c
}

// Wrapped is a connection that gives back what was read ahead of it. Unwrap returns what it
// lies on; ok is false while something is left to give back.
type Wrapped interface {
	Unwrap() (nc net.Conn, ok bool)
}

// line is what a TLS connection lies on: a net.Conn first, then, in a loop, bytes in memory.
// crypto/tls keeps a partial record across a Temporary error and goes on with the next Read.
type line struct {
	net.Conn         // nil once a loop owns the socket
	in       []byte  // received and not yet read
	out      *[]byte // where writes go
	ended    bool    // the peer ended its stream
}

// Read implements net.Conn.
func (l *line) Read(b []byte) (int, error) {
	if l.Conn != nil {
		return l.Conn.Read(b)
	}
	if len(l.in) == 0 {
		if l.ended {
			return 0, io.EOF
		}
		return 0, notYet{}
	}
	n := copy(b, l.in)
	l.in = l.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (l *line) Write(b []byte) (int, error) {
	if l.Conn != nil {
		return l.Conn.Write(b)
	}
	*l.out = append(*l.out, b...)
	return len(b), nil
}

// Close implements net.Conn.
func (l *line) Close() error {
	if l.Conn != nil {
		return l.Conn.Close()
	}
	return nil
}

// SetDeadline implements net.Conn; in memory nothing waits.
func (l *line) SetDeadline(t time.Time) error {
	if l.Conn != nil {
		return l.Conn.SetDeadline(t)
	}
	return nil
}

// SetReadDeadline implements net.Conn.
func (l *line) SetReadDeadline(t time.Time) error {
	if l.Conn != nil {
		return l.Conn.SetReadDeadline(t)
	}
	return nil
}

// SetWriteDeadline implements net.Conn.
func (l *line) SetWriteDeadline(t time.Time) error {
	if l.Conn != nil {
		return l.Conn.SetWriteDeadline(t)
	}
	return nil
}

// notYet tells crypto/tls that a read may be tried again.
type notYet struct{}

func (notYet) Error() string   { return "no bytes yet" }
func (notYet) Timeout() bool   { return true }
func (notYet) Temporary() bool { return true }
