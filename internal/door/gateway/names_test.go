package gateway_test

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/pool"
)

// TestTheDatabasesNameMovesToAnotherAddress: an address is looked up at each login and never
// kept. After a change of DNS new database sessions go to the new address, those that run
// stay, and a pool whose sessions broke with the old address fills up at the new one.
func TestTheDatabasesNameMovesToAnotherAddress(t *testing.T) {
	for name, pooled := range map[string]*pool.Settings{"a session of one's own": nil, "a pool": {Mode: pool.ByTransaction, Servers: 2}} {
		t.Run(name, func(t *testing.T) {
			var now atomic.Pointer[string] // what the name stands for
			f := start(t, func(c *gateway.Config, a *authoriser) {
				decide := a.decide
				a.decide = func(r gateway.Request) gateway.Decision {
					d := decide(r)
					d.Target.Address, d.Target.Pool = "database.test:5432", pooled
					return d
				}
				c.Dial = func(network, address string, bound time.Duration) (net.Conn, error) {
					if address == "database.test:5432" {
						address = *now.Load()
					}
					return net.DialTimeout(network, address, bound)
				}
			})
			old, next := wayTo(t, f), wayTo(t, f)
			now.Store(&old.at)
			c := f.pgx(t, "app", "")
			one(t, c, "select 'by the old address'")
			now.Store(&next.at)
			one(t, c, "select 'still by the old one'")
			if next.used() {
				t.Error("a session that ran has moved")
			}
			old.cut()
			if pooled == nil {
				eventually(t, "the session is told", func() bool { _, err := c.Exec(t.Context(), "select 1"); return err != nil })
				c = f.pgx(t, "app", "")
			}
			eventually(t, "the name's new address is used", func() bool {
				_, err := c.Exec(t.Context(), "select 'by the new address'")
				return err == nil
			})
			if !next.used() {
				t.Error("nothing went by the new address")
			}
		})
	}
}

// way is an address by which the cluster is reached.
type way struct {
	at    string
	mu    sync.Mutex
	conns []net.Conn
}

func wayTo(t *testing.T, f *fixture) *way {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &way{at: l.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", f.cluster.Addr())
			if err != nil {
				_ = in.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, in, out)
			w.mu.Unlock()
			all.Go(func() { w.copy(out, in) })
			all.Go(func() { w.copy(in, out) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		all.Wait()
	})
	return w
}

func (w *way) copy(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	_, _ = to.Close(), from.Close()
}

// used says whether anybody came this way.
func (w *way) used() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.conns) > 0
}

// cut closes every connection that goes this way.
func (w *way) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
}
