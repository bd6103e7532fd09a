package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// session is one authorised client and its database session. The registry owns it from
// open to close; its path's goroutines own the connections.
type session struct {
	*standing
	g      *Gateway
	id     string
	since  time.Time
	client *conn   // nil once a loop owns the connections
	server *server // nil once a loop owns the connections
	key    serverKey
	pid    uint32
	secret []byte
	tally  *tally  // service path
	link   spliced // service path, once a loop owns the connections
	login  proof   // how the client logged in
	addr   netip.Addr
	local  bool // from this machine

	flagged bool // an incident says that too little of it can be attributed; the clerk's

	parent context.Context // ends when the gateway has nothing more to record
	ctx    context.Context // ends with the session; its cause is an *End
	cancel context.CancelCauseFunc

	mu        sync.Mutex
	end       *End
	cancelled bool // a cancel request is on its way: no second one beside it
	timers    []*time.Timer
}

// serverKey cancels what a database session runs.
type serverKey struct {
	pid    uint32
	secret []byte
}

// SessionInfo is what others may know of an open session.
type SessionInfo struct {
	ID        string // as in its records
	Principal string
	Service   bool
	Database  string
	Path      Path
	Server    string // address of the database server
	ReadOnly  bool   // the gateway started it so
	Grant     string
	Since     time.Time
	Until     time.Time
	Way       string // how the client logged in: identity.ByPassword and the others
	Token     string // id of the access token that it logged in with
}

func (s *session) info() SessionInfo {
	return SessionInfo{ID: s.id, Principal: s.principal.ID, Service: s.principal.Service, Database: s.database,
		Path: s.decision.Path, Server: s.decision.Target.Address, ReadOnly: s.decision.Target.Startup["default_transaction_read_only"] == "on",
		Grant: s.decision.Access.Grant, Since: s.since, Until: s.decision.Until,
		Way: s.login.way, Token: s.login.tokenID()}
}

// finish ends the session for a reason. The first reason wins. The service path is told on
// its loop; the release path notices by its context, or gets its connections closed under it.
func (s *session) finish(e *End) {
	s.mu.Lock()
	first, l := s.end == nil, s.link
	if first {
		s.end = e
		if l == nil {
			s.timers = append(s.timers, time.AfterFunc(s.g.grace(), s.sever))
		}
	}
	cancel := s.cancel
	s.mu.Unlock()
	if !first {
		return
	}
	cancel(e)
	if l != nil {
		l.on().Post(func() { l.conclude(e) })
	}
}

// begun reports whether the client of a service session heard that it may begin.
func (s *session) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.link != nil
}

// ending returns why the session is to end, nil if it is not.
func (s *session) ending() *End {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.end
}

// leave ends what the session holds beside its connections' bytes. It is the last call.
func (s *session) leave() {
	s.sever()
	s.stopTimers()
	s.g.sessions.close(s)
	s.mu.Lock()
	cancel := s.cancel
	s.mu.Unlock()
	cancel(nil)
}

// lighten lets go of what only the start of a session needs, once a loop owns its
// connections: there are thousands of sessions, and most are idle.
func (s *session) lighten() {
	s.mu.Lock()
	cancel := s.cancel
	s.client, s.server, s.ctx, s.cancel = nil, nil, nil, func(error) {}
	s.mu.Unlock()
	cancel(nil)
}

// sever closes both connections, whatever they are doing, unless a loop owns them.
func (s *session) sever() {
	s.mu.Lock()
	client, srv, linked := s.client, s.server, s.link != nil
	s.mu.Unlock()
	if linked {
		return
	}
	_ = client.Close()
	if srv != nil {
		_ = srv.Close()
	}
}

// expire ends the session at the decision's Until.
func (s *session) expire() {
	if s.decision.Until.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.timers = append(s.timers, time.AfterFunc(s.decision.Until.Sub(s.g.c.Now()), func() {
		s.finish(&End{SQLState: "57P01", Message: cmp.Or(s.decision.UntilMessage, "the grant behind this session has expired"), Outcome: "revoked"})
	}))
}

func (s *session) stopTimers() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range s.timers {
		t.Stop()
	}
}

// registry knows the open sessions.
type registry struct {
	mu    sync.Mutex
	byID  map[string]*session
	byPID map[uint32]*session
	per   map[string]int // by principal
	most  int
	perPr int
	perPn int // of one person
}

func newRegistry(l Limits) *registry {
	return &registry{byID: map[string]*session{}, byPID: map[uint32]*session{}, per: map[string]int{},
		most: l.Sessions, perPr: l.SessionsPer, perPn: l.PersonSessions}
}

// limit changes the bounds; sessions that are open stay.
func (r *registry) limit(l Limits) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most, r.perPr, r.perPn = l.Sessions, l.SessionsPer, l.PersonSessions
}

// open registers s within the limits and gives it its cancel key.
func (r *registry) open(s *session, secret int) *refused {
	s.secret = make([]byte, secret)
	if _, err := rand.Read(s.secret); err != nil {
		return refusal(stageOpen, "58000", reasonLimit, "no randomness for a cancel key")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.byID) >= r.most {
		return refusal(stageOpen, "53300", reasonLimit, "too many sessions at this gateway")
	}
	if n := r.per[s.principal.ID]; n >= r.perPr || !s.principal.Service && n >= r.perPn {
		return refusal(stageOpen, "53300", reasonLimit, "too many sessions of this principal")
	}
	for s.pid == 0 || r.byPID[s.pid] != nil {
		var b [4]byte
		if _, err := rand.Read(b[:]); err != nil {
			return refusal(stageOpen, "58000", reasonLimit, "no randomness for a cancel key")
		}
		s.pid = binary.BigEndian.Uint32(b[:]) >> 1 // some clients hold it in a signed integer
	}
	r.byID[s.id], r.byPID[s.pid] = s, s
	r.per[s.principal.ID]++
	return nil
}

func (r *registry) close(s *session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.byID[s.id] != s {
		return
	}
	delete(r.byID, s.id)
	delete(r.byPID, s.pid)
	if r.per[s.principal.ID]--; r.per[s.principal.ID] == 0 {
		delete(r.per, s.principal.ID)
	}
}

// list returns the sessions that match chooses.
func (r *registry) list(match func(*session) bool) []*session {
	r.mu.Lock()
	defer r.mu.Unlock()
	var found []*session
	for _, s := range r.byID {
		if match(s) {
			found = append(found, s)
		}
	}
	return found
}

// find returns the session of a cancel key, comparing the secret in constant time.
func (r *registry) find(pid uint32, secret []byte) *session {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.byPID[pid]
	var want []byte
	if s != nil {
		want = s.secret
	}
	if subtle.ConstantTimeCompare(want, secret) != 1 || len(secret) == 0 {
		return nil
	}
	return s
}

// newID draws a session's id: 32 hex digits.
func newID() (string, error) {
	var b [16]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw session id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}

// spliced is a service session on a loop: with a database session of its own, or pooled.
type spliced interface {
	on() splice.Loop
	conclude(e *End) // on the loop
}

// cancelUpstream asks the database to cancel what the session runs.
func (s *session) cancelUpstream(ctx context.Context) error {
	s.mu.Lock()
	if p, ok := s.link.(*pooled); ok {
		s.mu.Unlock()
		return p.cancel(ctx)
	}
	if s.end != nil || s.cancelled || s.key.secret == nil {
		s.mu.Unlock()
		return errors.New("session has nothing to cancel now")
	}
	s.cancelled = true
	pid, secret := s.key.pid, s.key.secret
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.cancelled = false
		s.mu.Unlock()
	}()
	return s.g.passCancel(ctx, s.decision.Target, pid, secret)
}

// passCancel sends a cancel request. It returns nil when the server has passed it on.
func (g *Gateway) passCancel(ctx context.Context, t Target, pid uint32, secret []byte) error {
	c, err := g.dial(t, g.c.Limits.Login)
	if err != nil {
		return fmt.Errorf("cancel statement: %w", err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(g.c.Limits.Login))
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Now()) })
	defer stop()
	if _, err := c.Write(wire.AppendCancelRequest(nil, pid, secret)); err != nil {
		return fmt.Errorf("cancel statement: %w", err)
	}
	// The server closes when it has passed the signal on: waiting for that keeps order.
	var b [1]byte
	if _, err := c.Read(b[:]); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		return fmt.Errorf("cancel statement: %w", err)
	}
	return nil
}

// record builds a body of this session.
func (s *session) record(kind trefoil.Kind) *trefoil.Body {
	return &trefoil.Body{At: s.g.c.Now().UTC(), Kind: kind}
}
