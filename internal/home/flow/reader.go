package flow

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// ErrMalformed says that a message of the source is not what its protocol allows.
var ErrMalformed = errors.New("malformed replication message")

// reader takes fields from one message. After the first field that is not there every
// further one is zero and bad stays set.
type reader struct {
	rest []byte
	bad  bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.rest) {
		r.bad, r.rest = true, nil
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) int16() int {
	if b := r.take(2); b != nil {
		return int(int16(binary.BigEndian.Uint16(b)))
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint64() uint64 {
	if b := r.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (r *reader) lsn() LSN { return LSN(r.uint64()) }

// text is a string that ends in a zero byte.
func (r *reader) text() string {
	i := bytes.IndexByte(r.rest, 0)
	if i < 0 {
		r.bad, r.rest = true, nil
		return ""
	}
	return string(r.take(i + 1)[:i])
}

// count is a number of things of at least size bytes each that must still be there, so that
// nobody can make us allocate more than they sent.
func (r *reader) count(n, size int) int {
	if n < 0 || n > len(r.rest)/size {
		r.bad, r.rest = true, nil
		return 0
	}
	return n
}
