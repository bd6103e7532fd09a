package pool

import (
	"context"
	"maps"
	"slices"
	"time"
)

// lane is the servers of a pool that were started with the same parameters.
type lane struct {
	pool     *Pool
	name     string
	backend  Backend
	shared   *Shared
	greeting *Greeting
	idle     []*backend // the last used is last
	opening  int
	servers  int
	waiting  []*Client     // in the order in which they came
	asking   []func(error) // told when the first server is there, or none can be had

	failures int       // logins that failed since one worked
	retry    time.Time // no login before
	failure  error
}

// Bounds of the time between logins that fail.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 15 * time.Second
	maxLanes   = 1000 // of a pool that have servers or had some lately
)

// lane returns the lane of a client.
func (p *Pool) lane(spec *Spec) *lane {
	l := p.lanes[spec.Lane]
	if l == nil {
		if len(p.lanes) >= maxLanes {
			p.dropLanes()
		}
		l = &lane{pool: p, name: spec.Lane}
		p.lanes[spec.Lane] = l
	}
	limits := Limits{Statements: p.settings.Statements}
	limits.Message = p.m.c.Message
	limits.defaults()
	if l.shared == nil || l.shared.Limits != limits {
		l.shared = &Shared{Statements: p.m.tables.statements, Limits: limits, Suspects: p.leaves(), vars: &p.m.tables.vars}
	}
	l.backend = spec.Backend
	return l
}

// dropLanes forgets lanes that nobody uses.
func (p *Pool) dropLanes() {
	used := map[*lane]bool{}
	for c := range p.clients {
		used[c.lane] = true
	}
	for s := range p.servers {
		used[s.lane] = true
	}
	for name, l := range p.lanes {
		if !used[l] && l.opening == 0 && len(l.asking) == 0 && len(l.waiting) == 0 {
			delete(p.lanes, name)
		}
	}
}

// greet returns the lane's greeting with a client's own parameters.
func (l *lane) greet(spec *Spec) *Greeting {
	g := *l.greeting
	g.Params = maps.Clone(g.Params)
	for name, value := range spec.Overrides {
		if _, reported := g.Params[name]; reported && plainText(value) {
			g.Params[name] = value
		}
	}
	return &g
}

// blocked is how long no login is tried, because the last ones failed.
func (l *lane) blocked(now time.Time) time.Duration {
	if l.failures == 0 {
		return 0
	}
	return l.retry.Sub(now)
}

// open begins a login.
func (l *lane) open() {
	p := l.pool
	l.opening++
	p.opening++
	p.m.count(p.database(), 1)
	login := l.backend.Login
	learns := p.settings.Mode == ByTransaction && p.suspects.at.IsZero()
	p.m.logins.Add(1)
	go func() {
		defer p.m.logins.Done()
		ctx, cancel := context.WithTimeout(p.m.ctx, p.m.c.Login)
		defer cancel()
		o, err := login(ctx)
		var names map[string]bool
		var unknown error
		if err == nil && learns {
			names, unknown = readSuspects(ctx, o.Conn)
		}
		posted := p.m.loop.Post(func() {
			if err == nil && learns {
				p.learn(names, unknown)
			}
			l.opened(o, err)
		})
		if !posted && err == nil {
			_ = o.Conn.Close()
		}
	}()
}

// opened takes a login's outcome.
func (l *lane) opened(o *Opened, err error) {
	p := l.pool
	l.opening--
	p.opening--
	p.m.count(p.database(), -1)
	if err == nil && p.m.closed {
		_ = o.Conn.Close()
		return
	}
	var s *backend
	if err == nil {
		s, err = p.adopt(l, o)
	}
	if err != nil {
		l.failed(err)
		return
	}
	l.failures, l.failure = 0, nil
	if l.greeting == nil {
		l.greeting = &Greeting{Params: o.Params, Order: slices.Clone(o.Order), Notices: o.Notices}
	}
	l.answer(nil)
	p.give(s)
}

// failed notes a login that failed. Who waits for this lane and cannot be served by a server
// that there is hears so now.
func (l *lane) failed(err error) {
	p := l.pool
	l.failure = err
	l.retry = p.m.c.Now().Add(min(lastRetry, firstRetry<<min(l.failures, 10)))
	l.failures++
	p.stats.LoginsFailed++
	p.m.c.Logger.Warn("login of a pool failed", "database", p.key.Database, "role", p.key.Role, "failures", l.failures, "error", err)
	l.answer(err)
	if !l.has() {
		p.refuseLane(l, unreachable(l.blocked(p.m.c.Now())))
	}
	p.dispatchAll()
}

// has reports whether the lane has a server, in use or not.
func (l *lane) has() bool { return l.servers > 0 }

// take returns an idle server, the last used one: the others may grow old and go.
func (l *lane) take() *backend {
	if n := len(l.idle); n > 0 {
		s := l.idle[n-1]
		l.idle = l.idle[:n-1]
		l.pool.free--
		return s
	}
	return nil
}
