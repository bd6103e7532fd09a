package kept

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"
)

const (
	magic     = "trefoil.eu/kept-ciphertext/v1\n"
	frameHead = 5
	idSize    = 16

	kindID, kindUp, kindDown, kindSession, kindEnd = 'i', 'u', 'd', 's', 'e'
)

// Head is how many bytes of what a client sends are kept: its ClientHello, even two of them,
// and the requests before it.
const Head = 8 << 10

// MaxFrame bounds one frame's content in bytes.
const MaxFrame = 1 << 20

// Store is a directory of files, each kept for the same time.
type Store struct {
	dir    string
	keep   time.Duration
	now    func() time.Time
	logger *slog.Logger

	mu   sync.Mutex
	open map[*File]bool
}

// Open makes the directory, readable by its owner alone. Files are kept for keep after their
// last byte.
func Open(dir string, keep time.Duration, now func() time.Time, logger *slog.Logger) (*Store, error) {
	if keep <= 0 {
		return nil, errors.New("keep ciphertext: for how long is missing")
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep ciphertext: %w", err)
	}
	return &Store{dir: dir, keep: keep, now: now, logger: logger, open: map[*File]bool{}}, nil
}

// Directory is where the files are.
func (s *Store) Directory() string { return s.dir }

// File is one connection's. Its methods may be called from several goroutines.
type File struct {
	s    *Store
	path string
	name string

	mu      sync.Mutex
	f       *os.File
	scratch []byte
	up      int
	down    int64
	session string
	err     error // the first that failed: the file is worth nothing more
}

// Begin makes the file of connection id.
func (s *Store) Begin(id [idSize]byte) (*File, error) {
	at := s.now().UTC()
	day := filepath.Join(s.dir, at.Format(time.DateOnly))
	x := &File{s: s, name: hex.EncodeToString(id[:])}
	x.path = filepath.Join(day, x.name)
	s.mu.Lock() // not while a day is removed
	defer s.mu.Unlock()
	if err := os.MkdirAll(day, 0o700); err != nil {
		return nil, fmt.Errorf("keep ciphertext: %w", err)
	}
	f, err := os.OpenFile(x.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("keep ciphertext: %w", err)
	}
	x.f = f
	if _, err := f.WriteString(magic); err != nil {
		return nil, errors.Join(fmt.Errorf("keep ciphertext: %w", err), f.Close())
	}
	if err := x.frame(kindID, binary.BigEndian.AppendUint64(id[:], uint64(at.UnixMilli()))); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	s.open[x] = true
	return x, nil
}

// frame appends one frame. The lock is held, or nobody else knows the file.
func (x *File) frame(kind byte, b []byte) error {
	if x.err != nil {
		return x.err
	}
	x.scratch = append(x.scratch[:0], kind)
	x.scratch = binary.BigEndian.AppendUint32(x.scratch, uint32(len(b)))
	x.scratch = append(x.scratch, b...)
	if _, err := x.f.Write(x.scratch); err != nil {
		x.err = fmt.Errorf("keep ciphertext: %w", err)
	}
	return x.err
}

// Down keeps bytes that are about to pass toward the client. After an error they must not.
func (x *File) Down(b []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.down += int64(len(b))
	return x.frame(kindDown, b)
}

// Up keeps the first bytes that a client sends; later ones it passes over.
func (x *File) Up(b []byte) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	b = b[:min(len(b), Head-x.up)]
	if len(b) == 0 {
		return x.err
	}
	x.up += len(b)
	return x.frame(kindUp, b)
}

// Session notes which session the monitor says this is, once, also in the file's name.
func (x *File) Session(session string) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if session == "" || x.session != "" || x.f == nil {
		return x.err
	}
	x.session = session
	if err := x.frame(kindSession, []byte(session)); err != nil {
		return err
	}
	to := filepath.Join(filepath.Dir(x.path), session+"."+x.name)
	if err := os.Rename(x.path, to); err != nil {
		return fmt.Errorf("keep ciphertext: %w", err)
	}
	x.s.mu.Lock()
	x.path = to
	x.s.mu.Unlock()
	return nil
}

// Close ends the file.
func (x *File) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.f == nil {
		return nil
	}
	err := errors.Join(x.frame(kindEnd, binary.BigEndian.AppendUint64(nil, uint64(x.down))), x.f.Close())
	x.f = nil
	x.s.mu.Lock()
	delete(x.s.open, x)
	x.s.mu.Unlock()
	return err
}

// Run deletes what is over its time until ctx ends.
func (s *Store) Run(ctx context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if _, err := s.Expire(); err != nil {
			s.logger.Error("kept ciphertext not deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Expire deletes the files whose last byte is older than the time to keep, and empty days. It
// returns how many files went.
func (s *Store) Expire() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := map[string]bool{}
	for x := range s.open {
		open[x.path] = true
	}
	days, err := os.ReadDir(s.dir)
	if err != nil {
		return 0, fmt.Errorf("delete ciphertext: %w", err)
	}
	gone, over := 0, s.now().Add(-s.keep)
	var errs []error
	for _, day := range days {
		if _, err := time.Parse(time.DateOnly, day.Name()); err != nil || !day.IsDir() {
			continue // not ours
		}
		n, left, err := expireDay(filepath.Join(s.dir, day.Name()), over, open)
		gone += n
		errs = append(errs, err)
		if err == nil && left == 0 {
			errs = append(errs, os.Remove(filepath.Join(s.dir, day.Name())))
		}
	}
	return gone, errors.Join(errs...)
}

func expireDay(dir string, over time.Time, open map[string]bool) (gone, left int, err error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("delete ciphertext: %w", err)
	}
	var errs []error
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		info, err := f.Info()
		switch {
		case errors.Is(err, fs.ErrNotExist): // it was given its session's name
			left++
		case err != nil:
			left++
			errs = append(errs, err)
		case open[path] || !info.ModTime().Before(over):
			left++
		default:
			errs = append(errs, os.Remove(path))
			gone++
		}
	}
	return gone, left, errors.Join(errs...)
}
