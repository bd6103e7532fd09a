package splice

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// Sizes of the portable loop, in bytes: what a connection reads at once, and what it keeps
// for its peer before it reports Blocked.
const (
	portableRead  = 16 << 10
	portableQueue = 64 << 10
)

// portableLoop is a Loop whose connections have two goroutines each. One lock stands for the
// thread: whoever calls a handler holds it.
type portableLoop struct {
	mu     sync.Mutex // held during every call to a handler
	conns  map[*pconn]struct{}
	timers map[*time.Timer]struct{}
	wg     sync.WaitGroup

	queue  sync.Mutex
	more   *sync.Cond
	posted []func()
	closed bool
}

// NewPortable starts a loop of goroutines. Close ends it.
func NewPortable() Loop {
	l := &portableLoop{conns: map[*pconn]struct{}{}, timers: map[*time.Timer]struct{}{}}
	l.more = sync.NewCond(&l.queue)
	l.wg.Go(l.runPosted)
	return l
}

func (l *portableLoop) runPosted() {
	l.queue.Lock()
	defer l.queue.Unlock()
	for {
		for len(l.posted) == 0 {
			if l.closed {
				return
			}
			l.more.Wait()
		}
		list := l.posted
		l.posted = nil
		l.queue.Unlock()
		for _, f := range list {
			l.mu.Lock()
			f()
			l.mu.Unlock()
		}
		l.queue.Lock()
	}
}

// Post implements Loop.
func (l *portableLoop) Post(f func()) bool {
	l.queue.Lock()
	defer l.queue.Unlock()
	if l.closed {
		return false
	}
	l.posted = append(l.posted, f)
	l.more.Signal()
	return true
}

// After implements Loop.
func (l *portableLoop) After(d time.Duration, f func()) func() {
	var t *time.Timer
	stopped := false
	t = time.AfterFunc(d, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.timers, t)
		if !stopped {
			f()
		}
	})
	l.timers[t] = struct{}{} // on the loop: the lock is held, so the function above comes later
	return func() {
		stopped = true
		if t.Stop() {
			delete(l.timers, t)
		}
	}
}

// Close implements Loop.
func (l *portableLoop) Close() {
	l.queue.Lock()
	l.closed = true
	l.more.Broadcast()
	l.queue.Unlock()
	l.mu.Lock()
	for c := range l.conns {
		c.Close()
	}
	for t := range l.timers {
		t.Stop()
	}
	l.mu.Unlock()
	l.wg.Wait()
}

// Takes implements Loop.
func (l *portableLoop) Takes(net.Conn) bool { return true }

// Adopt implements Loop.
func (l *portableLoop) Adopt(nc net.Conn, h Handler, o Options) (Conn, error) {
	_ = nc.SetDeadline(time.Time{})
	c := &pconn{loop: l, nc: nc, handler: h, stall: o.Stall}
	c.wake = sync.NewCond(&l.mu)
	l.conns[c] = struct{}{}
	l.wg.Go(c.read)
	l.wg.Go(c.write)
	return c, nil
}

// pconn is a Conn of a portableLoop. All fields are under the loop's lock.
type pconn struct {
	loop     *portableLoop
	nc       net.Conn
	handler  Handler
	stall    time.Duration
	wake     *sync.Cond // something below changed
	pending  []byte     // for the peer
	spare    []byte     // the other half of a double buffer
	writing  bool       // the writer has some more of it
	paused   bool
	blocked  bool // the handler waits for Drained
	broken   bool // writing failed
	shutting bool // our stream ends after pending
	shut     bool
	ended    bool
	told     bool // the handler knows that a peer whose stream ended takes nothing either
	over     bool // closed
	linger   bool
	closed   func() // of Finish
}

// read is the goroutine that receives.
func (c *pconn) read() {
	buf := make([]byte, portableRead)
	for {
		n, err := c.nc.Read(buf)
		c.loop.mu.Lock()
		for b := buf[:n]; len(b) > 0 && !c.over; {
			for c.paused && !c.over {
				c.wake.Wait()
			}
			if c.over {
				break
			}
			taken := c.handler.Received(c, b)
			if b = b[taken:]; len(b) > 0 {
				c.paused = true
			}
		}
		for err != nil && c.paused && !c.over {
			c.wake.Wait()
		}
		if c.over || err != nil {
			if !c.over && !c.ended {
				c.ended = true
				if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
					err = nil
				}
				c.handler.Ended(c, err)
			}
			c.loop.mu.Unlock()
			return
		}
		c.loop.mu.Unlock()
	}
}

// write is the goroutine that sends.
func (c *pconn) write() {
	c.loop.mu.Lock()
	defer c.loop.mu.Unlock()
	for !c.over {
		switch {
		case len(c.pending) > 0:
			b := c.pending
			c.pending, c.spare, c.writing = c.spare, nil, true
			if c.stall > 0 {
				_ = c.nc.SetWriteDeadline(time.Now().Add(c.stall))
			}
			c.loop.mu.Unlock()
			_, err := c.nc.Write(b)
			c.loop.mu.Lock()
			c.writing = false
			if c.spare = b[:0]; cap(b) > 2*portableQueue {
				c.spare = nil
			}
			c.wrote(err)
		case c.shutting && !c.shut:
			c.shut = true
			closeWrite(c.nc)
			if c.linger {
				c.loop.After(goodbye, c.Close)
			}
		default:
			c.wake.Wait()
		}
	}
}

// wrote notes what became of a write. Why it failed is told by reading.
func (c *pconn) wrote(err error) {
	if err != nil && !c.over {
		c.broken, c.pending = true, nil
		switch {
		case c.linger:
			c.Close()
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.ended:
			c.ended, c.told = true, true
			c.handler.Ended(c, ErrStalled)
		case c.ended && !c.told: // reading cannot tell
			c.told = true
			c.handler.Ended(c, ErrStalled)
		}
		return
	}
	if len(c.pending) == 0 && c.blocked && !c.over {
		c.blocked = false
		c.handler.Drained(c)
	}
}

func closeWrite(nc net.Conn) {
	if t, ok := nc.(*TLS); ok {
		_ = t.CloseWrite()
		nc = t.line.Conn
	}
	if w, ok := nc.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

// Loop implements Conn.
func (c *pconn) Loop() Loop { return c.loop }

// SetHandler implements Conn.
func (c *pconn) SetHandler(h Handler) { c.handler = h }

// Send implements Conn.
func (c *pconn) Send(b []byte) {
	if c.over || c.broken || c.shutting {
		return
	}
	c.pending = append(c.pending, b...)
	c.wake.Broadcast()
}

// Blocked implements Conn.
func (c *pconn) Blocked() bool {
	c.blocked = c.blocked || len(c.pending) >= portableQueue
	return c.blocked
}

// Pause implements Conn.
func (c *pconn) Pause() { c.paused = true }

// Resume implements Conn.
func (c *pconn) Resume() {
	c.paused = false
	c.wake.Broadcast()
}

// CloseWrite implements Conn.
func (c *pconn) CloseWrite() {
	c.shutting = true
	c.wake.Broadcast()
}

// Finish implements Conn.
func (c *pconn) Finish(wait time.Duration, closed func()) {
	if c.over {
		if closed != nil {
			closed()
		}
		return
	}
	c.closed, c.handler, c.linger = closed, nobody{}, true
	if c.broken || c.ended && len(c.pending) == 0 && !c.writing {
		c.Close()
		return
	}
	if c.shut {
		c.loop.After(goodbye, c.Close)
	} else {
		c.loop.After(wait, c.Close)
	}
	c.CloseWrite()
	c.Resume()
}

// Close implements Conn. What is queued is given up.
func (c *pconn) Close() {
	if c.over {
		return
	}
	c.over = true
	delete(c.loop.conns, c)
	c.wake.Broadcast()
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	c.loop.wg.Go(func() { _ = c.nc.Close() }) // a TLS goodbye may have to wait
	if f := c.closed; f != nil {
		c.closed = nil
		f()
	}
}
