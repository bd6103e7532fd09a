package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// HeaderSize is the length in bytes of a message's header: type and length.
const HeaderSize = 5

// Default bounds of a message's payload in bytes.
const (
	DefaultSmall   = 64 << 10 // PostgreSQL's own bound of short messages is 30,000 bytes
	DefaultMessage = 1 << 30  // PostgreSQL's own bound: 1 GiB less one
)

// ErrFrame is wrapped by every error of a Framer. The stream cannot be resynchronised after
// it: the caller says so to its peer (SQLSTATE 08P01) and closes.
var ErrFrame = errors.New("protocol violation")

// ErrTooLarge is wrapped, besides ErrFrame, when a message's announced length is over its
// bound. The caller may answer SQLSTATE 54000.
var ErrTooLarge = errors.New("message too large")

// Limits bounds payloads, in bytes. Zero fields mean the defaults.
type Limits struct {
	Small   int // short messages: Execute, Describe, Close, CommandComplete, …
	Message int // messages that carry text or values
}

// Piece is a part of one message, aliasing the bytes given to Framer.Next.
type Piece struct {
	Type   byte
	Length int    // of the whole payload, without the header
	First  bool   // the message's header was completed by this piece
	Last   bool   // the message is complete with this piece
	Body   []byte // the part of the payload that these bytes hold; may be empty
}

// Framer cuts the bytes of one direction into pieces of messages. It holds 5 bytes of state
// for a header that arrives in parts and never a payload. It is not safe for concurrent use.
// Its zero value knows no type and so refuses everything.
type Framer struct {
	limits Limits
	err    error
	length uint32
	rest   uint32
	head   [HeaderSize]byte
	nhead  uint8
	dir    uint8 // a Direction: there are two framers a session
	body   bool  // inside a payload
}

// NewFramer returns a framer for what one side sends.
func NewFramer(d Direction, l Limits) Framer {
	if l.Small <= 0 {
		l.Small = DefaultSmall
	}
	if l.Message <= 0 {
		l.Message = DefaultMessage
	}
	return Framer{dir: uint8(d), limits: l}
}

// AtBoundary reports whether the bytes so far end with a complete message.
func (f *Framer) AtBoundary() bool { return f.err == nil && !f.body && f.nhead == 0 }

// Next takes the next piece from src and returns it with the number of bytes it used.
// n == len(src) with a Piece of Type 0 means that a header is still incomplete. After an
// error every further call returns the same error.
func (f *Framer) Next(src []byte) (p Piece, n int, err error) {
	if f.err != nil {
		return Piece{}, 0, f.err
	}
	if !f.body {
		n = copy(f.head[f.nhead:], src)
		f.nhead += uint8(n)
		if f.nhead < HeaderSize {
			// Even one byte tells an unknown type: do not wait for the rest of it.
			if f.nhead > 0 && classOf(Direction(f.dir), f.head[0]) == unknown {
				return Piece{}, 0, f.fail(fmt.Errorf("%w: unknown message type", ErrFrame))
			}
			return Piece{}, n, nil
		}
		if err := f.begin(); err != nil {
			return Piece{}, 0, f.fail(err)
		}
		p.First = true
	}
	take := min(int(f.rest), len(src)-n)
	p.Type, p.Length, p.Body = f.head[0], int(f.length), src[n:n+take]
	f.rest -= uint32(take)
	if f.rest == 0 {
		p.Last, f.body, f.nhead = true, false, 0
	}
	return p, n + take, nil
}

// Run takes whole messages of one type from the beginning of src, as many as follow each other
// there, and returns how many they are and how many bytes. It is Next for a flood of rows:
// what it does not take, be it nothing, is for Next.
func (f *Framer) Run(src []byte, typ byte) (messages, n int) {
	if f.err != nil || f.body || f.nhead > 0 {
		return 0, 0
	}
	bound := 0
	switch classOf(Direction(f.dir), typ) {
	case small:
		bound = f.limits.Small
	case large:
		bound = f.limits.Message
	}
	for len(src)-n >= HeaderSize && src[n] == typ {
		announced := int(binary.BigEndian.Uint32(src[n+1:]))
		if announced < 4 || announced-4 > bound || announced+1 > len(src)-n {
			break
		}
		n += announced + 1
		messages++
	}
	return messages, n
}

// begin checks a complete header and enters its payload.
func (f *Framer) begin() error {
	announced := binary.BigEndian.Uint32(f.head[1:])
	if announced < 4 || announced > 1<<31-1 {
		return fmt.Errorf("%w: message length out of range", ErrFrame)
	}
	length := int(announced) - 4
	bound := 0
	switch classOf(Direction(f.dir), f.head[0]) {
	case unknown:
		return fmt.Errorf("%w: unknown message type", ErrFrame)
	case small:
		bound = f.limits.Small
	case large:
		bound = f.limits.Message
	}
	if length > bound {
		return fmt.Errorf("%w: %w: %d bytes announced, %d allowed", ErrFrame, ErrTooLarge, length, bound)
	}
	f.length, f.rest, f.body = uint32(length), uint32(length), true
	return nil
}

// fail keeps the first error.
func (f *Framer) fail(err error) error {
	f.err = err
	return err
}
