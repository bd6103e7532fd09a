package release

import (
	"sync"

	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// maxOps bounds how many messages may wait for their answer. The server buffers at most
// 8 KiB of answers of at least 5 bytes before it sends them, so this bound cannot deadlock.
const maxOps = 4096

// said is one text of the client, as a record will describe it.
type said struct {
	info        *statement.Info
	fingerprint string // keyed
	commitment  string // hex SHA-256(salt ‖ text)
	salt        [32]byte
}

// op is one client message that the server answers (or, CopyDone, that ends a copy).
type op struct {
	typ    byte
	name   string // prepared statement
	portal string
	of     byte // Describe, Close: 'S' or 'P'
	said   *said
	begun  bool
	ok     bool // covered, once begun
	era    uint64
	free   bool // covered whatever other sessions do
}

// verdict is what a server message means for the parcel that it goes into.
type verdict struct {
	covered bool
	said    *said // nil: no statement to name
	settled bool  // everything the client flushed is answered
}

// tracker mirrors the conversation: it queues the client's messages and takes them off in
// the order in which the server answers, so that every server byte belongs to a statement.
// When the mirror and the server differ, it says so to the state: nothing is covered then.
type tracker struct {
	mu    sync.Mutex
	room  *sync.Cond
	state *statement.State
	ops   []*op
	first int

	statements map[string]*said
	portals    map[string]*said

	skipping bool // an error: the server ignores everything up to Sync
	swallow  bool // COPY from the client in the extended protocol: Sync and Flush are ignored
	flushed  bool // the client's last message was Flush
	lost     bool
	closed   bool
}

func newTracker(state *statement.State) *tracker {
	t := &tracker{state: state, statements: map[string]*said{}, portals: map[string]*said{}}
	t.room = sync.NewCond(&t.mu)
	return t
}

// push queues a message before it is forwarded. It waits for room; full tells beforehand.
func (t *tracker) push(o *op) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if o.said != nil {
		t.state.Forwards(o.said.info)
	}
	for t.waiting() >= maxOps && !t.closed {
		t.room.Wait()
	}
	switch {
	case t.skipping && o.typ != wire.Sync:
		return
	case o.typ == wire.Flush:
		t.flushed = !t.swallow
		return
	case o.typ == wire.CopyDone:
		t.swallow = false
	case o.typ == wire.Sync && t.swallow:
		return
	case o.typ == wire.Sync:
		t.skipping = false
	}
	t.flushed = false
	t.ops = append(t.ops, o)
}

func (t *tracker) full() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting() >= maxOps
}

func (t *tracker) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
	t.room.Broadcast()
}

func (t *tracker) waiting() int { return len(t.ops) - t.first }

// idle reports whether every message is answered.
func (t *tracker) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.head() == nil
}

// whole reports whether no message of the running cycle waits: the next is none, or Sync.
func (t *tracker) whole() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.head()
	return h == nil || h.typ == wire.Sync
}

// head is the message that the server is answering; ends of copies answer themselves.
func (t *tracker) head() *op {
	for t.first < len(t.ops) && t.ops[t.first].typ == wire.CopyDone {
		t.drop()
	}
	if t.first == len(t.ops) {
		return nil
	}
	return t.ops[t.first]
}

func (t *tracker) drop() {
	t.ops[t.first] = nil
	t.first++
	if t.first == len(t.ops) {
		t.ops, t.first = t.ops[:0], 0
	} else if t.first > maxOps {
		t.ops = append(t.ops[:0], t.ops[t.first:]...)
		t.first = 0
	}
	t.room.Signal()
}

func (t *tracker) lose() {
	t.lost = true
	t.state.Lose()
}

// begin judges the head once, when its first answer arrives.
func (t *tracker) begin(o *op) {
	if o.begun {
		return
	}
	o.begun, o.era = true, t.state.Era()
	switch o.typ {
	case wire.Query:
		o.ok = t.state.Query(o.said.info)
	case wire.FunctionCall:
		t.state.Query(o.said.info)
	case wire.Parse, wire.Describe:
		o.ok = t.state.Describes()
	case wire.Bind:
		o.said = t.statements[o.name]
		o.ok = t.state.Binds(o.name)
	case wire.Execute:
		o.said = t.portals[o.portal]
		o.ok = t.state.Executes(o.portal)
	case wire.Close, wire.Sync:
		o.ok, o.free = true, true
	}
	o.free = o.free || o.said != nil && o.typ != wire.Parse && o.said.info.Anywhere()
}

// answer follows one server message. body is given for ParameterStatus and may be a prefix.
func (t *tracker) answer(typ byte, body []byte) verdict {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.head()
	if h != nil {
		t.begin(h)
	}
	v := verdict{covered: h != nil && h.ok && !t.lost && (h.free || t.state.Alone(h.era))}
	if h != nil {
		v.said = h.said
	}
	switch typ {
	case wire.NotificationResponse:
		v.covered = false
		return v
	case wire.NoticeResponse, wire.ParameterStatus:
		if typ == wire.ParameterStatus {
			if name, value, err := wire.ParseParameterStatus(body); err == nil {
				t.state.Setting(name, value)
			}
		}
		// These may carry a value that an earlier statement of the session left behind.
		v.covered = v.covered && t.state.Describes()
		return v
	}
	if h == nil {
		t.lose()
		return verdict{}
	}
	fits := t.fits(h, typ) // always: it moves the mirror on
	v.covered = v.covered && fits && !t.lost
	v.settled = t.flushed && t.head() == nil
	return v
}

// fits takes the head off if typ completes it, and reports whether typ can answer it at all.
func (t *tracker) fits(h *op, typ byte) bool {
	switch typ {
	case wire.ErrorResponse:
		ok := h.typ != wire.Sync && t.state.Describes()
		t.fail(h)
		return ok
	case wire.ReadyForQuery:
		return t.expect(h, wire.Query, wire.Sync, wire.FunctionCall)
	case wire.ParseComplete:
		if t.expect(h, wire.Parse) {
			t.state.Parsed(h.name, h.said.info)
			remember(t.statements, h.name, h.said)
			return true
		}
		return false
	case wire.BindComplete:
		if t.expect(h, wire.Bind) {
			t.state.Bound(h.portal, h.name)
			remember(t.portals, h.portal, h.said)
			return true
		}
		return false
	case wire.CloseComplete:
		if t.expect(h, wire.Close) {
			t.forget(h)
			return true
		}
		return false
	case wire.RowDescription, wire.NoData:
		if h.typ == wire.Describe {
			t.drop()
			return true
		}
		return t.inside(h, wire.Query)
	case wire.CommandComplete, wire.EmptyQueryResponse, wire.PortalSuspended:
		if h.typ == wire.Execute {
			t.drop()
			return true
		}
		return t.inside(h, wire.Query)
	case wire.CopyInResponse:
		t.copyIn()
		return t.inside(h, wire.Query, wire.Execute)
	case wire.ParameterDescription:
		return t.inside(h, wire.Describe)
	case wire.FunctionCallResponse:
		return t.inside(h, wire.FunctionCall)
	}
	return t.inside(h, wire.Query, wire.Execute) // DataRow, CopyData, CopyDone, CopyOutResponse
}

// inside reports whether h is of one of the types; if not the mirror is lost.
func (t *tracker) inside(h *op, types ...byte) bool {
	for _, typ := range types {
		if h.typ == typ {
			return true
		}
	}
	t.lose()
	return false
}

func (t *tracker) expect(h *op, types ...byte) bool {
	if !t.inside(h, types...) {
		return false
	}
	t.drop()
	return true
}

// fail follows an error: in the extended protocol the server ignores all up to Sync.
func (t *tracker) fail(h *op) {
	t.swallow = false
	if h.typ == wire.Query || h.typ == wire.Sync || h.typ == wire.FunctionCall {
		return // ReadyForQuery follows
	}
	for t.first < len(t.ops) {
		if t.ops[t.first].typ == wire.Sync {
			return
		}
		t.drop()
	}
	t.skipping = true
}

// copyIn follows a CopyInResponse: the server ignores Sync and Flush until the copy ends.
func (t *tracker) copyIn() {
	kept := t.ops[:t.first+1]
	ended := false
	for _, o := range t.ops[t.first+1:] {
		ended = ended || o.typ == wire.CopyDone
		if o.typ != wire.Sync || ended {
			kept = append(kept, o)
		}
	}
	t.ops = kept
	t.swallow = !ended
}

func (t *tracker) forget(h *op) {
	if h.of == 'P' {
		t.state.Closed(true, h.portal)
		delete(t.portals, h.portal)
		return
	}
	t.state.Closed(false, h.name)
	delete(t.statements, h.name)
}

// remember keeps what a name means, within a bound.
func remember(m map[string]*said, name string, s *said) {
	if _, ok := m[name]; ok || len(m) < maxOps {
		m[name] = s
	}
}
