package gateway

import (
	"errors"

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
	if err == nil {
		s.mu.Lock()
		s.server, s.key = srv, serverKey{srv.pid, srv.secret}
		s.mu.Unlock()
		if s.ending() == nil {
			return nil
		}
		_ = srv.Close()
	}
	return s.notConnected(err)
}

// notConnected words why there is no database session.
func (s *session) notConnected(err error) (r *refused) {
	var no *refusedLogin
	switch {
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

// startService records the session's start and gives both connections to a loop. It reports
// whether it did; if not, the session is the caller's to end.
func (s *session) startService() (handed bool) {
	g := s.g
	if !s.recordStart() {
		return false
	}
	limits := wire.Limits{Message: g.c.Limits.ServiceMessage}
	l := &link{s: s, up: wire.NewFramer(wire.FromFrontend, limits), down: wire.NewFramer(wire.FromBackend, limits)}
	welcome, fixed := s.welcome(), s.client.written.Load()
	l.loop = g.loops.Loop()
	if !l.loop.Takes(s.client.Conn) || !l.loop.Takes(s.server.Conn) {
		l.loop = g.loops.Portable()
	}
	if err := s.handOver(l, func() error { return l.adopt(welcome, fixed) }); err != nil {
		g.c.Logger.Error("session not served", "session", s.id, "error", err)
		s.recordEnd("error", fixed)
		return false
	}
	return true
}

// recordStart queues the record of the session's start. If that cannot be, the client is
// refused: what cannot be recorded is not begun.
func (s *session) recordStart() bool {
	start := s.record(trefoil.KindSession)
	start.Session = &trefoil.SessionBody{Access: s.access(), Event: "start", Path: "service"}
	if s.g.clerk.offer(start) {
		return true
	}
	s.g.refuse(s.client, s.access(), refusal(stageOpen, "57P03", reasonUnrecorded, "accesses cannot be recorded now"))
	return false
}

// handOver has a loop adopt both connections, and waits for that. From then on the session
// ends itself.
func (s *session) handOver(l spliced, adopt func() error) error {
	s.g.wg.Add(1)
	done := make(chan error, 1)
	ok := l.on().Post(func() {
		s.mu.Lock()
		s.link = l
		s.mu.Unlock()
		err := adopt()
		if err != nil {
			s.mu.Lock()
			s.link = nil
			s.mu.Unlock()
		}
		done <- err
	})
	err := errors.New("the gateway is stopping")
	if ok {
		err = <-done
	}
	if err != nil {
		s.g.wg.Done()
		return err
	}
	s.lighten()
	return nil
}

// recordEnd queues the session's last summary and its end.
func (s *session) recordEnd(outcome string, fixed int64) {
	now := s.g.c.Now()
	s.g.clerk.put(s.parent, job{make: func() *trefoil.Body { return s.summary(now, true) }})
	end := s.record(trefoil.KindSession)
	end.Session = &trefoil.SessionBody{Access: s.access(), Event: "end", Path: "service", Outcome: outcome, Fixed: fixed}
	s.g.clerk.put(s.parent, job{body: end})
}

// welcome is everything a client expects before its first statement, for one write.
func (s *session) welcome() []byte {
	out := wire.AppendAuthenticationOk(nil)
	for _, name := range s.server.order {
		out = wire.AppendParameterStatus(out, name, s.server.params[name])
	}
	out = wire.AppendBackendKeyData(out, s.pid, s.secret)
	out = append(out, s.server.notices...)
	out = append(out, s.noticeMessage()...)
	return wire.AppendReadyForQuery(out, s.server.txStatus)
}

// noticeMessage is the decision's notice as a message; empty if there is none.
func (s *session) noticeMessage() []byte {
	if s.decision.Notice == "" {
		return nil
	}
	return wire.AppendNoticeResponse(nil, wire.ErrorFields{Severity: wire.Notice, SQLState: "00000", Message: s.decision.Notice})
}
