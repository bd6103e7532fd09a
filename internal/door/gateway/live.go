package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"reflect"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// Live is what may change while the gateway runs. Directory and Locator are required.
type Live struct {
	Directory    *identity.Directory
	Locator      *identity.Locator
	OIDC         *identity.OIDC
	Certificates *identity.Certificates
	TLS          *tls.Config
	RequireTLS   bool
	Limits       Limits // those of sessions and logins; the others stay as they were at the start
}

// live is a Live in force. A client that came under one is served under it until its login
// is over; sessions are looked at again when the next comes.
type live struct {
	Live
	binding []byte
}

func newLive(l Live) *live {
	l.Limits.defaults()
	if l.TLS != nil && l.Certificates != nil {
		l.TLS = l.TLS.Clone()
		// Asked for and not verified in the handshake: whoever sends a certificate of some
		// other authority, as libpq does by itself, still logs in by password.
		l.TLS.ClientAuth = tls.RequestClientCert
	}
	if l.TLS != nil && !l.TLS.DynamicRecordSizingDisabled {
		l.TLS = l.TLS.Clone() // once, not a connection
		l.TLS.DynamicRecordSizingDisabled = true
	}
	return &live{Live: l, binding: endPoint(l.TLS)}
}

// Reload puts l in force for clients that come from now on, and ends the sessions of those
// whose login no longer stands. It returns how many; on an error nothing has changed.
func (g *Gateway) Reload(l Live) (ended int, err error) {
	switch {
	case l.Directory == nil || l.Locator == nil:
		return 0, errors.New("reload gateway: no directory of people, or no locator")
	case l.RequireTLS && l.TLS == nil:
		return 0, errors.New("reload gateway: TLS is required and there is no certificate")
	}
	now := newLive(l)
	g.live.Store(now)
	g.sessions.limit(now.Limits)
	for _, s := range g.sessions.list(func(*session) bool { return true }) {
		if _, e := g.stands(s, now); e != nil {
			s.finish(e)
			ended++
		}
	}
	return ended, nil
}

// Recheck decides about every session again, and ends those that policy or floor now
// refuse. It returns how many; those that are decided last are after ctx's end left alone.
func (g *Gateway) Recheck(ctx context.Context) (ended int) {
	now := g.live.Load()
	for _, s := range g.sessions.list(func(s *session) bool { return s.ending() == nil }) {
		if ctx.Err() != nil {
			return ended
		}
		if g.recheck(ctx, s, now) {
			ended++
		}
	}
	return ended
}

// recheck decides about one session again and reports whether it ended it.
func (g *Gateway) recheck(ctx context.Context, s *session, now *live) bool {
	who, e := g.stands(s, now)
	if e == nil {
		q := Request{Principal: who, Database: s.database, Params: s.params, Session: s.id, Local: s.local,
			BySource: s.login.way == identity.BySource, At: g.c.Now()}
		q.Places = now.Locator.Places(who, s.addr, q.At)
		e = changed(s.decision, g.c.Authoriser.Authorise(ctx, q))
	}
	if e != nil {
		s.finish(e)
	}
	return e != nil
}

// changed is why a session of one decision may not go on under another. A dataset that is
// away, or being built, ends nothing.
func changed(old, now Decision) *End {
	denied := now.Path != Service && now.Path != Release
	switch {
	case denied && now.Refusal.Reason != "policy" && now.Refusal.Reason != "floor" && now.Refusal.Reason != "unknown-dataset" && now.Refusal.Reason != "":
		return nil
	case denied || now.Path != old.Path || now.Target.Role != old.Target.Role || now.Target.Database != old.Target.Database:
		return &End{SQLState: "57P01", Message: "the rules have changed, and this session may not go on", Outcome: "revoked"}
	}
	return nil
}

// stands returns who a session's principal is now, or why its login no longer stands.
func (g *Gateway) stands(s *session, now *live) (identity.Principal, *End) {
	in := s.login
	end := func(text string) (identity.Principal, *End) {
		return identity.Principal{}, &End{SQLState: "57P01", Message: text, Outcome: "revoked"}
	}
	id := s.principal.ID
	listed, known := now.Directory.Lookup(id)
	if in.way == identity.ByCertificate {
		who, _, ok, err := now.Certificates.Identify(now.Directory, in.chain, id, g.c.Now())
		if err != nil {
			return end(err.Error())
		}
		if !ok {
			return end("this certificate no longer logs in")
		}
		return who, nil
	}
	switch {
	case !known && in.listed:
		return end("this principal is no longer listed")
	case known && !listed.Accepts(in.way):
		return end("this principal no longer logs in this way")
	case in.way == identity.ByOIDC && (!now.OIDC.Asks(id) || !reflect.DeepEqual(listed, *in.entry)):
		return end("this principal's entry has changed: connect again")
	case in.way == identity.ByOIDC || !known:
		return s.principal, nil
	}
	if in.token != nil {
		t, ok := now.Directory.Token(id, in.token.ID)
		if !ok {
			return end("this access token no longer logs in")
		}
		if at, why := t.End(); !g.c.Now().Before(at) {
			return end(why)
		}
	}
	return listed, nil
}

// decide asks the authoriser, and holds its answer against the login: an access token's
// scope, and the login's own end.
func (g *Gateway) decide(ctx context.Context, q Request, in login, h *hello) (Decision, *refused) {
	if in.token != nil && !in.token.Opens(q.Database) {
		d := Decision{}
		d.Access.Session, d.Access.Location, d.Access.Principal = q.Session, q.Places, g.pseudonym(q.Principal.ID, q.At)
		r := refusal(stageOpen, "42501", reasonPolicy, "the access token is not for this database")
		r.Rule, r.Law = "token-scope", "GDPR art. 25(2)"
		r.Hint = "trefoil token create --database NAME makes one that is"
		return d, r
	}
	d := g.c.Authoriser.Authorise(ctx, q)
	if d.Access.Principal == "" {
		d.Access.Location, d.Access.Principal = q.Places, g.pseudonym(q.Principal.ID, q.At)
	}
	d.Access.Session = q.Session
	if !in.until.IsZero() && (d.Until.IsZero() || in.until.Before(d.Until)) {
		d.Until, d.UntilMessage = in.until, in.ended
	}
	if d.Path == Service && in.keys != nil && d.Target.Role == q.Principal.ID {
		d.Target.Keys = in.keys
	}
	return d, g.judge(&d, h)
}

func (g *Gateway) pseudonym(id string, at time.Time) string {
	if g.c.Pseudonym == nil {
		return ""
	}
	return g.c.Pseudonym(id, at)
}

// inRate refuses a principal that opens sessions, or is refused them, too often: somebody
// who is logged in could otherwise fill the log.
func (g *Gateway) inRate(who identity.Principal, l Limits) *refused {
	per := l.PersonPerSec
	if who.Service {
		per = l.ServicePerSec
	}
	wait := g.refused.Full(who.ID, l.RefusedPerMinute, refusedLeak(l))
	if wait == 0 && per > 0 {
		wait = g.opens.Take(who.ID, 20*per, time.Second/time.Duration(per))
	}
	if wait == 0 {
		return nil
	}
	r := refusal(stageAuthentication, "53300", reasonRate, "this principal connects too often, or was refused too often")
	r.Hint = "Try again in " + max(time.Second, wait.Round(time.Second)).String() + "."
	return r
}

func refusedLeak(l Limits) time.Duration {
	return time.Minute / time.Duration(max(1, l.RefusedPerMinute))
}
