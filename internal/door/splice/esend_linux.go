//go:build linux && (amd64 || arm64)

package splice

import (
	"syscall"
	"time"
	"unsafe"
)

// Send implements Conn.
func (c *econn) Send(b []byte) {
	if len(b) == 0 || c.fd < 0 || c.is(broken|shutting|shut) {
		return
	}
	c.touch()
	switch {
	case c.out == nil && c.loop.holds(b):
		c.out = b
	case c.out != nil && !c.gathered && follows(c.out, b):
		c.out = c.out[:len(c.out)+len(b)]
	default:
		if !c.gathered {
			c.gather()
		}
		c.out = append(c.out, b...)
	}
}

// holds reports whether b lies in a buffer that keeps its bytes until the handler's call is
// over.
func (l *epollLoop) holds(b []byte) bool { return within(l.buf, b) || within(l.plain, b) }

func within(buf, b []byte) bool {
	at, from := uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(unsafe.Pointer(unsafe.SliceData(buf)))
	return at >= from && at < from+uintptr(len(buf))
}

// follows reports whether b begins where a ends, in the same buffer.
func follows(a, b []byte) bool {
	return cap(a) >= len(a)+len(b) && unsafe.Pointer(unsafe.SliceData(b)) == unsafe.Add(unsafe.Pointer(unsafe.SliceData(a)), len(a))
}

// gather moves what is to be sent into a buffer that can grow.
func (c *econn) gather() {
	c.out, c.gathered = append(c.loop.buffer(), c.out...), true
}

// push hands what is queued to the socket.
func (c *econn) push() {
	if c.out == nil {
		return
	}
	b, gathered := c.out, c.gathered
	c.out, c.gathered = nil, false
	if c.tls != nil {
		_, err := c.tls.Write(b)
		c.sealed()
		if err != nil {
			c.set(broken)
		}
	} else {
		c.transmit(b)
	}
	if gathered {
		c.loop.giveBack(b)
	}
}

// sealed sends the records that TLS has made.
func (c *econn) sealed() {
	if b := c.loop.cipher; len(b) > 0 {
		c.loop.cipher = b[:0]
		c.transmit(b)
		if cap(b) > 1<<20 {
			c.loop.cipher = nil
		}
	}
}

// transmit sends bytes after what is pending, and keeps what the socket does not take.
func (c *econn) transmit(b []byte) {
	if c.is(broken) {
		return
	}
	if len(c.pending) > 0 {
		c.pending = append(c.pending, b...)
		return
	}
	n, e := transmit(int(c.fd), b)
	switch {
	case e == 0 && n == len(b):
		return
	case e != 0 && e != syscall.EAGAIN:
		c.fail()
		return
	case e != 0:
		n = 0
	}
	c.pending, c.sent = append(c.loop.buffer(), b[n:]...), 0
	c.watchStall()
	c.touch()
}

// flush sends what is pending, now that the socket takes some.
func (c *econn) flush() {
	if len(c.pending) == 0 {
		c.touch()
		return
	}
	n, e := transmit(int(c.fd), c.pending[c.sent:])
	if e == syscall.EAGAIN {
		return
	}
	if e != 0 {
		c.fail()
		return
	}
	c.progress = c.loop.now()
	if c.sent += n; c.sent < len(c.pending) {
		return
	}
	c.drop()
	c.touch()
	if c.is(shutting) {
		c.shutdown()
	}
	if c.is(blocked) {
		c.clear(blocked)
		c.handler.Drained(c)
	}
}

// drop gives the buffer of pending bytes back.
func (c *econn) drop() {
	c.loop.giveBack(c.pending)
	c.pending, c.sent = nil, 0
}

// fail notes that nothing can be sent any more. Why is told by reading: a server says FATAL
// before it hangs up.
func (c *econn) fail() {
	c.set(broken)
	c.drop()
	c.touch()
	if c.is(lingered) {
		c.Close()
		return
	}
	c.gone()
}

// gone tells the handler that a peer whose stream ended takes nothing either: reading cannot.
func (c *econn) gone() {
	if c.fd >= 0 && c.is(ended) && !c.is(told|lingered) {
		c.set(told)
		c.handler.Ended(c, ErrStalled)
	}
}

// watchStall breaks the connection when its peer takes nothing for too long.
func (c *econn) watchStall() {
	c.progress = c.loop.now()
	if c.stall <= 0 || c.unstall != nil {
		return
	}
	var check func()
	check = func() {
		c.unstall = nil
		quiet := time.Duration(c.loop.now() - c.progress)
		switch {
		case c.fd < 0 || len(c.pending) == 0:
		case quiet >= c.stall:
			c.fail()
			c.end(ErrStalled)
		default:
			c.unstall = c.loop.After(c.stall-quiet, check)
		}
	}
	c.unstall = c.loop.After(c.stall, check)
}

// Blocked implements Conn.
func (c *econn) Blocked() bool {
	if c.fd < 0 {
		return false
	}
	c.push()
	if len(c.pending) > 0 {
		c.set(blocked)
	}
	return c.is(blocked)
}
