package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/pool"
)

// Path is where a decision sends a session. The zero value denies.
type Path int

// Paths.
const (
	Deny Path = iota
	Service
	Release
)

// Request asks whether an authenticated principal may open a database.
type Request struct {
	Principal identity.Principal
	Places    []trefoil.Place   // employer, workplace, network, in this order
	Database  string            // the client's dbname: a source database or a dataset
	Params    map[string]string // the client's start-up parameters
	Session   string            // 32 hex digits; goes into Access.Session
	Local     bool              // from this machine: the loopback network or a Unix socket
	BySource  bool              // logged in with the password that the source database holds
	At        time.Time
}

// Decision is the answer. Its zero value denies without a reason.
type Decision struct {
	Path    Path
	Access  trefoil.Access // in every record of the session; also in a refusal's, as far as known
	Target  Target
	Notice  string    // one line, shown at connect; "" for none
	Refusal Refusal   // why, when Path is Deny
	Until   time.Time // the session ends then; zero = no end
	// UntilMessage is what the client is told at Until; "" when a grant ends then.
	UntilMessage string
}

// Target is the database server behind a session and the login there.
type Target struct {
	Network  string      // tcp or unix
	Address  string      // host:port, or the socket's path
	TLS      *tls.Config // with the gateway's client certificate; nil = no TLS
	Role     string
	Password string // SCRAM-SHA-256; "" when the certificate logs in
	// Keys log in where the server holds the verifier that the client was checked against;
	// the gateway sets them for sessions whose client used the source's own password.
	Keys     *identity.Keys
	Database string         // the physical name
	Pool     *pool.Settings // service path: database sessions are shared; nil: each client has its own
	// Startup are parameters the server is always started with; they win over the client's.
	Startup map[string]string
}

// Refusal is what a client is told, and what is recorded, when something is not given.
// Message, Detail and Hint never hold personal data.
type Refusal struct {
	SQLState string // 28000 or 42501; others where they say more
	Message  string
	Rule     string // policy id or "floor"
	Law      string // article
	Detail   string
	Hint     string // the command that asks for access
	Reason   string // of the closed set in docs/record-format.md
}

// Authoriser decides who may open what. It is called once a session, after authentication,
// and must be safe for concurrent use.
type Authoriser interface {
	Authorise(ctx context.Context, r Request) Decision
}

// Recorder takes records that wait for nobody: it returns once all bodies are durable at the
// site, in their order, or with an error and none is. The gateway calls it from one goroutine
// of its own, never from a session's path, and sets At and Kind; the Recorder sets Origin.
type Recorder interface {
	Record(ctx context.Context, bodies ...*trefoil.Body) error
}

// Accountant says what a summary may say of a statement: its keyed fingerprint and kind.
// It is called off the hot path with at most Limits.StatementText bytes; ok is false for
// what it cannot parse. It must not keep text.
type Accountant interface {
	Account(text []byte) (fingerprint, kind string, ok bool)
}

// ReleaseRunner takes over an authenticated session of the release path. It writes
// AuthenticationOk and everything after it, and returns when the session is over; the
// gateway closes both connections then. When ctx ends, context.Cause is an *End that says
// what to tell the client.
type ReleaseRunner interface {
	Run(ctx context.Context, s ReleaseSession) error
}

// ReleaseSession is what the gateway hands over. Nothing has been written to Client after
// the end of authentication; nothing has been read from Server after its ReadyForQuery.
type ReleaseSession struct {
	Client     net.Conn          // past TLS; AuthenticationOk not sent
	Server     net.Conn          // logged in, idle
	Access     trefoil.Access    // with Session set
	Parameters map[string]string // the server's ParameterStatus values
	Order      []string          // their names in the server's order
	KeyData    []byte            // one whole BackendKeyData message, of the gateway's own key
	Notice     []byte            // whole NoticeResponse messages of the gateway; may be empty
	Until      time.Time         // zero = no end; the gateway also ends ctx then
	Fixed      int64             // bytes written to Client so far, after TLS
	TxStatus   byte
	Valve      string          // the valve's connection through which the client came; "" for none
	Draining   <-chan struct{} // closed when the gateway stops: end as soon as idle
	// Cancel asks the database to cancel what this session runs. The gateway calls it for
	// the client's CancelRequests; the runner may call it too.
	Cancel func(ctx context.Context) error
}

// End is why the gateway ends a session: the client gets it as a FATAL error, the session's
// end record gets Outcome.
type End struct {
	SQLState string
	Message  string
	Outcome  string // closed, disconnected, drained, revoked, error
}

// Error implements error.
func (e *End) Error() string { return e.Message }
