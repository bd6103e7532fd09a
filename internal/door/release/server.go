package release

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// maxPart bounds what is kept of a message that this package reads: errors and parameters.
const maxPart = 8 << 10

// serverReader cuts what the server says into parcels.
type serverReader struct {
	s      *Session
	framer wire.Framer
	buf    []byte
	from   int  // first byte of buf that is in no parcel yet
	to     int  // end of what was read
	whole  int  // end of the last complete message in buf
	open   bool // the parcel ends inside a message
	part   []byte
}

// readServer holds everything the server says until the server is gone.
func (s *Session) readServer(ctx context.Context) error {
	r := &serverReader{s: s, framer: wire.NewFramer(wire.FromBackend, wire.Limits{}), buf: make([]byte, segment)}
	defer close(s.order)
	defer close(s.append)
	for {
		n, err := r.read()
		if n > 0 {
			if err := r.take(ctx, n); err != nil {
				return err
			}
		}
		var timeout net.Error
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil:
		case errors.As(err, &timeout) && timeout.Timeout():
			if s.pending() == 0 { // nothing else waits
				if err := s.cut(ctx); err != nil {
					return err
				}
			}
		default:
			return s.cut(ctx) // the server is gone: what it said last still counts
		}
	}
}

// pending is how many parcels wait besides the one that is being filled.
func (s *Session) pending() int {
	if s.current != nil {
		return len(s.window) - 1
	}
	return len(s.window)
}

// read waits for bytes; for a short time only if a part of an answer could be cut.
func (r *serverReader) read() (int, error) {
	s := r.s
	quiet := time.Duration(0)
	if s.current != nil && s.current.held.n > 0 && !r.open {
		quiet = s.Limits.Quiet
	}
	if err := s.wait(quiet); err != nil {
		return 0, fmt.Errorf("set deadline: %w", err)
	}
	return s.Server.Read(r.buf[r.to:])
}

// take frames n new bytes.
func (r *serverReader) take(ctx context.Context, n int) error {
	off := r.to
	r.to += n
	for off < r.to {
		piece, used, err := r.framer.Next(r.buf[off:r.to])
		if err != nil {
			return fmt.Errorf("frame server: %w", err)
		}
		off += used
		if piece.Type == 0 {
			break
		}
		r.keep(piece)
		if !piece.Last {
			continue
		}
		r.whole = off
		cut, err := r.message(ctx, piece)
		if err != nil {
			return err
		}
		if cut {
			if err := r.move(r.whole); err != nil {
				return err
			}
			if err := r.s.cut(ctx); err != nil {
				return err
			}
		}
	}
	return r.settle(ctx)
}

// settle puts whole messages into the parcel, and keeps the start of the next in the buffer
// unless it is a large one.
func (r *serverReader) settle(ctx context.Context) error {
	if err := r.ensure(ctx, r.whole > r.from); err != nil {
		return err
	}
	if err := r.move(max(r.whole, r.from)); err != nil {
		return err
	}
	if r.to-r.from > len(r.buf)/2 {
		if err := r.ensure(ctx, true); err != nil {
			return err
		}
		if err := r.move(r.to); err != nil {
			return err
		}
		r.open = true
	}
	r.to = copy(r.buf, r.buf[r.from:r.to])
	r.from, r.whole = 0, 0
	return nil
}

// ensure opens a parcel when there is something to put into it.
func (r *serverReader) ensure(ctx context.Context, needed bool) error {
	if !needed || r.s.current != nil {
		return nil
	}
	return r.s.openParcel(ctx)
}

// move puts the bytes up to end into the current parcel.
func (r *serverReader) move(end int) error {
	if end <= r.from {
		return nil
	}
	if err := r.s.current.held.add(r.buf[r.from:end]); err != nil {
		return errors.Join(errReading, err)
	}
	r.from = end
	return nil
}

// keep copies the body of the messages that are read here, within a bound.
func (r *serverReader) keep(p wire.Piece) {
	if p.First {
		r.part = r.part[:0]
	}
	switch p.Type {
	case wire.ErrorResponse, wire.ParameterStatus, wire.ReadyForQuery:
		r.part = append(r.part, p.Body[:min(len(p.Body), maxPart-len(r.part))]...)
	}
}

// message follows one whole message and says whether the parcel is to be cut after it.
func (r *serverReader) message(ctx context.Context, piece wire.Piece) (cut bool, err error) {
	s := r.s
	r.open = false
	if err := r.ensure(ctx, true); err != nil {
		return false, err
	}
	p := s.current
	v := s.track.answer(piece.Type, r.part)
	p.covered = p.covered && v.covered
	p.name(v.said)
	p.final = false
	switch piece.Type {
	case wire.DataRow, wire.CopyData:
		p.rows++
	case wire.ErrorResponse:
		p.sqlstate = sqlstate(r.part)
	case wire.CopyInResponse, wire.CopyBothResponse:
		return true, nil
	case wire.ReadyForQuery:
		p.final = true
		// Cycles that are already here share a record while another one waits for its own.
		together := !p.covered && r.whole < r.to && s.pending() > 0 && len(p.said) < s.Limits.Statements
		return !together || p.held.n >= s.Limits.ChunkBytes, nil
	}
	if v.settled {
		return true, nil
	}
	size := s.size
	if p.covered {
		size = min(s.Limits.ChunkBytes, max(s.size, s.start.allowance-s.coveredSoFar))
	}
	held := p.held.n + int64(r.whole-r.from)
	return held >= size || len(p.said) >= s.Limits.Statements && !p.covered, nil
}
