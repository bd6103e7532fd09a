package gateway

import (
	"reflect"
	"slices"
	"sync"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// standing is what sessions of one kind have in common: who opened them, and what was decided.
// An application's thousand sessions share one. It does not change once it is shared.
type standing struct {
	principal identity.Principal
	decision  Decision // Access.Session is each session's own
	database  string
	params    map[string]string // the client's
}

// access is what a record says of the session.
func (s *session) access() trefoil.Access {
	a := s.decision.Access
	a.Session = s.id
	return a
}

// standings finds what is in common. It forgets rather than grow: then sessions hold their own.
type standings struct {
	mu    sync.Mutex
	known map[string][]*standing
}

// Bounds of standings.
const (
	maxStandings = 1024 // principals with their databases
	maxAlike     = 8    // of one of them: decisions change now and then
)

// share returns what p shares with an earlier session, or p for later ones.
func (x *standings) share(p *standing) *standing {
	p.decision.Access.Session = ""
	key := p.principal.ID + "\x00" + p.database
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, have := range x.known[key] {
		if have.equals(p) {
			return have
		}
	}
	if x.known == nil || len(x.known) >= maxStandings {
		x.known = map[string][]*standing{}
	}
	list := x.known[key]
	if len(list) >= maxAlike {
		list = slices.Delete(list, 0, 1)
	}
	x.known[key] = append(list, p)
	return p
}

// equals compares all of it. TLS configurations and pools are compared as pointers: one
// that was made anew may differ in what cannot be compared.
func (p *standing) equals(q *standing) bool {
	a, b := *p, *q
	s, t := &a.decision.Target, &b.decision.Target
	if s.TLS != t.TLS || s.Pool != t.Pool {
		return false
	}
	s.TLS, s.Pool, t.TLS, t.Pool = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}
