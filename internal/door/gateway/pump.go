package gateway

import (
	"errors"
	"io"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// Sizes of the buffers that bytes are forwarded with, in bytes. A quiet session holds two
// small ones; a busy direction borrows a large one.
const (
	smallBuffer = 4 << 10
	largeBuffer = 64 << 10
)

// buffers lends large buffers. It is one for the process: it holds no state.
var buffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

// place is where a pump came to its end.
type place int

const (
	atEnd   place = iota // the source ended its stream
	atRead               // the source failed
	atWrite              // the destination failed
	atFrame              // the source broke the protocol
)

type halt struct {
	at  place
	err error
}

// pump copies until something ends it. watch sees every byte before it is forwarded and
// returns how many may be.
func pump(dst io.Writer, src io.Reader, watch func([]byte) (int, error)) halt {
	small := make([]byte, smallBuffer)
	buf := small
	var lent *[largeBuffer]byte
	giveBack := func() {
		if lent != nil {
			buffers.Put(lent)
			lent, buf = nil, small
		}
	}
	defer giveBack()
	for {
		n, err := src.Read(buf)
		if n > 0 {
			forward, broken := watch(buf[:n])
			if _, err := dst.Write(buf[:forward]); err != nil {
				return halt{atWrite, err}
			}
			if broken != nil {
				return halt{atFrame, broken}
			}
			switch {
			case n == len(small) && lent == nil:
				lent = buffers.Get().(*[largeBuffer]byte)
				buf = lent[:]
			case n < len(small):
				giveBack()
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // the latter: TLS without its goodbye
			return halt{atEnd, nil}
		default:
			return halt{atRead, err}
		}
	}
}

// watch shows every piece of b to see, and returns how many bytes of b are well-formed: all,
// or on an error up to the last whole message.
func watch(f *wire.Framer, b []byte, see func(wire.Piece)) (int, error) {
	whole := 0
	for off := 0; off < len(b); {
		p, n, err := f.Next(b[off:])
		if err != nil {
			return whole, err
		}
		off += n
		if p.Type != 0 {
			see(p)
		}
		if f.AtBoundary() {
			whole = off
		}
	}
	return len(b), nil
}

// linger ends our stream and reads what the client still sends, for a moment: a connection
// that is closed with unread bytes is reset, and the client might never see the last words.
func linger(c *conn) {
	_ = c.CloseWrite()
	_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
	_, _ = io.CopyN(io.Discard, c, 1<<20)
}
