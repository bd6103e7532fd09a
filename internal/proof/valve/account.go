package valve

import (
	"math"
	"sync"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// The overhead of TLS 1.3 (RFC 8446, 5.2): header 5, content type 1, tag 16.
const recordOverhead = 22

// Bounds of how small the gateway's TLS records are. It writes a release in pieces of 32 KiB
// or more, each in records of 16 KiB, so ⌈b/16384⌉ + ⌈b/32768⌉ + a few: never more than one
// for each 8 KiB and four. What is covered by the session's permit goes out an answer at a
// time, and the shortest answer (EmptyQueryResponse, ReadyForQuery) has 11 bytes.
const (
	leastRecord  = 8 << 10
	moreRecords  = 4
	leastCovered = 11
)

// most bounds each amount of a credit, so that sums cannot overflow.
const most = math.MaxInt64 / 64

// lastWords is what may still pass of one connection's credit, once, while everything is
// held: so that the client of an idle session is told why.
const lastWords = 1 << 10

// limitOf is how many bytes of ciphertext a credit allows, beyond the handshake.
func limitOf(l *credit.Line) int64 {
	allowance, bytes, releases := min(l.Allowance, most), min(l.Bytes, most), min(l.Releases, most/recordOverhead)
	covered := allowance + allowance/leastCovered*recordOverhead
	records := bytes/leastRecord + releases*(moreRecords+1)
	if allowance > 0 {
		covered += recordOverhead
	}
	return covered + bytes + records*recordOverhead
}

// account is what may pass of one connection. One goroutine takes from it.
type account struct {
	wake chan struct{} // something changed; at most one waits there

	mu        sync.Mutex
	handshake int64
	credit    int64 // in all, overhead included
	sent      int64
	held      bool
	all, own  bool  // held with all others; held because its session was stopped
	words     int64 // left of the last words
	frozen    int64 // the limit while held

	kept *kept.File // nil: nothing is kept
}

func newAccount(handshake int64, held bool) *account {
	a := &account{wake: make(chan struct{}, 1), handshake: handshake, words: lastWords}
	a.hold(held)
	return a
}

// take takes up to n bytes that may pass now, and counts them as passed.
func (a *account) take(n int) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if sabotage.Active("valve") {
		return n
	}
	k := max(0, min(int64(n), a.limit()-a.sent))
	a.sent += k
	if a.held && a.credit > 0 {
		a.words -= k
	}
	return int(k)
}

// limit is how far sent may go now. The lock is held.
func (a *account) limit() int64 {
	limit := a.handshake + a.credit
	if a.held {
		limit = min(limit, a.frozen)
	}
	return limit
}

// ready reports whether a byte may pass now.
func (a *account) ready() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.limit() > a.sent
}

// grant raises the credit to total: it never falls.
func (a *account) grant(total int64) {
	a.mu.Lock()
	if a.held && a.credit == 0 && total > 0 { // permitted before the stop, told after it
		a.frozen = a.sent + a.words
	}
	a.credit = max(a.credit, total)
	a.mu.Unlock()
	a.signal()
}

// hold freezes what the monitor credited, with all other connections. A connection without
// any may finish its handshake and hear a refusal.
func (a *account) hold(on bool) { a.freeze(func() { a.all = on }) }

// stop freezes it because of its own session.
func (a *account) stop(on bool) { a.freeze(func() { a.own = on }) }

func (a *account) freeze(change func()) {
	a.mu.Lock()
	change()
	on := a.all || a.own
	if on && !a.held {
		a.frozen = a.handshake
		if a.credit > 0 {
			a.frozen = a.sent + a.words
		}
	}
	a.held = on
	a.mu.Unlock()
	a.signal()
}

func (a *account) signal() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// figures are what passed, what could have, and whether the monitor credited anything yet.
func (a *account) figures() (sent, limit int64, credited, held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sent, a.handshake + a.credit, a.credit > 0, a.held
}

// book holds the accounts of the open connections, by id.
type book struct {
	mu      sync.Mutex
	open    map[string]*account
	held    bool // stopped, or the monitor is not heard
	unknown uint64
}

// newBook starts held: the monitor was not heard yet.
func newBook() *book { return &book{open: map[string]*account{}, held: true} }

func (b *book) add(id string, handshake int64, kept *kept.File) *account {
	b.mu.Lock()
	defer b.mu.Unlock()
	a := newAccount(handshake, b.held)
	a.kept = kept
	b.open[id] = a
	return a
}

func (b *book) remove(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.open, id)
}

// hold freezes or frees all connections.
func (b *book) hold(on bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held = on
	for _, a := range b.open {
		a.hold(on)
	}
}

// grant credits the connection that l names, if it is open here. The error is of what is kept.
func (b *book) grant(l *credit.Line) error {
	b.mu.Lock()
	a := b.open[l.Valve]
	if a == nil {
		b.unknown++
	}
	b.mu.Unlock()
	if a == nil {
		return nil
	}
	a.stop(l.Held) // before what it credits
	a.grant(limitOf(l))
	if a.kept == nil {
		return nil
	}
	return a.kept.Session(l.Session)
}

func (b *book) figures() (open int, held bool, unknown uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open), b.held, b.unknown
}
