package gateway

import (
	"errors"
	"os"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// connect logs in to the target.
func (s *session) connect() *refused {
	params, r := upstream(s.decision.Path, s.params, s.decision.Target)
	if r != nil {
		return r
	}
	srv, err := s.g.login(s.ctx, s.decision.Target, params)
	var no *refusedLogin
	switch {
	case err == nil:
		s.mu.Lock()
		s.server = srv
		s.mu.Unlock()
		if s.ending() == nil {
			return nil
		}
		_ = srv.Close()
	case errors.As(err, &no) && s.decision.Path == Service:
		r = refusal(stageOpen, no.SQLState, reasonDatabase, no.Message)
		r.Detail, r.Hint = no.Detail, no.Hint
	case errors.As(err, &no):
		// What a dataset's server says of itself stays here.
		r = refusal(stageOpen, no.SQLState, reasonDatabase, "the dataset's server refused the gateway")
	default:
		r = refusal(stageOpen, "57P03", reasonDatabase, "the database cannot be reached now")
		r.Hint = "Try again; if it lasts, tell the operator."
	}
	if e := s.ending(); e != nil {
		return refusal(stageOpen, e.SQLState, reasonEnded, e.Message)
	}
	s.g.c.Logger.Warn("login to database failed", "session", s.id, "error", err)
	return r
}

// runService splices client and server until one of them ends.
func (s *session) runService() {
	g := s.g
	start := s.record(trefoil.KindSession)
	start.Session = &trefoil.SessionBody{Access: s.decision.Access, Event: "start", Path: "service"}
	if !g.clerk.offer(start) {
		// The site cannot write its log: what cannot be recorded is not begun.
		g.refuse(s.client, s.decision.Access, refusal(stageOpen, "57P03", reasonUnrecorded, "accesses cannot be recorded now"))
		return
	}
	outcome := "disconnected"
	if s.welcome() == nil {
		outcome = s.splice()
	}
	s.sever()
	written := s.client.written.Load()
	now := g.c.Now()
	g.clerk.put(s.parent, job{make: func() *trefoil.Body { return s.summary(now, true) }})
	end := s.record(trefoil.KindSession)
	end.Session = &trefoil.SessionBody{Access: s.decision.Access, Event: "end", Path: "service", Outcome: outcome,
		Fixed: written - s.tally.forwarded()}
	g.clerk.put(s.parent, job{body: end})
}

// welcome sends everything a client expects before its first statement, in one write.
func (s *session) welcome() error {
	out := wire.AppendAuthenticationOk(nil)
	for _, name := range s.server.order {
		out = wire.AppendParameterStatus(out, name, s.server.params[name])
	}
	out = wire.AppendBackendKeyData(out, s.pid, s.secret)
	out = append(out, s.server.notices...)
	out = append(out, s.noticeMessage()...)
	out = wire.AppendReadyForQuery(out, s.server.txStatus)
	_, err := s.client.Write(out)
	return err
}

// noticeMessage is the decision's notice as a message; empty if there is none.
func (s *session) noticeMessage() []byte {
	if s.decision.Notice == "" {
		return nil
	}
	return wire.AppendNoticeResponse(nil, wire.ErrorFields{Severity: wire.Notice, SQLState: "00000", Message: s.decision.Notice})
}

// splice forwards in both directions at once and returns the session's outcome.
func (s *session) splice() string {
	var up string
	done := make(chan struct{})
	go func() { defer close(done); up = s.forward() }()
	down, said := s.backward()
	// The server's side is over: nothing the client still says can be answered.
	_ = s.client.SetReadDeadline(time.Unix(1, 0))
	_ = s.server.Close()
	<-done
	if said {
		linger(s.client)
	}
	if down != "" {
		return down
	}
	return up
}

// forward copies from the client to the server.
func (s *session) forward() (outcome string) {
	f := wire.NewFramer(wire.FromFrontend, wire.Limits{Message: s.g.c.Limits.ServiceMessage})
	terminated := false
	h := pump(s.server, s.client, func(b []byte) (int, error) {
		s.tally.mu.Lock()
		defer s.tally.mu.Unlock()
		s.tally.counts.in += int64(len(b))
		return watch(&f, b, func(p wire.Piece) {
			if p.Type == wire.Terminate {
				terminated = true
				s.clientDone.Store(true) // before the server can hang up because of it
			}
			s.tally.frontend(p)
		})
	})
	switch h.at {
	case atEnd: // the client said all it has to say; the server may still be answering
		s.clientDone.Store(true)
		_ = s.server.CloseWrite()
		if terminated {
			return "closed"
		}
	case atFrame:
		s.finish(protocolError(h.err))
	case atRead:
		if s.ending() == nil && !errors.Is(h.err, os.ErrDeadlineExceeded) {
			s.clientDone.Store(true)
			_ = s.server.Close() // the client's connection broke: what runs for it is of no use
		}
	case atWrite: // backward finds out what became of the server, and tells the client
		if errors.Is(h.err, os.ErrDeadlineExceeded) {
			_ = s.server.Close()
		}
	}
	return "disconnected"
}

// backward copies from the server to the client. An outcome of "" means: as forward says.
// said is whether the client was told why.
func (s *session) backward() (outcome string, said bool) {
	f := wire.NewFramer(wire.FromBackend, wire.Limits{Message: s.g.c.Limits.ServiceMessage})
	h := pump(s.client, s.server, func(b []byte) (int, error) {
		s.tally.mu.Lock()
		defer s.tally.mu.Unlock()
		n, err := watch(&f, b, s.tally.backend)
		s.tally.counts.out += int64(n)
		s.tally.total += int64(n)
		return n, err
	})
	e := s.ending()
	switch {
	case e != nil:
	case h.at == atWrite:
		return "disconnected", false
	case h.at == atFrame:
		s.g.c.Logger.Error("database broke the protocol", "session", s.id, "error", h.err)
		return "error", false
	case s.clientDone.Load():
		return "", false
	case s.tally.lastMessage() == wire.ErrorResponse: // a server says FATAL before it hangs up
		return "error", true
	default:
		e = &End{SQLState: "57P02", Message: "the connection to the database was lost", Outcome: "error"}
	}
	if f.AtBoundary() { // inside a message an error would be taken for data
		s.client.hurry(s.g.grace())
		_, _ = s.client.Write(fatal(Refusal{SQLState: e.SQLState, Message: e.Message}))
	}
	return e.Outcome, true
}

func protocolError(err error) *End {
	state := "08P01"
	if errors.Is(err, wire.ErrTooLarge) {
		state = "54000"
	}
	return &End{SQLState: state, Message: err.Error(), Outcome: "error"}
}
