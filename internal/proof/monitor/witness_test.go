package monitor

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"golang.org/x/mod/sumdb/note"
)

func post(t testing.TB, url, path, token string, body []byte) (int, string, http.Header) {
	t.Helper()
	req, err := http.NewRequest(http.MethodPost, url+path, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	out, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(out), resp.Header
}

// TestAddCheckpointCodes goes through the answers that C2SP tlog-witness prescribes.
func TestAddCheckpointCodes(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(w.m.Handler())
	defer s.Close()
	w.log.pad(300)
	empty := w.log.fork(0)
	stranger := newTestLog(t, "stranger.example/log")
	stranger.pad(1)
	forged := newTestLog(t, testOrigin) // same origin, other key
	forged.pad(300)
	split := w.log.fork(100)
	split.pad(300)

	check := func(what string, body []byte, want int, wantBody string) {
		t.Helper()
		code, out, h := post(t, s.URL, "/add-checkpoint", "", body)
		if code != want || (wantBody != "" && out != wantBody) {
			t.Errorf("%s: %d %q, want %d %q", what, code, out, want, wantBody)
		}
		if code == http.StatusConflict && h.Get("Content-Type") != "text/x.tlog.size" {
			t.Errorf("%s: content type %q", what, h.Get("Content-Type"))
		}
		if code == http.StatusOK {
			raw := append(body[bytes.Index(body, []byte("\n\n"))+2:], out...)
			if _, err := w.m.followers[0].trust.VerifyCheckpoint(raw); err != nil {
				t.Errorf("%s: answer does not verify: %v", what, err)
			}
		}
	}
	check("empty tree", empty.addRequest(0, 0), 200, "")
	check("first", w.log.addRequest(0, 100), 200, "")
	check("first again", w.log.addRequest(0, 100), 409, "100\n")
	check("same size", w.log.addRequest(100, 100), 200, "")
	check("grows", w.log.addRequest(100, 257), 200, "")
	check("old size behind", w.log.addRequest(100, 300), 409, "257\n")
	check("old size ahead", w.log.addRequest(280, 300), 409, "257\n")
	check("old larger than new", w.log.addRequest(257, 100), 400, "")
	check("split view", split.addRequest(257, 300), 422, "")
	check("split view, same size", split.addRequest(257, 257), 409, "257\n")
	check("unknown origin", stranger.addRequest(0, 1), 404, "")
	check("forged", forged.addRequest(257, 300), 403, "")
	good := w.log.addRequest(257, 300)
	check("no proof", []byte("old 257\n\n"+string(w.log.checkpoint(300))), 422, "")
	check("wrong hash", bytes.Replace(good, good[8:10], []byte("AA"), 1), 422, "")
	check("63 hashes", []byte("old 257\n"+strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 63)+"\n"+string(w.log.checkpoint(300))), 422, "")
	check("64 hashes", []byte("old 257\n"+strings.Repeat(base64.StdEncoding.EncodeToString(make([]byte, 32))+"\n", 64)+"\n"+string(w.log.checkpoint(300))), 400, "")
	check("leading zero", append([]byte("old 0257"), good[7:]...), 400, "")
	check("no old line", good[8:], 400, "")
	check("too large", bytes.Repeat([]byte("a"), maxAddCheckpoint+1), 413, "")
	check("good", good, 200, "")
	if code, _, _ := post(t, s.URL, "/permit", "", nil); code != http.StatusUnauthorized {
		t.Errorf("permit without a token: %d", code)
	}
	if w.found("split-view") != 1 || w.found("inconsistent") == 0 {
		t.Errorf("findings: %d split views, %d inconsistent", w.found("split-view"), w.found("inconsistent"))
	}
}

// TestLogRewoundToBackup: a log restored from an older copy is told its true size for ever,
// also after the monitor restarts, and cannot grow another branch.
func TestLogRewoundToBackup(t *testing.T) {
	w := newWorld(t)
	w.log.pad(50)
	w.log.cosigned(w.m)
	backup := w.log.fork(20)
	backup.pad(40)
	for range 2 {
		for _, old := range []uint64{0, 20, 50} {
			line, size, err := w.m.AddCheckpoint(backup.addRequest(old, 60))
			if len(line) > 0 || err == nil {
				t.Fatalf("old %d: cosigned a rewound log", old)
			}
			if errors.Is(err, errConflict) && size != 50 {
				t.Errorf("old %d: told size %d, want 50", old, size)
			}
		}
		if _, _, err := w.m.AddCheckpoint(backup.addRequest(20, 30)); !errors.Is(err, errConflict) {
			t.Errorf("smaller tree: %v, want %v", err, errConflict)
		}
		w.close()
		w.open()
	}
	if w.found("rewound") == 0 || w.found("inconsistent") == 0 {
		t.Error("no finding was made")
	}
}

// TestForgedReplayedAndCrossLogCosignatures: only this monitor's cosignature on this
// checkpoint of this log counts in a proof.
func TestForgedReplayedAndCrossLogCosignatures(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	index := w.log.add(w.start(w.access("chen", d)))
	n := w.log.size()
	before := w.log.checkpoint(n - 1)
	earlier, err := note.Open(w.m.followers[0].witness.checkpoint(), note.VerifierList(w.m.keys.witnessVerifier))
	if err != nil {
		t.Fatal(err)
	}
	replayed := fmt.Sprintf("— %s %s\n", earlier.Sigs[0].Name, earlier.Sigs[0].Base64)
	other := newWorld(t)
	other.log.pad(int(n))
	crossLog := string(other.log.cosigned(other.m))
	crossLog = crossLog[strings.LastIndex(crossLog, "— "):]
	cp := w.log.checkpoint(n)
	for name, cosignature := range map[string]string{
		"none":             "",
		"replayed":         replayed,
		"another monitor":  crossLog,
		"forged":           replayed[:len(replayed)-10] + "AAAAAAA==\n",
		"the log's, twice": string(cp[bytes.LastIndex(cp, []byte("— ")):]),
	} {
		req := w.log.request(index, append(append([]byte(nil), cp...), cosignature...))
		if text, _, err := w.m.Permit(t.Context(), req); text != "" || !errors.Is(err, errUnproved) {
			t.Errorf("%s: %q, %v; want %v", name, text, err, errUnproved)
		}
	}
	// The true cosignature of the checkpoint before does not cover the record.
	if _, err := trefoil.ParseCheckpoint(before); err != nil {
		t.Fatal(err)
	}
	w.log.cosigned(w.m)
	if _, no, err := w.m.Permit(t.Context(), w.log.request(index, w.log.served)); err != nil || no != nil {
		t.Errorf("true cosignature: %s, %v", show(no), err)
	}
}

// TestConcurrentAddCheckpointSignsOneRootPerSize races two branches of one log.
func TestConcurrentAddCheckpointSignsOneRootPerSize(t *testing.T) {
	w := newWorld(t)
	w.log.pad(10)
	w.log.cosigned(w.m)
	branches := []*testLog{w.log.fork(10), w.log.fork(10)}
	for _, b := range branches {
		b.pad(30)
	}
	type signed struct {
		size uint64
		root [32]byte
	}
	var mu sync.Mutex
	seen := map[uint64][32]byte{}
	var wg sync.WaitGroup
	var two []signed
	for _, b := range branches {
		for range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for old := uint64(10); old < 40; old++ {
					line, _, err := w.m.AddCheckpoint(b.addRequest(old, old+1))
					if err != nil || len(line) == 0 {
						continue
					}
					root := b.root(old + 1)
					mu.Lock()
					if r, ok := seen[old+1]; ok && r != root {
						two = append(two, signed{old + 1, root})
					}
					seen[old+1] = root
					mu.Unlock()
				}
			}()
		}
	}
	wg.Wait()
	if len(two) > 0 {
		t.Fatalf("two roots were signed for sizes %v", two)
	}
	if len(seen) == 0 {
		t.Fatal("nothing was signed: the race tested nothing")
	}
}

// TestWitnessStateLostOrCorrupt: the monitor does not start on state it cannot trust.
func TestWitnessStateLostOrCorrupt(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	w.permitted(w.start(w.access("chen", d)))
	path := filepath.Join(w.dir, "state", "witness", originHash(testOrigin))
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	reopen := func() error {
		m, err := New(t.Context(), Config{Dir: w.dir, Now: w.clock.now})
		if err == nil {
			err = m.Close(t.Context())
		}
		return err
	}
	for name, broken := range map[string][]byte{
		"truncated": whole[:len(whole)/2],
		"empty":     {},
		"other size": bytes.Replace(whole, fmt.Appendf(nil, "\n%d\n", w.log.size()),
			fmt.Appendf(nil, "\n%d\n", w.log.size()-1), 1),
		"not cosigned": w.log.checkpoint(w.log.size()),
	} {
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := reopen(); !errors.Is(err, errWitnessState) {
			t.Errorf("%s: %v, want %v", name, err, errWitnessState)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := reopen(); !errors.Is(err, errWitnessState) {
		t.Errorf("removed: %v, want %v", err, errWitnessState)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
}

// TestMonitorDiskSetBack: an older image of the monitor's disk is noticed by its own
// signature on something larger, and what was signed stays signed.
func TestMonitorDiskSetBack(t *testing.T) {
	w := newWorld(t)
	w.log.pad(10)
	w.log.cosigned(w.m)
	path := filepath.Join(w.dir, "state", "witness", originHash(testOrigin))
	image, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	branch := w.log.fork(10)
	branch.pad(20)
	w.log.pad(10)
	cp := w.log.cosigned(w.m) // size 20, signed
	w.close()
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	if err := w.m.Sync(t.Context()); err != nil { // the log shows what was signed
		t.Fatal(err)
	}
	if w.found("state-set-back") != 1 {
		t.Error("the set-back disk made no finding")
	}
	if got := w.m.followers[0].witness.size(); got != 20 {
		t.Errorf("witness state is %d, want 20", got)
	}
	if _, _, err := w.m.AddCheckpoint(branch.addRequest(10, 30)); !errors.Is(err, errConflict) {
		t.Errorf("another branch after the set-back: %v, want %v", err, errConflict)
	}
	_ = cp
}

// TestCheckpointIsDurableBeforeItIsSigned: when the disk refuses, nothing is signed and
// nothing is remembered.
func TestCheckpointIsDurableBeforeItIsSigned(t *testing.T) {
	w := newWorld(t)
	w.log.pad(5)
	w.log.cosigned(w.m)
	x := w.m.followers[0].witness
	full := errors.New("no space left")
	x.sync = func(string, []byte, os.FileMode) error { return full }
	w.log.pad(5)
	if line, _, err := w.m.AddCheckpoint(w.log.addRequest(5, 10)); len(line) > 0 || !errors.Is(err, full) {
		t.Errorf("got %q, %v; want %v", line, err, full)
	}
	x.sync = writeFileSync
	if _, size, err := w.m.AddCheckpoint(w.log.addRequest(10, 10)); !errors.Is(err, errConflict) || size != 5 {
		t.Errorf("size %d, %v; want a conflict at 5", size, err)
	}
	w.log.cosigned(w.m)
}

func FuzzAddCheckpoint(f *testing.F) {
	w := newWorld(f)
	w.log.pad(20)
	w.log.cosigned(w.m)
	w.log.pad(5)
	f.Add(w.log.addRequest(20, 25))
	f.Add([]byte("old 0\n\n"))
	f.Add([]byte("old 20\nAAAA\n\nexample.eu/log\n25\nAAAA\n\n— a b\n"))
	h := w.m.Handler()
	w.quiet()
	f.Fuzz(func(t *testing.T, body []byte) {
		r := httptest.NewRequest(http.MethodPost, "/add-checkpoint", bytes.NewReader(body))
		rec := httptest.NewRecorder()
		r.Header.Set("Authorization", "Bearer "+w.m.token) // no rate limit
		h.ServeHTTP(rec, r)
		if rec.Code == http.StatusInternalServerError {
			t.Errorf("status %d for %q", rec.Code, body)
		}
		if rec.Code == http.StatusOK && !bytes.Contains(body, []byte("\nexample.eu/log\n25\n")) {
			t.Errorf("cosigned %q", body)
		}
	})
}
