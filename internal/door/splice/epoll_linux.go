//go:build linux && (amd64 || arm64)

package splice

import (
	"fmt"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Sizes of a loop's buffers in bytes: one of each a loop, none a connection. What TLS hands
// out of one read can be a record longer than the read.
const (
	readSize  = 64 << 10
	plainSize = readSize + 32<<10
)

// yieldAfter is how long a busy loop goes on before it yields: less than the runtime's 10 ms.
const yieldAfter = 7 * time.Millisecond

// epollLoop is a Loop on one thread at a time.
type epollLoop struct {
	epoll, wakeup int
	conns         []*econn // by descriptor
	events        [256]unix.EpollEvent
	buf           []byte   // what arrives
	plain         []byte   // the same, inside TLS
	cipher        []byte   // TLS records to be sent
	spare         [][]byte // for what cannot be sent from where it lies, or at once
	touched       []*econn // to be settled when the handler's call is over
	again         []*econn // resumed: to be read without waiting for an event
	timers        timers
	generation    int32
	over          bool
	began         time.Time
	done          chan struct{}

	mu     sync.Mutex
	posted []func()
	closed bool
	ran    []func() // the other half of a double buffer
}

// NewLoop starts a loop with a thread of its own. Close ends it.
func NewLoop() (Loop, error) {
	ep, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("start event loop: %w", err)
	}
	ev, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, ev, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(ev)})
	}
	if err != nil {
		_ = unix.Close(ep)
		return nil, fmt.Errorf("start event loop: %w", err)
	}
	l := &epollLoop{epoll: ep, wakeup: ev, buf: make([]byte, readSize), began: time.Now(), done: make(chan struct{})}
	go l.run()
	return l, nil
}

func (l *epollLoop) run() {
	defer close(l.done)
	yielded := time.Now()
	for !l.over {
		// A goroutine that never yields is preempted by a signal every 10 ms, its processor is
		// taken from it at the next wait, and the runtime's monitor, which then looks for more
		// to do every 20 µs, costs a quarter of the loop's own time.
		if now := time.Now(); now.Sub(yielded) > yieldAfter {
			yielded = now
			runtime.Gosched()
		}
		n := wait(l.epoll, l.events[:], l.timeout())
		for i := range n {
			l.serve(&l.events[i])
		}
		l.timers.expire(l.settle)
		l.readAgain()
	}
	for _, c := range l.conns {
		if c != nil {
			c.Close()
		}
	}
	_ = unix.Close(l.epoll)
	_ = unix.Close(l.wakeup)
}

// timeout is how long the next wait may take, in milliseconds.
func (l *epollLoop) timeout() int {
	if len(l.again) > 0 {
		return 0
	}
	d, any := l.timers.next()
	if !any {
		return -1
	}
	return int(min((d+time.Millisecond-1)/time.Millisecond, 1<<30))
}

// serve handles one event. Descriptors are reused: an event of a connection that was closed
// in this very round carries an older generation.
func (l *epollLoop) serve(e *unix.EpollEvent) {
	if int(e.Fd) == l.wakeup {
		l.runPosted()
		return
	}
	c := l.conns[e.Fd]
	if c == nil || c.generation != e.Pad {
		return
	}
	if e.Events&unix.EPOLLOUT != 0 {
		c.flush()
		l.settle()
	}
	const broken = unix.EPOLLHUP | unix.EPOLLERR
	switch {
	case c.fd < 0:
	case c.is(paused | ended):
		if e.Events&broken != 0 { // reported whether wanted or not: do not turn in circles
			c.deregister()
			c.gone()
			l.settle()
		}
	case e.Events&(unix.EPOLLIN|broken) != 0:
		c.read()
		l.settle()
	}
}

// readAgain reads connections that were resumed with something left to give.
func (l *epollLoop) readAgain() {
	list := l.again
	l.again = nil
	for _, c := range list {
		c.clear(queued)
		if c.fd >= 0 && !c.is(paused|ended) {
			c.read()
			l.settle()
		}
	}
	if l.again == nil {
		l.again = list[:0]
	}
}

// settle does what a handler's call asked for: sends what is queued, and tells the kernel
// which events are wanted now.
func (l *epollLoop) settle() {
	for i := 0; i < len(l.touched); i++ { // what is settled may touch more
		c := l.touched[i]
		c.clear(touched)
		if c.fd < 0 {
			continue
		}
		c.push()
		c.want()
	}
	l.touched = l.touched[:0]
}

// now is the age of the loop in nanoseconds.
func (l *epollLoop) now() int64 { return int64(time.Since(l.began)) }

// buffer returns an empty buffer, one that was used before if there is one.
func (l *epollLoop) buffer() []byte {
	if n := len(l.spare); n > 0 {
		b := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return b
	}
	return nil
}

// giveBack keeps a few buffers for later. Which ones is chance: most are a read's size.
func (l *epollLoop) giveBack(b []byte) {
	if c := cap(b); c >= 4<<10 && c <= 1<<20 && len(l.spare) < 8 {
		l.spare = append(l.spare, b[:0])
	}
}

// Post implements Loop.
func (l *epollLoop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.posted = append(l.posted, f)
	if len(l.posted) == 1 {
		l.wake()
	}
	return true
}

func (l *epollLoop) wake() {
	one := [8]byte{0: 1, 7: 1}             // not zero in either byte order
	_, _ = syscall.Write(l.wakeup, one[:]) // fails only when it is set already
}

func (l *epollLoop) runPosted() {
	var count [8]byte
	_, _ = syscall.Read(l.wakeup, count[:])
	l.mu.Lock()
	list := l.posted
	l.posted, l.ran = l.ran[:0], nil
	l.mu.Unlock()
	for i, f := range list {
		f()
		list[i] = nil
		l.settle()
	}
	l.mu.Lock()
	if cap(list) <= 4096 {
		l.ran = list[:0]
	}
	l.mu.Unlock()
}

// After implements Loop.
func (l *epollLoop) After(d time.Duration, f func()) func() { return l.timers.add(d, f) }

// Close implements Loop.
func (l *epollLoop) Close() {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		l.posted = append(l.posted, func() { l.over = true })
		l.wake()
	}
	l.mu.Unlock()
	<-l.done
}

// Takes implements Loop.
func (l *epollLoop) Takes(nc net.Conn) bool {
	if t, ok := nc.(*TLS); ok {
		nc = t.line.Conn
	}
	_, err := below(nc)
	return err == nil
}

// Adopt implements Loop.
func (l *epollLoop) Adopt(nc net.Conn, h Handler, o Options) (Conn, error) {
	under := nc
	t, secure := nc.(*TLS)
	if secure {
		under = t.line.Conn
	}
	fd, err := socket(under)
	if err != nil {
		return nil, err
	}
	l.generation++
	c := &econn{loop: l, handler: h, fd: int32(fd), generation: l.generation, stall: o.Stall}
	if err := c.register(unix.EPOLLIN); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	_ = under.Close()
	for len(l.conns) <= fd {
		l.conns = append(l.conns, make([]*econn, max(64, len(l.conns)))...)
	}
	l.conns[fd] = c
	if secure {
		t.line.Conn, t.line.out = nil, &l.cipher
		c.tls = t
		if l.plain == nil {
			l.plain = make([]byte, plainSize)
		}
		c.readAgain() // the handshake may have read further than its own end
	}
	return c, nil
}
