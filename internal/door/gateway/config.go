package gateway

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
)

// Config is all a gateway needs. Directory, Authoriser, Recorder and Releases are required.
type Config struct {
	Listen     []string       // addresses, host:port
	Listeners  []net.Listener // in addition; the gateway closes them
	TLS        *tls.Config    // offered to clients when set
	RequireTLS bool           // clients without TLS are refused

	Directory    *identity.Directory
	Locator      *identity.Locator
	OIDC         *identity.OIDC         // nil: nobody logs in with an ID token
	Certificates *identity.Certificates // nil: nobody logs in with a certificate
	Sources      Sources                // nil: nobody logs in with a source's own password

	Authoriser Authoriser
	Recorder   Recorder
	Accountant Accountant // nil: statements are counted, not attributed
	Releases   ReleaseRunner
	Secrets    SecretKeeper                         // nil: nothing is kept of sessions through the valve
	Pseudonym  func(id string, at time.Time) string // of staff in refusals before a decision; nil: left out

	// Portable has service sessions served by goroutines though an event loop could be had.
	Portable bool

	TokenUsed func(id string, at time.Time) // told of each session that an access token opens; nil: nobody

	Limits Limits
	Dial   func(network, address string, timeout time.Duration) (net.Conn, error) // nil: net.DialTimeout
	Now    func() time.Time
	Logger *slog.Logger
}

// Limits bounds what clients can make the gateway do. Zero fields mean the defaults; a
// negative duration means none.
type Limits struct {
	Sessions         int           // at once; default 1000
	SessionsPer      int           // at once, of one principal; default 500
	PersonSessions   int           // at once, of one person; default 50, at most SessionsPer
	PersonPerSec     int           // new sessions of one person a second, after a burst of 20 times as many; default 5; < 0: no bound
	ServicePerSec    int           // the same of one service; default 2000
	RefusedPerMinute int           // refusals of one principal after its login; then it waits; default 60; < 0: no bound
	HalfOpen         int           // connections that are not authenticated yet; default 1024
	HalfOpenPer      int           // of one address; default 256
	Startup          time.Duration // from accept to authenticated; default 15 s
	Login            time.Duration // to the database; default 10 s
	ServiceMessage   int           // payload bytes; streamed, never held; default 1 GiB
	Write            time.Duration // a client or server that takes no byte for so long is closed; default 15 min
	Drain            time.Duration // from the stop to closing busy sessions; default 30 s
	Grace            time.Duration // last words of a session that is ended, and of the gateway itself; default 5 s
	Summary          time.Duration // interval of summaries; default 1 min
	StatementText    int           // bytes of one statement's text that are looked at; default 64 KiB
	Statements       int           // distinct statements a session's summary may name; default 500
	RecordQueue      int           // records that wait to be written; default 8192
	RefusalsPerSec   int           // refusals before authentication recorded a second; the rest are counted; default 20
	CancelsPerMinute int           // failed cancel requests of one address before they are ignored; default 20
}

// defaults fills in zero fields.
func (l *Limits) defaults() {
	def(&l.Sessions, 1000)
	def(&l.SessionsPer, 500)
	def(&l.PersonSessions, 50)
	def(&l.PersonPerSec, 5)
	def(&l.ServicePerSec, 2000)
	def(&l.RefusedPerMinute, 60)
	def(&l.HalfOpen, 1024)
	def(&l.HalfOpenPer, 256)
	def(&l.Startup, 15*time.Second)
	def(&l.Login, 10*time.Second)
	def(&l.ServiceMessage, 1<<30)
	def(&l.Write, 15*time.Minute)
	def(&l.Drain, 30*time.Second)
	def(&l.Grace, 5*time.Second)
	def(&l.Summary, time.Minute)
	def(&l.StatementText, 64<<10)
	def(&l.Statements, 500)
	def(&l.RecordQueue, 8192)
	def(&l.RefusalsPerSec, 20)
	def(&l.CancelsPerMinute, 20)
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// check reports what is missing and fills in defaults.
func (c *Config) check() error {
	var errs []error
	need := func(ok bool, what string) {
		if !ok {
			errs = append(errs, errors.New("gateway configuration: "+what))
		}
	}
	need(len(c.Listen)+len(c.Listeners) > 0, "no listener")
	need(c.Directory != nil, "no directory of people")
	need(c.Authoriser != nil, "no authoriser")
	need(c.Recorder != nil, "no recorder")
	need(c.Releases != nil, "no release runner")
	need(!c.RequireTLS || c.TLS != nil, "TLS is required and there is no certificate")
	c.Limits.defaults()
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Dial == nil {
		c.Dial = net.DialTimeout
	}
	if c.Locator == nil {
		c.Locator = &identity.Locator{}
	}
	return errors.Join(errs...)
}
