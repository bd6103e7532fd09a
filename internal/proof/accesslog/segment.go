package accesslog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// A segment is an append-only file of the bodies (or permits) of one kind and one day, so
// that a retention can drop a whole file. Its entries are:
//
//	 0  magic "TFR1"
//	 4  state: 1 live, 2 deleted (then everything from byte 20 on is zero but the leaf)
//	 5  three zero bytes
//	 8  payload length, uint32 little-endian
//	12  append time, microseconds since 1970, int64
//	20  opening length within the payload, uint32
//	24  leaf, 33 bytes, then three zero bytes
//	60  CRC-32C of bytes 0–59 as of state 1, then of the payload
//	64  payload: salt (32) ‖ body ‖ opening, or a permit's text
const (
	entryHeader  = 64
	stateLive    = 1
	stateDeleted = 2

	maxSegment = 256 << 20
	maxPayload = trefoil.SaltSize + 2*trefoil.MaxBodySize // salt, body and opening at their largest
)

var entryMagic = [4]byte{'T', 'F', 'R', '1'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// errTorn means that a segment ends in an entry that was never finished: cut it off.
var errTorn = errors.New("entry is torn")

// location is where an entry lies.
type location struct {
	segment uint32
	length  uint32 // of header and payload
	offset  uint64
}

// entry is one decoded entry of a segment.
type entry struct {
	state   byte
	at      time.Time
	leaf    [trefoil.LeafSize]byte
	opening int
	payload []byte
}

// bodyPayload joins what is kept of one record.
func bodyPayload(r trefoil.Record, opening []byte) []byte {
	p := make([]byte, 0, len(r.Salt)+len(r.Body)+len(opening))
	p = append(p, r.Salt...)
	p = append(p, r.Body...)
	return append(p, opening...)
}

// record splits the payload again.
func (e *entry) record() (trefoil.Record, []byte, error) {
	if e.state != stateLive {
		return trefoil.Record{}, nil, ErrNoBody
	}
	end := len(e.payload) - e.opening
	if end < trefoil.SaltSize {
		return trefoil.Record{}, nil, errTorn
	}
	r := trefoil.Record{Salt: e.payload[:trefoil.SaltSize:trefoil.SaltSize], Body: e.payload[trefoil.SaltSize:end:end]}
	if !bytes.Equal(r.Leaf(), e.leaf[:]) {
		return trefoil.Record{}, nil, errors.New("a stored body is not what its leaf commits to")
	}
	return r, e.payload[end:], nil
}

// appendEntry encodes e as live.
func appendEntry(dst []byte, e *entry) []byte {
	var h [entryHeader]byte
	copy(h[:], entryMagic[:])
	h[4] = stateLive
	binary.LittleEndian.PutUint32(h[8:], uint32(len(e.payload)))
	binary.LittleEndian.PutUint64(h[12:], uint64(e.at.UnixMicro()))
	binary.LittleEndian.PutUint32(h[20:], uint32(e.opening))
	copy(h[24:], e.leaf[:])
	crc := crc32.Update(crc32.Checksum(h[:60], castagnoli), castagnoli, e.payload)
	binary.LittleEndian.PutUint32(h[60:], crc)
	dst = append(dst, h[:]...)
	return append(dst, e.payload...)
}

// parseHeader reads a header; the payload is still to be read.
func parseHeader(h []byte) (*entry, int, error) {
	if !bytes.Equal(h[:4], entryMagic[:]) || (h[4] != stateLive && h[4] != stateDeleted) {
		return nil, 0, errTorn
	}
	n := int(binary.LittleEndian.Uint32(h[8:]))
	e := &entry{
		state:   h[4],
		at:      time.UnixMicro(int64(binary.LittleEndian.Uint64(h[12:]))).UTC(),
		opening: int(binary.LittleEndian.Uint32(h[20:])),
	}
	copy(e.leaf[:], h[24:])
	if n > maxPayload || e.opening > n {
		return nil, 0, errTorn
	}
	return e, n, nil
}

// readEntry reads the entry at offset; a live one must match its checksum.
func readEntry(r io.ReaderAt, offset int64) (*entry, error) {
	var h [entryHeader]byte
	if _, err := r.ReadAt(h[:], offset); err != nil {
		return nil, tornAtEnd(err)
	}
	e, n, err := parseHeader(h[:])
	if err != nil {
		return nil, err
	}
	e.payload = make([]byte, n)
	if _, err := r.ReadAt(e.payload, offset+entryHeader); err != nil && n > 0 {
		return nil, tornAtEnd(err)
	}
	if e.state == stateDeleted {
		return e, nil
	}
	crc := crc32.Update(crc32.Checksum(h[:60], castagnoli), castagnoli, e.payload)
	if crc != binary.LittleEndian.Uint32(h[60:]) {
		return nil, errTorn
	}
	return e, nil
}

func tornAtEnd(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errTorn
	}
	return err
}

// scanSegment calls fn for each entry from offset on, and returns where the last whole
// entry ends. A torn entry ends the scan without an error.
func scanSegment(f *os.File, offset int64, fn func(offset int64, e *entry) error) (int64, error) {
	for {
		e, err := readEntry(f, offset)
		if errors.Is(err, errTorn) {
			return offset, nil
		}
		if err != nil {
			return offset, fmt.Errorf("scan segment: %w", err)
		}
		if err := fn(offset, e); err != nil {
			return offset, err
		}
		offset += entryHeader + int64(len(e.payload))
	}
}

// eraseEntry overwrites an entry's payload, opening length and checksum with zeroes, marks it
// deleted, and syncs. It may be repeated.
func eraseEntry(f *os.File, offset int64) error {
	var h [entryHeader]byte
	if _, err := f.ReadAt(h[:], offset); err != nil {
		return fmt.Errorf("erase body: %w", err)
	}
	_, n, err := parseHeader(h[:])
	if err != nil {
		return fmt.Errorf("erase body: %w", err)
	}
	h[4] = stateDeleted
	clear(h[20:24])
	clear(h[60:64])
	blank := append(h[:], make([]byte, n)...)
	if _, err := f.WriteAt(blank, offset); err != nil {
		return fmt.Errorf("erase body: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("erase body: %w", err)
	}
	return nil
}

// segmentName identifies a segment: NNNNNNNN-KIND-YYYYMMDD.CLASS.
type segmentName struct {
	id    uint32
	kind  trefoil.Kind
	day   string
	class string // bodies, permits
}

const (
	classBodies  = "bodies"
	classPermits = "permits"
)

func (n segmentName) String() string {
	return fmt.Sprintf("%08d-%s-%s.%s", n.id, n.kind, n.day, n.class)
}

func parseSegmentName(s string) (segmentName, bool) {
	stem, class, ok := strings.Cut(s, ".")
	parts := strings.Split(stem, "-")
	if !ok || len(parts) != 3 {
		return segmentName{}, false
	}
	n := segmentName{kind: trefoil.Kind(parts[1]), day: parts[2], class: class}
	if _, err := fmt.Sscanf(parts[0], "%d", &n.id); err != nil {
		return segmentName{}, false
	}
	return n, n.String() == s
}
