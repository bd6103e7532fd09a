package pool

import (
	"context"
	"log/slog"
	"net"
	"time"
)

// Mode says how long a client keeps a server. The zero value is no mode.
type Mode int

// Modes of a pool.
const (
	BySession     Mode = iota + 1 // as long as it is connected
	ByTransaction                 // until its transaction ends and nothing of it is left
)

// String names a mode as enclave.yaml does.
func (m Mode) String() string {
	switch m {
	case BySession:
		return "session"
	case ByTransaction:
		return "transaction"
	}
	return "none"
}

// Settings of one pool. Zero fields mean the defaults; negative durations mean none.
type Settings struct {
	Mode         Mode
	Servers      int           // at most, of this database and role; default 20
	Warm         int           // kept open though nobody needs them; default 0
	PerPrincipal int           // servers one principal may hold at once; 0: no bound of its own
	PerDatabase  int           // servers of all roles on this database together; 0: no bound of its own
	Wait         time.Duration // a client waits so long for a server; default 30 s
	Idle         time.Duration // a server beyond Warm that nobody needed for so long is closed; default 10 min
	Lifetime     time.Duration // a server so old is closed when it is free; default 1 h
	Reset        string        // run before a server that keeps something goes to another client; default DISCARD ALL
	Statements   int           // prepared on one server; default 200
}

func (s *Settings) defaults() {
	def(&s.Servers, 20)
	def(&s.Wait, 30*time.Second)
	def(&s.Idle, 10*time.Minute)
	def(&s.Lifetime, time.Hour)
	def(&s.Reset, "DISCARD ALL")
	def(&s.Statements, 200)
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Key names a pool: a role on a database of a server, under one of the names that clients know
// it by. Each name has its own settings.
type Key struct {
	Name     string // what clients call the database
	Server   string // what the login goes to: address and how
	Database string
	Role     string
}

// Opened is a server that was just logged in to: idle, with nothing read beyond its
// ReadyForQuery.
type Opened struct {
	Conn    net.Conn
	PID     uint32
	Secret  []byte
	Params  map[string]string
	Order   []string
	Notices []byte // whole messages
}

// Backend is how a lane reaches its database. Login must give up when ctx ends; Cancel
// returns nil only when the server has passed a cancel request on.
type Backend struct {
	Login  func(ctx context.Context) (*Opened, error)
	Cancel func(ctx context.Context, pid uint32, secret []byte) error
}

// Spec says which pool a client belongs to.
type Spec struct {
	Key       Key
	Settings  Settings
	Lane      string // what servers of the pool differ in: their start-up parameters
	Principal string
	Backend   Backend
	Overrides map[string]string // parameters that are this client's own, among the tracked: application_name
}

// Config of a Manager. Zero fields mean defaults.
type Config struct {
	Message int           // payload bytes of one message
	Stall   time.Duration // a peer that takes no byte for so long is closed
	Login   time.Duration // bound of one login; default 10 s
	Grace   time.Duration // last words of a client; default 5 s
	Logger  *slog.Logger
	Now     func() time.Time
}
