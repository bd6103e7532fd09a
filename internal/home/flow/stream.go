package flow

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to read.
type Config struct {
	DSN         string
	Slot        string
	Publication string
	Start       LSN              // where the owner's durable state ends
	Tables      map[string]Table // schema.table; others are passed over
	MaxRows     int              // rows that a batch holds before reading waits; default 50,000
	MaxBytes    int64            // bytes of rows, likewise; default 16 MiB
	Silence     time.Duration    // a source that says nothing for so long, though asked, is gone; default 90 s
}

// Table says what is wanted of a table.
type Table struct {
	Key     []string // tells its rows apart, and is part of the replica identity
	Columns []string // of a row's line, in this order; a column that is not published makes rows unknown
	Types   []uint32 // OIDs of the columns' types; another type at the source is drift
}

// ErrUnseen says that a transaction was received which the snapshot does not see: take
// another snapshot.
var ErrUnseen = errors.New("a received transaction is not in the snapshot")

// Stream collects what one slot sends into batches of whole transactions, or of parts of one
// that is too large to be held. One goroutine of its own receives, and waits while a batch
// that is full has not been taken; everything else may be called from another.
type Stream struct {
	cfg  Config
	link *link         // nil: a hub reads for it
	hub  *Hub          // nil: it reads a slot of its own
	wake chan struct{} // something happened; one waiter
	off  atomic.Bool   // closed or failed: a hub gives it nothing more

	mu      sync.Mutex
	space   sync.Cond // a batch was taken, or the stream ended
	open    *Batch
	later   []*transaction // committed, but not in the snapshot that Split named
	split   func(xid uint32) bool
	reached LSN // every commit before it is in open, in later, or was taken
	durable LSN
	want    LSN  // somebody waits for the stream to come here; 0: nobody
	waiting bool // the receiver waits for space
	since   time.Time
	inPart  bool // a transaction was given away in part, and has not ended
	paused  bool // the hub's link is about to be closed: nothing more is taken in
	closed  bool
	err     error

	// The receiver's own.
	in        intake
	self      []*Stream
	skip      bool // the transaction that is being received came before
	relations map[uint32]*followed
	current   *transaction
	spare     []edit
	slab      slab
	line      []byte
}

// transaction is one that has committed and is being received, or is kept for later.
type transaction struct {
	xid     uint32
	commit  LSN
	changes []edit
	bytes   int64
	part    bool // earlier changes of it went into a batch already
}

func newStream(c Config) *Stream {
	if c.MaxRows <= 0 {
		c.MaxRows = 50_000
	}
	if c.MaxBytes <= 0 {
		c.MaxBytes = 16 << 20
	}
	if c.Silence <= 0 {
		c.Silence = 90 * time.Second
	}
	s := &Stream{cfg: c, wake: make(chan struct{}, 1), open: newBatch(), reached: c.Start, relations: map[uint32]*followed{}}
	s.space.L, s.self = &s.mu, []*Stream{s}
	return s
}

// Open starts to read the slot.
func Open(ctx context.Context, c Config) (*Stream, error) {
	s := newStream(c)
	l, err := open(ctx, s.cfg, s)
	if err != nil {
		return nil, fmt.Errorf("open flow: %w", err)
	}
	s.link = l
	l.run()
	return s, nil
}

// Close ends the stream and waits for its goroutines.
func (s *Stream) Close() {
	s.mu.Lock()
	s.closed = true
	s.off.Store(true)
	s.space.Broadcast()
	s.mu.Unlock()
	if s.hub != nil {
		s.hub.leave(s)
		return
	}
	s.link.close()
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
	}
	s.off.Store(true)
	s.space.Broadcast()
	s.mu.Unlock()
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// advance takes a keepalive: nothing more committed before a position.
func (s *Stream) advance(to LSN) {
	if s.current != nil || s.skip { // in the middle of a transaction it says nothing about its end
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reach(to, s.open.Empty())
}

// reach takes in how far the stream has come. Whoever waits is woken only where it matters to
// them: to wake for each commit costs as much as the commit. Its caller holds the lock.
func (s *Stream) reach(to LSN, idle bool) {
	s.reached = max(s.reached, to)
	if idle || s.want != 0 && s.reached >= s.want {
		s.want = 0
		s.signal()
	}
}

func (s *Stream) positions() (reached, durable LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reached, s.durable
}

func (s *Stream) full() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// Reached is the position up to which every commit has been received.
func (s *Stream) Reached() LSN {
	r, _ := s.positions()
	return r
}

// Pending says whether a batch waits, whether it is full, and the error that ended the stream.
func (s *Stream) Pending() (some, full bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.open.Empty(), s.waiting, s.err
}

// Woken is signalled when something was received after nothing, when a batch is full, and when
// the stream ends.
func (s *Stream) Woken() <-chan struct{} { return s.wake }

// Wait waits until every transaction that committed before to has been received, or until a
// batch is full and has to be taken first.
func (s *Stream) Wait(ctx context.Context, to LSN) error {
	asked := false
	for {
		s.mu.Lock()
		reached, full, err := s.reached, s.waiting, s.err
		if s.want = 0; reached < to {
			s.want = to
		}
		s.mu.Unlock()
		switch {
		case err != nil:
			return err
		case reached >= to, full:
			return nil
		}
		if !asked {
			asked = true
			s.nudge()
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			return errors.Join(errors.New("wait for the change stream"), ctx.Err())
		}
	}
}

// nudge asks the source how far it is.
func (s *Stream) nudge() {
	if s.hub != nil {
		s.hub.nudge()
		return
	}
	s.link.status(true)
}

// Split keeps transactions that a snapshot does not see out of batches until it is called
// with nil; then they come first.
func (s *Stream) Split(sees func(xid uint32) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.split = sees
	if sees != nil {
		return
	}
	for _, t := range s.later {
		s.merge(t)
	}
	s.later = nil
}

// Take hands out what was received, maybe nothing. Its End is where reading must begin again
// once it is durable.
func (s *Stream) Take() (*Batch, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	b := s.open
	b.End = s.reached
	if len(s.later) > 0 {
		b.End = min(b.End, s.later[0].commit)
	}
	if s.split != nil {
		for _, xid := range b.XIDs {
			if !s.split(xid) {
				return nil, ErrUnseen
			}
		}
	}
	s.open, s.waiting = newBatch(), false
	s.space.Broadcast()
	return b, nil
}

// Confirm lets the source forget what came before a position that is durable.
func (s *Stream) Confirm(p LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.durable = max(s.durable, p)
}
