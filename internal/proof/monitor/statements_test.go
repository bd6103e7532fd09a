package monitor

import (
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
	"golang.org/x/mod/sumdb/note"
)

// noted are the texts of what the monitor stated, oldest first.
func (w *world) noted() []string {
	w.t.Helper()
	dir := filepath.Join(w.dir, StatementsDir)
	names, err := statementNames(dir)
	if err != nil {
		w.t.Fatal(err)
	}
	var texts []string
	for _, n := range names {
		raw, err := os.ReadFile(filepath.Join(dir, n))
		if err != nil {
			w.t.Fatal(err)
		}
		texts = append(texts, string(raw))
	}
	return texts
}

// nextDay goes on by one day and states it.
func (w *world) nextDay() {
	w.t.Helper()
	w.clock.add(24 * time.Hour)
	if err := w.m.makeStatement(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// follow mirrors what the log has.
func (w *world) follow() {
	w.t.Helper()
	if err := w.m.Sync(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

// stating is a world that stated three days, with records, a refusal and a finding in them.
func stating(t *testing.T) *world {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	w.permitted(w.release(a, 0, 1000, 1000))
	w.refused(ruleCeiling, w.release(a, 1, 5000000, 5001000))
	w.follow()
	w.nextDay()
	w.log.pad(300)
	w.log.cosigned(w.m)
	w.follow()
	w.m.finding(Finding{Rule: "gap", Origin: w.log.origin, Text: "a test's own"})
	w.nextDay()
	w.nextDay()
	return w
}

func TestStatementsOfEachDayVerify(t *testing.T) {
	w := stating(t)
	texts := w.noted()
	if err := w.m.makeStatement(context.Background()); err != nil || len(w.noted()) != len(texts) {
		t.Fatalf("a second statement of one day: %v", err)
	}
	all, err := trefoil.VerifyStatements(texts, w.m.keys.statementVerifier, map[string]*trefoil.Trust{w.log.origin: w.trust})
	if err != nil || len(all) != 3 {
		t.Fatalf("%d statements: %v", len(all), err)
	}
	first, second, third := all[0], all[1], all[2]
	if c := first.Logs[0].Day; c.Permits != 2 || c.Refusals != 1 || c.Permitted != 1000 || c.Records != 4 {
		t.Errorf("the first day's counts: %+v", c)
	}
	if second.Logs[0].Day.Records != 300 || second.Fresh["gap"] != 1 || second.Incidents.Open != 1 || second.Clocks["gdpr-33"][0] != 1 {
		t.Errorf("the second day: %s", show(second))
	}
	if c := third.Logs[0].Day; c != (trefoil.StatedCount{}) || len(third.Fresh) != 0 || third.Findings["gap"] != 1 {
		t.Errorf("a day on which nothing happened: %s", show(third))
	}
	w.close()
	w.open()
	if n := w.found("contradiction"); n != 0 {
		t.Errorf("%d contradictions after a restart", n)
	}
	w.clock.add(72 * time.Hour)
	w.nextDay()
	all, err = trefoil.VerifyStatements(w.noted(), w.m.keys.statementVerifier, nil)
	if err != nil || len(all) != 4 || all[3].Until.Sub(all[3].From) != 96*time.Hour {
		t.Errorf("days on which nobody ran: %d statements, %v", len(all), err)
	}
}

func TestStatementsThatWereTamperedWith(t *testing.T) {
	w := stating(t)
	texts := w.noted()
	other, _ := newKey(t, "monitor.example/statement")
	resigned := func(text string, key note.Signer, change func(s *trefoil.DailyStatement)) string {
		s, err := trefoil.OpenStatement(text, w.m.keys.statementVerifier)
		if err != nil {
			t.Fatal(err)
		}
		change(s)
		out, err := trefoil.SignStatement(s, key)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	own := w.m.keys.statement
	for name, chain := range map[string][]string{
		"a figure changed":       {texts[0], strings.Replace(texts[1], `"records":300`, `"records":299`, 1), texts[2]},
		"one left out":           {texts[0], texts[2]},
		"in another order":       {texts[1], texts[0]},
		"another key":            {resigned(texts[0], other, func(*trefoil.DailyStatement) {})},
		"a past rewritten":       {resigned(texts[0], own, func(s *trefoil.DailyStatement) { s.Findings["gap"] = 7 }), texts[1]},
		"findings taken back":    {texts[0], texts[1], resigned(texts[2], own, func(s *trefoil.DailyStatement) { s.Findings = map[string]int64{} })},
		"a log rewound":          {texts[0], texts[1], resigned(texts[2], own, func(s *trefoil.DailyStatement) { s.Logs[0] = w.earlierHead(s.Logs[0]) })},
		"time left out":          {texts[0], resigned(texts[1], own, func(s *trefoil.DailyStatement) { s.From = s.From.Add(time.Hour) })},
		"counts that do not add": {texts[0], resigned(texts[1], own, func(s *trefoil.DailyStatement) { s.Logs[0].Total.Permits-- })},
		"a head of another size": {resigned(texts[0], own, func(s *trefoil.DailyStatement) { s.Logs[0].Size++ })},
		"white space":            {strings.Replace(texts[0], `,"from"`, `, "from"`, 1)},
		"nothing":                {""},
	} {
		var failed *trefoil.VerifyError
		if _, err := trefoil.VerifyStatements(chain, w.m.keys.statementVerifier, nil); !errors.As(err, &failed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := trefoil.VerifyStatements(texts, w.m.keys.permitVerifier, nil); err == nil {
		t.Error("statements verify under the permit key")
	}
}

// earlierHead is a head of the same log that was signed before.
func (w *world) earlierHead(l trefoil.StatedLog) trefoil.StatedLog {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	l.Checkpoint, l.Size = string(w.log.checkpoint(2)), 2
	return l
}

// contradictions counts incidents of that rule.
func (w *world) contradictions() (n int) {
	w.t.Helper()
	list, err := w.m.Incidents().List(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, x := range list {
		if x.Rule == "contradiction" {
			n++
		}
	}
	return n
}

func TestAStatementThatIsContradictedOpensAnIncident(t *testing.T) {
	w := stating(t)
	texts := w.noted()
	for _, text := range texts {
		if holds, err := w.m.Hold(text); err != nil || !holds {
			t.Errorf("a true statement does not hold: %v", err)
		}
	}
	if w.contradictions() != 0 {
		t.Fatal("true statements opened an incident")
	}
	// The same key signs something else of a day: two people were told two things.
	s, err := trefoil.OpenStatement(texts[1], w.m.keys.statementVerifier)
	if err != nil {
		t.Fatal(err)
	}
	s.Findings = map[string]int64{}
	second, err := trefoil.SignStatement(s, w.m.keys.statement)
	if err != nil {
		t.Fatal(err)
	}
	if holds, err := w.m.Hold(second); err != nil || holds || w.contradictions() != 1 {
		t.Errorf("a second statement of one day: holds %v, %v, %d incidents", holds, err, w.contradictions())
	}
	if _, err := w.m.Hold("trefoil.eu/statement/v1\n{}\n"); !errors.Is(err, errMalformed) {
		t.Errorf("nobody's statement: %v", err)
	}
}

func TestAMonitorSetBackContradictsWhatItStated(t *testing.T) {
	for name, forget := range map[string]func(dir string) error{
		"findings":  func(dir string) error { return os.Truncate(filepath.Join(dir, "state", "findings.jsonl"), 0) },
		"incidents": func(dir string) error { return os.RemoveAll(filepath.Join(dir, IncidentsDir)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := stating(t)
			w.close()
			must(t, forget(w.dir))
			w.open()
			if w.contradictions() != 1 {
				t.Errorf("%d incidents", w.contradictions())
			}
		})
	}
}

// must stops the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestStatementsAreServedToAnyone(t *testing.T) {
	w := stating(t)
	server := httptest.NewServer(w.m.Handler())
	defer server.Close()
	get := func(path string) (int, string) {
		resp, err := http.Get(server.URL + path)
		must(t, err)
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		must(t, err)
		return resp.StatusCode, string(raw)
	}
	texts := w.noted()
	if code, list := get("/statements/"); code != 200 || list != "2026-11-20.note\n2026-11-21.note\n2026-11-22.note\n" {
		t.Errorf("list: %d %q", code, list)
	}
	if _, text := get("/statements/2026-11-21.note"); text != texts[1] {
		t.Error("a day's statement is another")
	}
	if _, text := get("/statements/latest"); text != texts[2] {
		t.Error("the newest is another")
	}
	for _, path := range []string{"/statements/begin", "/statements/2026-11-25.note", "/statements/..%2fjournal"} {
		if code, _ := get(path); code != 404 {
			t.Errorf("%s: %d", path, code)
		}
	}
	resp, err := http.Post(server.URL+"/statements/", "text/plain", strings.NewReader(texts[0]))
	must(t, err)
	defer resp.Body.Close()
	var answer map[string]bool
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || !answer["holds"] {
		t.Errorf("a statement brought back: %v, %v", answer, err)
	}
}

func TestRootOfAnEarlierSize(t *testing.T) {
	w := newWorld(t)
	w.log.pad(66000)
	w.log.cosigned(w.m)
	tree := *w.m.followers[0].tree
	c, err := trefoil.ParseCheckpoint(w.log.served)
	must(t, err)
	must(t, tree.extend(context.Background(), trefoil.NewClient(w.log.server.URL, nil), c, w.log.served))
	for _, n := range []uint64{1, 2, 255, 256, 257, 511, 65535, 65536, 65537, 65999, 66000} {
		if root, err := tree.rootAt(n); err != nil || root != w.log.root(n) {
			t.Errorf("size %d: %v", n, err)
		}
	}
	if _, err := tree.rootAt(66001); err == nil {
		t.Error("a size that the mirror does not have")
	}
}
