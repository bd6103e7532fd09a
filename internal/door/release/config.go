package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
)

// Recorder is the access log as this package needs it.
type Recorder interface {
	// Append returns once the record and its opening are durable at the site and its leaf is
	// queued. An error means that nothing may be released under the record.
	Append(ctx context.Context, r trefoil.Record, opening []byte) (Ticket, error)
	// StorePermit keeps the permit beside the record, so that a receipt can be made of them.
	StorePermit(index uint64, permit string) error
}

// Ticket is one appended record on its way into a cosigned checkpoint.
type Ticket interface {
	// Witnessed waits for a cosigned checkpoint that includes the record. Its answer is not
	// trusted: the caller verifies it.
	Witnessed(ctx context.Context) (*trefoil.Proof, error)
}

// Permitter asks the monitor for a permit. An error means that there was no answer; a
// refusal is an answer.
type Permitter interface {
	Permit(ctx context.Context, r trefoil.PermitRequest) (trefoil.PermitAnswer, error)
}

// Limits bound one session. Zero fields take the defaults in brackets.
type Limits struct {
	ChunkBytes  int64         // a chunk is cut at the first message that reaches this size [8 MiB]
	FirstBytes  int64         // size of a cycle's first chunk, doubled from chunk to chunk [256 KiB]
	MemoryBytes int64         // held in memory before chunks spill to disk [32 MiB]
	Window      int           // chunks held at the same time [16]
	Allowance   int64         // bytes of covered statements under the session's permit [1 MiB; negative: none]
	Wait        time.Duration // longest wait for record, cosignature and permit of one chunk [8 s]
	Quiet       time.Duration // silence of the server after which a part of an answer is cut [15 ms]
	Statements  int           // statements named in one record; a chunk is cut before there are more [64]
}

// Config is everything one session needs. It owns both connections from New on.
type Config struct {
	// Client is the authenticated client, after TLS and SASL, before AuthenticationOk. Bytes
	// that were read ahead must come out of its Read again.
	Client net.Conn
	// Server is logged in and idle: its first ReadyForQuery has been read. Likewise for
	// bytes read ahead.
	Server net.Conn

	Origin   string         // of the access log
	Access   trefoil.Access // the same in every record of the session
	Evidence []string       // signed notes that the monitor may want (grants)

	// Statement is the keyed fingerprint of the only statement whose answers may leave; ""
	// means any. Catalog reads under the session's permit go on.
	Statement string

	Valve string // the valve's connection through which the client came; "" for none

	Parameters map[string]string // the server's ParameterStatus at login; counted as covered
	KeyData    []byte            // one whole BackendKeyData message, the gateway's own; counted as fixed
	Notice     []byte            // whole NoticeResponse messages of the gateway; counted as fixed
	FixedSoFar int64             // bytes that the gateway wrote to the client before New, after TLS

	Recorder  Recorder
	Permitter Permitter
	Trust     *trefoil.Trust // log, witnesses with quorum, and permit key

	// AllowUnpermitted lets a session in the region go on while the monitor is away: its
	// records then say "unpermitted" and need a proof that Others verifies (witnesses
	// without the monitor's). Never set for sessions from outside the region.
	AllowUnpermitted bool
	Others           *trefoil.Trust

	Classifier *statement.Classifier       // knows the dataset's tables; shared by its sessions
	Shared     *statement.Shared           // of the dataset; nil: the session's own
	Key        func(fp string) string      // keys a raw fingerprint: 16 hex digits
	Epoch      *Epoch                      // highest stop epoch seen; shared by all sessions; nil: the session's own
	Cancel     func(context.Context) error // cancels what the server is doing; nil: its connection is closed

	Limits   Limits
	Store    *Store // what all sessions may hold together; nil: no bound but each session's own
	SpillDir string // "": os.TempDir
	Now      func() time.Time
	Logger   *slog.Logger
}

// Epoch remembers the highest stop epoch that a verified permit carried. A permit with a
// lower one was signed before a stop, and is void.
type Epoch struct{ seen atomic.Uint64 }

// raise notes e and reports whether it is not lower than what was seen before.
func (p *Epoch) raise(e uint64) bool {
	for {
		old := p.seen.Load()
		if e < old {
			return false
		}
		if e == old || p.seen.CompareAndSwap(old, e) {
			return true
		}
	}
}

// Observe notes an epoch that the monitor's signed count of stops told: permits of a lower one
// are void from then on.
func (p *Epoch) Observe(e uint64) { p.raise(e) }

// Seen is the highest epoch that was told.
func (p *Epoch) Seen() uint64 { return p.seen.Load() }

// current reports whether e is still not lower than the highest seen.
func (p *Epoch) current(e uint64) bool { return e >= p.seen.Load() }

// check says what is missing, and fills in defaults.
func (c *Config) check() error {
	switch {
	case c.Client == nil || c.Server == nil:
		return errors.New("open session: a connection is missing")
	case c.Recorder == nil || c.Permitter == nil:
		return errors.New("open session: no recorder or no permitter")
	case c.Trust == nil || c.Trust.Permit == nil:
		return errors.New("open session: no trusted keys")
	case c.Origin == "" || c.Access.Session == "":
		return errors.New("open session: origin or session id is missing")
	case c.Key == nil || c.Classifier == nil:
		return errors.New("open session: no key for fingerprints, or no classifier")
	case c.AllowUnpermitted && c.Others == nil:
		return errors.New("open session: unpermitted release needs other witnesses")
	}
	c.Limits.fill()
	if c.Shared == nil {
		c.Shared = new(statement.Shared)
	}
	if c.Epoch == nil {
		c.Epoch = new(Epoch)
	}
	if c.SpillDir == "" {
		c.SpillDir = os.TempDir()
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if info, err := os.Stat(c.SpillDir); err != nil || !info.IsDir() {
		return fmt.Errorf("open session: spill directory %q is not a directory", c.SpillDir)
	}
	return nil
}

func (l *Limits) fill() {
	def := func(v *int64, d int64) {
		if *v == 0 {
			*v = d
		}
	}
	def(&l.ChunkBytes, 8<<20)
	def(&l.FirstBytes, min(256<<10, l.ChunkBytes))
	def(&l.MemoryBytes, 32<<20)
	def(&l.Allowance, 1<<20)
	l.Allowance = max(l.Allowance, 0)
	if l.Window <= 0 {
		l.Window = 16
	}
	if l.Wait <= 0 {
		l.Wait = 8 * time.Second
	}
	if l.Quiet <= 0 {
		l.Quiet = 15 * time.Millisecond
	}
	if l.Statements <= 0 {
		l.Statements = 64
	}
}
