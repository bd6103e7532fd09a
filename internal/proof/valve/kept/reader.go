package kept

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"time"
)

// ErrFormat means that a file is none of a valve's.
var ErrFormat = errors.New("not a file of kept ciphertext")

// Connection is a file that was read. Down reads the bytes to the client by their offset.
type Connection struct {
	ID      string // 32 hex digits
	Session string // as the monitor named it; "": it never did
	Began   time.Time
	Up      []byte // the first bytes of what the client sent
	Size    int64  // bytes to the client
	Whole   bool   // the file has its end: the valve was not cut off

	f      *os.File
	pieces []piece
}

// piece is where a run of bytes to the client lies in the file.
type piece struct {
	at, in int64 // offset among the bytes to the client, and in the file
	n      int64
}

// Read opens a file and finds its frames. The caller closes it. A file that was cut inside a
// frame ends before it.
func Read(path string) (*Connection, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read ciphertext: %w", err)
	}
	c := &Connection{f: f}
	if err := c.scan(); err != nil {
		return nil, errors.Join(fmt.Errorf("read ciphertext %s: %w", filepath.Base(path), err), f.Close())
	}
	return c, nil
}

func (c *Connection) scan() error {
	r := bufio.NewReaderSize(c.f, 64<<10)
	head := make([]byte, len(magic))
	if _, err := io.ReadFull(r, head); err != nil || string(head) != magic {
		return ErrFormat
	}
	for at := int64(len(magic)); ; {
		kind, n, err := nextFrame(r)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return err
		}
		if c.Whole || (c.ID == "") != (kind == kindID) {
			return ErrFormat
		}
		at += frameHead
		whole, err := c.take(r, kind, at, n)
		if err != nil {
			return err
		}
		if !whole {
			break
		}
		at += n
	}
	if c.ID == "" {
		return ErrFormat
	}
	return nil
}

func nextFrame(r io.Reader) (kind byte, n int64, err error) {
	var head [frameHead]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, 0, err
	}
	n = int64(binary.BigEndian.Uint32(head[1:]))
	if n > MaxFrame {
		return 0, 0, ErrFormat
	}
	return head[0], n, nil
}

// take takes one frame's content, which begins at offset at of the file. It reports false for
// one that was cut.
func (c *Connection) take(r *bufio.Reader, kind byte, at, n int64) (bool, error) {
	if kind == kindDown {
		skipped, err := r.Discard(int(n))
		if int64(skipped) < n {
			n = int64(skipped) // what is there of it
		}
		c.pieces = append(c.pieces, piece{c.Size, at, n})
		c.Size += n
		return err == nil, nil
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(r, b); err != nil {
		return false, nil
	}
	switch {
	case kind == kindID && n == idSize+8:
		c.ID = hex.EncodeToString(b[:idSize])
		c.Began = time.UnixMilli(int64(binary.BigEndian.Uint64(b[idSize:]))).UTC()
	case kind == kindUp && len(c.Up)+len(b) <= Head:
		c.Up = append(c.Up, b...)
	case kind == kindSession && c.Session == "" && len(bytes.TrimLeft(b, "0123456789abcdef")) == 0 && n == 32:
		c.Session = string(b)
	case kind == kindEnd && n == 8 && binary.BigEndian.Uint64(b) == uint64(c.Size):
		c.Whole = true
	default:
		return false, ErrFormat
	}
	return true, nil
}

// ReadAt implements io.ReaderAt over the bytes to the client.
func (c *Connection) ReadAt(b []byte, off int64) (int, error) {
	if off < 0 {
		return 0, errors.New("read ciphertext: negative offset")
	}
	i := sort.Search(len(c.pieces), func(i int) bool { return c.pieces[i].at+c.pieces[i].n > off })
	done := 0
	for ; done < len(b) && i < len(c.pieces); i++ {
		p := c.pieces[i]
		from := off + int64(done) - p.at
		k := min(int64(len(b)-done), p.n-from)
		if _, err := c.f.ReadAt(b[done:done+int(k)], p.in+from); err != nil {
			return done, fmt.Errorf("read ciphertext: %w", err)
		}
		done += int(k)
	}
	if done < len(b) {
		return done, io.EOF
	}
	return done, nil
}

// Close closes the file.
func (c *Connection) Close() error { return c.f.Close() }

// Find returns the file of session below dir: by the name that the monitor gave it, else by
// its connection.
func Find(dir, session, connection string) (string, error) {
	for _, pattern := range []string{session + ".*", "*." + connection, connection} {
		for _, at := range []string{filepath.Join(dir, "*", pattern), filepath.Join(dir, pattern)} {
			found, err := filepath.Glob(at)
			if err == nil && len(found) == 1 {
				return found[0], nil
			}
		}
	}
	return "", fmt.Errorf("find ciphertext: %w: no file of this session, or several", os.ErrNotExist)
}
