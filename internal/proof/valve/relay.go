package valve

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil/internal/preamble"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
)

// bufferSize is how much one connection holds of what the gateway sent, in bytes: the rest
// stays with the gateway.
const bufferSize = 64 << 10

// dialTime bounds reaching the gateway and giving it the preamble.
const dialTime = 5 * time.Second

// relay is one connection. Its fields are set before its goroutines start.
type relay struct {
	v       *Valve
	id      [16]byte
	from    netip.AddrPort
	at      netip.AddrPort
	client  net.Conn
	account *account
	kept    keeping

	mu      sync.Mutex
	gateway net.Conn
	closed  bool
	done    chan struct{}
}

func (r *relay) name() string { return hex.EncodeToString(r.id[:]) }

// close ends both sides, whatever they are doing. It may be called from anywhere.
func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return
	}
	r.closed = true
	close(r.done)
	_ = r.client.Close()
	if r.gateway != nil {
		_ = r.gateway.Close()
	}
}

// run relays until both sides have ended.
func (r *relay) run(ctx context.Context) {
	defer r.close()
	if !r.keep() {
		return
	}
	defer r.kept.done(r)
	r.account = r.v.book.add(r.name(), r.v.c.Handshake, r.kept.file)
	defer r.v.book.remove(r.name())
	if !r.connect(ctx) {
		return
	}
	startup := time.AfterFunc(r.v.c.Limits.Startup, func() {
		if _, _, credited, _ := r.account.figures(); !credited {
			r.close()
		}
	})
	defer startup.Stop()
	var up sync.WaitGroup
	up.Go(r.up)
	r.down()
	up.Wait()
}

// connect reaches the gateway and says who is there.
func (r *relay) connect(ctx context.Context) bool {
	d := net.Dialer{Timeout: dialTime, KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	g, err := d.DialContext(ctx, "tcp", r.v.c.Gateway)
	if err != nil {
		r.v.c.Logger.Error("gateway not reached", "error", err)
		return false
	}
	r.mu.Lock()
	r.gateway = g
	gone := r.closed
	r.mu.Unlock()
	if gone {
		_ = g.Close()
		return false
	}
	p := preamble.Preamble{ID: r.id, Client: r.from, Valve: r.at, At: r.v.c.Now()}
	_ = g.SetWriteDeadline(time.Now().Add(dialTime))
	if _, err := g.Write(p.Append(nil, r.v.c.Key)); err != nil {
		return false
	}
	return g.SetWriteDeadline(time.Time{}) == nil
}

// up passes everything on: what a client says is nobody's data that leaves.
func (r *relay) up() {
	if !r.kept.up(r) {
		r.close()
		return
	}
	if _, err := io.Copy(r.gateway, r.client); err != nil {
		r.close()
		return
	}
	if w, ok := r.gateway.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite() // the gateway may still have to answer
	}
}

// down passes on what may pass, and holds the rest.
func (r *relay) down() {
	defer r.close()
	buf := make([]byte, bufferSize)
	var renewed time.Time
	for {
		n, err := r.gateway.Read(buf)
		for held := buf[:n]; len(held) > 0; {
			k := r.account.take(len(held))
			if k == 0 {
				if !r.wait() {
					return
				}
				continue
			}
			if now := time.Now(); now.Sub(renewed) > r.v.c.Limits.Stall/16 {
				renewed = now
				_ = r.client.SetWriteDeadline(now.Add(r.v.c.Limits.Stall))
			}
			if !r.kept.down(r, held[:k]) {
				return
			}
			if _, err := r.client.Write(held[:k]); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					r.v.c.Logger.Info("connection closed: the client takes nothing", "valve", r.name())
				}
				return
			}
			held = held[k:]
		}
		if err != nil {
			return
		}
	}
}

// wait waits until something changes. It reports false when the connection ended, or bytes
// have waited for a permit for too long; then it says so.
func (r *relay) wait() bool {
	over := time.NewTimer(r.v.c.Limits.Hold)
	defer over.Stop()
	for {
		select {
		case <-r.done:
			return false
		case <-r.account.wake:
			if r.account.ready() {
				return true
			}
		case <-over.C:
			r.exceeded()
			return false
		}
	}
}

// exceeded reports that more came than was permitted. While the monitor holds everything, the
// gateway may be none the wiser: nothing is said of it.
func (r *relay) exceeded() {
	sent, limit, _, held := r.account.figures()
	r.v.stopped.Add(1)
	r.v.c.Logger.Warn("connection closed: more came than was permitted", "valve", r.name(), "sent", sent, "limit", limit, "held", held)
	if held {
		return
	}
	select {
	case r.v.reports <- credit.Report{Valve: r.name(), Sent: sent, Limit: limit}:
	default:
		r.v.missed.Add(1)
	}
}
