package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func readAll(t *testing.T, dir string) ([]string, error) {
	t.Helper()
	var got []string
	j, err := openJournal(dir, func(e *entry, at span) error {
		got = append(got, fmt.Sprintf("%s %d", e.Name, at.len))
		return nil
	})
	if err != nil {
		return nil, err
	}
	return got, j.close()
}

// TestJournalTornAnywhere cuts the file at every third byte: what was synced before the last frame
// stays, and a cut never is an error.
func TestJournalTornAnywhere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "journal")
	var ends []int64
	for i := range 4 {
		j, err := openJournal(dir, func(*entry, span) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		seq, _, err := j.append(&entry{Type: entryRevoked, Name: fmt.Sprint(i)}, bytes.Repeat([]byte("x"), i))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(j.wait(seq), j.close()); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		ends = append(ends, info.Size())
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	mark, err := os.ReadFile(filepath.Join(dir, "journal.mark"))
	if err != nil || string(mark) != fmt.Sprintln(len(whole)) {
		t.Fatalf("mark %q, %v; want %d", mark, err, len(whole))
	}
	// What an orderly end marked is not taken for a torn end.
	if err := os.WriteFile(path, whole[:len(whole)-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(t, dir); !errors.Is(err, errJournalCorrupt) {
		t.Fatalf("cut below the mark: %v, want %v", err, errJournalCorrupt)
	}
	unmarked := func() {
		if err := os.RemoveAll(filepath.Join(dir, "journal.mark")); err != nil {
			t.Fatal(err)
		}
	}
	for cut := 0; cut <= len(whole); cut += 3 {
		want := 0
		for _, e := range ends {
			if e <= int64(cut) {
				want++
			}
		}
		unmarked()
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(t, dir)
		if err != nil || len(got) != want {
			t.Fatalf("cut at %d: %v, %v; want %d entries", cut, got, err, want)
		}
	}
	// A flipped bit is the torn end in the last frame, and corruption before it.
	for at := 0; at < len(whole); at += 5 {
		bent := bytes.Clone(whole)
		bent[at] ^= 0x10
		unmarked()
		if err := os.WriteFile(path, bent, 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readAll(t, dir)
		if last := int64(at) >= ends[2]; last && (err != nil || len(got) != 3) || !last && !errors.Is(err, errJournalCorrupt) {
			t.Fatalf("bit flipped at %d: %v, %v", at, got, err)
		}
	}
}

func TestJournalGroupCommitKeepsOrder(t *testing.T) {
	dir := t.TempDir()
	j, err := openJournal(dir, func(*entry, span) error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var order []string
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 25 {
				name := fmt.Sprintf("%d-%d", w, i)
				body := []byte(name)
				mu.Lock()
				seq, at, err := j.append(&entry{Type: entryRevoked, Name: name}, body)
				order = append(order, fmt.Sprintf("%s %d", name, len(body)))
				mu.Unlock()
				if err != nil || j.wait(seq) != nil {
					t.Error("append or wait failed")
					return
				}
				if got, err := j.read(at); err != nil || string(got) != name {
					t.Errorf("read %q, %v; want %q", got, err, name)
				}
			}
		}()
	}
	wg.Wait()
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	got, err := readAll(t, dir)
	if err != nil || fmt.Sprint(got) != fmt.Sprint(order) {
		t.Errorf("replayed %d entries in another order, %v", len(got), err)
	}
}

// TestJournalThatCannotWriteDenies: after one failed write nothing is acknowledged any more.
func TestJournalThatCannotWriteDenies(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	b := w.start(w.access("chen", d))
	index := w.log.add(b)
	req := w.log.request(index, w.log.cosigned(w.m))
	if err := w.m.journal.files.active.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		text, no, err := w.m.Permit(t.Context(), req)
		if text != "" || (err == nil && no == nil) {
			t.Errorf("permit %q, %s, %v from a monitor whose disk is gone", text, show(no), err)
		}
	}
	w.m.journal.mu.Lock()
	w.m.journal.closing = true
	w.m.journal.mu.Unlock()
	w.m.once.Do(func() { w.m.diary.log.Close(t.Context()) })
}
