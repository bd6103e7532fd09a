package release

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// awayFor is how long a session in the region goes without asking a monitor that gave no
// answer. It tries again after that.
const awayFor = 5 * time.Second

// endWait bounds how long the end record may take to become durable.
const endWait = 5 * time.Second

// clientReader is the receiving side of the client: what Session may do besides letOut.
type clientReader interface {
	io.Reader
	SetReadDeadline(time.Time) error
	SetWriteDeadline(time.Time) error
	Close() error
}

// Session is one client's session on the release path, after authentication.
type Session struct {
	Config

	in    clientReader
	out   outlet
	state *statement.State
	track *tracker
	mem   *budget
	pool  *segmentPool

	start  opened        // under the session's permit
	window chan struct{} // one token a held parcel
	append chan *parcel  // to the log, in order
	order  chan *parcel  // to the client, in order
	halt   context.CancelCauseFunc
	halted chan struct{} // closed once a halted session's connections are unblocked

	// Owned by the server's reader.
	current      *parcel
	coveredSoFar int64
	recorded     int64 // bytes in release records so far
	chunks       int64
	size         int64 // of the next chunk

	// Owned by the writer, read after it ended.
	broken bool
	inHand *parcel

	released, covered, fixed atomic.Int64
	away                     atomic.Int64 // Unix nanoseconds until which the monitor is not asked
	draining, leaving        atomic.Bool
	mu                       sync.Mutex
	stopped                  *StopReason
	deadline                 sync.Mutex
	over                     bool // the server's deadline stays in the past
}

// opened is what the verified start record allows.
type opened struct {
	open      bool
	allowance int64
	pass      pass
	refused   uint64 // the count of stops at which its permit was not renewed
}

// New checks the configuration. It owns both connections from now on, also when it fails.
func New(c Config) (*Session, error) {
	if err := c.check(); err != nil {
		for _, conn := range []io.Closer{c.Client, c.Server} {
			if conn != nil {
				conn.Close()
			}
		}
		return nil, err
	}
	s := &Session{
		Config: c, in: c.Client, out: outlet{c.Client},
		mem: &budget{limit: c.Limits.MemoryBytes, store: c.Store}, pool: new(segmentPool),
		window: make(chan struct{}, c.Limits.Window), append: make(chan *parcel, c.Limits.Window),
		order: make(chan *parcel, c.Limits.Window), halted: make(chan struct{}),
		size: c.Limits.FirstBytes,
	}
	s.Config.Client = nil
	s.state = statement.NewState(c.Shared)
	s.track = newTracker(s.state)
	for name, value := range c.Parameters {
		s.state.Setting(name, value)
	}
	s.fixed.Store(c.FixedSoFar)
	return s, nil
}

// Stop ends the session at once: what is held is dropped, and the client is told why.
func (s *Session) Stop(r StopReason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped == nil {
		s.stopped = &r
	}
	if s.halt != nil {
		s.halt(&errStopped{*s.stopped})
	}
}

// Drain ends the session once the cycle that is running has been answered.
func (s *Session) Drain() {
	s.draining.Store(true)
	if s.track.idle() {
		s.Stop(Drained)
	}
}

// Totals are the bytes at the client's socket so far, by basis. Their sum is all of them.
func (s *Session) Totals() (released, covered, fixed int64) {
	return s.released.Load(), s.covered.Load(), s.fixed.Load()
}

// Run opens the session with its record, serves it, and ends it with its record. It returns
// when both connections are closed and every goroutine has ended. A session that the client
// ended returns nil.
func (s *Session) Run(parent context.Context) error {
	ctx, halt := context.WithCancelCause(parent)
	defer halt(nil)
	s.mu.Lock()
	s.halt = halt
	if s.stopped != nil {
		halt(&errStopped{*s.stopped})
	}
	s.mu.Unlock()
	unblock := context.AfterFunc(ctx, s.unblock)
	started, err := s.open(ctx)
	if err == nil {
		err = s.serve(ctx)
	}
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	s.farewell(ctx, err)
	if !unblock() {
		<-s.halted
	}
	s.hangUp()
	if started {
		s.end(err)
	}
	if errors.Is(err, errClosed) || errors.Is(err, errDisconnected) {
		return nil
	}
	return err
}

// unblock makes every read and write of a halted session return.
func (s *Session) unblock() {
	past := time.Unix(1, 0)
	s.in.SetReadDeadline(past)
	s.in.SetWriteDeadline(past)
	s.deadline.Lock()
	s.over = true
	s.Server.SetDeadline(past)
	s.deadline.Unlock()
	s.track.close()
	close(s.halted)
}

// wait sets how long the next read of the server may take; zero is for ever. A halted
// session does not wait.
func (s *Session) wait(d time.Duration) error {
	s.deadline.Lock()
	defer s.deadline.Unlock()
	at := time.Time{}
	switch {
	case s.over:
		at = time.Unix(1, 0)
	case d > 0:
		at = time.Now().Add(d)
	}
	return s.Server.SetReadDeadline(at)
}

// open records the start of the session; its permit covers what reads nothing but catalogs.
// Only then does the client learn that it is logged in.
func (s *Session) open(ctx context.Context) (started bool, err error) {
	if cause := context.Cause(ctx); cause != nil { // stopped before it began
		s.recordRefusal(cause, "open")
		return false, cause
	}
	var status []byte
	for _, name := range slices.Sorted(maps.Keys(s.Parameters)) {
		status = wire.AppendParameterStatus(status, name, s.Parameters[name])
	}
	allowance := max(s.Limits.Allowance, int64(len(status)))
	if sabotage.Hostile("greedy") {
		allowance = 1 << 30
	}
	wait, cancel := context.WithTimeout(ctx, s.Limits.Wait)
	defer cancel()
	ps, err := s.obtain(wait, func() { started = true }, func(unpermitted bool) (*trefoil.Body, []byte) {
		b := s.newBody(trefoil.KindSession)
		b.Session = &trefoil.SessionBody{
			Access: s.Access, Allowance: allowance, Event: "start", Path: "release", Unpermitted: unpermitted,
		}
		return b, nil
	})
	if err != nil {
		s.recordRefusal(err, "open")
		return started, err
	}
	s.start = opened{open: true, allowance: allowance, pass: ps}
	return started, s.greet(ctx, status)
}

// greet lets out the start-up's answer: the server's parameters as covered, the rest is own.
func (s *Session) greet(ctx context.Context, status []byte) error {
	params, err := s.hold(status)
	if err != nil {
		return err
	}
	c, ok := s.clearCovered(ctx, params)
	if !ok {
		return errNotCleared
	}
	if err := s.say(wire.AppendAuthenticationOk(nil)); err != nil {
		return err
	}
	if err := s.letOut(c); err != nil {
		return err
	}
	params.held.drop()
	rest := append(slices.Clone(s.KeyData), s.Notice...)
	return s.say(wire.AppendReadyForQuery(rest, wire.Idle))
}

func (s *Session) hold(b []byte) (*parcel, error) {
	p := &parcel{held: newHeld(s.mem, s.pool, s.SpillDir, nil), ready: make(chan struct{})}
	return p, p.held.add(b)
}

// say lets out the gateway's own words.
func (s *Session) say(messages []byte) error {
	c, err := s.clearOwn(messages)
	if err != nil {
		return err
	}
	return s.letOut(c)
}

// farewell tells the client why the session ends, unless a message was left half-written.
func (s *Session) farewell(ctx context.Context, cause error) {
	words := farewell(cause)
	if words == nil || s.broken {
		return
	}
	if ctx.Err() != nil {
		<-s.halted // it sets deadlines of its own
	}
	s.in.SetWriteDeadline(time.Now().Add(time.Second))
	if err := s.say(words); err != nil {
		s.Logger.Debug("client not told why its session ends", "session", s.Access.Session, "error", err)
	}
}

// count adds what the client's socket took.
func (s *Session) count(b basis, n int64) {
	switch b {
	case permitted:
		s.released.Add(n)
	case covered:
		s.covered.Add(n)
	default:
		s.fixed.Add(n)
	}
}

// newBody is the header of a record of this session.
func (s *Session) newBody(k trefoil.Kind) *trefoil.Body {
	return &trefoil.Body{At: s.Now().UTC().Truncate(time.Microsecond), Kind: k, Origin: s.Origin}
}

// recordRefusal logs that something was asked for and not given. The session ends anyway,
// whether or not this record is durable.
func (s *Session) recordRefusal(cause error, stage string) {
	var d *denial
	var stop *errStopped
	b := s.newBody(trefoil.KindRefusal)
	switch {
	case errors.As(cause, &d) && d.refused():
		b.Refusal = &trefoil.RefusalBody{Access: s.Access, Reason: "monitor", Rule: d.reason.Rule, Law: d.reason.Law, Stage: stage}
	case errors.As(cause, &stop) && stop.Refusal != "":
		b.Refusal = &trefoil.RefusalBody{Access: s.Access, Reason: stop.Refusal, Rule: stop.Rule, Stage: stage}
	default:
		return
	}
	s.appendLast(b)
}

// end records what left. It needs no permit: nothing leaves under it.
func (s *Session) end(cause error) {
	released, covered, fixed := s.Totals()
	b := s.newBody(trefoil.KindSession)
	b.Session = &trefoil.SessionBody{
		Access: s.Access, Allowance: s.start.allowance, Covered: covered, Event: "end", Fixed: fixed,
		Outcome: outcomeOf(cause), Path: "release", Released: released,
	}
	s.appendLast(b)
}

func (s *Session) appendLast(b *trefoil.Body) {
	ctx, cancel := context.WithTimeout(context.Background(), endWait)
	defer cancel()
	rec, err := trefoil.NewRecord(b)
	if err == nil {
		_, err = s.Recorder.Append(ctx, rec, nil)
	}
	if err != nil {
		s.Logger.Error("record not appended", "session", s.Access.Session, "kind", string(b.Kind), "error", err)
	}
}

// hangUp closes both connections and waits until the server's process has gone, and with it
// what it had created.
func (s *Session) hangUp() {
	s.in.Close()
	if s.Cancel != nil && !s.track.idle() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := s.Cancel(ctx); err != nil {
			s.Logger.Warn("cancel failed", "session", s.Access.Session, "error", err)
		}
		cancel()
	}
	s.Server.SetDeadline(time.Now().Add(2 * time.Second))
	_, err := s.Server.Write(wire.AppendMessage(nil, wire.Terminate, nil))
	if err == nil {
		_, err = io.Copy(io.Discard, s.Server)
	}
	s.Server.Close()
	if s.state.Dirty() && err != nil && !hungUp(err) {
		// A process that traps its cancellation may live on, and its temporary objects with it.
		s.Logger.Warn("the server's process was not seen to end: catalog reads of this dataset are recorded one by one until the gateway starts anew",
			"session", s.Access.Session, "error", err)
		return
	}
	s.state.End()
}

// hungUp says that an error of a connection is the other side's end of it.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func (s *Session) monitorAway() bool { return s.Now().UnixNano() < s.away.Load() }
func (s *Session) noteMonitorAway()  { s.away.Store(s.Now().Add(awayFor).UnixNano()) }

// serve runs the four parts of an open session and waits for all of them.
func (s *Session) serve(ctx context.Context) error {
	var wg sync.WaitGroup
	run := func(name string, f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil {
				s.halt(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	run("read client", s.readClient)
	run("read server", s.readServer)
	run("record", s.recordParcels)
	run("let out", s.letOutParcels)
	wg.Wait()
	s.dropHeld()
	return context.Cause(ctx)
}

// dropHeld gives back what was never let out.
func (s *Session) dropHeld() {
	for p := range s.order { // closed by the server's reader
		p.held.drop()
	}
	for _, p := range []*parcel{s.current, s.inHand} {
		if p != nil {
			p.held.drop()
		}
	}
}
