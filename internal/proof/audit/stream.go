package audit

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sort"
)

// Stream is what a server sent inside TLS, opened from kept ciphertext on demand: no plaintext
// is kept. It is not safe for concurrent use.
type Stream struct {
	Suite    string
	Hello    bool  // the server's Finished fits the hellos that were kept
	Records  int   // of TLS, handshake included
	Updates  int   // key updates
	Closed   bool  // it ends with an alert of the server's
	Before   int64 // bytes before TLS that are not its answer to a request for TLS
	Cut      int64 // bytes at the end that are no whole record
	Size     int64 // bytes of data
	raw      io.ReaderAt
	openers  []*opener
	data     []record
	cached   int // record whose content is in content, -1 none
	content  []byte
	buf      []byte
	expected []byte // the random of the secrets
}

// record is one TLS record of data.
type record struct {
	at     int64 // of its header in the ciphertext
	n      int32 // bytes after the header
	plain  int64 // offset of its content in the data
	size   int32 // bytes of content
	opener int32
	seq    uint64
}

// Problem is ciphertext that cannot be opened: where, and why.
type Problem struct {
	At   int64 // offset in the ciphertext
	Text string
}

// Error implements error.
func (p *Problem) Error() string { return fmt.Sprintf("ciphertext byte %d: %s", p.At, p.Text) }

// OpenStream authenticates size bytes of ciphertext from end to end. up are the first bytes of
// what the client sent. With a *Problem the stream holds what came before it.
func OpenStream(raw io.ReaderAt, size int64, up []byte, s *Secrets) (*Stream, error) {
	x := &Stream{raw: raw, cached: -1, expected: s.clientRandom}
	r := &reader{x: x, size: size}
	err := x.handshake(r, s, up)
	if err == nil {
		err = x.all(r)
	}
	var p *Problem
	if err != nil && !errors.As(err, &p) && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if p != nil {
		return x, p
	}
	return x, nil
}

// reader walks over the records of the ciphertext.
type reader struct {
	x        *Stream
	at, size int64
}

func (r *reader) problem(format string, args ...any) error {
	return &Problem{At: r.at, Text: fmt.Sprintf(format, args...)}
}

// next reads the record at r.at into the stream's buffer. io.EOF: there is no whole one more.
func (r *reader) next() (head, body []byte, err error) {
	var h [recordHead]byte
	if r.at+recordHead > r.size {
		r.x.Cut = r.size - r.at
		return nil, nil, io.EOF
	}
	if _, err := r.x.raw.ReadAt(h[:], r.at); err != nil {
		return nil, nil, err
	}
	n := int64(binary.BigEndian.Uint16(h[3:]))
	if h[0] < typeChange || h[0] > typeData || h[1] != 3 || n > maxRecord {
		return nil, nil, r.problem("this is no record of TLS")
	}
	if r.at+recordHead+n > r.size {
		r.x.Cut = r.size - r.at
		return nil, nil, io.EOF
	}
	r.x.buf = append(r.x.buf[:0], make([]byte, recordHead+n)...)
	if _, err := r.x.raw.ReadAt(r.x.buf, r.at); err != nil {
		return nil, nil, err
	}
	r.x.Records++
	return r.x.buf[:recordHead], r.x.buf[recordHead:], nil
}

func (r *reader) step(body []byte) { r.at += recordHead + int64(len(body)) }

// handshake reads up to the server's Finished.
func (x *Stream) handshake(r *reader, s *Secrets, up []byte) error {
	if err := x.preface(r); err != nil {
		return err
	}
	t := &transcript{hellos: clientHellos(up)}
	opener, err := x.hello(r, s, t)
	if err != nil {
		return err
	}
	var m messages
	for seq := uint64(0); ; {
		head, body, err := r.next()
		if err != nil {
			return err
		}
		if head[0] == typeChange {
			r.step(body)
			continue
		}
		at := len(body)
		content, typ, err := opener.open(seq, head, body)
		if err != nil {
			return r.problem("%v", err)
		}
		if typ != typeHandshake || len(m.buf)+len(content) > maxHandshake {
			return r.problem("content of type %d before the end of the handshake", typ)
		}
		m.buf = append(m.buf, content...)
		seq++
		done, err := x.finish(&m, t, opener)
		if err != nil {
			return err
		}
		r.at += recordHead + int64(at)
		if done {
			o, err := opener.suite.opener(s.traffic)
			x.openers = append(x.openers, o)
			return err
		}
	}
}

// finish takes whole messages up to Finished, and reports that it came.
func (x *Stream) finish(m *messages, t *transcript, o *opener) (bool, error) {
	for msg := m.next(); msg != nil; msg = m.next() {
		if msg[0] != finishedMessage {
			t.sum.Write(msg)
			continue
		}
		ok, err := t.holds(o, msg)
		x.Hello = ok && len(t.hellos) > 0 && bytes.Equal(randomOf(t.hellos[0]), x.expected)
		return true, err
	}
	return false, nil
}

// preface passes over PostgreSQL's answers to requests for encryption.
func (x *Stream) preface(r *reader) error {
	var b [3]byte
	n, err := r.x.raw.ReadAt(b[:min(int64(len(b)), r.size)], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for i := 0; i < n && i < 2 && (b[i] == 'S' || b[i] == 'N'); i++ {
		r.at++
	}
	if r.at < r.size && b[r.at] != typeHandshake && b[r.at] != typeAlert {
		x.Before = r.size - r.at
		return r.problem("this is not TLS: what went to the client was not encrypted")
	}
	return nil
}

// hello reads up to the ServerHello.
func (x *Stream) hello(r *reader, s *Secrets, t *transcript) (*opener, error) {
	var m messages
	for {
		head, body, err := r.next()
		if err != nil {
			return nil, err
		}
		r.step(body)
		switch head[0] {
		case typeChange:
			continue
		case typeHandshake:
			m.buf = append(m.buf, body...)
		case typeAlert:
			x.Closed = true
			return nil, io.EOF
		default:
			return nil, r.problem("data before the handshake")
		}
		msg := m.next()
		if msg == nil {
			if len(m.buf) > maxHandshake {
				return nil, r.problem("a ServerHello without end")
			}
			continue
		}
		id, again, err := parseServerHello(msg)
		switch {
		case err != nil:
			return nil, r.problem("%v", err)
		case again && t.retry != nil:
			return nil, r.problem("a second request for another hello")
		}
		if again {
			t.retry = bytes.Clone(msg)
			continue
		}
		su := suiteOf(id)
		if su == nil {
			return nil, r.problem("cipher suite %#04x is not known", id)
		}
		x.Suite = su.name
		t.begin(su, msg)
		o, err := su.opener(s.handshake)
		if err != nil {
			return nil, r.problem("%v", err)
		}
		return o, nil
	}
}

// all authenticates every record after the handshake and notes where data is.
func (x *Stream) all(r *reader) error {
	seq := uint64(0)
	for {
		head, body, err := r.next()
		if err != nil {
			return err
		}
		n := len(body)
		if head[0] != typeData || x.Closed {
			return r.problem("a record of type %d where only encrypted data may be", head[0])
		}
		o := x.openers[len(x.openers)-1]
		content, typ, err := o.open(seq, head, body)
		if err != nil {
			return r.problem("%v", err)
		}
		switch typ {
		case typeData:
			x.data = append(x.data, record{r.at, int32(n), x.Size, int32(len(content)), int32(len(x.openers) - 1), seq})
			x.Size += int64(len(content))
		case typeAlert:
			x.Closed = true
		case typeHandshake:
			updated, err := x.posthandshake(r, o, content)
			if err != nil {
				return err
			}
			if updated {
				seq = ^uint64(0)
			}
		default:
			return r.problem("content of type %d", typ)
		}
		seq++
		r.at += recordHead + int64(n)
	}
}

// posthandshake takes tickets and key updates: nothing else may come.
func (x *Stream) posthandshake(r *reader, o *opener, content []byte) (updated bool, err error) {
	m := messages{buf: content}
	for msg := m.next(); msg != nil; msg = m.next() {
		switch {
		case msg[0] == newTicket && !updated:
		case msg[0] == keyUpdate && !updated:
			next, err := o.next()
			if err != nil {
				return false, err
			}
			x.openers = append(x.openers, next)
			x.Updates++
			updated = true
		default:
			return false, r.problem("a handshake message of type %d", msg[0])
		}
	}
	if len(m.buf) > 0 {
		return false, r.problem("half a handshake message")
	}
	return updated, nil
}

// ReadAt implements io.ReaderAt over the data.
func (x *Stream) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read data: negative offset")
	}
	done := 0
	for i := x.find(off); done < len(b) && i < len(x.data); i++ {
		content, err := x.load(i)
		if err != nil {
			return done, err
		}
		done += copy(b[done:], content[off+int64(done)-x.data[i].plain:])
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// find is the first record with data at off or after it.
func (x *Stream) find(off int64) int {
	return sort.Search(len(x.data), func(i int) bool { return x.data[i].plain+int64(x.data[i].size) > off })
}

func (x *Stream) load(i int) ([]byte, error) {
	if i == x.cached {
		return x.content, nil
	}
	d := x.data[i]
	x.cached = -1
	x.buf = append(x.buf[:0], make([]byte, recordHead+int(d.n))...)
	if _, err := x.raw.ReadAt(x.buf, d.at); err != nil {
		return nil, fmt.Errorf("read ciphertext: %w", err)
	}
	content, _, err := x.openers[d.opener].open(d.seq, x.buf[:recordHead], x.buf[recordHead:])
	if err != nil {
		return nil, &Problem{d.at, err.Error()}
	}
	x.cached, x.content = i, content
	return content, nil
}
