package release

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"

	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// maxNames bounds what is read of a Bind: its portal and statement names. A name that does
// not fit means nothing to the tracker, and nothing that runs under it is covered.
const maxNames = 4 << 10

// clientBuffer is how much is read from a client at a time.
const clientBuffer = 64 << 10

// clientPump forwards the client's messages unchanged, each after the tracker knows of it.
type clientPump struct {
	s      *Session
	framer wire.Framer
	body   []byte // of the current message, as far as it is read here
	cutOff bool   // the body is longer than that
	text   *textDigest
}

// readClient forwards until the client ends. Bytes are never held back: a statement may be
// as long as the server allows.
func (s *Session) readClient(ctx context.Context) error {
	p := &clientPump{s: s, framer: wire.NewFramer(wire.FromFrontend, wire.Limits{})}
	buf := make([]byte, clientBuffer)
	for {
		n, err := s.in.Read(buf)
		if n > 0 {
			left, ferr := p.forward(buf[:n])
			if ferr != nil {
				return ferr
			}
			if left {
				return nil // the server answers by closing
			}
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err != nil:
			return errDisconnected
		}
	}
}

// forward sends a run of bytes on. A message's last byte leaves only after it was queued.
func (p *clientPump) forward(data []byte) (left bool, err error) {
	sent := 0
	send := func(to int) error {
		if to <= sent {
			return nil
		}
		_, err := p.s.Server.Write(data[sent:to])
		sent = to
		if err != nil {
			return fmt.Errorf("%w: %w", errServerClosed, err)
		}
		return nil
	}
	for off := 0; off < len(data); {
		piece, used, err := p.framer.Next(data[off:])
		if err != nil {
			return false, errors.Join(errProtocol, err)
		}
		if piece.Type != 0 {
			if p.s.track.full() {
				if err := send(off); err != nil {
					return false, err
				}
			}
			if err := p.piece(piece); err != nil {
				return false, err
			}
		}
		off += used
		if piece.Last && piece.Type == wire.Terminate {
			p.s.leaving.Store(true) // before the server can answer by closing
			return true, send(off)
		}
	}
	return false, send(len(data))
}

// piece reads what the tracker must know, and queues the message when it is complete.
func (p *clientPump) piece(piece wire.Piece) error {
	limit := maxNames
	if piece.Type == wire.Query || piece.Type == wire.Parse {
		limit = statement.MaxText + maxNames
	}
	if piece.First {
		p.body, p.cutOff, p.text = p.body[:0], false, nil
		if cap(p.body) > 4*clientBuffer {
			p.body = nil
		}
		if limit > maxNames || piece.Type == wire.FunctionCall {
			text, err := newTextDigest(piece.Type == wire.Parse)
			if err != nil {
				return err
			}
			p.text = text
		}
	}
	if p.text != nil && limit > maxNames { // a function call has no text: its commitment is to nothing
		p.text.write(piece.Body)
	}
	if piece.Type != wire.CopyData {
		room := min(len(piece.Body), limit-len(p.body))
		p.body = append(p.body, piece.Body[:room]...)
		p.cutOff = p.cutOff || room < len(piece.Body)
	}
	if !piece.Last {
		return nil
	}
	return p.message(piece.Type)
}

// message queues one whole message.
func (p *clientPump) message(typ byte) error {
	o := &op{typ: typ}
	switch typ {
	case wire.Query, wire.FunctionCall:
		o.said = p.said(typ, p.body)
	case wire.Parse:
		name, rest, ok := wire.CString(p.body)
		if !ok {
			return errProtocol
		}
		o.name = string(name)
		if text, _, ok := wire.CString(rest); ok && !p.cutOff {
			rest = append(text[:len(text):len(text)], 0)
		} else {
			p.cutOff = true
		}
		o.said = p.said(typ, rest)
	case wire.Bind:
		portal, rest, ok := wire.CString(p.body)
		name, _, ok2 := wire.CString(rest)
		if !ok || !ok2 {
			return errProtocol
		}
		o.portal, o.name = string(portal), string(name)
	case wire.Execute:
		portal, _, ok := wire.CString(p.body)
		if !ok {
			return errProtocol
		}
		o.portal = string(portal)
	case wire.Describe, wire.Close:
		if err := target(o, p.body); err != nil {
			return err
		}
	case wire.CopyFail:
		o.typ = wire.CopyDone // ends a copy just the same
	case wire.CopyDone, wire.Sync, wire.Flush:
	case wire.CopyData, wire.Terminate:
		return nil
	default:
		return errProtocol
	}
	p.s.track.push(o)
	return nil
}

// target reads what a Describe or Close is of.
func target(o *op, body []byte) error {
	if len(body) < 2 {
		return errProtocol
	}
	name, _, ok := wire.CString(body[1:])
	if !ok {
		return errProtocol
	}
	o.of = body[0]
	switch o.of {
	case 'S':
		o.name = string(name)
	case 'P':
		o.portal = string(name)
	default:
		return errProtocol
	}
	return nil
}

// said describes a text. One that ends early (a NUL inside) or is too long is not parsed.
func (p *clientPump) said(typ byte, text []byte) *said {
	var info *statement.Info
	switch {
	case typ == wire.FunctionCall:
		info = statement.FunctionCall()
	case p.cutOff || len(text) == 0 || bytes.IndexByte(text, 0) != len(text)-1:
		info = statement.Oversized()
	default:
		info = p.s.Classifier.Analyze(string(text[:len(text)-1]))
	}
	q := &said{info: info, salt: p.text.salt, commitment: p.text.sum()}
	if info.Fingerprint != "" {
		q.fingerprint = p.s.Key(info.Fingerprint)
	}
	return q
}

// textDigest is SHA-256(salt ‖ text) over a text of any length.
type textDigest struct {
	salt [32]byte
	h    hash.Hash
	name bool // still inside the name of a Parse
	done bool
}

func newTextDigest(named bool) (*textDigest, error) {
	salt, err := drawSalt()
	if err != nil {
		return nil, err
	}
	d := &textDigest{salt: salt, h: sha256.New(), name: named}
	d.h.Write(salt[:])
	return d, nil
}

func (d *textDigest) write(b []byte) {
	if d.name {
		_, rest, ok := wire.CString(b)
		if !ok {
			return
		}
		d.name, b = false, rest
	}
	if d.done {
		return
	}
	text, _, ended := wire.CString(b)
	d.h.Write(text)
	d.done = ended
}

func (d *textDigest) sum() string { return hex.EncodeToString(d.h.Sum(nil)) }
