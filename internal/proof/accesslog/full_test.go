package accesslog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sys/unix"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/testkit/witnesstest"
)

func openFull(t *testing.T, dir string) (*Log, *trefoil.Trust) {
	t.Helper()
	signer, verifier, _ := witnesstest.Key(t, "log.example/full")
	w := witnesstest.Start(t, "witness.example", verifier)
	v, err := trefoil.NewWitnessVerifier(w.VKey)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(t.Context(), Config{Origin: signer.Name(), Directory: dir, Signer: signer, Witnesses: []Witness{{URL: w.URL, Key: w.VKey}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		_ = l.Close(ctx)
	})
	return l, &trefoil.Trust{Log: verifier, Witnesses: []note.Verifier{v}}
}

func siteRecord(t *testing.T, origin string) trefoil.Record {
	t.Helper()
	r, err := trefoil.NewRecord(&trefoil.Body{At: time.Now(), Kind: trefoil.KindSite, Origin: origin, Site: &trefoil.SiteBody{}})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// recorded appends a record and requires that it is witnessed.
func recorded(t *testing.T, l *Log) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	ticket, err := l.Append(ctx, siteRecord(t, l.c.Origin), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ticket.Witnessed(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return p.Index
}

func TestBodyThatTheDiskDoesNotTakeIsDenied(t *testing.T) {
	l, _ := openFull(t, t.TempDir())
	recorded(t, l)
	l.store.mu.Lock()
	for _, a := range l.store.active {
		full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.f.Close()
		a.f = full
	}
	l.store.mu.Unlock()
	if _, err := l.Append(t.Context(), siteRecord(t, l.c.Origin), nil); !errors.Is(err, ErrStore) || !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("Append on a full disk: %v, want ErrStore and ENOSPC", err)
	}
	if i := recorded(t, l); i != 1 {
		t.Fatalf("the next record has index %d, want 1: the denied one must not be in the log", i)
	}
}

// TestLeafThatTheTreeDoesNotTakeWaits: the body is durable, so the record must get into the log
// once the disk works again, and exactly once; until then new ones are denied.
func TestLeafThatTheTreeDoesNotTakeWaits(t *testing.T) {
	for name, applied := range map[string]bool{"nothing written": false, "error after it was written": true} {
		t.Run(name, func(t *testing.T) {
			l, trust := openFull(t, t.TempDir())
			recorded(t, l)
			real, failures := l.driver.add, 2
			l.driver.add = func(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
				if failures--; failures < 0 {
					return real(ctx, e)
				}
				return func() (tessera.Index, error) {
					if applied {
						if _, err := real(ctx, e)(); err != nil {
							return tessera.Index{}, err
						}
					}
					return tessera.Index{}, syscall.ENOSPC
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			r := siteRecord(t, l.c.Origin)
			ticket, err := l.Append(ctx, r, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := ticket.Witnessed(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := trust.VerifyProof(p, r.Leaf()); err != nil {
				t.Fatal(err)
			}
			if i := recorded(t, l); i != 2 || p.Index != 1 {
				t.Fatalf("indexes %d and %d, want 1 and 2: a leaf was added twice or lost", p.Index, i)
			}
		})
	}
}

func TestRecordsAreDeniedWhileTheTreeFails(t *testing.T) {
	l, _ := openFull(t, t.TempDir())
	recorded(t, l)
	l.driver.add = func(context.Context, *tessera.Entry) tessera.IndexFuture {
		return func() (tessera.Index, error) { return tessera.Index{}, syscall.ENOSPC }
	}
	if _, err := l.Append(t.Context(), siteRecord(t, l.c.Origin), nil); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for time.Now().Before(deadline) {
		_, err := l.Append(t.Context(), siteRecord(t, l.c.Origin), nil)
		if errors.Is(err, ErrStore) && errors.Is(err, syscall.ENOSPC) {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal("records are still accepted")
}

// TestFullFileSystem fills a real file system of 4 MiB under the log, and empties it again.
func TestFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		t.Skipf("mounting a small file system takes privileges: %v", err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	l, trust := openFull(t, filepath.Join(dir, "log"))
	recorded(t, l)
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	appended := 0
	var denied error
	for deadline := time.Now().Add(time.Minute); denied == nil && time.Now().Before(deadline); {
		if _, denied = l.Append(t.Context(), siteRecord(t, l.c.Origin), nil); denied == nil {
			appended++
		}
	}
	if !errors.Is(denied, ErrStore) || !errors.Is(denied, syscall.ENOSPC) {
		t.Fatalf("Append on a full disk: %v, want ErrStore and ENOSPC", denied)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	var last uint64
	for deadline := time.Now().Add(time.Minute); ; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		ticket, err := l.Append(ctx, siteRecord(t, l.c.Origin), nil)
		if err == nil {
			p, err := ticket.Witnessed(ctx)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			last = p.Index
			break
		}
		cancel()
		if time.Now().After(deadline) {
			t.Fatalf("the log does not go on after the disk has room again: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	if last != uint64(appended)+1 {
		t.Fatalf("last index %d, want %d: an appended record is not in the log, or twice", last, appended+1)
	}
	if _, err := trefoil.VerifyLog(t.Context(), l.public, trust, trefoil.LogOptions{}); err != nil {
		t.Fatal(err)
	}
}
