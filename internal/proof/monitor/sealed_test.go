package monitor

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// sealedWorld is a world whose journal has sealed parts, one that waits, and an active file, with what
// every entry was.
func sealedJournal(t *testing.T) (dir string, entries []string) {
	t.Helper()
	dir = t.TempDir()
	j, err := openJournal(dir, func(*entry, span) error { return nil })
	must(t, err)
	j.sealSize = 100_000
	for i := range 3000 {
		rec, err := trefoil.NewRecord(siteBody(fmt.Sprint("log/", i)))
		must(t, err)
		leaf := trefoil.LeafHash(rec.Leaf())
		e := &entry{Type: entryRecord, Index: uint64(i), Leaf: leaf[:], Salt: rec.Salt, Origin: "log"}
		if i%7 == 0 { // a decision without a body keeps its leaf
			rec.Body = nil
		}
		if i%11 == 0 { // a leaf that is not the body's is not left out
			e.Leaf[0] ^= 1
		}
		seq, at, err := j.append(e, rec.Body)
		must(t, err)
		entries = append(entries, show(e)+string(rec.Body))
		if i%100 == 0 {
			must(t, j.wait(seq))
			got, body, err := j.entry(at)
			must(t, err)
			if show(got)+string(body) != entries[i] {
				t.Fatalf("entry %d reads as %s", i, show(got))
			}
		}
	}
	must(t, j.close())
	return dir, entries
}

// journalEntries replays a journal, as its owner or beside it.
func journalEntries(dir string, own bool) (entries []string, err error) {
	if !own {
		err = readJournal(dir, func(e *entry, body []byte) error {
			entries = append(entries, show(e)+string(body))
			return nil
		})
		return entries, err
	}
	var spans []span
	j, err := openJournal(dir, func(_ *entry, at span) error { spans = append(spans, at); return nil })
	if err != nil {
		return nil, err
	}
	for _, at := range spans {
		e, body, err := j.entry(at)
		if err != nil {
			return nil, errors.Join(err, j.close())
		}
		entries = append(entries, show(e)+string(body))
	}
	return entries, j.close()
}

func parts(t *testing.T, dir, kind string) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, sealedDir, "*."+kind))
	must(t, err)
	return names
}

func TestSealedJournalIsTheSameJournal(t *testing.T) {
	dir, want := sealedJournal(t)
	if len(parts(t, dir, "zst")) < 5 || len(parts(t, dir, "raw")) != 0 {
		t.Fatalf("%d parts sealed, %d waiting", len(parts(t, dir, "zst")), len(parts(t, dir, "raw")))
	}
	for range 2 {
		for _, own := range []bool{true, false} {
			if got, err := journalEntries(dir, own); err != nil || !slices.Equal(got, want) {
				t.Fatalf("own %v: %d entries of %d, %v", own, len(got), len(want), err)
			}
		}
	}
}

func TestCrashWhileTheJournalIsSealed(t *testing.T) {
	for name, crash := range map[string]func(dir string) error{
		"no new file yet": func(dir string) error {
			mark, err := os.ReadFile(filepath.Join(dir, "journal.mark"))
			if err != nil || len(mark) == 0 {
				return errors.New("no mark")
			}
			f, err := openFiles(dir, os.O_RDWR)
			if err != nil {
				return err
			}
			size, err := f.size()
			return errors.Join(err, f.rotate(size-f.base), f.close(), os.Remove(filepath.Join(dir, "journal")))
		},
		"compressed, and not removed yet": func(dir string) error {
			f, err := openFiles(dir, os.O_RDWR)
			if err != nil {
				return err
			}
			size, err := f.size()
			if err := errors.Join(err, f.rotate(size-f.base)); err != nil {
				return err
			}
			raw := f.sealed[len(f.sealed)-1].path
			copied, err := os.ReadFile(raw)
			_, serr := f.seal()
			return errors.Join(err, serr, os.WriteFile(raw, copied, 0o600), f.close())
		},
		"half of the compressed file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, sealedDir, ".tmp-1"), []byte("TRZ1"), 0o600)
		},
	} {
		dir, want := sealedJournal(t)
		must(t, crash(dir))
		for _, own := range []bool{true, false} { // its owner first: it makes the file that is missing
			if got, err := journalEntries(dir, own); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s: own %v: %d entries of %d, %v", name, own, len(got), len(want), err)
			}
		}
	}
}

func TestSealedJournalThatWasTamperedWith(t *testing.T) {
	for name, tamper := range map[string]func(paths []string) error{
		"a part removed":          func(p []string) error { return os.Remove(p[2]) },
		"the first removed":       func(p []string) error { return os.Remove(p[0]) },
		"the last removed":        func(p []string) error { return os.Remove(p[len(p)-1]) },
		"a part in another place": func(p []string) error { return os.Rename(p[1], strings.TrimSuffix(p[1], "0.zst")+"1.zst") },
		"a part doubled": func(p []string) error {
			b, err := os.ReadFile(p[1])
			return errors.Join(err, os.WriteFile(p[2], b, 0o600))
		},
		"cut": func(p []string) error {
			info, err := os.Stat(p[1])
			return errors.Join(err, os.Truncate(p[1], info.Size()-1))
		},
		"a byte of the header":  func(p []string) error { return flipByte(p[1], 15) },
		"a byte of the length":  func(p []string) error { return flipByte(p[1], sealedHeader) },
		"a byte of the content": func(p []string) error { return flipByte(p[1], 500) },
		"emptied":               func(p []string) error { return os.Truncate(p[1], 0) },
	} {
		dir, _ := sealedJournal(t)
		must(t, tamper(parts(t, dir, "zst")))
		for _, own := range []bool{true, false} {
			if got, err := journalEntries(dir, own); err == nil {
				t.Errorf("%s: own %v: read as %d entries", name, own, len(got))
			}
		}
	}
}

func flipByte(path string, at int64) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[at] ^= 0x20
	return os.WriteFile(path, b, 0o600)
}

// TestMonitorOnASealedJournal: permits, receipts and a restart are what they were, and the whole
// verifies.
func TestMonitorOnASealedJournal(t *testing.T) {
	w := newWorld(t)
	w.m.journal.sealSize = 20_000
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	var last string
	for i := range int64(40) {
		last = w.permitted(w.release(a, i, 100, 100*(i+1)))
	}
	w.follow()
	w.close()
	if n := len(parts(t, filepath.Join(w.dir, "state"), "zst")); n < 2 {
		t.Fatalf("%d parts sealed", n)
	}
	w.open()
	for i := range w.log.size() {
		rec, permit, err := w.m.Record(0, i)
		must(t, err)
		if !bytes.Equal(rec.Body, w.log.records[i].Body) || !bytes.Equal(rec.Salt, w.log.records[i].Salt) {
			t.Errorf("record %d is another", i)
		}
		if i == w.log.size()-1 && permit != last {
			t.Errorf("the permit of the last record is another: %q", permit)
		}
	}
	if got := w.permitted(w.release(a, 40, 100, 4100)); got == "" {
		t.Error("the session does not go on")
	}
	w.follow()
	reports, err := Verify(t.Context(), w.dir, nil)
	if err != nil || reports[0].Bodies != w.log.size() || reports[0].Permitted != 42 {
		t.Errorf("%+v, %v", reports, err)
	}
}

func TestRecordTable(t *testing.T) {
	table, want := newRecordTable(), map[recordKey]record{}
	at := time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC).Unix()
	for i := range uint64(5000) {
		k := recordKey{int(i % 3), i * i % 100_000}
		r := record{body: span{int64(i) + 12, int(i), 300}, leaf: halfLeaf{byte(i)}, permitted: i%2 == 0, expires: at, epoch: i}
		table.put(k, &r)
		want[k] = r
	}
	for k, r := range want {
		if got := table.get(k); got == nil || *got != r || !table.has(k) {
			t.Fatalf("%v is %+v, want %+v", k, got, r)
		}
	}
	if k := (recordKey{0, 99_999_999}); table.get(k) != nil || table.has(k) || table.get(recordKey{9, 0}) != nil {
		t.Error("a record that was not put")
	}
}

func FuzzSealed(f *testing.F) {
	f.Add([]byte("TRZ1\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x10\x00\x00\x00\x01\x00\x00\x00\x00x"))
	dir := f.TempDir()
	files, err := openFiles(dir, os.O_RDWR|os.O_CREATE)
	if err != nil {
		f.Fatal(err)
	}
	good, err := files.pack(segment{end: 3000}, bytes.Repeat([]byte("abc"), 1000))
	if err := errors.Join(err, files.close()); err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, sealedDir), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, sealedDir, fmt.Sprintf("%016x.zst", 0)), raw, 0o600))
		files, err := openFiles(dir, os.O_RDWR|os.O_CREATE)
		if err != nil {
			return
		}
		defer files.close()
		p := make([]byte, min(files.base, 1<<16))
		_, _ = files.ReadAt(p, 0) // an error or bytes, and no panic
	})
}
