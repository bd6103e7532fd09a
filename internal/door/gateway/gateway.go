package gateway

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/pool"
	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// Gateway is a running door. Make it with New, run it with Run once.
type Gateway struct {
	c         Config
	listeners []net.Listener
	live      atomic.Pointer[live]
	limiter   *identity.Limiter
	opens     *identity.Rates // new sessions, by principal
	refused   *identity.Rates // refusals after the login, by principal
	refusals  meter
	cancels   *guesses
	sessions  *registry
	clerk     *clerk
	half      *halfOpen
	loops     *splice.Group
	poolsMu   sync.Mutex
	pools     map[splice.Loop]*pool.Manager
	provers   provers
	standings standings
	draining  chan struct{}
	wg        sync.WaitGroup // connections
}

// New checks the configuration and opens the listeners; Run serves them. The caller must
// call Run or Close.
func New(c Config) (*Gateway, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	g := &Gateway{c: c, listeners: c.Listeners, limiter: identity.NewLimiter(c.Now),
		opens: identity.NewRates(c.Now), refused: identity.NewRates(c.Now), refusals: meter{most: c.Limits.RefusalsPerSec}, cancels: newGuesses(c.Limits.CancelsPerMinute),
		sessions: newRegistry(c.Limits), half: newHalfOpen(c.Limits), draining: make(chan struct{})}
	g.clerk = newClerk(g)
	g.loops, g.pools = splice.NewGroup(c.Portable), map[splice.Loop]*pool.Manager{}
	g.live.Store(newLive(Live{Directory: c.Directory, Locator: c.Locator, OIDC: c.OIDC, Certificates: c.Certificates, TLS: c.TLS,
		RequireTLS: c.RequireTLS, Limits: c.Limits}))
	for _, addr := range c.Listen {
		l, err := Listen(context.Background(), addr)
		if err != nil {
			g.Close()
			return nil, fmt.Errorf("open listener: %w", err)
		}
		g.listeners = append(g.listeners, l)
	}
	return g, nil
}

// Listen opens a TCP listener at host:port. A peer of its connections that is gone without a
// word is noticed within two minutes.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4}}
	return lc.Listen(ctx, "tcp", address)
}

// Close closes the listeners of a gateway that is not run.
func (g *Gateway) Close() {
	for _, l := range g.listeners {
		_ = l.Close()
	}
}

// Addr returns the first listener's address.
func (g *Gateway) Addr() net.Addr { return g.listeners[0].Addr() }

// Sessions returns the open sessions, in no order.
func (g *Gateway) Sessions() []SessionInfo {
	var list []SessionInfo
	for _, s := range g.sessions.list(func(*session) bool { return true }) {
		list = append(list, s.info())
	}
	return list
}

// CloseSessions ends the sessions that match chooses, with reason as the client's text, and
// returns how many. It does not wait for them.
func (g *Gateway) CloseSessions(match func(SessionInfo) bool, reason string) int {
	found := g.sessions.list(func(s *session) bool { return match(s.info()) })
	for _, s := range found {
		s.finish(&End{SQLState: "57P01", Message: reason, Outcome: "revoked"})
	}
	return len(found)
}

// grace is how long an ending session may take for its last words.
func (g *Gateway) grace() time.Duration { return max(g.c.Limits.Grace, 0) }

// Run serves until ctx ends, then drains: no new connections, idle sessions are told at
// once, busy ones after Limits.Drain, and all their records are written. It returns when
// every goroutine it started has ended.
func (g *Gateway) Run(ctx context.Context) error {
	work, stopWork := context.WithCancel(context.WithoutCancel(ctx))
	defer stopWork()
	go g.clerk.run(work)
	if err := g.loops.Start(); err != nil {
		g.c.Logger.Warn("sessions are served by goroutines", "error", err)
	}

	failed := make(chan error, len(g.listeners))
	var accepting sync.WaitGroup
	for _, l := range g.listeners {
		accepting.Go(func() { failed <- g.accept(work, l) })
	}
	ticking := make(chan struct{})
	go func() { defer close(ticking); g.summarise(work) }()

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	g.Close()
	accepting.Wait()
	g.drain(work)
	stopClerk, done := context.WithTimeout(work, g.grace())
	g.clerk.finish(stopClerk) // while the recorder works this empties the queue
	done()
	stopWork() // what still waits for the recorder gives up
	g.wg.Wait()
	g.closePools()
	g.loops.Close()
	<-g.clerk.done
	<-ticking
	return err
}

// accept serves one listener until it is closed.
func (g *Gateway) accept(ctx context.Context, l net.Listener) error {
	for {
		c, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return nil
		case err != nil:
			var temporary net.Error
			if errors.As(err, &temporary) { // out of descriptors: wait for some to be closed
				g.c.Logger.Error("connection not accepted", "error", err)
				time.Sleep(50 * time.Millisecond)
				continue
			}
			return fmt.Errorf("accept connection: %w", err)
		}
		if g.fromValve(ctx, l, c) {
			continue
		}
		addr := address(c)
		if !g.half.enter(c, addr) {
			_ = c.Close() // not a word: whoever floods the door gets no work out of it
			continue
		}
		g.wg.Go(func() { g.serve(ctx, c, addr) })
	}
}

// serve is one connection's life.
func (g *Gateway) serve(ctx context.Context, raw net.Conn, addr netip.Addr) {
	handed := false
	defer func() {
		if !handed {
			_ = raw.Close()
		}
	}()
	left := sync.OnceFunc(func() { g.half.leave(raw, addr) })
	defer left()
	_ = raw.SetDeadline(time.Now().Add(g.c.Limits.Startup))
	id, err := newID()
	if err != nil {
		g.c.Logger.Error("connection closed", "error", err)
		return
	}
	h, r := g.greet(raw)
	if r == nil && h.startup.Ask == wire.AskCancel {
		left()
		g.cancel(ctx, h)
		return
	}
	access := trefoil.Access{Session: id}
	var in login
	var secret int
	if r == nil {
		in, secret, r = g.admit(ctx, h, &access)
	}
	if r != nil {
		g.refuse(h.conn, access, r)
		return
	}
	h.conn.settle(g.c.Limits.Write)
	handed = g.open(ctx, h, in, access, secret, left)
}

// admit authenticates a client that asks for a session. What is known of it goes into access.
func (g *Gateway) admit(ctx context.Context, h *hello, access *trefoil.Access) (in login, secret int, r *refused) {
	now := g.c.Now()
	access.Location = []trefoil.Place{h.live.Locator.Network(h.addr, now)}
	if h.live.RequireTLS && !h.secure && !isUnix(h.conn) {
		r = refusal(stageStartup, "28000", reasonTLS, "this gateway requires TLS")
		r.Hint = "Connect with sslmode=require or stricter."
		return in, 0, r
	}
	if secret, r = h.negotiate(); r != nil {
		return in, 0, r
	}
	if in, r = g.authenticate(ctx, h); r != nil {
		// A name that exists is a member of staff: under its pseudonym, like everywhere.
		if p, known := h.live.Directory.Lookup(h.startup.Params["user"]); known && g.c.Pseudonym != nil {
			access.Principal = g.c.Pseudonym(p.ID, now)
		}
		return in, 0, r
	}
	return in, secret, nil
}

// open authorises an authenticated client and runs its session to the end, or hands it over
// to a loop and reports that. It counts as half open until it counts as a session, so that
// decisions under way are bounded too.
func (g *Gateway) open(ctx context.Context, h *hello, in login, access trefoil.Access, secret int, left func()) (handed bool) {
	now := g.c.Now()
	q := Request{Principal: in.who, Database: cmp.Or(h.startup.Params["database"], h.startup.Params["user"]),
		Places: h.live.Locator.Places(in.who, h.addr, now), Params: h.startup.Params, Session: access.Session,
		Local: h.local, BySource: in.way == identity.BySource, At: now}
	if r := g.inRate(q.Principal, h.live.Limits); r != nil {
		access.Principal = g.pseudonym(q.Principal.ID, now)
		g.refuse(h.conn, access, r)
		return false
	}
	d, r := g.decide(ctx, q, in, h)
	if r != nil {
		g.refused.Take(q.Principal.ID, h.live.Limits.RefusedPerMinute, refusedLeak(h.live.Limits))
		g.refuse(h.conn, d.Access, r)
		return false
	}
	s := &session{g: g, id: q.Session, since: now, client: h.conn, parent: ctx, login: in.proof, addr: h.addr, local: h.local,
		standing: g.standings.share(&standing{principal: in.who, decision: d, database: q.Database, params: q.Params})}
	if d.Path == Service {
		s.tally = newTally(g.clerk.texts, g.c.Limits, now)
	}
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	if r := g.sessions.open(s, secret); r != nil {
		s.cancel(nil)
		g.refuse(h.conn, d.Access, r)
		return false
	}
	left()
	if in.token != nil && g.c.TokenUsed != nil {
		g.c.TokenUsed(in.token.ID, now)
	}
	defer func() {
		if !handed {
			s.leave()
		}
	}()
	s.expire()
	if now := g.live.Load(); now != h.live { // a reload while it was being opened did not see it
		g.recheck(ctx, s, now)
	}
	if d.Path == Service && d.Target.Pool != nil {
		return s.startPooled()
	}
	if r := s.connect(); r != nil {
		g.refuse(h.conn, d.Access, r)
		return false
	}
	if d.Path == Service {
		return s.startService()
	}
	done, r := g.keepSecrets(h, q.Session)
	if r != nil {
		g.refuse(h.conn, d.Access, r)
		s.sever()
		return false
	}
	defer done()
	s.runRelease()
	return false
}

// judge turns everything but a plain yes into a refusal.
func (g *Gateway) judge(d *Decision, h *hello) *refused {
	switch {
	case wantsReplication(h.startup.Params):
		r := refusal(stageOpen, "28000", reasonReplication, "replication connections are refused")
		r.Detail = "A replica would be a copy that no record shows."
		return r
	case d.Path != Service && d.Path != Release:
		return &refused{Refusal: d.Refusal, stage: stageOpen}
	case judgeValve(d, h) != nil:
		return judgeValve(d, h)
	case d.Path == Release && !h.secure && !h.local:
		// Whoever sits in between could read the answers, or strip the offer of TLS.
		r := refusal(stageOpen, "28000", reasonTLS, "datasets are opened over TLS")
		r.Law, r.Hint = "GDPR art. 32(1)(a)", "Connect with sslmode=verify-full."
		return r
	case !d.Until.IsZero() && !g.c.Now().Before(d.Until):
		return refusal(stageOpen, "28000", reasonPolicy, cmp.Or(d.UntilMessage, "the grant behind this access has expired"))
	}
	return nil
}

// drain ends all sessions: idle ones at once, the others when they become idle or after
// Limits.Drain. Clients that are not authenticated within a second are closed. A session whose last
// records nobody takes is not waited for.
func (g *Gateway) drain(ctx context.Context) {
	close(g.draining)
	strangers := time.Now().Add(min(g.grace(), time.Second))
	over := time.Now().Add(max(0, g.c.Limits.Drain))
	left := make(chan struct{})
	go func() { g.wg.Wait(); close(left) }()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		late := time.Now().After(over)
		if late || time.Now().After(strangers) {
			g.half.closeAll()
		}
		for _, s := range g.sessions.list(func(s *session) bool { return late || s.begun() && s.tally.idle() }) {
			s.finish(&End{SQLState: "57P01", Message: "the gateway is shutting down", Outcome: "drained"})
		}
		if time.Now().After(over.Add(2 * g.grace())) {
			g.c.Logger.Error("sessions left when the gateway stopped", "sessions", len(g.Sessions()))
			return
		}
		select {
		case <-left:
			return
		case <-tick.C:
		}
	}
}
