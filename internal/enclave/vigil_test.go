package enclave

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/release"
)

// watched is a monitor that a test turns off, and a vigil over it.
type watched struct {
	t    *testing.T
	mu   sync.Mutex
	away bool
	text string
	told []absent
	now  time.Time
	c    *Config
	v    *vigil
}

func newWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{t: t, now: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}
	monitor := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.away || r.URL.Path != "/stops" {
			rw.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = rw.Write([]byte(w.text))
	}))
	t.Cleanup(monitor.Close)
	contact := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n absent
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told = append(w.told, n)
	}))
	t.Cleanup(contact.Close)
	w.c = &Config{Name: "example", Monitor: Monitor{URL: monitor.URL}, Log: Log{Directory: t.TempDir(), Origin: "example.eu/log"},
		Regulator: &Regulator{Contact: "dpc@example.ie", Webhook: contact.URL, File: filepath.Join(t.TempDir(), "notices")}}
	return w
}

func (w *watched) open() {
	w.t.Helper()
	var err error
	if w.v, err = newVigil(w.c, nil, new(release.Epoch), func() time.Time { return w.now }); err != nil {
		w.t.Fatal(err)
	}
}

// TestRegulatorIsToldOfAnAbsentMonitor: after a day, once, also over restarts, and of the return.
func TestRegulatorIsToldOfAnAbsentMonitor(t *testing.T) {
	w := newWatched(t)
	w.open()
	if err := w.v.round(t.Context()); err != nil {
		t.Fatal(err)
	}
	since := w.now
	w.away = true
	w.now = w.now.Add(13 * time.Hour)
	_ = w.v.round(t.Context())
	w.open() // a restart does not begin the day anew
	w.now = since.Add(absence - time.Second)
	if err := w.v.round(t.Context()); err == nil || len(w.told) != 0 {
		t.Fatalf("before a day: %v, told %v", err, w.told)
	}
	for range 3 {
		w.now = w.now.Add(time.Second)
		_ = w.v.round(t.Context())
	}
	if len(w.told) != 1 || w.told[0].Event != "monitor-absent" || !w.told[0].Since.Equal(since) || w.told[0].Contact != "dpc@example.ie" {
		t.Fatalf("told %+v", w.told)
	}
	w.mu.Lock()
	w.away = false
	w.mu.Unlock()
	for range 3 {
		w.now = w.now.Add(time.Second)
		if err := w.v.round(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if len(w.told) != 2 || w.told[1].Event != "monitor-returned" {
		t.Errorf("told %+v", w.told)
	}
	lines, err := os.ReadFile(w.c.Regulator.File)
	if err != nil || strings.Count(string(lines), "\n") != 2 {
		t.Errorf("the file holds %q, %v", lines, err)
	}
}

// TestUnsignedCountOfStops: only the monitor's stop key voids permits.
func TestUnsignedCountOfStops(t *testing.T) {
	w := newWatched(t)
	skey, vkey, err := note.GenerateKey(rand.Reader, "monitor.example/stop")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	w.c.Monitor.Stop = vkey
	w.open()
	good, err := trefoil.SignStops(trefoil.Stops{Monitor: "monitor.example", Epoch: 3, At: w.now}, signer)
	if err != nil {
		t.Fatal(err)
	}
	w.text = strings.Replace(good, "\n3\n", "\n9\n", 1)
	if err := w.v.round(t.Context()); err == nil {
		t.Error("an altered count was taken")
	}
	w.text = good
	if err := w.v.round(t.Context()); err != nil {
		t.Error(err)
	}
	if seen := w.v.epoch.Seen(); seen != 3 {
		t.Errorf("the epoch seen is %d, want 3", seen)
	}
}
