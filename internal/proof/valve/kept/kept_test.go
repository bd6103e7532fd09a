package kept

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var session = strings.Repeat("5e", 16)

func newStore(t testing.TB, now func() time.Time) (*Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := Open(dir, 24*time.Hour, now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return s, dir
}

// write makes a file with three runs of bytes to the client.
func write(t testing.TB, s *Store, id byte) (down []byte) {
	t.Helper()
	f, err := s.Begin([16]byte{id})
	if err != nil {
		t.Fatal(err)
	}
	errs := []error{f.Up([]byte("hello")), f.Up(bytes.Repeat([]byte("u"), 2*Head))}
	for i, n := range []int{1, 70000, 33} {
		b := bytes.Repeat([]byte{byte('a' + i)}, n)
		errs = append(errs, f.Down(b), f.Session(session))
		down = append(down, b...)
	}
	if err := errors.Join(append(errs, f.Close())...); err != nil {
		t.Fatal(err)
	}
	return down
}

func TestKeptIsRead(t *testing.T) {
	s, dir := newStore(t, time.Now)
	down := write(t, s, 7)
	path, err := Find(dir, session, "07000000000000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size))
	if err != nil || !bytes.Equal(got, down) {
		t.Fatalf("%d bytes, %v; want the %d that were kept", len(got), err, len(down))
	}
	if part := make([]byte, 10); c.Size < 70000 {
		t.Error("size")
	} else if _, err := c.ReadAt(part, 69996); err != nil || string(part) != "bbbbbccccc" {
		t.Errorf("across two runs: %q, %v", part, err)
	}
	if c.Session != session || !c.Whole || c.ID[:2] != "07" || len(c.Up) != Head || time.Since(c.Began) > time.Hour {
		t.Errorf("read %+v", c)
	}
}

// TestCutFile: what was written before a crash can be read, and the file says that it was cut.
func TestCutFile(t *testing.T) {
	s, dir := newStore(t, time.Now)
	down := write(t, s, 7)
	path, err := Find(dir, session, "")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 13, 14, 30, 50, 60000} {
		if err := os.WriteFile(path, raw[:len(raw)-n], 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Read(path)
		if err != nil {
			t.Fatalf("cut by %d: %v", n, err)
		}
		got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size))
		if err != nil || c.Whole || !bytes.HasPrefix(down, got) {
			t.Errorf("cut by %d: whole %v, %d bytes, %v", n, c.Whole, len(got), err)
		}
		c.Close()
	}
}

func TestExpiryLeavesWhatIsOpenOrYoung(t *testing.T) {
	now := time.Now()
	s, dir := newStore(t, func() time.Time { return now })
	write(t, s, 1)
	open, err := s.Begin([16]byte{2})
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(23 * time.Hour)
	if n, err := s.Expire(); n != 0 || err != nil {
		t.Errorf("after 23 h: %d, %v", n, err)
	}
	now = now.Add(2 * time.Hour)
	if n, err := s.Expire(); n != 1 || err != nil {
		t.Errorf("after 25 h: %d, %v; want the closed one", n, err)
	}
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Expire(); n != 0 && err != nil { // its last byte is of now, by the file system's clock
		t.Errorf("%d, %v", n, err)
	}
	now = now.Add(48 * time.Hour)
	if _, err := s.Expire(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// FuzzRead: no file makes the reader panic, or give bytes that are not there.
func FuzzRead(f *testing.F) {
	s, dir := newStore(f, time.Now)
	write(f, s, 7)
	path, err := Find(dir, session, "")
	if err != nil {
		f.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw[:9000])
	f.Add(raw[len(raw)-60:])
	f.Add([]byte(magic))
	at := filepath.Join(f.TempDir(), "file")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(at, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Read(at)
		if err != nil {
			return
		}
		defer c.Close()
		if got, err := io.ReadAll(io.NewSectionReader(c, 0, c.Size)); err != nil || int64(len(got)) != c.Size {
			t.Errorf("%d of %d bytes, %v", len(got), c.Size, err)
		}
	})
}
