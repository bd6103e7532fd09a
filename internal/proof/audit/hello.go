package audit

import (
	"bytes"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"hash"
)

// Types of TLS records and of handshake messages.
const (
	typeChange, typeAlert, typeHandshake, typeData = 20, 21, 22, 23

	clientHello, serverHello, newTicket, finishedMessage, keyUpdate, messageHash = 1, 2, 4, 20, 24, 254
)

const (
	recordHead = 5
	// maxRecord bounds a record's content (RFC 8446, 5.2).
	maxRecord = 1<<14 + 256
	// maxHandshake bounds what a server says before Finished.
	maxHandshake = 256 << 10
	randomSize   = 32
)

// retry is the random of a ServerHello that is a HelloRetryRequest (RFC 8446, 4.1.3).
var retry = []byte("\xCF\x21\xAD\x74\xE5\x9A\x61\x11\xBE\x1D\x8C\x02\x1E\x65\xB8\x91\xC2\xA2\x11\x16\x7A\xBB\x8C\x5E\x07\x9E\x09\xE2\xC8\xA8\x33\x9C")

// messages cuts handshake messages off a stream of them.
type messages struct{ buf []byte }

// next returns the next whole message with its header, nil when there is none yet.
func (m *messages) next() []byte {
	if len(m.buf) < 4 {
		return nil
	}
	n := 4 + int(m.buf[1])<<16 + int(m.buf[2])<<8 + int(m.buf[3])
	if len(m.buf) < n {
		return nil
	}
	out := m.buf[:n:n]
	m.buf = m.buf[n:]
	return out
}

// clientHellos returns the ClientHello messages at the beginning of what a client sent: one,
// or two where the server asked for another. Requests of PostgreSQL's before TLS are passed over.
func clientHellos(up []byte) [][]byte {
	for len(up) >= 8 && up[0] == 0 { // SSLRequest, GSSENCRequest
		up = up[8:]
	}
	var hellos [][]byte
	var m messages
	for len(up) >= recordHead {
		n := int(binary.BigEndian.Uint16(up[3:]))
		if len(up) < recordHead+n {
			break
		}
		switch up[0] {
		case typeHandshake:
			m.buf = append(m.buf, up[recordHead:recordHead+n]...)
		case typeChange:
		default:
			return hellos
		}
		for msg := m.next(); msg != nil; msg = m.next() {
			if msg[0] != clientHello {
				return hellos
			}
			hellos = append(hellos, msg)
		}
		up = up[recordHead+n:]
	}
	return hellos
}

// randomOf is the random of a ClientHello, nil for what is none.
func randomOf(hello []byte) []byte {
	if len(hello) < 4+2+randomSize {
		return nil
	}
	return hello[6 : 6+randomSize]
}

// parseServerHello returns the cipher suite, and whether it asks for another ClientHello.
func parseServerHello(msg []byte) (id uint16, again bool, err error) {
	b := msg[4:]
	bad := errors.New("its ServerHello is none of TLS 1.3")
	if msg[0] != serverHello || len(b) < 2+randomSize+1 {
		return 0, false, bad
	}
	again = bytes.Equal(b[2:2+randomSize], retry)
	b = b[2+randomSize:]
	n := int(b[0])
	if len(b) < 1+n+2+1+2 {
		return 0, false, bad
	}
	b = b[1+n:]
	id = binary.BigEndian.Uint16(b)
	for b = b[5:]; len(b) >= 4; {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if len(b) < 4+n {
			break
		}
		if binary.BigEndian.Uint16(b) == 43 && n == 2 && binary.BigEndian.Uint16(b[4:]) == 0x0304 { // supported_versions
			return id, again, nil
		}
		b = b[4+n:]
	}
	return 0, false, bad
}

// transcript is the running hash of a handshake, as far as the kept bytes tell it.
type transcript struct {
	hellos [][]byte
	sum    hash.Hash
	retry  []byte // a HelloRetryRequest that came first
}

// begin starts the hash at the ServerHello, when the suite is known.
func (t *transcript) begin(s *suite, hello []byte) {
	t.sum = s.hash()
	switch {
	case t.retry != nil && len(t.hellos) == 2: // RFC 8446, 4.4.1
		first := s.hash()
		first.Write(t.hellos[0])
		t.sum.Write([]byte{messageHash, 0, 0, byte(first.Size())})
		t.sum.Write(first.Sum(nil))
		t.sum.Write(t.retry)
		t.sum.Write(t.hellos[1])
	case t.retry == nil && len(t.hellos) >= 1:
		t.sum.Write(t.hellos[0])
	default:
		t.sum.Write([]byte("no hello was kept")) // nothing fits it
	}
	t.sum.Write(hello)
}

// holds compares the server's Finished with the transcript up to it.
func (t *transcript) holds(o *opener, message []byte) (bool, error) {
	want, err := o.finished(func(key []byte) hash.Hash { return hmac.New(o.suite.hash, key) }, t.sum.Sum(nil))
	return err == nil && hmac.Equal(want, message[4:]), err
}
