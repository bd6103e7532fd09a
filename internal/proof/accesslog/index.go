package accesslog

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// indexWidth is the size of one entry of an index file: by log index, where the body (or
// permit) lies. All zeroes: nowhere. Reading one is one pread.
const indexWidth = 24

// indexFile is a fixed-width table by log index.
type indexFile struct{ f *os.File }

func openIndex(path string, flag int) (*indexFile, error) {
	f, err := os.OpenFile(path, flag, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open index: %w", err)
	}
	return &indexFile{f: f}, nil
}

// put writes the locations of consecutive log indexes.
func (x *indexFile) put(first uint64, at []location) error {
	buf := make([]byte, 0, len(at)*indexWidth)
	for _, l := range at {
		start := len(buf)
		buf = binary.LittleEndian.AppendUint32(buf, l.segment)
		buf = binary.LittleEndian.AppendUint32(buf, l.length)
		buf = binary.LittleEndian.AppendUint64(buf, l.offset)
		buf = binary.LittleEndian.AppendUint32(buf, 1)
		buf = binary.LittleEndian.AppendUint32(buf, crc32.Checksum(buf[start:], castagnoli))
	}
	if _, err := x.f.WriteAt(buf, int64(first)*indexWidth); err != nil {
		return fmt.Errorf("write index: %w", err)
	}
	return nil
}

// get returns where log index i lies; ErrNoBody if nothing valid is written there.
func (x *indexFile) get(i uint64) (location, error) {
	var buf [indexWidth]byte
	if i > 1<<56 {
		return location{}, ErrNoBody
	}
	if _, err := x.f.ReadAt(buf[:], int64(i)*indexWidth); errors.Is(err, io.EOF) {
		return location{}, ErrNoBody
	} else if err != nil {
		return location{}, fmt.Errorf("read index: %w", err)
	}
	crc := binary.LittleEndian.Uint32(buf[20:])
	if binary.LittleEndian.Uint32(buf[16:]) != 1 || crc != crc32.Checksum(buf[:20], castagnoli) {
		return location{}, ErrNoBody
	}
	return location{
		segment: binary.LittleEndian.Uint32(buf[0:]),
		length:  binary.LittleEndian.Uint32(buf[4:]),
		offset:  binary.LittleEndian.Uint64(buf[8:]),
	}, nil
}

func (x *indexFile) sync() error { return x.f.Sync() }

func (x *indexFile) close() error { return x.f.Close() }
