package pool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// state of a server.
type state uint8

const (
	_        state = iota
	idle           // free, in its lane
	opened         // just logged in
	active         // a client has it
	leaving        // its client let it go; a cancel request is still on its way
	cleaning       // its reset runs
	gone
)

func (s state) String() string {
	return [...]string{"", "idle", "new", "active", "cancelling", "resetting", "closed"}[s]
}

// backend is one server of a pool, on the loop.
type backend struct {
	Session
	lane    *lane
	conn    splice.Conn
	pid     uint32
	secret  []byte
	born    time.Time
	since   time.Time // of the state
	state   state
	client  *Client
	keeper  *Mux     // reads what the server says while it has no client
	cancels []func() // told when the cancel request on its way is over
	reset   bool     // it keeps something of the last client
	served  int64
}

// adopt takes a server that was just logged in to.
func (p *Pool) adopt(l *lane, o *Opened) (*backend, error) {
	now := p.m.c.Now()
	s := &backend{lane: l, pid: o.PID, secret: o.Secret, born: now, since: now, state: opened}
	s.vars = p.m.tables.vars.make(o.Order, o.Params)
	s.prepared.table = p.m.tables.statements
	s.keeper = newMux(l.shared, s.vars, true)
	conn, err := p.m.loop.Adopt(o.Conn, s, splice.Options{Stall: p.m.c.Stall})
	if err != nil {
		_ = o.Conn.Close()
		return nil, fmt.Errorf("adopt server: %w", err)
	}
	s.conn = conn
	s.watched()
	p.servers[s] = struct{}{}
	l.servers++
	p.m.count(p.database(), 1)
	p.stats.Logins++
	return s, nil
}

// watched has the keeper listen.
func (s *backend) watched() {
	s.keeper.vars, s.keeper.pin = s.vars, Nothing
	s.keeper.srv = &s.Session
}

// rest notes that the server is free.
func (s *backend) rest(now time.Time) {
	s.state, s.since, s.client = idle, now, nil
	s.watched()
}

// drop closes an idle server.
func (p *Pool) drop(s *backend) {
	if i := slices.Index(s.lane.idle, s); i >= 0 {
		s.lane.idle = slices.Delete(s.lane.idle, i, i+1)
		p.free--
	}
	p.close(s)
}

// close ends a server that is in no list of idle ones, and lets others have its place.
func (p *Pool) close(s *backend) {
	if s.state == gone {
		return
	}
	if !s.spoiled && s.state != active {
		s.conn.Send(wire.AppendMessage(nil, wire.Terminate, nil)) // so that it is no loss in the server's log
		s.conn.Finish(time.Second, nil)
	} else {
		s.conn.Close()
	}
	s.state, s.client = gone, nil
	s.prepared.clear()
	delete(p.servers, s)
	s.lane.servers--
	p.m.count(p.database(), -1)
	p.dispatchAll()
	if p.settings.PerDatabase > 0 {
		p.m.balance(p)
	}
}

// Received implements splice.Handler.
func (s *backend) Received(_ splice.Conn, b []byte) int {
	if s.client != nil {
		s.client.fromServer(s, b)
		return len(b)
	}
	p := s.lane.pool
	act, err := s.keeper.FromServer(b, &p.m.outs)
	switch {
	case s.state == gone:
	case err != nil || s.spoiled:
		p.m.c.Logger.Warn("a free server said what nobody asked for", "database", p.key.Database, "role", p.key.Role)
		s.spoiled = true
		p.drop(s)
	case s.state == cleaning && act&Release != 0:
		p.cleaned(s)
	}
	return len(b)
}

// Drained implements splice.Handler.
func (s *backend) Drained(splice.Conn) {
	if s.client != nil {
		s.client.conn.Resume()
	}
}

// Ended implements splice.Handler. A server that ends while it has no client is noticed here,
// before anybody is given it.
func (s *backend) Ended(_ splice.Conn, _ error) {
	c, p := s.client, s.lane.pool
	if c != nil {
		c.serverEnded(s)
		return
	}
	s.spoiled = true
	p.drop(s)
}

// back takes a server from a client that is done with it.
func (p *Pool) back(s *backend, clean, reset bool) {
	s.client, s.since = nil, p.m.c.Now()
	s.watched()
	s.conn.Resume()
	s.reset = s.reset || reset
	switch {
	case !clean || s.spoiled || p.m.closed:
		s.spoiled = true
		p.close(s)
	case len(s.cancels) > 0:
		s.state = leaving // whatever a cancel request still hits is nobody's
	case s.reset:
		p.clean(s)
	default:
		p.give(s)
	}
}

// clean runs the reset.
func (p *Pool) clean(s *backend) {
	s.state = cleaning
	var out Out
	out.begin(nil)
	s.keeper.own(&out, p.settings.Reset)
	s.conn.Send(out.Bytes())
	s.conn.Blocked() // sends it
}

// cleaned gives a server on whose reset has run.
func (p *Pool) cleaned(s *backend) {
	s.reset = false
	if sql := strings.ToUpper(p.settings.Reset); strings.Contains(sql, "DISCARD ALL") || strings.Contains(sql, "DEALLOCATE ALL") {
		s.prepared.clear()
	}
	s.unnamed = nil
	p.give(s)
}

// cancel asks the server to cancel what it runs, and calls done when that request is over.
// Until then the server goes to nobody else: a cancel never reaches another client's
// statement.
func (p *Pool) cancel(s *backend, done func()) {
	s.cancels = append(s.cancels, done)
	if len(s.cancels) > 1 {
		return // one is on its way
	}
	m, pass := p.m, s.lane.backend.Cancel
	m.logins.Add(1)
	go func() {
		defer m.logins.Done()
		ctx, stop := context.WithTimeout(m.ctx, m.c.Login)
		defer stop()
		err := pass(ctx, s.pid, s.secret)
		if !m.loop.Post(func() { p.cancelled(s, err) }) {
			done()
		}
	}()
}

// cancelled notes that a cancel request is over: the server has passed it on, or it is not
// known whether it will.
func (p *Pool) cancelled(s *backend, err error) {
	list := s.cancels
	s.cancels = nil
	for _, done := range list {
		done()
	}
	if err != nil {
		s.spoiled = true
	}
	if s.state == leaving {
		p.back(s, true, false)
	}
}
