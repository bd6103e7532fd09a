package platform

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Hit is a canary whose bytes stand in a file.
type Hit struct {
	Canary Canary
	File   string // relative to the searched directory
	Offset int64
}

// window is how many bytes of a pattern are compared first: every pattern has at least as
// many.
const window = 8

// Needles finds the bytes of many canaries in one pass.
type Needles struct {
	byHead map[uint64][]needle
	filter [1 << 16]bool // on the last two bytes of a head
	keep   int           // longest pattern: how much two blocks overlap
}

type needle struct {
	pattern []byte
	canary  Canary
}

// NewNeedles prepares a search. A value shorter than eight bytes is an error: finding it
// would prove nothing.
func NewNeedles(canaries []Canary) (*Needles, error) {
	n := &Needles{byHead: map[uint64][]needle{}}
	for _, c := range canaries {
		for _, pattern := range c.Encodings() {
			if len(pattern) < window {
				return nil, fmt.Errorf("canary of %s is too short to search for", c.Column)
			}
			head := binary.BigEndian.Uint64(pattern)
			n.byHead[head] = append(n.byHead[head], needle{pattern, c})
			n.filter[uint16(head)] = true
			n.keep = max(n.keep, len(pattern))
		}
	}
	return n, nil
}

// Scan returns the number of bytes read and the hits in r, which name file as their file.
func (n *Needles) Scan(r io.Reader, file string) (int64, []Hit, error) {
	var hits []Hit
	buf := make([]byte, 0, 1<<20+n.keep)
	var base int64 // offset in r of buf[0]
	for {
		got, err := io.ReadFull(r, buf[len(buf):len(buf)+1<<20])
		buf = buf[:len(buf)+got]
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return base, hits, err
		}
		stop := len(buf) - n.keep // patterns that begin later wait for the next block
		if last {
			stop = len(buf)
		}
		for _, h := range n.block(buf, max(0, stop)) {
			h.File, h.Offset = file, h.Offset+base
			hits = append(hits, h)
		}
		if last {
			return base + int64(len(buf)), hits, nil
		}
		rest := copy(buf, buf[stop:])
		base, buf = base+int64(stop), buf[:rest]
	}
}

// block finds the patterns that begin before stop.
func (n *Needles) block(buf []byte, stop int) []Hit {
	var hits []Hit
	for i := 0; i < stop && i+window <= len(buf); i++ {
		if !n.filter[binary.BigEndian.Uint16(buf[i+window-2:])] {
			continue
		}
		for _, c := range n.byHead[binary.BigEndian.Uint64(buf[i:])] {
			if bytes.HasPrefix(buf[i:], c.pattern) {
				hits = append(hits, Hit{Canary: c.canary, Offset: int64(i)})
			}
		}
	}
	return hits
}

// Found is the result of a search through a directory.
type Found struct {
	Files int
	Bytes int64
	Hits  []Hit
}

// Directory searches every file under dir. Files that vanish meanwhile are passed over: a
// running PostgreSQL removes temporary files and old WAL.
func (n *Needles) Directory(dir string) (Found, error) {
	var found Found
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) || (err == nil && !d.Type().IsRegular()) {
			return nil
		}
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		size, hits, err := n.Scan(f, name)
		found.Files++
		found.Bytes += size
		found.Hits = append(found.Hits, hits...)
		return err
	})
	if err != nil {
		return found, fmt.Errorf("search directory: %w", err)
	}
	return found, nil
}
