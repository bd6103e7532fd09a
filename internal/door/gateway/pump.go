package gateway

import (
	"io"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// watch shows every piece of b to see, and returns how many bytes of b are well-formed: all,
// or on an error up to the last whole message.
func watch(f *wire.Framer, b []byte, see func(wire.Piece)) (int, error) {
	return watchRows(f, b, see, nil)
}

// watchRows is watch for what a server sends: of rows that follow each other it gives the
// number and their bytes alone.
func watchRows(f *wire.Framer, b []byte, see func(wire.Piece), rows func(rows, bytes int)) (int, error) {
	whole := 0
	for off := 0; off < len(b); {
		if rows != nil && b[off] == wire.DataRow {
			if k, n := f.Run(b[off:], wire.DataRow); k > 0 {
				rows(k, n)
				off += n
				whole = off
				continue
			}
		}
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
