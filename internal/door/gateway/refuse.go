package gateway

import (
	"errors"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// Stages of a refusal.
const (
	stageStartup        = "startup"
	stageAuthentication = "authentication"
	stageOpen           = "open"
)

// Reasons of refusals that the gateway itself makes (docs/record-format.md).
const (
	reasonMalformed   = "malformed"
	reasonVersion     = "version"
	reasonTLS         = "tls-required"
	reasonPassword    = "password"
	reasonRate        = "rate-limited"
	reasonReplication = "replication"
	reasonParameter   = "parameter"
	reasonLimit       = "limit"
	reasonPolicy      = "policy"
	reasonDatabase    = "database"   // it refused the gateway, or could not be reached
	reasonUnrecorded  = "unrecorded" // the site's log takes no record
	reasonEnded       = "ended"      // revoked or shut down while it was being opened
)

var errStartupLength = errors.New("message length out of range")

// refused is a refusal as an error: what to say, and what to record.
type refused struct {
	Refusal
	stage string
	quiet bool // the client is gone or never spoke the protocol: say and record nothing
}

// Error implements error.
func (r *refused) Error() string { return r.Message }

func refusal(stage, state, reason, message string) *refused {
	return &refused{Refusal: Refusal{SQLState: state, Message: message, Rule: "gateway", Reason: reason}, stage: stage}
}

// gone is the refusal of a client that went away.
func gone() *refused { return &refused{quiet: true} }

// fatal builds the last message of a client that is refused.
func fatal(r Refusal) []byte {
	if r.SQLState == "" {
		r.SQLState = "28000"
	}
	if r.Message == "" {
		r.Message = "access denied"
	}
	return wire.AppendErrorResponse(nil, wire.ErrorFields{Severity: wire.Fatal, SQLState: r.SQLState,
		Message: r.Message, Detail: r.Detail, Hint: r.Hint})
}

// refuse tells the client and records. If recording fails the client is refused all the same.
func (g *Gateway) refuse(c *conn, a trefoil.Access, r *refused) {
	if r.quiet {
		return
	}
	c.hurry(5 * time.Second)
	_, _ = c.Write(fatal(r.Refusal)) // it is refused whether it hears so or not
	linger(c)
	// Whoever is not authenticated could otherwise fill the log.
	if r.stage != stageOpen && !g.refusals.allow(g.c.Now()) {
		if n, say := g.refusals.skipped(g.c.Now()); say { // nor fill the program's own log
			g.c.Logger.Warn("refusals counted, not recorded", "stage", r.stage, "reason", r.Reason, "skipped", n)
		}
		return
	}
	reason := r.Reason
	if reason == "" {
		reason = reasonPolicy
	}
	ok := g.clerk.offer(&trefoil.Body{At: g.c.Now().UTC(), Kind: trefoil.KindRefusal, Refusal: &trefoil.RefusalBody{
		Access: a, Reason: reason, Rule: r.Rule, Law: r.Law, Stage: r.stage}})
	if !ok {
		g.c.Logger.Error("refusal not recorded: the record queue is full", "stage", r.stage, "reason", r.Reason)
	}
}

// meter allows so many events a second and counts the rest.
type meter struct {
	mu     sync.Mutex
	most   int
	second int64
	used   int
	over   int64
	said   int64 // the second in which over was last told
}

func (m *meter) allow(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if s := now.Unix(); s != m.second {
		m.second, m.used = s, 0
	}
	if m.used >= m.most {
		m.over++
		return false
	}
	m.used++
	return true
}

// skipped returns how many were not allowed so far, and whether to say so: once a second.
func (m *meter) skipped(now time.Time) (n int64, say bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	say = m.over > 0 && m.said != now.Unix()
	if say {
		m.said = now.Unix()
	}
	return m.over, say
}
