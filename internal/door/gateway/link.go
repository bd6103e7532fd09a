package gateway

import (
	"errors"

	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// link is a service session on a loop: it frames and counts what arrives, and forwards it.
// Nothing in it waits for the other direction, so pipelining, COPY both ways, NOTIFY and
// half-closed clients work without a special case. All of it runs on the loop.
type link struct {
	s              *session
	loop           splice.Loop
	client, server splice.Conn
	up, down       wire.Framer
	fixed          int64  // bytes to the client that the gateway said itself
	upEnd          string // the outcome that the client's side found
	terminated     bool   // the client said goodbye
	clientDone     bool   // the client's stream has ended
	over           bool
}

// adopt takes both connections over and greets the client.
func (l *link) adopt(welcome []byte, fixed int64) error {
	o := splice.Options{Stall: l.s.g.c.Limits.Write}
	client, err := l.loop.Adopt(l.s.client.Conn, l, o)
	if err != nil {
		return err
	}
	server, err := l.loop.Adopt(l.s.server.Conn, l, o)
	if err != nil {
		client.Close()
		return err
	}
	l.client, l.server, l.fixed = client, server, fixed+int64(len(welcome))
	client.Send(welcome)
	if e := l.s.ending(); e != nil {
		l.conclude(e)
	}
	return nil
}

// Received implements splice.Handler.
func (l *link) Received(c splice.Conn, b []byte) int {
	if l.over {
		return len(b)
	}
	to, err := l.server, error(nil)
	n := 0
	if c == l.client {
		n, err = l.fromClient(b)
	} else {
		to = l.client
		n, err = l.fromServer(b)
	}
	to.Send(b[:n])
	switch {
	case err != nil && c == l.client:
		l.s.finish(protocolError(err)) // comes back as conclude
		c.Pause()
	case err != nil:
		l.s.g.c.Logger.Error("database broke the protocol", "session", l.s.id, "error", err)
		l.close("error", nil)
	case to.Blocked():
		c.Pause()
	}
	return len(b)
}

func (l *link) fromClient(b []byte) (int, error) {
	t := l.s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts.in += int64(len(b))
	return watch(&l.up, b, func(p wire.Piece) {
		if p.Type == wire.Terminate {
			l.terminated, l.clientDone = true, true
		}
		t.frontend(p)
	})
}

func (l *link) fromServer(b []byte) (int, error) {
	t := l.s.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	n, err := watchRows(&l.down, b, t.backend, t.flood)
	t.counts.out += int64(n)
	return n, err
}

// Drained implements splice.Handler.
func (l *link) Drained(c splice.Conn) {
	if c == l.client {
		l.server.Resume()
	} else {
		l.client.Resume()
	}
}

// Ended implements splice.Handler.
func (l *link) Ended(c splice.Conn, err error) {
	switch {
	case l.over:
	case c == l.client && err == nil:
		// It said all it has to say; the server may still be answering.
		l.clientDone = true
		l.upEnd = "disconnected"
		if l.terminated {
			l.upEnd = "closed"
		}
		l.server.CloseWrite()
	case c == l.client:
		l.close("disconnected", nil) // what runs for it is of no use
	default:
		l.serverEnded()
	}
}

// serverEnded tells the client why, unless the client or the server has already said so.
func (l *link) serverEnded() {
	switch {
	case l.terminated:
		l.finish("closed")
	case l.clientDone:
		l.finish(l.upEnd)
	case l.s.tally.lastMessage() == wire.ErrorResponse: // a server says FATAL before it hangs up
		l.finish("error")
	default:
		l.close("error", &End{SQLState: "57P02", Message: "the connection to the database was lost", Outcome: "error"})
	}
}

func (l *link) on() splice.Loop { return l.loop }

// conclude ends the session for a reason that the gateway gives.
func (l *link) conclude(e *End) {
	if !l.over && l.client != nil {
		l.close(e.Outcome, e)
	}
}

// close ends the session. The client is told why where the stream is between two messages:
// inside one an error would be taken for data.
func (l *link) close(outcome string, why *End) {
	if why != nil && l.down.AtBoundary() {
		words := fatal(Refusal{SQLState: why.SQLState, Message: why.Message})
		l.fixed += int64(len(words))
		l.client.Send(words)
		l.finish(outcome)
		return
	}
	l.over = true
	l.server.Close()
	l.client.Close()
	l.complete(outcome)
}

// finish ends the session once the client has what was sent to it.
func (l *link) finish(outcome string) {
	l.over = true
	l.server.Close()
	l.client.Finish(l.s.g.grace(), func() { l.complete(outcome) })
}

// complete hands over to a goroutine that records the end: it may have to wait.
func (l *link) complete(outcome string) {
	go func() {
		defer l.s.g.wg.Done()
		defer l.s.leave()
		l.s.recordEnd(outcome, l.fixed)
	}()
}

func protocolError(err error) *End {
	state := "08P01"
	if errors.Is(err, wire.ErrTooLarge) {
		state = "54000"
	}
	return &End{SQLState: state, Message: err.Error(), Outcome: "error"}
}
