// Package secrets keeps the TLS secrets of release sessions that came through the monitor's
// valve, a file for each session, so that an audit in the region can open the ciphertext that
// the valve kept.
//
// The invariant it keeps: on disk a session's secrets are encrypted under a key that serves
// this session alone (HKDF of the enclave's key and the file's own salt) and bound to its name;
// they go when their days are over.
//
// The lines are those of the NSS key log format (SSLKEYLOGFILE). Whoever has the enclave's key,
// the file and the ciphertext reads what the client read: keep them at different places.
package secrets

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"time"
)

// ErrNone means that no secrets of a session are kept: it did not come through a valve, it is
// older than they are kept, or the gateway did not keep them.
var ErrNone = errors.New("no secrets of this session are kept")

// ErrKey means that a file cannot be opened with this key, or was altered.
var ErrKey = errors.New("the secrets do not open: another key, or altered")

const (
	magic    = "trefoil.eu/session-secrets/v1\n"
	saltSize = 32
	leastKey = 32
)

// Session is what is kept of one session.
type Session struct {
	Session    string    `json:"session"`    // 32 hex digits
	Connection string    `json:"connection"` // at the valve, 32 hex digits
	At         time.Time `json:"at"`         // when it began
	Lines      []byte    `json:"lines"`      // of the key log
}

// Store is a directory of files DIR/YYYY-MM-DD/SESSION.
type Store struct {
	dir  string
	key  []byte
	keep time.Duration
	now  func() time.Time

	mu   sync.Mutex
	open map[string]bool // sessions
}

// Open returns the store in dir, made if it is not there, readable by its owner alone. Secrets
// are kept for keep after a session's end.
func Open(dir string, key []byte, keep time.Duration, now func() time.Time) (*Store, error) {
	if len(key) < leastKey || keep <= 0 {
		return nil, fmt.Errorf("keep session secrets: a key of %d bytes and a time are needed", leastKey)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("keep session secrets: %w", err)
	}
	return &Store{dir: dir, key: key, keep: keep, now: now, open: map[string]bool{}}, nil
}

var name = regexp.MustCompile(`^[0-9a-f]{32}$`)

// Keep makes a session's secrets durable. The caller calls done at the session's end, from
// which its days count.
func (s *Store) Keep(session, connection string, lines []byte) (done func(), err error) {
	if !name.MatchString(session) || !name.MatchString(connection) || len(lines) == 0 {
		return nil, errors.New("keep session secrets: session, connection or secrets are missing")
	}
	at := s.now().UTC()
	sealed, err := s.seal(&Session{session, connection, at.Truncate(time.Millisecond), lines})
	if err != nil {
		return nil, err
	}
	day := filepath.Join(s.dir, at.Format(time.DateOnly))
	path := filepath.Join(day, session)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := write(day, path, sealed); err != nil {
		return nil, fmt.Errorf("keep session secrets: %w", err)
	}
	s.open[session] = true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, session)
		now := s.now()
		_ = os.Chtimes(path, now, now) // else its days count from its beginning
	}, nil
}

// write makes a new file durable, and its name.
func write(day, path string, b []byte) error {
	if err := os.MkdirAll(day, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err := f.Write(b); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	d, err := os.Open(day)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// sealer is the cipher of one file. It seals once, so its nonce is zero.
func (s *Store) sealer(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, s.key, salt, magic, 32)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("derive key: %w", err)
	}
	return cipher.NewGCM(block)
}

func (s *Store) seal(x *Session) ([]byte, error) {
	text, err := json.Marshal(x)
	if err != nil {
		return nil, fmt.Errorf("seal session secrets: %w", err)
	}
	salt := make([]byte, saltSize)
	if _, err := rand.Read(salt); err != nil {
		return nil, fmt.Errorf("seal session secrets: %w", err)
	}
	a, err := s.sealer(salt)
	if err != nil {
		return nil, err
	}
	out := append([]byte(magic), salt...)
	return a.Seal(out, make([]byte, a.NonceSize()), text, []byte(x.Session)), nil
}

// Read opens a session's secrets. Errors wrap ErrNone or ErrKey, or are the disk's.
func (s *Store) Read(session string) (*Session, error) {
	if !name.MatchString(session) {
		return nil, ErrNone
	}
	found, err := filepath.Glob(filepath.Join(s.dir, "*", session))
	if err != nil || len(found) != 1 {
		return nil, ErrNone
	}
	raw, err := os.ReadFile(found[0])
	if err != nil {
		return nil, fmt.Errorf("read session secrets: %w", err)
	}
	return s.unseal(session, raw)
}

func (s *Store) unseal(session string, raw []byte) (*Session, error) {
	if len(raw) < len(magic)+saltSize || string(raw[:len(magic)]) != magic {
		return nil, ErrKey
	}
	raw = raw[len(magic):]
	a, err := s.sealer(raw[:saltSize])
	if err != nil {
		return nil, err
	}
	text, err := a.Open(nil, make([]byte, a.NonceSize()), raw[saltSize:], []byte(session))
	if err != nil {
		return nil, ErrKey
	}
	var x Session
	if err := json.Unmarshal(text, &x); err != nil || x.Session != session {
		return nil, ErrKey
	}
	return &x, nil
}

// Run deletes what is over its time, each hour until ctx ends.
func (s *Store) Run(ctx context.Context, logger *slog.Logger) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if _, err := s.Expire(); err != nil {
			logger.Error("session secrets not deleted", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Expire deletes the secrets of sessions that ended longer ago than they are kept. It returns
// how many went.
func (s *Store) Expire() (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files, err := filepath.Glob(filepath.Join(s.dir, "????-??-??", "*"))
	if err != nil {
		return 0, fmt.Errorf("delete session secrets: %w", err)
	}
	over := s.now().Add(-s.keep)
	gone := 0
	var errs []error
	days := map[string]bool{}
	for _, path := range files {
		info, err := os.Stat(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if s.open[filepath.Base(path)] || !name.MatchString(filepath.Base(path)) || !info.ModTime().Before(over) {
			continue
		}
		errs = append(errs, os.Remove(path))
		days[filepath.Dir(path)] = true
		gone++
	}
	for day := range days {
		if left, err := os.ReadDir(day); err == nil && len(left) == 0 {
			errs = append(errs, os.Remove(day))
		}
	}
	return gone, errors.Join(errs...)
}
