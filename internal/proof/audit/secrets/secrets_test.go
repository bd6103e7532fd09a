package secrets

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var (
	one, two = strings.Repeat("1a", 16), strings.Repeat("2b", 16)
	lines    = []byte("SERVER_TRAFFIC_SECRET_0 aa bb\n")
)

func newStore(t *testing.T, key byte, dir string, now func() time.Time) *Store {
	t.Helper()
	s, err := Open(dir, bytes.Repeat([]byte{key}, 32), 24*time.Hour, now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestKeptAndRead(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, 1, dir, time.Now)
	if _, err := s.Keep(one, two, lines); err != nil {
		t.Fatal(err)
	}
	x, err := newStore(t, 1, dir, time.Now).Read(one)
	if err != nil || x.Session != one || x.Connection != two || !bytes.Equal(x.Lines, lines) || time.Since(x.At) > time.Hour {
		t.Fatalf("%+v, %v", x, err)
	}
	for _, session := range []string{two, "", "../" + one, "*"} {
		if _, err := s.Read(session); !errors.Is(err, ErrNone) {
			t.Errorf("%q: %v, want ErrNone", session, err)
		}
	}
	if _, err := s.Keep(one, two, lines); err == nil {
		t.Error("a session's secrets are replaced")
	}
}

// TestStolenFile: without the key, under another session's name or altered, nothing opens; and
// nothing of it is in clear.
func TestStolenFile(t *testing.T) {
	dir := t.TempDir()
	s := newStore(t, 1, dir, time.Now)
	if _, err := s.Keep(one, two, lines); err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dir, "*", one))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	raw, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("SECRET")) || bytes.Contains(raw, []byte(two)) {
		t.Error("secrets are in clear")
	}
	if _, err := newStore(t, 2, dir, time.Now).Read(one); !errors.Is(err, ErrKey) {
		t.Errorf("another key: %v", err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(found[0]), two), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(two); !errors.Is(err, ErrKey) {
		t.Errorf("under another name: %v", err)
	}
	for _, at := range []int{0, len(magic) + 3, len(raw) - 1} {
		altered := bytes.Clone(raw)
		altered[at] ^= 1
		if err := os.WriteFile(found[0], altered, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Read(one); !errors.Is(err, ErrKey) {
			t.Errorf("altered at %d: %v", at, err)
		}
	}
}

func TestSecretsGoWhenTheirDaysAreOver(t *testing.T) {
	now := time.Now()
	dir := t.TempDir()
	s := newStore(t, 1, dir, func() time.Time { return now })
	done, err := s.Keep(one, two, lines)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(48 * time.Hour)
	if n, err := s.Expire(); n != 0 || err != nil {
		t.Errorf("while the session is open: %d, %v", n, err)
	}
	done()
	now = now.Add(23 * time.Hour)
	if n, err := s.Expire(); n != 0 || err != nil {
		t.Errorf("23 h after its end: %d, %v", n, err)
	}
	now = now.Add(2 * time.Hour)
	if n, err := s.Expire(); n != 1 || err != nil {
		t.Errorf("25 h after its end: %d, %v", n, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
