package flow

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// HubConfig says what a hub reads, and for whom it waits.
type HubConfig struct {
	DSN         string
	Slot        string
	Publication string
	Silence     time.Duration // as in Config

	Patience time.Duration // how long all wait for one whose batch is full; default 1 s
	Grace    time.Duration // how long the place of a stream that ended is kept; default 15 s
	Apart    int64         // bytes of the log that one may be behind the first; default 256 MiB

	// Leave sees to it that a stream of this name can be read from where the slot is, by another
	// slot: then the place here is given up. It is tried again until it returns nil.
	Leave  func(ctx context.Context, name string) error
	Logger *slog.Logger
}

// Hub reads one slot for several streams: one connection, and one decoding of what comes. Each
// stream has its own place in the log, and takes and confirms batches at its own pace. The
// source is told the least place of all, of those too that are away for a while, so the slot
// has what each still needs. None holds the others: one that is too slow, or too far behind,
// or away too long, is parted from the hub, with a slot of its own from here on.
//
// Whenever a stream joins, the connection is made anew, from the least position that a stream
// still wants; each passes over what it has. A stream that is in the middle of a transaction that it
// takes in parts cannot: joining waits for it.
type Hub struct {
	cfg  HubConfig
	turn chan struct{} // one joins at a time

	mu      sync.Mutex
	now     *session // nil: nobody reads
	places  map[string]*place
	joining bool
	keeper  func() // ends it and waits; nil when none runs
}

// session is one connection of a hub, and the streams that it serves: the sink of its link.
type session struct {
	hub     *Hub
	link    *link
	serving []*Stream
	in      intake      // the receiver's own
	closing atomic.Bool // its end is ours
}

// place is how far a stream has confirmed.
type place struct {
	stream *Stream // nil: it is away
	floor  LSN
	at     LSN // where it will join, if that is known
	left   time.Time
}

// Errors of hubs.
var (
	ErrParted  = errors.New("it is parted from the streams that share a slot")
	ErrUnready = errors.New("the streams that share a slot could not take in another")
	errPaused  = errors.New("the link is being closed")
)

// NewHub makes a hub that reads nothing yet.
func NewHub(c HubConfig) *Hub {
	if c.Silence <= 0 {
		c.Silence = 90 * time.Second
	}
	if c.Patience <= 0 {
		c.Patience = time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 15 * time.Second
	}
	if c.Apart <= 0 {
		c.Apart = 256 << 20
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return &Hub{cfg: c, turn: make(chan struct{}, 1), places: map[string]*place{}}
}

// Join adds a stream, which reads from c.Start; DSN, Slot and Publication are the hub's. What
// comes after floor, which may be before that, is kept at the source until it confirms more. While
// nobody reads the slot, ready is called: it must return an error unless the slot has all of that. Until ctx ends Join waits for streams that cannot be interrupted; then it is ErrUnready.
func (h *Hub) Join(ctx context.Context, name string, c Config, floor LSN, ready func(ctx context.Context) error) (*Stream, error) {
	select {
	case h.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, errors.Join(ErrUnready, ctx.Err())
	}
	defer func() { <-h.turn }()
	s := newStream(c)
	s.hub = h
	if err := h.pause(ctx); err != nil {
		return nil, err
	}
	err := ready(ctx)
	if err == nil {
		h.mu.Lock()
		h.places[name] = &place{stream: s, floor: floor}
		h.mu.Unlock()
	}
	if begun := h.begin(ctx); begun != nil {
		s.Close()
		err = errors.Join(err, begun)
	}
	h.mu.Lock()
	h.joining = false
	h.mu.Unlock()
	if err != nil {
		h.settle()
		return nil, err
	}
	return s, nil
}

// Hold keeps a place for a stream that has not joined yet: what it may still want begins at
// floor, and it will join at a position.
func (h *Hub) Hold(name string, floor, at LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.places[name] == nil {
		h.places[name] = &place{floor: floor, at: at, left: time.Now()}
	}
}

// Furthest is the position of the stream that is ahead of all.
func (h *Hub) Furthest() LSN {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.least()
	var out LSN
	for _, p := range h.places {
		out = max(out, p.floor, p.at)
	}
	return out
}

// Forget gives up the place of a stream that is away: what it has not confirmed is not needed.
func (h *Hub) Forget(name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p := h.places[name]; p != nil && p.stream == nil {
		delete(h.places, name)
	}
}

// Idle says that the hub reads nothing.
func (h *Hub) Idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now == nil && !h.joining
}

// pause closes the link between two transactions of every stream.
func (h *Hub) pause(ctx context.Context) error {
	h.mu.Lock()
	h.joining = true
	was := h.now
	h.mu.Unlock()
	if was == nil {
		return nil
	}
	for !was.still() {
		select {
		case <-ctx.Done():
			h.mu.Lock()
			h.joining = false
			h.mu.Unlock()
			h.settle()
			return errors.Join(ErrUnready, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	h.mu.Lock()
	h.now = nil
	h.mu.Unlock()
	was.closing.Store(true)
	was.link.close()
	for _, s := range was.serving {
		s.resume()
	}
	return nil
}

// still makes every stream take in nothing more; false when one is in the middle of a
// transaction, and then nothing has changed.
func (e *session) still() bool {
	for _, s := range e.serving {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.inPart && !s.off.Load() {
			return false
		}
	}
	for _, s := range e.serving {
		s.paused = true
		s.space.Broadcast()
	}
	return true
}

// resume lets a stream take in again, from the start of a connection.
func (s *Stream) resume() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.paused, s.waiting, s.current, s.skip, s.relations = false, false, nil, false, map[uint32]*followed{}
}

// begin reads the slot for all streams that have not ended.
func (h *Hub) begin(ctx context.Context) error {
	e := &session{hub: h}
	var start LSN
	h.mu.Lock()
	for _, p := range h.places {
		if p.stream == nil || p.stream.off.Load() {
			continue
		}
		if at := p.stream.Reached(); len(e.serving) == 0 || at < start {
			start = at
		}
		e.serving = append(e.serving, p.stream)
	}
	h.mu.Unlock()
	if len(e.serving) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), h.cfg.Silence)
	defer cancel()
	l, err := open(ctx, Config{DSN: h.cfg.DSN, Slot: h.cfg.Slot, Publication: h.cfg.Publication, Start: start, Silence: h.cfg.Silence}, e)
	if err != nil {
		err = fmt.Errorf("open flow: %w", err)
		for _, s := range e.serving {
			s.fail(err)
		}
		return err
	}
	e.link = l
	h.mu.Lock()
	h.now = e
	if h.keeper == nil {
		for _, p := range h.places {
			p.left = time.Now() // nothing was confirmed meanwhile
		}
		h.keep()
	}
	h.mu.Unlock()
	l.run()
	return nil
}

// leave takes in that a stream was closed. Its place is kept for a while.
func (h *Hub) leave(s *Stream) {
	_, durable := s.positions()
	h.mu.Lock()
	for _, p := range h.places {
		if p.stream == s {
			p.stream, p.left, p.floor = nil, time.Now(), max(p.floor, durable)
		}
	}
	h.mu.Unlock()
	h.settle()
}

// settle closes the link, and ends the keeper, when nobody is left whom they serve.
func (h *Hub) settle() {
	h.mu.Lock()
	if h.joining {
		h.mu.Unlock()
		return
	}
	for _, p := range h.places {
		if p.stream != nil {
			h.mu.Unlock()
			return
		}
	}
	was, stop := h.now, h.keeper
	h.now, h.keeper = nil, nil
	h.mu.Unlock()
	if was != nil {
		was.closing.Store(true)
		was.link.close()
	}
	if stop != nil {
		stop()
	}
}

// nudge asks the source how far it is.
func (h *Hub) nudge() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now != nil {
		h.now.link.status(true)
	}
}

func (e *session) message(data []byte) error { return e.in.message(data, e.serving) }

func (e *session) advance(to LSN) {
	for _, s := range e.serving {
		s.advance(to)
	}
}

func (e *session) fail(err error) {
	if e.closing.Load() || errors.Is(err, errPaused) {
		return
	}
	for _, s := range e.serving {
		s.fail(err)
	}
}

func (e *session) positions() (reached, durable LSN) { return e.hub.positions() }

func (e *session) full() bool {
	for _, s := range e.serving {
		if !s.off.Load() && s.full() {
			return true
		}
	}
	return false
}

func (h *Hub) positions() (reached, durable LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.least()
}

// least is what the source is told. Its caller holds the lock.
func (h *Hub) least() (reached, durable LSN) {
	first := true
	for _, p := range h.places {
		at := p.floor
		if p.stream != nil {
			_, d := p.stream.positions()
			at = max(at, d)
			p.floor = at
		}
		if first || at < durable {
			durable = at
		}
		first = false
	}
	return durable, durable
}
