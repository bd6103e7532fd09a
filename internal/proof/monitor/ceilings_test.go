package monitor

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// TestCeilingsOfADay: allowances of sessions and releases count together, for a principal and for
// all, over restarts, until midnight in UTC.
func TestCeilingsOfADay(t *testing.T) {
	for name, c := range map[string]struct{ ceilings, other string }{
		"a principal's bytes": {"principal_day_bytes: 30000", ""},
		"all bytes":           {"day_bytes: 30000", ruleCeiling},
		"a principal's rows":  {"principal_day_rows: 2", ""},
		"all rows":            {"day_rows: 2", ruleCeiling},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, "allowance: 50000 }", "allowance: 50000, "+c.ceilings+" }", "  - { id: yuki,", "  - { id: mei, employer: cn, workplace: CN, groups: [analysts] }\n  - { id: yuki,")
			d := analyticsDefinition()
			w.acknowledged(d)
			a := w.access("chen", d)
			w.permitted(w.start(a)) // 10000 of allowance
			w.permitted(w.release(a, 0, 9000, 9000))
			w.permitted(w.release(a, 1, 11000, 20000))
			w.close()
			w.open()
			w.refused(ruleCeiling, w.release(a, 2, 1, 20001))
			w.close()
			w.open()
			w.refused(ruleCeiling, w.release(a, 2, 1, 20001))
			if c.other == "" {
				m := w.access("mei", d)
				w.permitted(w.start(m))
				w.permitted(w.release(m, 0, 1, 1))
			} else if m := w.access("mei", d); strings.Contains(c.ceilings, "bytes") {
				w.refused(c.other, w.start(m))
			}
			w.clock.add(12 * time.Hour) // the next day in UTC
			tomorrow := w.access("chen", d)
			w.permitted(w.start(tomorrow))
			w.permitted(w.release(tomorrow, 0, 1, 1))
		})
	}
}

// TestManySmallSessions: an allowance is no way round a ceiling.
func TestManySmallSessions(t *testing.T) {
	w := newWorld(t, "allowance: 50000 }", "allowance: 50000, principal_day_bytes: 25000 }")
	d := analyticsDefinition()
	w.acknowledged(d)
	w.permitted(w.start(w.access("chen", d)))
	w.permitted(w.start(w.access("chen", d)))
	w.refused(ruleCeiling, w.start(w.access("chen", d)))
}

func TestOfficeHours(t *testing.T) {
	w := newWorld(t, "ceilings:", "office_hours: { zone: Europe/Dublin, days: [mon, tue, wed, thu, fri], from: \"08:00\", until: \"18:00\" }\nceilings:",
		"where: elsewhere, class: pseudonymised }", "where: elsewhere, class: pseudonymised, hours: true }")
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d) // Friday noon
	w.permitted(w.start(a))
	w.clock.add(6 * time.Hour)
	w.refused(ruleHours, w.release(a, 0, 1, 1))
	w.clock.add(18 * time.Hour) // Saturday noon
	w.refused(ruleHours, w.start(w.access("chen", d)))
	w.clock.add(44*time.Hour + time.Second) // Monday, 8 o'clock
	w.permitted(w.start(w.access("chen", d)))
}

// TestUnknownBinaryAndCatalog: what the gateway reports of itself must be what the rules know.
func TestUnknownBinaryAndCatalog(t *testing.T) {
	known := strings.Repeat("c", 64)
	w := newWorld(t, "ceilings:", fmt.Sprintf("binaries: [%s]\ncatalogs: [%s]\nceilings:", known, known))
	d := analyticsDefinition()
	w.acknowledged(d)
	for _, c := range []struct {
		binary, catalog, rule string
	}{{known, known, ""}, {"", known, rulePolicy}, {known, strings.Repeat("d", 64), rulePolicy}} {
		a := w.access("chen", d)
		a.Hashes.Binary, a.Hashes.Catalog = c.binary, c.catalog
		if c.rule == "" {
			w.permitted(w.start(a))
		} else {
			w.refused(c.rule, w.start(a))
		}
	}
}

// TestMonitorsClockSetBack: what has ended does not count again, and nothing is permitted.
func TestMonitorsClockSetBack(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	w.permitted(w.start(w.access("chen", d)))
	w.clock.add(-time.Hour)
	w.refused(ruleClock, w.start(w.access("chen", d)))
	w.close()
	w.open()
	w.refused(ruleClock, w.start(w.access("chen", d)))
	if w.found("clock-set-back") != 1 {
		t.Error("no finding")
	}
	w.clock.add(time.Hour)
	w.permitted(w.start(w.access("chen", d)))
}

// TestMonitorRestoredFromAnOldDiskImageStops: what it stopped since may be forgotten, so it stops
// everything by itself; two officers resume.
func TestMonitorRestoredFromAnOldDiskImageStops(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	w.permitted(w.start(w.access("chen", d)))
	w.close()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.CopyFS(image, os.DirFS(filepath.Join(w.dir, "state"))); err != nil {
		t.Fatal(err)
	}
	w.open()
	a := w.access("chen", d)
	w.permitted(w.start(a))
	w.stop()
	w.refused(ruleStopped, w.release(a, 0, 1, 1))
	w.close()
	if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(w.dir, "state"), os.DirFS(image)); err != nil {
		t.Fatal(err)
	}
	w.open()
	if w.m.state.stopped {
		t.Fatal("the old image remembers the stop: the test shows nothing")
	}
	if err := w.m.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.refused(ruleStopped, w.start(w.access("chen", d)))
	if w.found("state-set-back") == 0 {
		t.Error("no finding")
	}
	stops := w.m.Ordered(true).Stops
	if len(stops) != 1 {
		t.Fatalf("stops %s", show(stops))
	}
	w.resume(stops[0].ID)
	w.permitted(w.start(w.access("chen", d)))
}

// TestOrdersOverHTTP: the signature is the credential; strangers see no names and sign nothing.
func TestOrdersOverHTTP(t *testing.T) {
	w := newWorld(t)
	s := httptest.NewServer(w.m.Handler())
	defer s.Close()
	stranger := Reach{URL: s.URL}
	own := Reach{URL: s.URL, Token: w.m.bodies}
	forged, _ := w.signed(officers.Stop, func(o *officers.Order) { o.Scope = &officers.Scope{All: true} }, "ada")
	w.officers["mallory"], _ = newKey(t, "ada")
	other, _ := w.signed(officers.Stop, func(o *officers.Order) { o.Scope = &officers.Scope{All: true} }, "mallory")
	for name, text := range map[string]string{"altered": strings.Replace(forged, `"all":true`, `"countries":["FR"]`, 1), "a stranger's key of the same name": other, "nothing": ""} {
		if a, err := stranger.Submit(t.Context(), Submission{Order: text}); err != nil || a.Done || a.Refused == "" {
			t.Errorf("%s: %s, %v", name, show(a), err)
		}
	}
	text, o := w.signed(officers.Stop, func(o *officers.Order) { o.Scope = &officers.Scope{Principals: []string{"chen"}} }, "ben")
	if a, err := stranger.Submit(t.Context(), Submission{Order: text}); err != nil || !a.Done {
		t.Fatalf("%s, %v", show(a), err)
	}
	resume, r := w.signed(officers.Resume, func(x *officers.Order) { x.Stops = []string{o.ID} }, "ben")
	if a, err := own.Submit(t.Context(), Submission{Order: resume}); err != nil || a.Waits == "" {
		t.Fatalf("%s, %v", show(a), err)
	}
	seen, err := stranger.Ordered(t.Context())
	if err != nil || strings.Contains(show(seen), "chen") || len(seen.Proposals) != 0 || len(seen.Stops) != 1 {
		t.Errorf("a stranger sees %s, %v", show(seen), err)
	}
	if _, err := stranger.Proposed(t.Context(), r.ID); err == nil {
		t.Error("a stranger reads proposals")
	}
	sub, err := own.Proposed(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	if sub.Order, _, err = officers.Second(sub.Order, w.officers["ada"]); err != nil {
		t.Fatal(err)
	}
	if a, err := stranger.Submit(t.Context(), sub); err != nil || !a.Done {
		t.Errorf("seconded: %s, %v", show(a), err)
	}
	resp, err := http.Post(s.URL+"/orders", "application/json", strings.NewReader(`{"order":"`+strings.Repeat("x", maxSubmission)+`"}`))
	if err != nil || resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a huge order: %v, %v", resp, err)
	}
	if err == nil {
		resp.Body.Close()
	}
}

// TestOwnLogIsWitnessedByOthers: with outside witnesses a monitor that goes back in its own log
// is found by them.
func TestOwnLogIsWitnessedByOthers(t *testing.T) {
	w := newWorld(t)
	keys, err := PublicKeys(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	outside := newWorld(t, "  - { origin: "+testOrigin, "  - { origin: monitor.example/log, key: "+keys.Log+" }\n  - { origin: "+testOrigin)
	server := httptest.NewServer(outside.m.Handler())
	defer server.Close()
	theirs, err := PublicKeys(outside.dir)
	if err != nil {
		t.Fatal(err)
	}
	w.close()
	if err := os.RemoveAll(filepath.Join(w.dir, "state")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(w.dir, RulesFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, fmt.Sprintf("witnesses:\n  - { url: %q, key: %s }\n", server.URL, theirs.Witness)...)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	w.open()
	w.stop()
	if err := w.m.diary.drain(t.Context(), w.m); err != nil {
		t.Fatal(err)
	}
	trust, err := trefoil.ParseTrust(keys.Log, []string{theirs.Witness})
	if err != nil {
		t.Fatal(err)
	}
	own := trefoil.Directory(filepath.Join(w.dir, "state", "log", "log"))
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		report, err := trefoil.VerifyLog(t.Context(), own, trust, trefoil.LogOptions{})
		if err == nil && report.Leaves >= 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the own log is not cosigned by the outside witness: %v", err)
		}
	}
}
