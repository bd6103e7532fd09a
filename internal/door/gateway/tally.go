package gateway

import (
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// tally counts one service session: bytes and rows exactly, statements as far as their
// texts can be attributed. It only watches; nothing it gets wrong changes what is forwarded.
//
// A frontend's Execute is matched with the backend's completion by order (queue), and a
// Sync, Query or FunctionCall with its ReadyForQuery. Where the order is lost (a Sync sent
// during COPY is ignored by the server; a queue that is full) calls count as unparsed until
// the session is idle again.
type tally struct {
	mu      sync.Mutex
	texts   *texts
	most    int // distinct statements an interval
	counts  counts
	from    time.Time
	names   map[string]uint64 // prepared statements → text
	portals map[string]uint64
	queue   fifo
	lost    bool  // the queue does not match any more
	owed    int64 // ReadyForQuery messages to come
	state   byte  // of the last ReadyForQuery
	rows    int64 // since the last completion
	lastOut byte  // type of the last whole message from the server
	copying bool  // the server reads COPY data: it ignores Sync
	copied  int   // COPY data that ended before the server's CopyInResponse was seen

	message []byte // payload of a frontend message that comes in parts, up to keep bytes
	keep    int
}

// counts is one interval's figures.
type counts struct {
	in, out, rows, unparsed int64
	calls                   map[uint64]*call
	types                   *byType // nil while nothing was counted
}

type call struct{ calls, rows int64 }

// awaited is a completion to come. mark: it ends with ReadyForQuery.
type awaited struct {
	text uint64
	mark bool
	run  bool // a statement, not a mere Sync
	rows int64
}

// Bounds of a tally.
const (
	maxNames   = 10000
	maxAwaited = 4096
)

func newTally(t *texts, l Limits, now time.Time) *tally {
	return &tally{texts: t, most: l.Statements, from: now, state: wire.Idle}
}

// frontend watches one piece of what the client sent. The caller holds mu.
func (t *tally) frontend(p wire.Piece) {
	t.types().in[frontendPlace[p.Type]] += size(p)
	if p.First && p.Last {
		t.request(p.Type, p.Body)
		return
	}
	if p.First {
		t.message, t.keep = t.message[:0], 0
		switch p.Type {
		case wire.Query, wire.Parse:
			t.keep = t.texts.most + 256
		case wire.Bind, wire.Execute, wire.Close:
			t.keep = 1024
		}
	}
	if room := t.keep - len(t.message); room > 0 {
		t.message = append(t.message, p.Body[:min(room, len(p.Body))]...)
	}
	if p.Last {
		t.request(p.Type, t.message)
		if cap(t.message) > 8<<10 {
			t.message = nil
		}
	}
}

// request notes what a frontend message will be answered with.
func (t *tally) request(typ byte, b []byte) {
	switch typ {
	case wire.Query:
		sql, _, whole := wire.CString(b)
		t.await(awaited{text: t.handle(sql, whole), mark: true, run: true})
	case wire.FunctionCall:
		t.await(awaited{mark: true, run: true})
	case wire.Sync:
		if !t.copying {
			t.await(awaited{mark: true})
		}
	case wire.CopyDone, wire.CopyFail:
		if t.copying {
			t.copying = false
		} else {
			t.copied++
		}
	case wire.Parse:
		name, rest, _ := wire.CString(b)
		sql, _, whole := wire.CString(rest)
		remember(&t.names, name, t.handle(sql, whole))
	case wire.Bind:
		portal, rest, _ := wire.CString(b)
		name, _, _ := wire.CString(rest)
		remember(&t.portals, portal, t.names[string(name)])
	case wire.Execute:
		portal, _, _ := wire.CString(b)
		t.await(awaited{text: t.portals[string(portal)], run: true})
	case wire.Close:
		if len(b) > 1 {
			name, _, _ := wire.CString(b[1:])
			if b[0] == 'S' {
				delete(t.names, string(name))
			} else {
				delete(t.portals, string(name))
			}
		}
	}
}

func (t *tally) handle(sql []byte, whole bool) uint64 {
	if !whole {
		return 0
	}
	return t.texts.handle(sql)
}

// remember keeps a name's text, within bounds and without allocating for a name it knows.
func remember(at *map[string]uint64, name []byte, text uint64) {
	m := *at
	if m == nil {
		m = map[string]uint64{}
		*at = m
	}
	if old, ok := m[string(name)]; ok && old == text {
		return
	}
	if len(m) < maxNames {
		m[string(name)] = text
	} else if _, ok := m[string(name)]; ok {
		m[string(name)] = text
	}
}

func (t *tally) await(a awaited) {
	if a.mark {
		t.owed++
	}
	if t.queue.len() >= maxAwaited {
		t.lost = true
		t.queue.clear()
	}
	if !t.lost {
		t.queue.push(a)
	}
}

// backend watches one piece of what the server sent. The caller holds mu.
func (t *tally) backend(p wire.Piece) {
	t.types().out[backendPlace[p.Type]] += size(p)
	if p.Last {
		t.lastOut = p.Type
	}
	if p.Type == wire.ReadyForQuery && len(p.Body) > 0 {
		t.state = p.Body[0]
		t.ready()
	}
	if !p.First {
		return
	}
	switch p.Type {
	case wire.DataRow, wire.CopyData:
		t.counts.rows++
		t.rows++
	case wire.CommandComplete, wire.EmptyQueryResponse:
		t.completed(true)
	case wire.PortalSuspended:
		t.completed(false)
	case wire.ErrorResponse:
		t.completed(true)
	case wire.CopyInResponse:
		t.copyIn()
	}
}

// flood watches whole rows that follow each other, and their bytes. The caller holds mu.
func (t *tally) flood(rows, bytes int) {
	t.types().out[backendPlace[wire.DataRow]] += int64(bytes)
	t.counts.rows += int64(rows)
	t.rows += int64(rows)
	t.lastOut = wire.DataRow
}

// copyIn notes that the server reads COPY data from here on: it ignores each Sync that came
// before the end of the data.
func (t *tally) copyIn() {
	if t.copied > 0 {
		t.copied--
		return
	}
	t.copying = true
	t.owed -= int64(t.queue.drop(func(a awaited) bool { return a.mark && !a.run }))
}

// completed ends the statement at the head of the queue. A Query's statements complete one
// after the other; it is counted once, at its ReadyForQuery.
func (t *tally) completed(whole bool) {
	rows := t.rows
	t.rows = 0
	if t.lost || t.queue.len() == 0 {
		if whole && t.lost {
			t.counts.unparsed++
		}
		return
	}
	head := t.queue.head()
	if head.mark {
		head.rows += rows
		return
	}
	t.count(head.text, rows, whole)
	t.queue.pop()
}

// ready ends a cycle: what an error skipped is dropped with it.
func (t *tally) ready() {
	t.owed--
	t.copying = false
	for t.queue.len() > 0 {
		if head := t.queue.pop(); head.mark {
			if head.run {
				t.count(head.text, head.rows, true)
			}
			break
		}
	}
	if t.owed <= 0 {
		t.owed, t.lost, t.copied = 0, false, 0
		t.queue.clear()
	}
}

// count adds to a statement's figures.
func (t *tally) count(text uint64, rows int64, whole bool) {
	c := t.counts.calls[text]
	if c == nil {
		if text == 0 || len(t.counts.calls) >= t.most {
			if whole {
				t.counts.unparsed++
			}
			return
		}
		if t.counts.calls == nil {
			t.counts.calls = map[uint64]*call{}
		}
		c = &call{}
		t.counts.calls[text] = c
	}
	c.rows += rows
	if whole {
		c.calls++
	}
}

// types returns the interval's figures by message type. A session in which nothing happens
// holds none.
func (t *tally) types() *byType {
	if t.counts.types == nil {
		t.counts.types = new(byType)
	}
	return t.counts.types
}

// idle reports whether the session is between transactions with nothing under way.
func (t *tally) idle() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.owed == 0 && t.state == wire.Idle && t.queue.len() == 0
}

// take returns the figures since the last take and starts anew.
func (t *tally) take(now time.Time) (counts, time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, from := t.counts, t.from
	t.counts, t.from = counts{}, now
	return c, from
}

// lastMessage returns the type of the last whole message from the server.
func (t *tally) lastMessage() byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lastOut
}
