package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

func (w *world) synced() {
	w.t.Helper()
	if err := w.m.Sync(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func TestMirrorFollowsAndServes(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(w.m.Handler())
	defer s.Close()
	for _, n := range []int{1, 254, 1, 1, 600} { // up to, onto and over a tile's edge
		w.log.pad(n)
		w.log.cosigned(w.m)
		w.synced()
		url := s.URL + "/mirror/" + originHash(testOrigin)
		report, err := trefoil.VerifyLog(t.Context(), fetcher{url}, w.trust, trefoil.LogOptions{Tiles: true})
		if err != nil {
			t.Fatalf("size %d: %v", w.log.size(), err)
		}
		if report.Leaves != w.log.size() {
			t.Errorf("mirror serves %d leaves, want %d", report.Leaves, w.log.size())
		}
	}
	reports, err := Verify(t.Context(), w.dir, nil)
	if err != nil || reports[0].Leaves != 857 || reports[0].Bodies != 857 {
		t.Errorf("Verify = %s, %v; want 857 leaves and bodies", show(reports), err)
	}
	records, err := Records(w.dir)
	if err != nil || len(records) != 857 || records[856].Index != 856 || records[856].Permitted || records[856].Body.Kind == "" {
		t.Errorf("Records gives %d, %v; want 857", len(records), err)
	}
	w.close()
	w.open()
	w.log.pad(3)
	w.log.cosigned(w.m)
	w.synced()
	if st := w.m.Status(false).Logs[0]; st.Mirrored != 860 || st.Bodies != 860 || st.Records != 860 {
		t.Errorf("after a restart: %s", show(st))
	}
	s2 := httptest.NewServer(w.m.Handler())
	defer s2.Close()
	for path, want := range map[string]int{
		"/mirror/" + originHash(testOrigin) + "/tile/0/003.p/93":          404,
		"/mirror/" + originHash(testOrigin) + "/tile/0/..%2f..%2fjournal": 404,
		"/mirror/" + originHash(testOrigin) + "/edge.json":                404,
		"/mirror/unknown/checkpoint":                                      404,
		"/bodies/" + originHash(testOrigin) + "/0":                        401,
		"/healthz": 200,
	} {
		resp, err := http.Get(s2.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("GET %s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}

// fetcher reads a mirror over HTTP.
type fetcher struct{ url string }

func (f fetcher) Checkpoint(ctx context.Context) ([]byte, error) {
	return trefoil.NewClient(f.url, nil).Checkpoint(ctx)
}

func (f fetcher) Tile(ctx context.Context, level int, index uint64, width int) ([]byte, error) {
	return trefoil.NewClient(f.url, nil).Tile(ctx, level, index, width)
}

func (f fetcher) Entries(ctx context.Context, index uint64, width int) ([]byte, error) {
	return trefoil.NewClient(f.url, nil).Entries(ctx, index, width)
}

// TestSplitViewToTheMirror: the log shows the witness one tree and its readers another.
func TestSplitViewToTheMirror(t *testing.T) {
	w := newWorld(t)
	w.log.pad(20)
	w.log.cosigned(w.m)
	w.synced()
	good := w.log.served
	branch := w.log.fork(20)
	branch.pad(10)
	w.log.pad(10)
	w.log.cosigned(w.m)
	serve := func(leaves [][]byte, cp []byte) {
		w.log.mu.Lock()
		defer w.log.mu.Unlock()
		w.log.leaves, w.log.served = leaves, cp
	}
	honest, head := w.log.leaves, w.log.served
	serve(branch.leaves, branch.checkpoint(30))
	if err := w.m.Sync(t.Context()); !errors.Is(err, errSplit) {
		t.Errorf("other branch: %v, want %v", err, errSplit)
	}
	past := append([][]byte(nil), honest...)
	past[3] = trefoil.Record{Body: []byte("x"), Salt: make([]byte, 32)}.Leaf()
	serve(past, head)
	if err := w.m.Sync(t.Context()); !errors.Is(err, errSplit) {
		t.Errorf("altered past: %v, want %v", err, errSplit)
	}
	serve(honest, w.log.checkpoint(10))
	if err := w.m.Sync(t.Context()); !errors.Is(err, errRewound) {
		t.Errorf("rewound: %v, want %v", err, errRewound)
	}
	if w.found("split-view") != 2 || w.found("rewound") != 1 {
		t.Errorf("findings: %d split views and %d rewound, want 2 and 1", w.found("split-view"), w.found("rewound"))
	}
	if got := w.m.followers[0].tree.raw; !bytes.Equal(got, good) {
		t.Error("the mirror's head moved to a dishonest checkpoint")
	}
	serve(honest, head)
	w.synced()
	if _, err := Verify(t.Context(), w.dir, nil); err != nil {
		t.Errorf("mirror after the attack: %v", err)
	}
}

// A client that goes away while its answer is held leaves records that nobody asks for. It
// must not be able to fill the findings with them; a session that let bytes out is found.
func TestClientsThatGoAwayMakeNoFindings(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	end := func(a trefoil.Access, released, covered int64) {
		w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindSession, Origin: w.log.origin,
			Session: &trefoil.SessionBody{Access: a, Event: "end", Path: "release", Outcome: "disconnected", Released: released, Covered: covered}})
	}
	away := w.access("chen", d) // before it was let in
	w.log.add(w.start(away))
	end(away, 0, 0)
	held := w.access("chen", d) // while its second chunk was held
	w.permitted(w.start(held))
	w.permitted(w.release(held, 0, 10, 10))
	w.log.add(w.release(held, 1, 77, 87))
	end(held, 10, 100)
	liar := w.access("chen", d) // its chunk left all the same
	w.permitted(w.start(liar))
	w.log.add(w.release(liar, 0, 77, 77))
	end(liar, 77, 0)
	unseen := w.access("chen", d) // covered bytes of a session that was never permitted
	w.log.add(w.start(unseen))
	end(unseen, 0, 1)
	w.log.cosigned(w.m)
	w.synced()
	w.clock.add(16 * time.Second)
	if err := w.m.Watch(); err != nil {
		t.Fatal(err)
	}
	if got := w.found("release-without-permit"); got != 2 {
		t.Errorf("%d findings, want those of the two that let bytes out", got)
	}
}

func TestReleaseWithoutPermitIsFound(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	w.log.add(w.release(a, 0, 77, 77)) // nobody asks
	x := w.access("aoife", d)
	b := w.start(x)
	b.Session.Unpermitted = true // in the region: counted, no finding
	w.log.add(b)
	b = w.release(a, 1, 7, 84)
	b.Release.Unpermitted = true // outside: a finding
	w.log.add(b)
	w.log.cosigned(w.m)
	w.synced()
	if err := w.m.Watch(); err != nil {
		t.Fatal(err)
	}
	if w.found("release-without-permit") != 0 || w.found("unpermitted-outside") != 1 {
		t.Errorf("at once: %d and %d findings, want 0 and 1", w.found("release-without-permit"), w.found("unpermitted-outside"))
	}
	w.close()
	w.open() // the grace goes on over a restart
	w.clock.add(16 * time.Second)
	if err := w.m.Watch(); err != nil {
		t.Fatal(err)
	}
	if w.found("release-without-permit") != 1 {
		t.Errorf("%d findings after the grace, want 1", w.found("release-without-permit"))
	}
	if s := w.m.Status(false).Logs[0]; s.Without != 2 || s.Bytes != 84 || s.Permitted != 0 {
		t.Errorf("status %s, want 2 unpermitted, 84 bytes, 0 permitted", show(s))
	}
}

func TestSessionThatLetOutMoreThanItRecorded(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	for _, c := range []struct {
		released, covered int64
		rule              string
	}{{100, 10000, ""}, {101, 0, "session-bytes"}, {0, 10001, "session-allowance"}} {
		a := w.access("chen", d)
		w.permitted(w.start(a))
		w.permitted(w.release(a, 0, 100, 100))
		w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindSession, Origin: testOrigin, Session: &trefoil.SessionBody{
			Access: a, Event: "end", Path: "release", Outcome: "closed", Released: c.released, Covered: c.covered}})
		w.log.cosigned(w.m)
		before, _ := w.m.findings.summary()
		w.synced()
		after, _ := w.m.findings.summary()
		if c.rule == "" && after != before || c.rule != "" && w.found(c.rule) != 1 {
			t.Errorf("released %d, covered %d: findings %d → %d, want rule %q", c.released, c.covered, before, after, c.rule)
		}
		w.refused(ruleSession, w.release(a, 1, 1, 101)) // it has ended
	}
}

// TestBodiesThatTheLogChangesOrKeeps: what the log gives must be what its leaves commit to.
func TestBodiesThatTheLogChangesOrKeeps(t *testing.T) {
	w := newWorld(t)
	w.log.pad(5)
	w.log.cosigned(w.m)
	w.log.gone[1] = http.StatusGone // before the mirror began: expired
	w.synced()
	if n, _ := w.m.findings.summary(); n != 0 {
		t.Errorf("%d findings about what had expired before", n)
	}
	w.log.pad(4)
	w.log.gone[6] = http.StatusNotFound
	w.log.gone[8] = http.StatusInternalServerError
	w.log.records[5].Salt = make([]byte, 32)
	w.log.cosigned(w.m)
	if err := w.m.Sync(t.Context()); !errors.Is(err, errNoBodies) {
		t.Errorf("body that the log does not give: %v, want %v", err, errNoBodies)
	}
	if w.found("body-mismatch") != 1 || w.found("body-withheld") != 1 {
		t.Errorf("%d mismatches and %d withheld, want 1 and 1", w.found("body-mismatch"), w.found("body-withheld"))
	}
	w.clock.add(time.Hour)
	if err := w.m.Sync(t.Context()); err == nil || w.found("body-withheld") != 2 {
		t.Errorf("after an hour: %v, %d withheld, want 2", err, w.found("body-withheld"))
	}
	delete(w.log.gone, 8)
	w.synced()
	if s := w.m.Status(false).Logs[0]; s.Bodies != 9 || s.Gone != 2 {
		t.Errorf("status %s, want bodies up to 9 and 2 gone", show(s))
	}
}

func TestVerifyFindsAlteredMirror(t *testing.T) {
	for name, alter := range map[string]func(t *testing.T, dir string){
		"entries": func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "state", "mirror", originHash(testOrigin), "tile", "entries", "000.p", "30"), 40)
		},
		"tile": func(t *testing.T, dir string) {
			flip(t, filepath.Join(dir, "state", "mirror", originHash(testOrigin), "tile", "0", "000.p", "30"), 40)
		},
		"journal": func(t *testing.T, dir string) { flip(t, filepath.Join(dir, "state", "journal"), 400) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.log.pad(30)
			w.log.cosigned(w.m)
			w.synced()
			if err := w.m.Watch(); err != nil {
				t.Fatal(err)
			}
			if _, err := Verify(t.Context(), w.dir, nil); err != nil {
				t.Fatal(err)
			}
			alter(t, w.dir)
			if _, err := Verify(t.Context(), w.dir, nil); err == nil {
				t.Error("altered mirror verifies")
			}
		})
	}
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw[at] ^= 1
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestOwnLogTellsDecisionsAndNothingElse reads the monitor's own log as an outsider.
func TestOwnLogTellsDecisionsAndNothingElse(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	w.permitted(w.start(w.access("chen", d)))
	if err := w.m.diary.drain(t.Context(), w.m); err != nil {
		t.Fatal(err)
	}
	w.refused(ruleSession, w.release(w.access("chen", d), 0, 1, 1))
	w.stop()
	if err := w.m.diary.drain(t.Context(), w.m); err != nil {
		t.Fatal(err)
	}
	w.close()
	w.open() // nothing is written twice after an orderly end
	s := httptest.NewServer(w.m.Handler())
	defer s.Close()
	keys, err := PublicKeys(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := trefoil.ParseTrust(keys.Log, nil)
	if err != nil {
		t.Fatal(err)
	}
	trust.Quorum = -1
	var events []string
	deadline := time.Now().Add(time.Minute)
	for {
		report, err := trefoil.VerifyLog(t.Context(), trefoil.NewClient(s.URL+"/log", nil), trust, trefoil.LogOptions{})
		if err == nil && report.Leaves == 5 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("own log: %v, %v; want 5 leaves", report, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
	for i := range 5 {
		raw := get(t, s.URL+"/log/body/"+string(rune('0'+i)), w.m.bodies)
		var stored struct{ Body []byte }
		if err := json.Unmarshal(raw, &stored); err != nil {
			t.Fatalf("body %d: %s", i, raw)
		}
		for _, secret := range []string{"Quinn", "Beijing", "chen", trefoil.StaffPseudonym(w.staff, w.clock.now(), "chen")} {
			if bytes.Contains(stored.Body, []byte(secret)) {
				t.Errorf("own log tells %q: %s", secret, stored.Body)
			}
		}
		b, err := trefoil.DecodeBody(stored.Body)
		if err != nil {
			t.Fatal(err)
		}
		if b.Order != nil {
			events = append(events, b.Order.Action)
		} else if b.Permit != nil {
			events = append(events, b.Permit.Event+" "+b.Permit.Rule)
		} else {
			events = append(events, b.Catalog.Event)
		}
	}
	if got, want := strings.Join(events, ","), "in-force,acknowledged,issued ,refused session,stop"; got != want {
		t.Errorf("own log says %q, want %q", got, want)
	}
}

func get(t *testing.T, url, token string) []byte {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
