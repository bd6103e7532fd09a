package monitor

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// TestSplitViewToTwoVerifiers: an operator shows two people two histories, both under its own
// signature. Only one of them can carry the monitor's; asking for both is a finding, and an incident.
func TestSplitViewToTwoVerifiers(t *testing.T) {
	w := newWorld(t)
	w.log.pad(5)
	other := w.log.fork(3)
	other.pad(2)
	first := w.log.cosigned(w.m)
	if _, err := w.trust.VerifyCheckpoint(first); err != nil {
		t.Fatal(err)
	}
	second := other.checkpoint(5)
	plain := &trefoil.Trust{Log: w.trust.Log, Quorum: -1}
	if _, err := plain.VerifyCheckpoint(second); err != nil {
		t.Fatalf("the second history is not the log's: %v", err)
	}
	if _, err := w.trust.VerifyCheckpoint(second); err == nil {
		t.Error("the second verifier takes a history without the monitor's signature")
	}
	lines := strings.SplitAfter(string(first), "\n")
	if _, err := w.trust.VerifyCheckpoint(append(second, lines[len(lines)-2]...)); err == nil {
		t.Error("the second verifier takes the monitor's signature of the first history")
	}
	if _, _, err := w.m.AddCheckpoint(other.addRequest(5, 5)); err == nil {
		t.Error("both histories were cosigned")
	}
	list, err := w.m.Incidents().List(nil)
	must(t, err)
	if w.found("split-view") != 1 || len(list) != 1 || list[0].Rule != "split-view" || list[0].Evidence[0].Text != string(second) {
		t.Errorf("%d findings, incidents %s", w.found("split-view"), show(list))
	}
}

// TestOperatorDeletesLogFiles: nothing that was mirrored is lost, and the silence is a finding.
func TestOperatorDeletesLogFiles(t *testing.T) {
	w := newWorld(t)
	w.log.pad(300)
	w.log.cosigned(w.m)
	w.follow()
	w.log.server.Close()
	for range 2 {
		if err := w.m.Sync(context.Background()); err == nil {
			t.Fatal("a log without files was followed")
		}
	}
	if w.found("log-withheld") != 0 {
		t.Error("a moment's silence is a finding")
	}
	w.clock.add(11 * time.Minute)
	for range 3 {
		_ = w.m.Sync(context.Background())
	}
	if w.found("log-withheld") != 1 {
		t.Errorf("%d findings of a log that is not to be had", w.found("log-withheld"))
	}
	monitor := httptest.NewServer(w.m.Handler())
	defer monitor.Close()
	copied := trefoil.NewClient(monitor.URL+"/mirror/"+originHash(w.log.origin), nil)
	r, err := trefoil.VerifyLog(t.Context(), copied, w.trust, trefoil.LogOptions{Tiles: true})
	if err != nil || r.Leaves != 300 {
		t.Errorf("the copy does not verify: %v", err)
	}
	for i := range uint64(300) {
		if rec, _, err := w.m.Record(0, i); err != nil || string(rec.Body) != string(w.log.records[i].Body) {
			t.Fatalf("record %d is lost: %v", i, err)
		}
	}
}

// serves makes the log serve a checkpoint.
func (w *world) serves(cp []byte) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.served = cp
}

// TestStaleCheckpoints: a log that serves less than it had cosigned, for long.
func TestStaleCheckpoints(t *testing.T) {
	w := newWorld(t)
	w.log.pad(10)
	w.log.cosigned(w.m)
	w.follow()
	old := w.log.served
	w.log.pad(10)
	w.log.cosigned(w.m)
	w.serves(old)
	w.follow()
	if w.found("stale-checkpoint") != 0 {
		t.Error("a checkpoint of a moment ago is a finding")
	}
	w.clock.add(11 * time.Minute)
	w.follow()
	if w.found("stale-checkpoint") != 1 {
		t.Errorf("%d findings of a checkpoint that stays", w.found("stale-checkpoint"))
	}
	w.log.cosigned(w.m)
	w.follow()
	w.serves(old)
	if err := w.m.Sync(context.Background()); err == nil || w.found("rewound") != 1 {
		t.Errorf("a checkpoint older than the mirror: %v, %d findings", err, w.found("rewound"))
	}
}

// TestPermitsWithoutRelease: what was permitted and did not leave is counted, and is no finding: a
// client went away.
func TestPermitsWithoutRelease(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	w.permitted(w.release(a, 0, 1000, 1000))
	w.permitted(w.release(a, 1, 700, 1700))
	w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindSession, Origin: w.log.origin,
		Session: &trefoil.SessionBody{Access: a, Event: "end", Path: "release", Outcome: "disconnected", Released: 1000}})
	w.log.cosigned(w.m)
	w.follow()
	must(t, w.m.Watch())
	check := func() {
		t.Helper()
		if got := w.m.Status(false).Logs[0].Totals; got.Unreleased != 700 || got.Permitted != 1700 {
			t.Errorf("%+v", got)
		}
	}
	check()
	if n, rules := w.m.findings.summary(); n != 0 {
		t.Errorf("findings %v", rules)
	}
	w.close()
	w.open()
	check()
}
