//go:build linux && (amd64 || arm64)

package splice

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// flag is one thing that is so of a connection.
type flag uint16

const (
	paused   flag = 1 << iota // the handler wants no bytes now
	ended                     // nothing more will be received
	touched                   // in the loop's list of connections to settle
	queued                    // in the loop's list of connections to read again
	blocked                   // the handler was told to wait for Drained
	broken                    // writing failed: reading tells why
	shutting                  // our stream ends after what is pending
	shut                      // our stream has ended
	lingered                  // only waiting for the peer's end
	told                      // the handler knows that a peer whose stream ended takes nothing either
)

// econn is a Conn of an epollLoop. It holds no buffer unless bytes are stuck.
type econn struct {
	loop       *epollLoop
	handler    Handler
	tls        *TLS
	out        []byte // to be sent in this round: in the loop's read buffer, or gathered
	pending    []byte // from sent on not taken by the socket
	sent       int
	kept       []byte // not taken by the handler
	fd         int32  // -1 once closed
	generation int32
	interest   uint32 // what the kernel watches for; 0 may also mean: not registered
	flags      flag
	registered bool
	gathered   bool // out is a buffer of the loop's spares
	stall      time.Duration
	progress   int64  // when the socket last took something, while bytes are pending: nanoseconds of the loop's life
	unstall    func() // stops the stall timer
	closed     func() // of Finish
}

func (c *econn) is(f flag) bool { return c.flags&f != 0 }
func (c *econn) set(f flag)     { c.flags |= f }
func (c *econn) clear(f flag)   { c.flags &^= f }

// touch has the loop settle the connection after the handler's call.
func (c *econn) touch() {
	if !c.is(touched) {
		c.set(touched)
		c.loop.touched = append(c.loop.touched, c)
	}
}

// Loop implements Conn.
func (c *econn) Loop() Loop { return c.loop }

// SetHandler implements Conn.
func (c *econn) SetHandler(h Handler) { c.handler = h }

// read takes what has arrived and gives it to the handler.
func (c *econn) read() {
	if kept := c.kept; kept != nil {
		c.kept = nil
		c.deliver(kept)
		if c.fd >= 0 && !c.is(paused) {
			c.readAgain() // TLS may have found the stream's end behind it
		}
		return
	}
	if c.tls != nil {
		c.readTLS()
		return
	}
	n, e := receive(int(c.fd), c.loop.buf)
	switch {
	case e == syscall.EAGAIN:
	case e != 0:
		c.end(e)
	case n == 0:
		c.end(nil)
	default:
		c.deliver(c.loop.buf[:n])
	}
}

// readTLS opens what has arrived, in one go: at most a read and one record that waited for
// its end, so it always fits.
func (c *econn) readTLS() {
	l, line := c.loop, c.tls.line
	n, e := receive(int(c.fd), l.buf)
	switch {
	case e == syscall.EAGAIN:
	case e != 0:
		c.end(e)
		return
	case n == 0:
		line.ended = true
	default:
		line.in = l.buf[:n]
	}
	got := 0
	var err error
	for err == nil && got < len(l.plain) {
		n, err = c.tls.Read(l.plain[got:])
		got += n
	}
	if len(line.in) > 0 && err == nil {
		err = errors.New("more arrived than one read can open")
	}
	line.in = nil
	c.sealed() // an answer to a key update, an alert
	if got > 0 {
		c.deliver(l.plain[:got])
	}
	var temporary net.Error
	switch {
	case err == nil, errors.As(err, &temporary) && temporary.Timeout():
	case c.fd < 0 || c.is(ended):
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		if c.is(paused) { // what was not taken comes first; the end is found again then
			return
		}
		c.end(nil)
	default:
		c.end(err)
	}
}

// deliver gives bytes to the handler and keeps what it does not take.
func (c *econn) deliver(b []byte) {
	if c.is(lingered) {
		return
	}
	n := c.handler.Received(c, b)
	if n < len(b) && c.fd >= 0 {
		c.kept = append([]byte(nil), b[n:]...)
		c.Pause()
	}
}

// end tells the handler that nothing more will come.
func (c *econn) end(err error) {
	if c.is(ended) {
		return
	}
	c.set(ended)
	c.touch()
	if c.is(lingered) {
		c.Close()
		return
	}
	c.handler.Ended(c, err)
}

// Pause implements Conn.
func (c *econn) Pause() {
	if !c.is(paused) {
		c.set(paused)
		c.touch()
	}
}

// Resume implements Conn.
func (c *econn) Resume() {
	if c.fd < 0 || !c.is(paused) {
		return
	}
	c.clear(paused)
	c.touch()
	if c.kept != nil || c.tls != nil || !c.registered {
		c.readAgain()
	}
}

// readAgain has the loop read without an event.
func (c *econn) readAgain() {
	if !c.is(queued) {
		c.set(queued)
		c.loop.again = append(c.loop.again, c)
	}
}

// CloseWrite implements Conn.
func (c *econn) CloseWrite() {
	if c.fd < 0 || c.is(shutting|shut) {
		return
	}
	c.push()
	if c.tls != nil {
		_ = c.tls.CloseWrite()
		c.sealed()
	}
	if len(c.pending) > 0 {
		c.set(shutting)
		return
	}
	c.shutdown()
}

func (c *econn) shutdown() {
	c.clear(shutting)
	c.set(shut)
	_ = unix.Shutdown(int(c.fd), unix.SHUT_WR)
	if c.is(lingered) {
		c.loop.After(goodbye, c.Close)
	}
}

// Finish implements Conn.
func (c *econn) Finish(wait time.Duration, closed func()) {
	if c.fd < 0 {
		if closed != nil {
			closed()
		}
		return
	}
	c.closed, c.kept, c.handler = closed, nil, nobody{}
	c.set(lingered)
	if c.is(shut) {
		c.loop.After(goodbye, c.Close)
	}
	c.CloseWrite()
	if c.is(ended|broken) && len(c.pending) == 0 {
		c.Close()
		return
	}
	c.Resume()
	if c.is(shutting) {
		c.loop.After(wait, c.Close)
	}
}

// Close implements Conn.
func (c *econn) Close() {
	if c.fd < 0 {
		return
	}
	c.push()
	if c.tls != nil && !c.is(shut|shutting|broken) && len(c.pending) == 0 {
		_ = c.tls.CloseWrite() // a goodbye, if it can be had for nothing
		c.sealed()
	}
	c.loop.conns[c.fd] = nil
	_ = unix.Close(int(c.fd)) // the kernel takes it out of the epoll set
	c.drop()
	c.fd, c.kept, c.out = -1, nil, nil
	if c.unstall != nil {
		c.unstall()
	}
	if f := c.closed; f != nil {
		c.closed = nil
		f()
	}
}

// want tells the kernel which events matter now.
func (c *econn) want() {
	if c.fd < 0 {
		return
	}
	var events uint32
	if !c.is(paused | ended) {
		events |= unix.EPOLLIN
	}
	if len(c.pending) > 0 {
		events |= unix.EPOLLOUT
	}
	switch {
	case c.registered && events == c.interest:
	case c.registered:
		e := unix.EpollEvent{Events: events, Fd: c.fd, Pad: c.generation}
		if unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, int(c.fd), &e) == nil {
			c.interest = events
		}
	case events != 0:
		if err := c.register(events); err != nil {
			c.end(err)
		}
	}
}

func (c *econn) register(events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: c.fd, Pad: c.generation}
	if err := unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_ADD, int(c.fd), &e); err != nil {
		return fmt.Errorf("watch socket: %w", err)
	}
	c.interest, c.registered = events, true
	return nil
}

// deregister stops events of a connection that has nothing to do now: the kernel reports a
// broken one over and over, wanted or not.
func (c *econn) deregister() {
	_ = unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_DEL, int(c.fd), nil)
	c.interest, c.registered = 0, false
}
