package monitor

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// TestKeysAreReplacedWithAnOverlap: who trusts the old keys verifies what is signed in the overlap;
// afterwards only who took the successions up does, and what was signed before still holds.
func TestKeysAreReplacedWithAnOverlap(t *testing.T) {
	w := newWorld(t)
	w.clock.t = time.Now().UTC() // a cosignature carries the machine's time
	d := analyticsDefinition()
	w.acknowledged(d)
	before := w.access("chen", d)
	_, _, start := w.ask(w.start(before))
	first, _, err := w.m.Permit(context.Background(), start)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := Rotate(w.dir, UsePermit, time.Hour, time.Now()); !errors.Is(err, errLocked) {
		t.Errorf("a running monitor's key: %v, want %v", err, errLocked)
	}
	w.close()
	var notes []string
	for _, use := range []string{UseWitness, UsePermit} {
		_, text, err := Rotate(w.dir, use, time.Hour, time.Now().Add(-2*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		notes = append(notes, text)
	}
	w.open()
	w.permitted(w.release(before, 0, 1, 1))
	holds := func(name string, trust *trefoil.Trust, text string, req *trefoil.PermitRequest, want bool) {
		t.Helper()
		_, err := trust.VerifyReceipt(&trefoil.Receipt{Record: trefoil.Record{Body: req.Body, Salt: req.Salt}, Proof: req.Proof, Permit: text})
		if (err == nil) != want {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
	}
	heirs := func() *trefoil.Trust {
		t.Helper()
		trust := *w.trust
		for _, n := range notes {
			if err := trust.Succeed(n); err != nil {
				t.Fatal(err)
			}
		}
		return &trust
	}
	text, no, req := w.ask(w.start(w.access("chen", d)))
	if no != nil {
		t.Fatal(show(no))
	}
	holds("old keys in the overlap", w.trust, text, req, true)
	holds("successions in the overlap", heirs(), text, req, true)
	holds("what was signed before", heirs(), first, start, true)

	w.clock.add(2 * time.Hour) // the overlap is over
	text, no, req = w.ask(w.start(w.access("chen", d)))
	if no != nil {
		t.Fatal(show(no))
	}
	holds("old keys after the overlap", w.trust, text, req, false)
	holds("successions after the overlap", heirs(), text, req, true)
	w.close()
	w.open() // the state that the outgoing key signed is still its own
	w.permitted(w.start(w.access("chen", d)))
	if _, _, err := Rotate(w.dir, UseLog, time.Hour, time.Now()); err == nil {
		t.Error("a log's key was rotated here")
	}
}

// TestReplacedMonitorKeyFile: a key file that somebody swapped without a succession does not start.
func TestReplacedMonitorKeyFile(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	w.permitted(w.start(w.access("chen", d)))
	w.close()
	if _, _, err := Rotate(w.dir, UsePermit, time.Hour, w.clock.now()); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, "keys", UsePermit)
	own, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := NewKey(UsePermit, "monitor.example/permit", path); err != nil {
		t.Fatal(err)
	}
	if m, err := New(t.Context(), Config{Dir: w.dir, Now: w.clock.now}); err == nil || !strings.Contains(err.Error(), "last succession") {
		t.Errorf("a permit key that no succession names: %v", err)
		if m != nil {
			_ = m.Close(t.Context())
		}
	}
	if err := os.WriteFile(path, own, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
}
