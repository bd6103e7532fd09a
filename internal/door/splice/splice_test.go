package splice_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/splice"
)

// kinds are the loops that every test runs on.
func kinds(t *testing.T, f func(t *testing.T, l splice.Loop)) {
	t.Run("loop", func(t *testing.T) {
		l, err := splice.NewLoop()
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f(t, l)
	})
	t.Run("portable", func(t *testing.T) {
		l := splice.NewPortable()
		defer l.Close()
		f(t, l)
	})
}

// both runs a test in clear and over TLS.
func both(t *testing.T, f func(t *testing.T, w wrap)) {
	t.Run("clear", func(t *testing.T) {
		f(t, wrap{func(c net.Conn) net.Conn { return c }, func(c net.Conn) net.Conn { return c }})
	})
	server, client := certificate(t)
	t.Run("tls", func(t *testing.T) {
		f(t, wrap{
			func(c net.Conn) net.Conn { return splice.Server(c, server) },
			func(c net.Conn) net.Conn { return tls.Client(c, client) }})
	})
}

// wrap makes the loop's and the test's side of a connection.
type wrap struct{ ours, theirs func(net.Conn) net.Conn }

// pair returns two connected sockets; the first is ready to be adopted.
func (w wrap) pair(t *testing.T) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = w.ours(b), w.theirs(a)
	if x, ok := ours.(*splice.TLS); ok {
		done := make(chan error, 1)
		go func() { done <- theirs.(*tls.Conn).Handshake() }()
		if err := x.Handshake(); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { theirs.Close() })
	_ = theirs.SetDeadline(time.Now().Add(30 * time.Second))
	return ours, theirs
}

func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"x"}}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	return &tls.Config{Certificates: []tls.Certificate{cert}}, &tls.Config{InsecureSkipVerify: true}
}

// relay joins two connections. It is the simplest handler that keeps the rules.
type relay struct {
	a, b  splice.Conn
	chop  bool // send in small parts, and take not all
	ended chan error
	rnd   *mrand.Rand
}

func (r *relay) other(c splice.Conn) splice.Conn {
	if c == r.a {
		return r.b
	}
	return r.a
}

func (r *relay) Received(c splice.Conn, b []byte) int {
	to := r.other(c)
	n := len(b)
	if r.chop {
		n = 1 + r.rnd.IntN(n)
		for k := 0; k < n; {
			m := min(n-k, 1+r.rnd.IntN(3000))
			if r.rnd.IntN(2) == 0 {
				to.Send(b[k : k+m])
			} else {
				to.Send(bytes.Clone(b[k : k+m]))
			}
			k += m
		}
	} else {
		to.Send(b)
	}
	if to.Blocked() {
		c.Pause()
	} else if n < len(b) {
		c.Loop().Post(c.Resume)
	}
	return n
}

func (r *relay) Drained(c splice.Conn) { r.other(c).Resume() }

func (r *relay) Ended(c splice.Conn, err error) {
	if err == nil {
		r.other(c).CloseWrite()
	}
	r.ended <- err
}

// join adopts both connections and relays between them.
func join(t *testing.T, l splice.Loop, a, b net.Conn, o splice.Options, chop bool) *relay {
	t.Helper()
	r := &relay{ended: make(chan error, 4), chop: chop, rnd: mrand.New(mrand.NewPCG(1, 2))}
	on(l, func() {
		var err error
		if r.a, err = l.Adopt(a, r, o); err == nil {
			r.b, err = l.Adopt(b, r, o)
		}
		if err != nil {
			t.Error(err)
		}
	})
	return r
}

// on runs f on the loop and waits.
func on(l splice.Loop, f func()) {
	done := make(chan struct{})
	l.Post(func() { f(); close(done) })
	<-done
}

// TestEveryByteArrivesInOrder sends both ways at once, to readers that are slow, in parts of
// every size, and ends each way by itself.
func TestEveryByteArrivesInOrder(t *testing.T) {
	kinds(t, func(t *testing.T, l splice.Loop) {
		both(t, func(t *testing.T, w wrap) {
			for _, chop := range []bool{false, true} {
				ours, client := w.pair(t)
				ours2, server := w.pair(t)
				r := join(t, l, ours, ours2, splice.Options{Stall: 20 * time.Second}, chop)
				const size = 3 << 20
				data := make([]byte, size)
				_, _ = rand.Read(data)
				var wg sync.WaitGroup
				send := func(c net.Conn) {
					rnd := mrand.New(mrand.NewPCG(3, 4))
					for b := data; len(b) > 0; {
						n := min(len(b), 1+rnd.IntN(200<<10))
						if _, err := c.Write(b[:n]); err != nil {
							t.Error(err)
							return
						}
						b = b[n:]
					}
					if x, ok := c.(interface{ CloseWrite() error }); ok {
						_ = x.CloseWrite()
					}
				}
				check := func(c net.Conn) {
					var got bytes.Buffer
					buf := make([]byte, 300<<10)
					for k := 0; ; k++ {
						if k%8 == 0 {
							time.Sleep(2 * time.Millisecond)
						}
						n, err := c.Read(buf)
						got.Write(buf[:n])
						if err != nil {
							if err != io.EOF {
								t.Error(err)
							}
							break
						}
					}
					if !bytes.Equal(got.Bytes(), data) {
						t.Errorf("%d bytes arrived, not the %d that were sent", got.Len(), size)
					}
				}
				wg.Go(func() { send(client) })
				wg.Go(func() { send(server) })
				wg.Go(func() { check(client) })
				wg.Go(func() { check(server) })
				wg.Wait()
				for range 2 {
					if err := <-r.ended; err != nil {
						t.Error(err)
					}
				}
			}
		})
	})
}

// TestWhatTheHandshakeReadTooMuch: bytes that came right behind the handshake are not waited
// for on the socket, where they no longer are.
func TestWhatTheHandshakeReadTooMuch(t *testing.T) {
	server, client := certificate(t)
	kinds(t, func(t *testing.T, l splice.Loop) {
		for range 20 {
			plain := wrap{func(c net.Conn) net.Conn { return c }, func(c net.Conn) net.Conn { return c }}
			a, b := plain.pair(t)
			c := tls.Client(b, client)
			go func() {
				if c.Handshake() == nil {
					_, _ = c.Write([]byte("at once"))
				}
			}()
			s := splice.Server(a, server)
			if err := s.Handshake(); err != nil {
				t.Fatal(err)
			}
			got := make(chan string, 1)
			on(l, func() {
				if _, err := l.Adopt(s, receiver(func(_ splice.Conn, b []byte) int { got <- string(b); return len(b) }), splice.Options{}); err != nil {
					t.Error(err)
				}
			})
			select {
			case s := <-got:
				if s != "at once" {
					t.Fatalf("%q", s)
				}
			case <-time.After(time.Minute):
				t.Fatal("the bytes are stuck")
			}
		}
	})
}

// receiver is a handler that only receives.
type receiver func(splice.Conn, []byte) int

func (f receiver) Received(c splice.Conn, b []byte) int { return f(c, b) }
func (f receiver) Drained(splice.Conn)                  {}
func (f receiver) Ended(splice.Conn, error)             {}

// TestLastWordsAreHeard: a peer whose bytes were never read still hears why it is closed.
func TestLastWordsAreHeard(t *testing.T) {
	kinds(t, func(t *testing.T, l splice.Loop) {
		both(t, func(t *testing.T, w wrap) {
			ours, theirs := w.pair(t)
			closed := make(chan struct{})
			var c splice.Conn
			on(l, func() { c, _ = l.Adopt(ours, receiver(func(splice.Conn, []byte) int { return 0 }), splice.Options{}) })
			if _, err := theirs.Write(make([]byte, 100<<10)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			on(l, func() {
				c.Send([]byte("goodbye"))
				c.Finish(5*time.Second, func() { close(closed) })
			})
			if b, err := io.ReadAll(theirs); err != nil || string(b) != "goodbye" {
				t.Errorf("%q %v", b, err)
			}
			theirs.Close()
			select {
			case <-closed:
			case <-time.After(time.Minute):
				t.Error("not closed")
			}
		})
	})
}

// TestPeerThatTakesNothing is given up at the bound, and what is kept for it stays small.
func TestPeerThatTakesNothing(t *testing.T) {
	kinds(t, func(t *testing.T, l splice.Loop) {
		both(t, func(t *testing.T, w wrap) {
			ours, client := w.pair(t)
			ours2, server := w.pair(t)
			r := join(t, l, ours, ours2, splice.Options{Stall: 300 * time.Millisecond}, false)
			_ = client
			sent := make(chan int)
			go func() {
				n, total := 0, 0
				var err error
				_ = server.SetWriteDeadline(time.Now().Add(time.Minute))
				for block := make([]byte, 1<<20); err == nil && total < 1<<30; total += n {
					n, err = server.Write(block)
				}
				sent <- total
			}()
			select {
			case err := <-r.ended:
				if !errors.Is(err, splice.ErrStalled) {
					t.Error(err)
				}
			case <-time.After(time.Minute):
				t.Fatal("a peer that takes nothing is waited for")
			}
			on(l, func() { r.a.Close(); r.b.Close() })
			if n := <-sent; n > 64<<20 {
				t.Errorf("%d bytes taken for a peer that reads none", n)
			}
		})
	})
}

// TestResetPeer: a connection that is reset ends with an error, whether it is read or paused.
func TestResetPeer(t *testing.T) {
	kinds(t, func(t *testing.T, l splice.Loop) {
		plain := wrap{func(c net.Conn) net.Conn { return c }, func(c net.Conn) net.Conn { return c }}
		ours, client := plain.pair(t)
		ours2, _ := plain.pair(t)
		r := join(t, l, ours, ours2, splice.Options{}, false)
		on(l, func() { r.a.Pause() })
		_ = client.(*net.TCPConn).SetLinger(0)
		client.Close()
		select {
		case err := <-r.ended:
			t.Fatalf("ended while paused: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		on(l, func() { r.a.Resume() })
		select {
		case err := <-r.ended:
			if !errors.Is(err, syscall.ECONNRESET) {
				t.Error(err)
			}
		case <-time.After(time.Minute):
			t.Fatal("a reset is not noticed")
		}
	})
}

// TestTimersAndPosts: in order, on the loop, and not after Close.
func TestTimersAndPosts(t *testing.T) {
	kinds(t, func(t *testing.T, l splice.Loop) {
		got := make(chan int, 10)
		on(l, func() {
			l.After(500*time.Millisecond, func() { got <- 2 })
			l.After(10*time.Millisecond, func() { got <- 1 })
			stop := l.After(time.Millisecond, func() { got <- 9 })
			stop()
		})
		for want := 1; want < 3; want++ {
			select {
			case n := <-got:
				if n != want {
					t.Errorf("%d, want %d", n, want)
				}
			case <-time.After(time.Minute):
				t.Fatal("no timer")
			}
		}
		l.Close()
		if l.Post(func() { t.Error("called after Close") }) {
			t.Error("posted after Close")
		}
	})
}

// TestClosedMidEvent: a handler that closes connections whose events are already fetched is
// not called for them, and their descriptors are not mistaken for new ones.
func TestClosedMidEvent(t *testing.T) {
	kinds(t, func(t *testing.T, l splice.Loop) {
		plain := wrap{func(c net.Conn) net.Conn { return c }, func(c net.Conn) net.Conn { return c }}
		for range 50 {
			a, peerA := plain.pair(t)
			b, peerB := plain.pair(t)
			fresh, _ := plain.pair(t)
			var ca, cb splice.Conn
			calls := make(chan struct{}, 10)
			h := receiver(func(c splice.Conn, got []byte) int {
				calls <- struct{}{}
				ca.Close()
				cb.Close()
				if _, err := l.Adopt(fresh, receiver(func(splice.Conn, []byte) int { t.Error("an event of a closed connection"); return 0 }), splice.Options{}); err != nil {
					t.Error(err)
				}
				return len(got)
			})
			held := make(chan struct{})
			on(l, func() {
				ca, _ = l.Adopt(a, h, splice.Options{})
				cb, _ = l.Adopt(b, h, splice.Options{})
			})
			l.Post(func() { <-held }) // both events are there when the loop looks
			_, _ = peerA.Write([]byte("x"))
			_, _ = peerB.Write([]byte("x"))
			close(held)
			<-calls
			on(l, func() {})
			if len(calls) > 0 {
				t.Fatal("called for a closed connection")
			}
		}
	})
}
