package gateway

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/trefoil-eu/trefoil/internal/door/pool"
	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// applicationName is the one start-up parameter that servers of a lane need not share: each
// client's own is set when it gets a server.
const applicationName = "application_name"

// pooled is a service session whose database sessions are a pool's. All of it runs on the
// pool's loop.
type pooled struct {
	s        *session
	pools    *pool.Manager
	client   *pool.Client
	up, down wire.Framer
	fixed    int64 // bytes to the client that the gateway said itself
}

// Pools returns what the pools of the service path are doing.
func (g *Gateway) Pools() []pool.Info {
	list := []pool.Info{}
	for _, m := range g.managers() {
		list = append(list, m.Snapshot()...)
	}
	return list
}

func (g *Gateway) managers() []*pool.Manager {
	g.poolsMu.Lock()
	defer g.poolsMu.Unlock()
	return slices.Collect(maps.Values(g.pools))
}

// poolsOf returns the pools of a loop.
func (g *Gateway) poolsOf(l splice.Loop) *pool.Manager {
	g.poolsMu.Lock()
	defer g.poolsMu.Unlock()
	m := g.pools[l]
	if m == nil {
		m = pool.NewManager(l, pool.Config{Message: g.c.Limits.ServiceMessage, Stall: g.c.Limits.Write, Login: g.c.Limits.Login,
			Grace: g.grace(), Logger: g.c.Logger, Now: g.c.Now})
		g.pools[l] = m
	}
	return m
}

// closePools closes what the pools hold. No session is left.
func (g *Gateway) closePools() {
	for _, m := range g.managers() {
		m.Close()
	}
}

// startPooled greets a client of a pool and gives its connection to the pool's loop. It
// reports whether it did; if not, the session is the caller's to end.
func (s *session) startPooled() (handed bool) {
	g := s.g
	spec, r := s.poolSpec()
	if r != nil {
		g.refuse(s.client, s.access(), r)
		return false
	}
	loop := g.loops.Loop()
	if !loop.Takes(s.client.Conn) {
		loop = g.loops.Portable()
	}
	p := &pooled{s: s, pools: g.poolsOf(loop)}
	greeting, err := p.pools.Greet(s.ctx, *spec)
	if err != nil {
		g.refuse(s.client, s.access(), s.notConnected(err))
		return false
	}
	if e := s.ending(); e != nil {
		g.refuse(s.client, s.access(), refusal(stageOpen, e.SQLState, reasonEnded, e.Message))
		return false
	}
	if !s.recordStart() {
		return false
	}
	limits := wire.Limits{Message: g.c.Limits.ServiceMessage}
	p.up, p.down = wire.NewFramer(wire.FromFrontend, limits), wire.NewFramer(wire.FromBackend, limits)
	s.server = &server{params: greeting.Params, order: greeting.Order, notices: greeting.Notices, txStatus: wire.Idle}
	welcome, fixed := s.welcome(), s.client.written.Load()
	s.server = nil
	p.fixed = fixed
	if err := s.handOver(p, func() error { return p.adopt(*spec, welcome) }); err != nil {
		g.c.Logger.Error("session not served", "session", s.id, "error", err)
		s.recordEnd("error", fixed)
		return false
	}
	return true
}

// poolSpec says which pool, and which lane of it, the session belongs to.
func (s *session) poolSpec() (*pool.Spec, *refused) {
	t := s.decision.Target
	params, r := upstream(Service, s.params, t)
	if r != nil {
		return nil, r
	}
	own := map[string]string{}
	for name, value := range params {
		if _, set := t.Startup[name]; strings.EqualFold(name, applicationName) && !set {
			own[applicationName] = value
			delete(params, name)
		}
	}
	var lane strings.Builder
	for _, name := range slices.Sorted(maps.Keys(params)) {
		lane.WriteString(name + "\x00" + params[name] + "\x00")
	}
	g := s.g
	way := t.Network + " " + t.Address
	if t.TLS != nil {
		way += " tls " + t.TLS.ServerName
	}
	return &pool.Spec{
		Key:      pool.Key{Name: s.database, Server: way, Database: t.Database, Role: t.Role},
		Settings: *t.Pool, Lane: lane.String(), Principal: s.principal.ID, Overrides: own,
		Backend: pool.Backend{
			Login: func(ctx context.Context) (*pool.Opened, error) {
				srv, err := g.login(ctx, t, params)
				if err != nil {
					return nil, err
				}
				return &pool.Opened{Conn: srv.Conn, PID: srv.pid, Secret: srv.secret, Params: srv.params, Order: srv.order, Notices: srv.notices}, nil
			},
			Cancel: func(ctx context.Context, pid uint32, secret []byte) error { return g.passCancel(ctx, t, pid, secret) },
		}}, nil
}

// adopt hands the client's connection to the pool.
func (p *pooled) adopt(spec pool.Spec, welcome []byte) error {
	c, err := p.pools.Serve(p.s.client.Conn, p.s.id, spec, welcome, pool.Hooks{FromClient: p.fromClient, ToClient: p.toClient,
		Own: func(n int) { p.fixed += int64(n) }, Done: p.done})
	if err != nil {
		return err
	}
	p.client = c
	if e := p.s.ending(); e != nil {
		p.conclude(e)
	}
	return nil
}

// fromClient counts what the client sent. What breaks the protocol the pool refuses.
func (p *pooled) fromClient(b []byte) {
	t := p.s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.in += int64(len(b))
	_, _ = watch(&p.up, b, t.frontend)
}

// toClient counts what the client is sent as the database's.
func (p *pooled) toClient(b []byte) {
	t := p.s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	n, _ := watchRows(&p.down, b, t.backend, t.flood)
	t.counts.out += int64(n)
}

// done records the session's end, in a goroutine: it may have to wait.
func (p *pooled) done(e pool.End) {
	go func() {
		defer p.s.g.wg.Done()
		defer p.s.leave()
		p.s.recordEnd(e.Outcome, p.fixed)
	}()
}

// conclude ends the session for a reason that the gateway gives.
func (p *pooled) conclude(e *End) {
	if p.client != nil {
		p.client.End(e.Outcome, e.SQLState, e.Message)
	}
}

func (p *pooled) on() splice.Loop { return p.pools.Loop() }

// cancel cancels what the client runs now, and waits until the server has passed that on.
func (p *pooled) cancel(ctx context.Context) error {
	done := make(chan struct{})
	pass := func() {
		if p.client == nil { // it was not adopted
			close(done)
			return
		}
		p.client.Cancel(func() { close(done) })
	}
	if !p.on().Post(pass) {
		return errors.New("cancel statement: the gateway is stopping")
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
