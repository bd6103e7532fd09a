package pool

import (
	"errors"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// Hooks are told what a client's session does, on the loop. All are required.
type Hooks struct {
	FromClient func(b []byte) // before it is looked at
	ToClient   func(b []byte) // what goes to the client as the database's
	Own        func(n int)    // bytes that the gateway says itself
	Done       func(End)      // once: the client's connection is closed
}

// End is how a session of a client ended.
type End struct {
	Outcome string // closed, disconnected, drained, revoked, error
	Err     error  // what broke, for the operator's log
}

// Client is a client of a pool, on the loop.
type Client struct {
	id        string
	principal string
	pool      *Pool
	lane      *lane
	mux       *Mux
	conn      splice.Conn
	hooks     Hooks
	srv       *backend
	since     time.Time // it waits since then; zero: it does not
	started   time.Time
	kept      []byte // what it said and is not served: it waits for a server, or for answers
	eof       bool   // the client's stream has ended
	busy      bool   // in step
	over      bool
}

// Serve adopts a client's connection. welcome is sent first. It is called on the loop; on an
// error the connection is the caller's as before.
func (m *Manager) Serve(nc net.Conn, id string, spec Spec, welcome []byte, h Hooks) (*Client, error) {
	if m.closed {
		return nil, ErrClosed
	}
	p := m.pool(&spec)
	l := p.lane(&spec)
	if l.greeting == nil {
		return nil, errors.New("client was not greeted")
	}
	g := l.greet(&spec)
	c := &Client{id: id, principal: spec.Principal, pool: p, lane: l, hooks: h, started: m.c.Now()}
	c.mux = newMux(l.shared, m.tables.vars.make(g.Order, g.Params), p.settings.Mode != ByTransaction)
	conn, err := m.loop.Adopt(nc, c, splice.Options{Stall: m.c.Stall})
	if err != nil {
		return nil, err
	}
	c.conn = conn
	p.clients[c] = struct{}{}
	h.Own(len(welcome))
	conn.Send(welcome)
	return c, nil
}

// Received implements splice.Handler.
func (c *Client) Received(_ splice.Conn, b []byte) int {
	switch {
	case c.over:
		return len(b)
	case len(c.kept) > 0 || !c.since.IsZero():
		return 0 // it says more while it waits: that stays where it is
	}
	if n := c.step(b); n < len(b) && !c.over {
		c.kept = append(c.kept, b[n:]...) // cheaper than having the loop stop and start reading
	}
	return len(b)
}

// step serves bytes of the client as far as it can, and returns how many it took.
func (c *Client) step(b []byte) (taken int) {
	if c.busy {
		return 0
	}
	c.busy = true
	defer func() { c.busy = false }()
	o := &c.pool.m.outs
	for !c.over {
		n, act, err := c.mux.FromClient(b[taken:], o)
		c.hooks.FromClient(b[taken : taken+n])
		taken += n
		c.send(o)
		switch {
		case err != nil:
			c.end(protocol(err))
			return len(b)
		case act&Ended != 0:
			c.close("closed")
			return len(b)
		case act&NeedServer != 0:
			if !c.want() {
				return taken
			}
			continue
		}
		if act&Release != 0 {
			c.release()
		}
		if c.srv != nil && c.srv.conn.Blocked() {
			c.conn.Pause()
		}
		return taken
	}
	return len(b)
}

// send hands over what the mux produced.
func (c *Client) send(o *Outs) {
	if b := o.Server.Bytes(); len(b) > 0 && c.srv != nil {
		c.srv.conn.Send(b)
	}
	if b := o.Client.Bytes(); len(b) > 0 {
		c.hooks.ToClient(b)
		c.conn.Send(b)
	}
}

// want gets a server, or a refusal; false: the client waits.
func (c *Client) want() bool {
	s, r := c.pool.get(c)
	switch {
	case r != nil:
		c.mux.Refuse(fields(r))
		return true
	case s == nil:
		return c.srv != nil
	}
	c.bind(s)
	return true
}

// bind makes a server the client's.
func (c *Client) bind(s *backend) {
	p := c.pool
	s.state, s.since, s.client = active, p.m.c.Now(), c
	s.served++
	p.last = s.lane
	p.stats.Attached++
	c.srv = s
	o := &p.m.outs
	c.mux.Attach(&s.Session, o)
	c.send(o)
}

// resume goes on with what the client sent while it waited.
func (c *Client) resume() {
	if c.busy {
		return // step goes on by itself
	}
	n := c.step(c.kept)
	if c.kept = append(c.kept[:0], c.kept[n:]...); len(c.kept) == 0 && cap(c.kept) > 1<<10 {
		c.kept = nil
	}
	switch {
	case c.over || !c.since.IsZero() || len(c.kept) > 0:
	case c.eof && !c.mux.Promised():
		c.close("disconnected")
	default:
		c.conn.Resume()
	}
}

// refuse tells a client that waited why it gets no server.
func (c *Client) refuse(r *Refusal) {
	c.since = time.Time{}
	c.mux.Refuse(fields(r))
	c.resume()
}

func fields(r *Refusal) wire.ErrorFields {
	return wire.ErrorFields{Severity: wire.Error, SQLState: r.SQLState, Message: r.Message, Detail: r.Detail, Hint: r.Hint}
}

// release gives the server back.
func (c *Client) release() {
	s := c.srv
	if s == nil {
		return
	}
	c.srv = nil
	clean, reset := c.mux.Detach()
	c.pool.unhold(c.principal)
	c.conn.Resume() // it may have waited for this server to take its bytes
	c.pool.back(s, clean, reset)
}

// fromServer serves bytes of the client's server.
func (c *Client) fromServer(s *backend, b []byte) {
	o := &c.pool.m.outs
	was := c.mux.full()
	act, err := c.mux.FromServer(b, o)
	if err != nil {
		c.pool.m.c.Logger.Error("database broke the protocol: both sides are closed", "session", c.id, "error", err)
		c.finish("error", nil)
		return
	}
	c.send(o)
	blocked := c.conn.Blocked()
	switch {
	case act&Release != 0:
		c.release()
	case blocked:
		s.conn.Pause()
	}
	if c.eof && !c.mux.Promised() && c.since.IsZero() && len(c.kept) == 0 {
		c.close("disconnected")
		return
	}
	if was && act&Full == 0 && !c.over {
		c.resume()
	}
}

// Drained implements splice.Handler.
func (c *Client) Drained(splice.Conn) {
	if c.srv != nil {
		c.srv.conn.Resume()
	}
}

// Ended implements splice.Handler. What a client asked for before it ended its stream is
// still answered.
func (c *Client) Ended(_ splice.Conn, err error) {
	switch {
	case c.over:
	case err == nil && (c.mux.Promised() || !c.since.IsZero() || len(c.kept) > 0):
		c.eof = true
	default:
		c.close("disconnected")
	}
}

// serverEnded ends the session of a client whose server is lost: what it did is not known.
func (c *Client) serverEnded(s *backend) {
	s.spoiled = true
	if s.fatal { // it said why, and the client heard it
		c.finish("error", nil)
		return
	}
	c.finish("error", &Refusal{SQLState: "57P02", Message: "the connection to the database was lost"})
}

// End ends the client's session for a reason of the gateway's. It is called on the loop.
func (c *Client) End(outcome, state, message string) {
	if !c.over {
		c.finish(outcome, &Refusal{SQLState: state, Message: message})
	}
}

func (c *Client) end(r *Refusal) { c.finish("error", r) }

func protocol(err error) *Refusal {
	r := &Refusal{SQLState: "08P01", Message: err.Error()}
	if errors.Is(err, wire.ErrTooLarge) {
		r.SQLState = "54000"
	}
	return r
}

// close ends the session of a client that is gone or said goodbye.
func (c *Client) close(outcome string) { c.finish(outcome, nil) }

// finish ends the session. The client hears why where its stream is between two messages; the
// server is given back if it is at rest, and closed if not.
func (c *Client) finish(outcome string, why *Refusal) {
	if c.over {
		return
	}
	c.over = true
	p := c.pool
	boundary := c.mux.server.rest == 0 && len(c.mux.server.part) == 0
	p.leaveQueue(c)
	if s := c.srv; s != nil {
		if outcome == "error" && why != nil {
			s.spoiled = true
		}
		c.release()
	}
	c.mux.End()
	delete(p.clients, c)
	done := func() { c.hooks.Done(End{Outcome: outcome}) }
	switch {
	case why != nil && boundary:
		words := wire.AppendErrorResponse(nil, wire.ErrorFields{Severity: wire.Fatal, SQLState: why.SQLState, Message: why.Message,
			Detail: why.Detail, Hint: why.Hint})
		c.hooks.Own(len(words))
		c.conn.Send(words)
		c.conn.Finish(p.m.c.Grace, done)
	case outcome == "error" && boundary: // its last words were the server's
		c.conn.Finish(p.m.c.Grace, done)
	default:
		c.conn.Close()
		done()
	}
}

// Cancel cancels what the client runs, or its waiting for a server, and calls done when the
// request has been passed on. It is called on the loop.
func (c *Client) Cancel(done func()) {
	switch {
	case !c.over && c.srv != nil && c.mux.Busy():
		c.pool.cancel(c.srv, done)
		return
	case !c.over && c.pool.leaveQueue(c):
		c.refuse(&Refusal{SQLState: "57014", Message: "canceling statement due to user request"})
	}
	done()
}

// Idle reports whether the client is between transactions with nothing under way.
func (c *Client) Idle() bool { return c.since.IsZero() && !c.mux.Busy() }
