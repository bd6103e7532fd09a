package pool

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// ErrDesync is wrapped when a server says what nobody asked for. Both sides are closed: the
// server may have been asked by somebody else, so nothing it says can be given to anybody.
var ErrDesync = errors.New("server's answer matches no request")

// Act is what the caller of a Mux has to do.
type Act uint8

// Acts; several at once.
const (
	NeedServer Act = 1 << iota // nothing more is taken until Attach or Refuse
	Release                    // the server is free: Detach, and give it back
	Ended                      // the client said goodbye
	Full                       // too much is owed: pause the client until Full is gone
)

// Limits bounds what a Mux keeps. Zero fields mean the defaults.
type Limits struct {
	wire.Limits
	Look       int // bytes of a message that are collected to be looked at; default 32 KiB
	Statements int // prepared on one server; default 200
	Names      int // prepared statements of one client; default 10,000
	Owed       int // requests of a client that are not answered yet; default 16,384
}

func (l *Limits) defaults() {
	set := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	set(&l.Look, 32<<10)
	set(&l.Statements, 200)
	set(&l.Names, 10000)
	set(&l.Owed, 16<<10)
}

// Session is what a server's session is known by: the part of a server that no I/O touches.
type Session struct {
	vars     *Vars
	prepared prepared
	unnamed  *Mux   // whose unnamed statement it holds
	version  uint32 // which of them
	spoiled  bool   // not to be given to another client
	fatal    bool   // it said FATAL
}

// Mux follows one client of a pool and the server that it has at the moment. It is not safe
// for concurrent use.
type Mux struct {
	shared *Shared
	names  map[string]*Statement // the client's prepared statements
	vars   *Vars                 // what the client was told
	whole  bool                  // session mode: nothing is rewritten

	srv     *Session
	queue   queue
	pin     Reason
	state   byte // of the last ReadyForQuery
	fresh   bool // nothing was sent to this server yet
	open    bool // requests were sent that no Sync followed
	ran     bool // an Execute was sent that no Sync followed
	skip    bool // an error was reported: what comes before the next Sync is dropped
	copying bool // the server reads COPY data: it ignores Sync
	ignored int  // Syncs it ignored in this COPY
	there   bool // what was sent to be deallocated was prepared
	refuse  *wire.ErrorFields
	segment int            // counts Syncs
	recent  map[string]int // names whose Parse is not answered: in which stretch between Syncs it was sent
	held    bool           // the next message waits until it is known what these mean:
	about   struct {
		stmt *Statement
		name string
	}
	unnamed unnamed

	client stream
	server stream
}

// Shared is what all clients of a lane have in common.
type Shared struct {
	Statements *Statements
	Limits     Limits
	Suspects   Suspects
	vars       *varTable
}

// unnamed is the client's unnamed statement, kept to be sent to another server.
type unnamed struct {
	ok      bool
	version uint32
	body    []byte
	shape   Shape
}

// stream is the state of cutting one direction into messages.
type stream struct {
	part []byte // of a message that is not complete; with its header
	rest int    // of the message's payload that goes the way its head went
	drop bool
}

// newMux returns the state of a client that was told vars. With whole the server is kept for
// as long as the client is there, and the stream is only watched.
func newMux(s *Shared, vars *Vars, whole bool) *Mux {
	m := &Mux{shared: s, vars: vars, whole: whole, pin: Nothing, state: wire.Idle}
	if whole {
		m.pin = Whole
	}
	return m
}

// Attach gives the client a server, and sends what its session needs to become the client's.
func (m *Mux) Attach(s *Session, o *Outs) {
	o.begin(nil)
	m.srv, m.state, m.fresh = s, wire.Idle, true
	if s.vars != m.vars {
		m.settle(&o.Server, &o.Client)
	}
}

func (o *Outs) begin(in []byte) {
	o.Server.begin(in)
	o.Client.begin(in)
}

// settle makes the server's parameters those the client knows; what cannot be set the
// client is told.
func (m *Mux) settle(server, client *Out) {
	var sql []byte
	for _, name := range tracked {
		want, has := m.vars.values[name]
		have, reported := m.srv.vars.values[name]
		if !has || !reported || want == have || !plainText(want) {
			continue
		}
		if sql == nil {
			sql = append(sql, "select "...)
		} else {
			sql = append(sql, ',')
		}
		sql = appendSet(sql, name, want)
	}
	if sql != nil {
		m.own(server, string(sql))
		return
	}
	m.tell(client)
}

// own sends a simple query whose answer the client does not see.
func (m *Mux) own(server *Out, sql string) {
	server.add(wire.AppendMessage(nil, wire.Query, append([]byte(sql), 0))...)
	m.srv.unnamed = nil // a simple query ends it
	m.queue.push(item{typ: wire.Query, ours: true})
}

// tell reports to the client what differs from what it was told.
func (m *Mux) tell(client *Out) {
	for _, name := range m.srv.vars.order {
		value := m.srv.vars.values[name]
		if was, known := m.vars.values[name]; !known || was != value {
			client.add(wire.AppendParameterStatus(nil, name, value)...)
		}
	}
	m.vars = m.srv.vars
}

// Refuse has the client's request that waits for a server answered by an error, without one.
// The next FromClient says it.
func (m *Mux) Refuse(e wire.ErrorFields) { m.refuse = &e }

// Attached reports whether the client has a server.
func (m *Mux) Attached() bool { return m.srv != nil }

// Pinned says why the server stays; Nothing if it need not.
func (m *Mux) Pinned() Reason { return m.pin }

// Owed is how many requests are not answered.
func (m *Mux) Owed() int { return m.queue.len() }

// full reports whether the client must wait until more is answered.
func (m *Mux) full() bool {
	m.held = m.held && m.srv != nil && m.unknown()
	return m.held || m.queue.len() >= m.shared.Limits.Owed
}

// Busy reports whether the client waits for something or is in a transaction.
func (m *Mux) Busy() bool {
	return m.queue.len() > 0 || m.open || m.srv != nil && m.state != wire.Idle
}

// clean reports whether the server's session is at rest: nothing owed, no transaction, both
// streams between two messages.
func (m *Mux) clean() bool {
	return m.queue.len() == 0 && !m.open && m.state == wire.Idle && !m.copying && !m.skip &&
		(m.client.rest == 0 || m.client.drop) && m.server.rest == 0 && len(m.server.part) == 0
}

// releasable reports whether another client may have the server.
func (m *Mux) releasable() Act {
	if m.srv != nil && !m.fresh && m.pin == Nothing && m.clean() {
		return Release
	}
	return 0
}

// Detach takes the server away. clean: it is at rest; reset: it keeps something of the client.
func (m *Mux) Detach() (clean, reset bool) {
	clean, reset = m.clean() && !m.srv.spoiled, m.pin != Nothing
	m.srv, m.fresh, m.ignored = nil, false, 0
	return clean, reset
}

// End forgets the client. It has no server any more.
func (m *Mux) End() {
	for m.queue.len() > 0 {
		if i := m.queue.pop(); i.typ == fakedClose {
			m.shared.Statements.drop(i.stmt)
		} else {
			m.succeeded(i)
		}
	}
	for name, s := range m.names {
		m.shared.Statements.drop(s)
		delete(m.names, name)
	}
}

// keep notes the first reason to keep the server.
func (m *Mux) keep(r Reason) {
	if m.pin == Nothing {
		m.pin = r
	}
}

// head reads a message's header and checks it.
func (s *Shared) head(d wire.Direction, h []byte) (typ byte, total int, err error) {
	announced := binary.BigEndian.Uint32(h[1:])
	most, known := s.Limits.Bound(d, h[0])
	switch {
	case !known:
		return 0, 0, fmt.Errorf("%w: unknown message type", wire.ErrFrame)
	case announced < 4 || announced > 1<<31-1:
		return 0, 0, fmt.Errorf("%w: message length out of range", wire.ErrFrame)
	case int(announced)-4 > most:
		return 0, 0, fmt.Errorf("%w: %w: %d bytes announced, %d allowed", wire.ErrFrame, wire.ErrTooLarge, announced-4, most)
	}
	return h[0], int(announced) + 1, nil
}

// Promised reports whether the server will still say something to what the client sent.
func (m *Mux) Promised() bool {
	for i := range m.queue.len() {
		switch m.queue.at(i).typ {
		case wire.Sync, wire.Query, wire.FunctionCall:
			return true
		}
	}
	return false
}
