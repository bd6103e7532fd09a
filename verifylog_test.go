package trefoil_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

func TestVerifyLogOfEverySize(t *testing.T) {
	w := newWorld(t)
	for _, size := range []int{0, 1, 2, 255, 256, 257, 511, 512, 1000, 66000} {
		w.addOthers(size - len(w.leaves))
		w.signed = w.checkpoint()
		seen := uint64(0)
		report, err := trefoil.VerifyLog(t.Context(), w, w.trust, trefoil.LogOptions{Tiles: true, Leaf: func(i uint64, leaf []byte) error {
			if i != seen || !bytes.Equal(leaf, w.leaves[i]) {
				return errors.New("another leaf")
			}
			seen++
			return nil
		}})
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		if report.Leaves != uint64(size) || seen != uint64(size) || len(report.Checkpoint.Witnessed) != 2 {
			t.Fatalf("size %d: %d leaves", size, report.Leaves)
		}
	}
}

// TestTamperedLogs changes what a log publishes, one thing at a time.
func TestTamperedLogs(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func(w *world, o *trefoil.LogOptions)
		want   trefoil.Reason
	}{
		"leaf altered": {func(w *world, o *trefoil.LogOptions) {
			o.Tiles = false
			b, _ := w.Entries(context.TODO(), 1, 256)
			b[705] ^= 1
			w.broken[trefoil.EntriesPath(1, 256)] = b
		}, trefoil.ReasonRoot},
		"two leaves swapped": {func(w *world, o *trefoil.LogOptions) {
			o.Tiles = false
			b, _ := w.Entries(context.TODO(), 0, 256)
			b = append(append(append([]byte{}, b[35:70]...), b[:35]...), b[70:]...)
			w.broken[trefoil.EntriesPath(0, 256)] = b
		}, trefoil.ReasonRoot},
		"bundle missing": {func(w *world, _ *trefoil.LogOptions) { w.broken[trefoil.EntriesPath(1, 256)] = nil }, trefoil.ReasonEntries},
		"bundle cut": {func(w *world, _ *trefoil.LogOptions) {
			b, _ := w.Entries(context.TODO(), 2, 88)
			w.broken[trefoil.EntriesPath(2, 88)] = b[:len(b)-1]
		}, trefoil.ReasonEntries},
		"bundle too long": {func(w *world, _ *trefoil.LogOptions) {
			b, _ := w.Entries(context.TODO(), 2, 88)
			w.broken[trefoil.EntriesPath(2, 88)] = append(b, 0, 0)
		}, trefoil.ReasonEntries},
		"tile altered": {func(w *world, _ *trefoil.LogOptions) {
			b, _ := w.Tile(context.TODO(), 0, 1, 256)
			b[9] ^= 1
			w.broken[trefoil.TilePath(0, 1, 256)] = b
		}, trefoil.ReasonTiles},
		"tile above altered": {func(w *world, _ *trefoil.LogOptions) {
			b, _ := w.Tile(context.TODO(), 1, 0, 2)
			b[40] ^= 1
			w.broken[trefoil.TilePath(1, 0, 2)] = b
		}, trefoil.ReasonTiles},
		"rewound": {func(w *world, o *trefoil.LogOptions) {
			o.Earlier = w.signed
			w.leaves, w.stored = nil, nil
			w.addOthers(10)
			w.signed = w.checkpoint()
		}, trefoil.ReasonRewound},
		"split view at the same size": {func(w *world, o *trefoil.LogOptions) {
			o.Earlier = w.signed
			w.leaves, w.stored = nil, nil
			w.add([]byte("another first leaf"))
			w.addOthers(599)
			w.signed = w.checkpoint()
		}, trefoil.ReasonSplit},
		"past rewritten": {func(w *world, o *trefoil.LogOptions) {
			o.Earlier = w.signed
			w.leaves, w.stored = nil, nil
			w.add([]byte("another first leaf"))
			w.addOthers(700)
			w.signed = w.checkpoint()
		}, trefoil.ReasonSplit},
		"earlier checkpoint not the log's": {func(w *world, o *trefoil.LogOptions) {
			o.Earlier = sign(w.t, w.text(origin, 10), w.one)
		}, trefoil.ReasonLogSignature},
		"checkpoint not witnessed": {func(w *world, _ *trefoil.LogOptions) {
			w.signed = sign(w.t, w.text(origin, 600), w.log)
		}, trefoil.ReasonQuorum},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.addOthers(600)
			w.signed = w.checkpoint()
			o := trefoil.LogOptions{Tiles: true}
			c.tamper(w, &o)
			_, err := trefoil.VerifyLog(t.Context(), w, w.trust, o)
			fails(t, err, c.want)
		})
	}
}

func TestLogThatGrewIsConsistent(t *testing.T) {
	w := newWorld(t)
	w.addOthers(300)
	earlier := w.checkpoint()
	w.addOthers(300)
	w.signed = w.checkpoint()
	report, err := trefoil.VerifyLog(t.Context(), w, w.trust, trefoil.LogOptions{Earlier: earlier})
	if err != nil {
		t.Fatal(err)
	}
	if report.Earlier.Size != 300 {
		t.Fatal("the earlier checkpoint is not in the report")
	}
}

// TestHostileServer answers with too much, with errors, and not at all.
func TestHostileServer(t *testing.T) {
	endless := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		block := make([]byte, 1<<16)
		for r.Context().Err() == nil {
			if _, err := rw.Write(block); err != nil {
				return
			}
		}
	}))
	defer endless.Close()
	failing := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { http.Error(rw, "no", 500) }))
	defer failing.Close()
	missing := httptest.NewServer(http.NotFoundHandler())
	defer missing.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	w := newWorld(t)
	for name, url := range map[string]string{"endless": endless.URL, "failing": failing.URL, "missing": missing.URL, "away": "http://127.0.0.1:1"} {
		c := trefoil.NewClient(url, nil)
		if _, err := trefoil.VerifyLog(ctx, c, w.trust, trefoil.LogOptions{}); err == nil {
			t.Errorf("%s: verifies", name)
		}
		if _, err := c.Tile(ctx, 0, 0, 3); err == nil {
			t.Errorf("%s: gives a tile", name)
		}
		if _, err := c.Entries(ctx, 0, 256); err == nil {
			t.Errorf("%s: gives entries", name)
		}
	}
	if _, err := trefoil.NewClient(missing.URL, nil).Checkpoint(ctx); !errors.Is(err, trefoil.ErrNotFound) {
		t.Errorf("missing: %v, want ErrNotFound", err)
	}
}

// TestPartialTileThatWasCollected: a log may drop a partial tile once the full one is there.
func TestPartialTileThatWasCollected(t *testing.T) {
	w := newWorld(t)
	w.addOthers(256)
	dir := t.TempDir()
	tile, _ := w.Tile(t.Context(), 0, 0, 256)
	entries, _ := w.Entries(t.Context(), 0, 256)
	for path, data := range map[string][]byte{trefoil.TilePath(0, 0, 256): tile, trefoil.EntriesPath(0, 256): entries} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(http.FileServer(http.Dir(dir)))
	defer s.Close()
	for name, f := range map[string]trefoil.Fetcher{"directory": trefoil.Directory(dir), "http": trefoil.NewClient(s.URL, nil)} {
		got, err := f.Tile(t.Context(), 0, 0, 7)
		if err != nil || !bytes.Equal(got, tile[:7*32]) {
			t.Errorf("%s: tile: %v", name, err)
		}
		got, err = f.Entries(t.Context(), 0, 7)
		if err != nil || !bytes.Equal(got, entries[:7*35]) {
			t.Errorf("%s: entries: %v", name, err)
		}
		for _, width := range []int{0, -1, 257} {
			if _, err := f.Tile(t.Context(), 0, 0, width); err == nil {
				t.Errorf("%s: a tile of width %d", name, width)
			}
		}
	}
}

// BenchmarkVerifyLog re-verifies a tree of 200,000 leaves.
func BenchmarkVerifyLog(b *testing.B) {
	w := newWorld(b)
	w.addOthers(200_000)
	w.signed = w.checkpoint()
	for i := range uint64(200_000/256 + 1) {
		width := int(min(200_000-i*256, 256))
		w.broken[trefoil.EntriesPath(i, width)], _ = w.Entries(context.TODO(), i, width)
	}
	b.ResetTimer()
	for range b.N {
		if _, err := trefoil.VerifyLog(b.Context(), w, w.trust, trefoil.LogOptions{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(200_000*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}

// BenchmarkVerifyRecord is the full check of one record: body, salt, leaf, permit.
func BenchmarkVerifyRecord(b *testing.B) {
	w := newWorld(b)
	r := release(b, nil)
	permit := w.permitFor(1, r, nil)
	for range b.N {
		if _, err := trefoil.DecodeBody(r.Body); err != nil {
			b.Fatal(err)
		}
		p, err := trefoil.OpenPermit(permit, w.trust.Permit)
		if err != nil || p.Leaf != trefoil.LeafHash(r.Leaf()) {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "records/s")
}
