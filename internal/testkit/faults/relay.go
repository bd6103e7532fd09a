// Package faults makes networks bad on purpose, in user space: a relay before a server that cuts
// connections, holds them without a word, or lets bytes through slowly.
//
// The invariant it keeps: what it lets through it lets through unchanged and in order. It needs no
// privileges. It does not lose packets: what a lost peer looks like to the kernel is not played
// here. It is imported by tests only.
package faults

import (
	"net"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// Relay listens on a Unix socket of its own and forwards to another.
type Relay struct {
	target string
	dir    string
	port   string
	listen net.Listener
	wait   sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
	cut   bool
	held  chan struct{} // closed while bytes pass; open: nothing does
	pace  int           // bytes a second and direction, 0: as fast as they come
	bytes int64
}

// NewRelay starts a relay before the PostgreSQL server of a Unix-socket DSN. It ends with the test.
func NewRelay(t testing.TB, dsn string) *Relay {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal("the relay's target is no URI")
	}
	dir, err := os.MkdirTemp("", "trefoil-relay-")
	if err != nil {
		t.Fatal(err)
	}
	file := ".s.PGSQL." + u.Query().Get("port")
	r := &Relay{target: filepath.Join(u.Query().Get("host"), file), dir: dir, port: u.Query().Get("port"), conns: map[net.Conn]bool{}, held: make(chan struct{})}
	close(r.held)
	if r.listen, err = net.Listen("unix", filepath.Join(dir, file)); err != nil {
		t.Fatal(err)
	}
	r.wait.Go(r.accept)
	t.Cleanup(func() {
		_ = r.listen.Close()
		r.Cut()
		r.wait.Wait()
		_ = os.RemoveAll(dir) // in the temporary directory, and empty
	})
	return r
}

// DSN is dsn with the relay in the place of the server.
func (r *Relay) DSN(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn
	}
	q := u.Query()
	q.Set("host", r.dir)
	u.RawQuery = q.Encode()
	return u.String()
}

func (r *Relay) accept() {
	for {
		c, err := r.listen.Accept()
		if err != nil {
			return // closed
		}
		r.wait.Go(func() { r.serve(c) })
	}
}

func (r *Relay) serve(c net.Conn) {
	if !r.add(c) {
		return
	}
	defer r.drop(c)
	r.pass()
	s, err := net.Dial("unix", r.target)
	if err != nil || !r.add(s) {
		return
	}
	defer r.drop(s)
	var both sync.WaitGroup
	both.Go(func() { r.copy(s, c) })
	both.Go(func() { r.copy(c, s) })
	both.Wait()
}

// add keeps a connection so that it can be cut; while all are, it is closed at once.
func (r *Relay) add(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		_ = c.Close()
		return false
	}
	r.conns[c] = true
	return true
}

func (r *Relay) drop(c net.Conn) {
	r.mu.Lock()
	delete(r.conns, c)
	r.mu.Unlock()
	_ = c.Close()
}

// pass waits while everything is held.
func (r *Relay) pass() {
	r.mu.Lock()
	held := r.held
	r.mu.Unlock()
	<-held
}

func (r *Relay) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 16<<10)
	for {
		n, err := from.Read(buf)
		r.pass()
		if n > 0 {
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
			r.mu.Lock()
			pace := r.pace
			r.bytes += int64(n)
			r.mu.Unlock()
			if pace > 0 {
				time.Sleep(time.Duration(n) * time.Second / time.Duration(pace))
			}
		}
		if err != nil {
			return
		}
	}
}

// Cut closes every connection and refuses new ones, until Mend.
func (r *Relay) Cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
	for c := range r.conns {
		_ = c.Close()
	}
	r.open()
}

// Hold lets nothing through and closes nothing, until Mend: both ends believe in each other.
func (r *Relay) Hold() {
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case <-r.held:
		r.held = make(chan struct{})
	default:
	}
}

// Slow lets so many bytes a second through, each way of each connection.
func (r *Relay) Slow(pace int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pace = pace
}

// Mend lets everything through again.
func (r *Relay) Mend() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut, r.pace = false, 0
	r.open()
}

func (r *Relay) open() {
	select {
	case <-r.held:
	default:
		close(r.held)
	}
}

// Bytes is how many have passed, both ways together.
func (r *Relay) Bytes() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bytes
}
