package splice

import (
	"errors"
	"net"
	"time"
)

// ErrUnsupported is returned by Adopt for a connection that has no socket that this loop can
// own. The caller may adopt it into a portable loop instead; the connection is untouched.
var ErrUnsupported = errors.New("connection has no socket for the event loop")

// ErrStalled is what Ended is told of a connection whose peer took no byte for longer than
// Options.Stall.
var ErrStalled = errors.New("peer takes no bytes")

// Handler is told what happens to a Conn. Calls come from the Conn's loop, one at a time for
// all Conns of the loop; they must not block. One handler may serve several Conns.
type Handler interface {
	// Received is given bytes that arrived (inside TLS, if any). They are valid during the
	// call only. It returns how many it took; the rest is kept and given again, before
	// anything new, after Resume, and until then the Conn is paused.
	Received(c Conn, b []byte) (taken int)
	// Drained says that a Conn that was Blocked has handed everything to its peer.
	Drained(c Conn)
	// Ended says that nothing more will be received: err is nil when the peer ended its
	// stream, else why the connection broke. It is called at most once, never after Close,
	// and never because of a Close; the Conn can still send if err is nil. A peer that ended
	// its stream and then takes nothing either is told of once more, with ErrStalled.
	Ended(c Conn, err error)
}

// goodbye is how long a peer that has our last words may take to hang up.
const goodbye = 500 * time.Millisecond

// Options of an adopted connection.
type Options struct {
	Stall time.Duration // a peer that takes no byte for so long breaks the connection; ≤ 0: never
}

// Conn is a connection that a Loop owns. Its methods may be called on its loop only: in a
// Handler's calls, or in functions given to Post.
type Conn interface {
	// Send queues bytes for the peer; the caller may overwrite them once Send returned. Bytes
	// that Received was given are not copied, others are. What one call to a handler sends
	// leaves in one write where it can.
	Send(b []byte)
	// Blocked hands over what is queued and reports that the peer does not take all of it now:
	// stop producing for it (Pause the other side) until Drained. Ask it after each Received.
	Blocked() bool
	// Pause stops Received; Resume goes on, first with what was not taken. Both may be
	// repeated. Ended is noticed only while not paused.
	Pause()
	Resume()
	// SetHandler makes another handler answer from the next event on.
	SetHandler(Handler)
	// CloseWrite ends our stream after what was sent.
	CloseWrite()
	// Finish sends what is queued, ends our stream, reads and drops what the peer still says,
	// and closes when it ends or after wait; then closed is called on the loop (it may be nil).
	// The handler hears nothing more. Closing with unread bytes would reset the connection,
	// and the peer might never see our last words.
	Finish(wait time.Duration, closed func())
	// Close closes at once. Nothing is called for this Conn afterwards.
	Close()
	// Loop returns the loop that owns the Conn.
	Loop() Loop
}

// Loop owns connections and calls their handlers.
type Loop interface {
	// Adopt takes a connection over: nobody else may use nc afterwards, not even to close it.
	// It may be called on the loop only (in Post or in a handler's call), so that all Conns of
	// a session exist before the first event of any. On error nc is the caller's as before.
	Adopt(nc net.Conn, h Handler, o Options) (Conn, error)
	// Takes reports whether Adopt can take a connection over.
	Takes(nc net.Conn) bool
	// Post has f called on the loop, soon, in the order of the posts. It never blocks and may
	// be called from anywhere. It reports false, and f is never called, after Close.
	Post(f func()) bool
	// After has f called on the loop when d has passed, or a little later.
	After(d time.Duration, f func()) (stop func())
	// Close closes all Conns without a word, ends the loop, and waits for it.
	Close()
}

// nobody handles connections that are only being closed.
type nobody struct{}

func (nobody) Received(_ Conn, b []byte) int { return len(b) }
func (nobody) Drained(Conn)                  {}
func (nobody) Ended(c Conn, _ error)         { c.Close() }
