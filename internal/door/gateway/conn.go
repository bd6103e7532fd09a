package gateway

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// conn counts what is written and bounds how long one write may wait. The count starts
// where the conn is made: for clients with TLS, behind it.
type conn struct {
	net.Conn
	written atomic.Int64

	mu      sync.Mutex
	bound   time.Duration // of one write; ≤ 0: none
	renewed time.Time     // when the write deadline was last set
	last    bool          // no more renewals: the session is ending
}

// newConn wraps a connection that is being started: whoever starts it sets its deadlines.
func newConn(c net.Conn) *conn { return &conn{Conn: c} }

// settle ends the start: no deadline for reads, and bound for each write from now on.
func (c *conn) settle(bound time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_ = c.Conn.SetDeadline(time.Time{})
	c.bound = bound
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	c.renew()
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	return n, err
}

// renew moves the write deadline on, but not at every write: a tenth of the bound is
// precise enough.
func (c *conn) renew() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bound <= 0 {
		return
	}
	now := time.Now()
	if !c.last && now.Sub(c.renewed) > c.bound/10 {
		c.renewed = now
		_ = c.Conn.SetWriteDeadline(now.Add(c.bound)) // a dead connection fails at the write
	}
}

// hurry lets writes go on for a last while only.
func (c *conn) hurry(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = true
	_ = c.Conn.SetWriteDeadline(time.Now().Add(d))
}

// CloseWrite ends this side's stream where the connection below can.
func (c *conn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return c.Conn.Close()
}

// prefixed gives back bytes that were read to see what a client speaks.
type prefixed struct {
	net.Conn
	head []byte
}

// Read implements net.Conn.
func (p *prefixed) Read(b []byte) (int, error) {
	if len(p.head) > 0 {
		n := copy(b, p.head)
		p.head = p.head[n:]
		return n, nil
	}
	return p.Conn.Read(b)
}

// Unwrap returns the connection below once everything is given back.
func (p *prefixed) Unwrap() (net.Conn, bool) { return p.Conn, len(p.head) == 0 }

// readMessage reads exactly one message, so that nothing of the next one is taken from
// whoever reads after. It is for start-up only.
func readMessage(r io.Reader, most int) (typ byte, payload []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := int(uint32(head[1])<<24|uint32(head[2])<<16|uint32(head[3])<<8|uint32(head[4])) - 4
	if n < 0 || n > most {
		return 0, nil, errStartupLength
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		return 0, nil, err
	}
	return head[0], payload, nil
}
