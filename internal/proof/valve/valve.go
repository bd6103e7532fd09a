package valve

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
)

// Valve is one relay. Make it with New, run it with Run once.
type Valve struct {
	c       Config
	book    *book
	reports chan credit.Report
	missed  atomic.Int64 // reports that found the queue full
	stopped atomic.Uint64

	mu    sync.Mutex
	conns map[*relay]struct{}
	per   map[netip.Addr]int
}

// Status is what a valve knows of itself.
type Status struct {
	Open    int    `json:"open"`
	Held    bool   `json:"held"`           // the monitor stopped releases, or is not heard
	Closed  uint64 `json:"closed"`         // connections closed because more came than was permitted
	Unknown uint64 `json:"unknown_credit"` // credits for connections that are not open here
}

// New checks the configuration. Run closes the listener.
func New(c Config) (*Valve, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	return &Valve{c: c, book: newBook(), reports: make(chan credit.Report, 64), conns: map[*relay]struct{}{}, per: map[netip.Addr]int{}}, nil
}

// Status returns the figures of now.
func (v *Valve) Status() Status {
	s := Status{Closed: v.stopped.Load()}
	s.Open, s.Held, s.Unknown = v.book.figures()
	return s
}

// Run relays until ctx ends; then it closes all connections, and returns when every goroutine
// it started has ended.
func (v *Valve) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var beside, relays sync.WaitGroup
	beside.Go(func() { v.listen(ctx) })
	beside.Go(func() { v.report(ctx) })
	if v.c.Keep != nil {
		beside.Go(func() { v.c.Keep.Run(ctx) })
	}
	beside.Go(func() {
		<-ctx.Done()
		_ = v.c.Listener.Close()
		v.closeAll()
	})
	err := v.accept(ctx, &relays)
	cancel()
	relays.Wait()
	beside.Wait()
	return err
}

func (v *Valve) accept(ctx context.Context, relays *sync.WaitGroup) error {
	for {
		c, err := v.c.Listener.Accept()
		var temporary net.Error
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = c.Close()
			}
			return nil
		case errors.As(err, &temporary) && !errors.Is(err, net.ErrClosed): // out of descriptors: wait for some to be closed
			v.c.Logger.Error("connection not accepted", "error", err)
			time.Sleep(50 * time.Millisecond)
			continue
		case err != nil:
			return fmt.Errorf("accept connection: %w", err)
		}
		r := &relay{v: v, client: c, done: make(chan struct{})}
		if !v.enter(ctx, r) {
			_ = c.Close()
			continue
		}
		relays.Go(func() {
			defer v.leave(r)
			r.run(ctx)
		})
	}
}

// enter counts a connection in, unless there are too many.
func (v *Valve) enter(ctx context.Context, r *relay) bool {
	if _, err := rand.Read(r.id[:]); err != nil {
		return false
	}
	t, tcp := r.client.RemoteAddr().(*net.TCPAddr)
	here, alsoTCP := r.client.LocalAddr().(*net.TCPAddr)
	if !tcp || !alsoTCP {
		return false
	}
	r.from, r.at = t.AddrPort(), here.AddrPort()
	key := addressKey(r.from.Addr())
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.conns) >= v.c.Limits.Connections || v.per[key] >= v.c.Limits.PerAddress || ctx.Err() != nil {
		return false
	}
	v.conns[r] = struct{}{}
	v.per[key]++
	return true
}

func (v *Valve) leave(r *relay) {
	key := addressKey(r.from.Addr())
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.conns, r)
	if v.per[key]--; v.per[key] <= 0 {
		delete(v.per, key)
	}
}

// addressKey is what one caller is counted by: whoever has one IPv6 address has 2^64.
func addressKey(a netip.Addr) netip.Addr {
	a = a.Unmap()
	if a.Is4() {
		return a
	}
	p, err := a.WithZone("").Prefix(64)
	if err != nil {
		return a
	}
	return p.Addr()
}

func (v *Valve) closeAll() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for r := range v.conns {
		r.close()
	}
}
