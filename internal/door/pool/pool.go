package pool

import (
	"slices"
	"time"
)

// Pool is the servers of one role on one database, and the clients that share them.
type Pool struct {
	m        *Manager
	key      Key
	settings Settings
	lanes    map[string]*lane
	last     *lane // used last: it is kept warm
	servers  map[*backend]struct{}
	opening  int
	free     int // idle servers
	clients  map[*Client]struct{}
	waiting  int            // clients, in all lanes
	asking   int            // for a greeting
	held     map[string]int // servers, by principal
	suspects suspects
	stopWait func()
	stats    Stats
}

func (p *Pool) database() string { return p.key.Server + "\x00" + p.key.Database }

// get returns a server for a client at once, or why there is none, or has the client wait.
func (p *Pool) get(c *Client) (*backend, *Refusal) {
	l := c.lane
	if len(l.waiting) == 0 && p.allowed(c) {
		if s := l.take(); s != nil {
			p.held[c.principal]++
			return s, nil
		}
	}
	now := p.m.c.Now()
	switch wait := l.blocked(now); {
	case p.m.closed:
		return nil, shuttingDown
	case wait > 0 && !l.has():
		return nil, unreachable(wait)
	}
	c.since = now
	l.waiting = append(l.waiting, c)
	p.waiting++
	p.stats.Waits++
	p.dispatch(l)
	p.watch()
	return nil, nil
}

// allowed reports whether a client's principal may hold one server more.
func (p *Pool) allowed(c *Client) bool {
	return p.settings.PerPrincipal <= 0 || p.held[c.principal] < p.settings.PerPrincipal
}

// dispatch gives a lane's idle servers to clients that wait for it, in their order, and opens
// servers for the rest as far as the bounds allow.
func (p *Pool) dispatch(l *lane) {
	for i := 0; i < len(l.waiting) && len(l.idle) > 0; {
		if c := l.waiting[i]; p.allowed(c) {
			l.leave(i)
			p.hand(l.take(), c)
			i = 0
			continue
		}
		i++
	}
	need := len(l.waiting)
	if p.settings.PerPrincipal > 0 {
		need = l.allowed()
	}
	if len(l.asking) > 0 {
		need++
	}
	p.grow(l, need)
}

// dispatchAll does so for all lanes, the one whose first client waits longest first.
func (p *Pool) dispatchAll() {
	if p.m.closed || p.waiting == 0 && p.asking == 0 {
		return
	}
	var list []*lane
	for _, l := range p.lanes {
		if len(l.waiting) > 0 || len(l.asking) > 0 {
			list = append(list, l)
		}
	}
	slices.SortFunc(list, func(a, b *lane) int { return a.first().Compare(b.first()) })
	for _, l := range list {
		p.dispatch(l)
	}
}

// grow opens servers for a lane until as many are on their way as it needs, closing idle
// ones of others where all places are taken.
func (p *Pool) grow(l *lane, need int) {
	for !p.m.closed && l.opening < need && l.blocked(p.m.c.Now()) <= 0 {
		if l.failures > 0 && l.opening > 0 {
			return // one try at a time
		}
		if p.full() && !p.evict(l) {
			return
		}
		l.open()
	}
}

// full reports whether no server more may be opened.
func (p *Pool) full() bool {
	return len(p.servers)+p.opening >= p.settings.Servers ||
		p.settings.PerDatabase > 0 && p.m.databases[p.database()] >= p.settings.PerDatabase
}

// evict closes an idle server to make room for one of lane l: one of this pool's other lanes
// or, where only the database's bound is reached, of another role. It is the one that was idle
// for longest.
func (p *Pool) evict(l *lane) bool {
	var victim *backend
	look := func(q *Pool) {
		if q.free == 0 {
			return
		}
		for s := range q.servers {
			if s.state == idle && s.lane != l && (victim == nil || s.since.Before(victim.since)) {
				victim = s
			}
		}
	}
	look(p)
	if len(p.servers)+p.opening < p.settings.Servers {
		for _, other := range p.m.pools {
			if other != p && other.database() == p.database() {
				look(other)
			}
		}
	}
	if victim == nil {
		return false
	}
	victim.lane.pool.drop(victim)
	return !p.full()
}

// give puts a server that is at rest to use: for the first client that waits for its lane, or
// for nobody. A client of another lane that has waited longer than patience goes first: its
// lane gets a server of its own in place of this one.
func (p *Pool) give(s *backend) {
	now := p.m.c.Now()
	l := s.lane
	if p.settings.Lifetime > 0 && now.Sub(s.born) > p.settings.Lifetime {
		p.close(s)
		return
	}
	if p.waiting > len(l.waiting) && p.full() && p.impatient(l, now) {
		p.close(s)
		return
	}
	s.rest(now)
	l.idle = append(l.idle, s)
	p.free++
	if len(l.waiting) > 0 {
		p.dispatch(l)
	}
	if p.settings.PerDatabase > 0 && s.state == idle {
		p.m.balance(p)
	}
}

// patience is how long a client waits while servers go to others of another lane.
const patience = 250 * time.Millisecond

// impatient reports whether a client of another lane than l has waited too long.
func (p *Pool) impatient(l *lane, now time.Time) bool {
	for _, other := range p.lanes {
		if other != l && len(other.waiting) > 0 && other.opening == 0 && other.blocked(now) <= 0 &&
			now.Sub(other.waiting[0].since) > patience && p.allowed(other.waiting[0]) {
			return true
		}
	}
	return false
}

// balance lets other pools of the same database grow that wait because of its bound.
func (m *Manager) balance(p *Pool) {
	for _, other := range m.pools {
		if other != p && other.waiting > 0 && other.database() == p.database() {
			other.dispatchAll()
		}
	}
}

// hand gives a server to a client that waited.
func (p *Pool) hand(s *backend, c *Client) {
	p.stats.Waited += p.m.c.Now().Sub(c.since)
	c.since = time.Time{}
	p.held[c.principal]++
	c.bind(s)
	c.resume()
}

// unhold counts a server less for a principal.
func (p *Pool) unhold(principal string) {
	if p.held[principal]--; p.held[principal] <= 0 {
		delete(p.held, principal)
	}
}

// reap closes servers that are too old or that nobody needed, keeps the warm ones, and tries
// again where logins failed.
func (p *Pool) reap(now time.Time) {
	for _, l := range p.lanes {
		for _, s := range slices.Clone(l.idle) {
			old := p.settings.Lifetime > 0 && now.Sub(s.born) > p.settings.Lifetime
			unused := p.settings.Idle > 0 && now.Sub(s.since) > p.settings.Idle && len(p.servers) > p.settings.Warm
			if old || unused {
				p.drop(s)
			}
		}
	}
	p.dispatchAll()
	p.relearn(now)
	if l := p.last; l != nil && l.blocked(now) <= 0 {
		for len(p.servers)+p.opening < p.settings.Warm && !p.full() && !p.m.closed && (l.failures == 0 || l.opening == 0) {
			l.open()
		}
	}
}
