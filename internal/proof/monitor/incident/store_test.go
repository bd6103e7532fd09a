package incident

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// clock is a clock that a test sets.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

func newClock() *clock { return &clock{t: time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)} }

func open(t *testing.T, dir string, c *clock) *Store {
	t.Helper()
	s, err := OpenStore(Config{Dir: dir, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func opened(t *testing.T, s *Store, f Finding) string {
	t.Helper()
	id, _, err := s.Open(f)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func get(t *testing.T, s *Store, id string) Incident {
	t.Helper()
	x, err := s.Get(id)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// must stops the test at an error.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var all = []string{"gdpr-33", "uk-gdpr-33", "nis2-early", "nis2-notification", "nis2-final"}

func TestAFloodOfFindingsIsOneIncident(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := open(t, dir, c)
	ids := map[string]bool{}
	for i := range uint64(5000) {
		ids[opened(t, s, Finding{Rule: "release-without-permit", Origin: "a", Reason: "nobody asked", Evidence: []Evidence{{Log: "a", Index: &i}}})] = true
	}
	other := opened(t, s, Finding{Rule: "release-without-permit", Origin: "b", Reason: "nobody asked"})
	if len(ids) != 1 || ids[other] {
		t.Fatalf("%d incidents of one rule and origin", len(ids))
	}
	x := get(t, s, "inc-000001")
	if x.Count != 5000 || len(x.Evidence) != MaxEvidence || x.State != StateOpen {
		t.Errorf("%d findings, %d pieces of evidence, %s", x.Count, len(x.Evidence), x.State)
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	must(t, err)
	if info.Size() > 100_000 {
		t.Errorf("a flood wrote %d bytes", info.Size())
	}
	must(t, s.Close())
	if again := get(t, open(t, dir, c), "inc-000001"); again.Count != 5000 || len(again.Evidence) != MaxEvidence {
		t.Errorf("after a restart: %d findings", again.Count)
	}
}

func TestADifferenceThatLastsIsOneFinding(t *testing.T) {
	c := newClock()
	dir := t.TempDir()
	s := open(t, dir, c)
	f := Finding{Rule: "probe-column", Origin: "cluster/outside", Reason: "a column that is not defined", Evidence: []Evidence{{Text: "app.users.phone"}}}
	id := opened(t, s, f)
	for range 500 {
		c.add(30 * time.Second)
		if again := opened(t, s, f); again != id {
			t.Fatal("a second incident of the same difference")
		}
	}
	x := get(t, s, id)
	if x.Count != 1 || !x.Seen.Equal(c.now()) {
		t.Errorf("%d findings, last seen %v, want 1 and %v", x.Count, x.Seen, c.now())
	}
	info, err := os.Stat(filepath.Join(dir, FileName))
	must(t, err)
	if info.Size() > 8000 {
		t.Errorf("four hours of the same wrote %d bytes", info.Size())
	}
}

func TestManyOriginsAreAFlood(t *testing.T) {
	s := open(t, t.TempDir(), newClock())
	for i := range MaxOpen + 50 {
		opened(t, s, Finding{Rule: "split-view", Origin: fmt.Sprint(i), Reason: "two pasts"})
	}
	open, err := s.List(func(x *Incident) bool { return x.Rule == RuleFlood })
	must(t, err)
	if len(open) != 1 || open[0].Count != 50 {
		t.Fatalf("%d incidents of the flood: %+v", len(open), open)
	}
	if _, fresh, err := s.Open(Finding{Rule: "by-hand", Origin: "x", Reason: "seen by a person", By: "officer"}); err != nil || !fresh {
		t.Errorf("a person cannot open an incident in a flood: %v", err)
	}
}

func TestLifeOfAnIncident(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := open(t, dir, c)
	id := opened(t, s, Finding{Rule: "gap", Origin: "log", Reason: "a chunk is missing"})
	if err := s.CloseIncident(id, "maria", "nothing to see"); err == nil || !strings.Contains(err.Error(), "gdpr-33") {
		t.Errorf("closed while its clocks run: %v", err)
	}
	c.add(time.Hour)
	must(t, s.Triage(id, Judgement{By: "maria", Reason: "a breach, not a significant incident", Aware: c.now().Add(-30 * time.Minute), Applies: []string{"gdpr-33"}, Not: all[1:]}))
	if err := s.CloseIncident(id, "maria", "done"); err == nil {
		t.Error("closed while a clock that applies runs")
	}
	if err := s.Meet(id, "gdpr-33", "maria", "DPC, 2026/1", c.now().Add(time.Minute)); err == nil {
		t.Error("a notification of the future was taken")
	}
	must(t, s.Meet(id, "gdpr-33", "maria", "DPC, 2026/1", c.now()))
	must(t, s.CloseIncident(id, "maria", "the gateway was mended"))
	for name, err := range map[string]error{"triage": s.Triage(id, Judgement{By: "x", Reason: "again"}), "close": s.CloseIncident(id, "x", "again")} {
		if !errors.Is(err, ErrClosed) {
			t.Errorf("%s of a closed incident: %v", name, err)
		}
	}
	if err := s.Triage("inc-000099", Judgement{By: "x", Reason: "y"}); !errors.Is(err, ErrUnknown) {
		t.Errorf("an unknown incident: %v", err)
	}
	again := opened(t, s, Finding{Rule: "gap", Origin: "log", Reason: "a chunk is missing"})
	if again == id || get(t, s, again).Before != id {
		t.Errorf("what came after the end is %q, before it %q", again, get(t, s, again).Before)
	}
	x := get(t, open(t, dir, c), id)
	var did []string
	for _, h := range x.History {
		did = append(did, h.What)
	}
	if want := []string{"opened", "triaged", "met", "closed"}; !slices.Equal(did, want) || x.State != StateClosed || x.Outcome == "" {
		t.Errorf("history %v, %s", did, x.State)
	}
	if x.Clocks[0].Late || !x.Clocks[0].Due.Equal(x.Aware.Add(72*time.Hour)) || x.Clocks[2].Applies {
		t.Errorf("clocks %+v", x.Clocks)
	}
}

func TestClocksAreTheLaws(t *testing.T) {
	c := newClock()
	s := open(t, t.TempDir(), c)
	id := opened(t, s, Finding{Rule: "gap", Reason: "x"})
	due := map[string]time.Time{}
	for _, x := range get(t, s, id).Clocks {
		due[x.Clock.ID] = x.Due
		if !x.Applies || x.Late {
			t.Errorf("%s: applies %v, late %v before anybody judged", x.Clock.ID, x.Applies, x.Late)
		}
	}
	at := func(d time.Duration) time.Time { return c.now().Add(d) }
	want := map[string]time.Time{"gdpr-33": at(72 * time.Hour), "uk-gdpr-33": at(72 * time.Hour), "nis2-early": at(24 * time.Hour),
		"nis2-notification": at(72 * time.Hour), "nis2-final": time.Date(2026, 12, 23, 12, 0, 0, 0, time.UTC)}
	for name, w := range want {
		if !due[name].Equal(w) {
			t.Errorf("%s is due %v, want %v", name, due[name], w)
		}
	}
	var told []string
	hear := func() {
		must(t, s.Tick())
		told = nil
		must(t, s.Events(0, func(e *Event) error {
			if e.Clock != "" {
				told = append(told, e.Type+" "+e.Clock)
			}
			return nil
		}))
	}
	if hear(); len(told) != 0 {
		t.Errorf("told at once: %v", told)
	}
	c.add(13 * time.Hour)
	if hear(); !slices.Equal(told, []string{"warned nis2-early"}) {
		t.Errorf("after 13 h: %v", told)
	}
	c.add(12 * time.Hour)
	hear()
	if hear(); !slices.Equal(told, []string{"warned nis2-early", "overdue nis2-early"}) {
		t.Errorf("after 25 h: %v", told)
	}
	must(t, s.Meet(id, "nis2-notification", "maria", "CSIRT-IE", c.now()))
	for _, x := range get(t, s, id).Clocks {
		if x.Clock.ID == "nis2-final" && !x.Due.Equal(time.Date(2026, 12, 21, 13, 0, 0, 0, time.UTC)) {
			t.Errorf("the final report is due %v: a month after the notification", x.Due)
		}
	}
}

func TestAnEditedOrShortenedStoreIsFound(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	s := open(t, dir, c)
	for i := range 5 {
		opened(t, s, Finding{Rule: "gap", Origin: fmt.Sprint(i), Reason: "a chunk is missing"})
	}
	must(t, s.Close())
	path := filepath.Join(dir, FileName)
	whole, err := os.ReadFile(path)
	must(t, err)
	lines := strings.SplitAfter(string(whole), "\n")
	for name, text := range map[string]string{
		"a word changed":    strings.Replace(string(whole), "a chunk is missing", "all is well, really", 1),
		"a line taken out":  lines[0] + strings.Join(lines[2:], ""),
		"two lines turned":  lines[1] + lines[0] + strings.Join(lines[2:], ""),
		"a line from else":  lines[0] + lines[0] + strings.Join(lines[1:], ""),
		"a line of nothing": lines[0] + "\n" + strings.Join(lines[1:], ""),
	} {
		must(t, os.WriteFile(path, []byte(text), 0o600))
		if s, err := OpenStore(Config{Dir: dir, Now: c.now}); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: %v", name, err)
			if err == nil {
				s.Close()
			}
		}
	}
	// A torn end was never acknowledged: it is overwritten.
	must(t, os.WriteFile(path, []byte(string(whole)+`{"n":6,"pre`), 0o600))
	s = open(t, dir, c)
	opened(t, s, Finding{Rule: "gap", Origin: "after", Reason: "a chunk is missing"})
	if list, err := open(t, dir, c).List(nil); err != nil || len(list) != 6 {
		t.Errorf("after a torn end: %d incidents, %v", len(list), err)
	}
}

func TestTwoProcessesShareAStore(t *testing.T) {
	dir, c := t.TempDir(), newClock()
	stores := []*Store{open(t, dir, c), open(t, dir, c), open(t, dir, c)}
	var wg sync.WaitGroup
	for i, s := range stores {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range 40 {
				if _, _, err := s.Open(Finding{Rule: "gap", Origin: fmt.Sprint(n % 20), Reason: "x", Evidence: []Evidence{{Text: fmt.Sprint(i, n)}}}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	wg.Wait()
	for _, s := range append(stores, open(t, dir, c)) {
		list, err := s.List(nil)
		must(t, err)
		var count uint64
		for _, x := range list {
			count += x.Count
		}
		if len(list) != 20 || count != 120 {
			t.Errorf("%d incidents of %d findings, want 20 of 120", len(list), count)
		}
	}
}

func FuzzStore(f *testing.F) {
	dir := f.TempDir()
	s, err := OpenStore(Config{Dir: dir, Now: newClock().now})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 3 {
		if _, _, err := s.Open(Finding{Rule: "gap", Origin: fmt.Sprint(i), Reason: "x"}); err != nil {
			f.Fatal(err)
		}
	}
	if err := s.CloseIncident("inc-000001", "x", "y"); err == nil {
		f.Fatal("closed with its clocks running")
	}
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	whole, err := os.ReadFile(filepath.Join(dir, FileName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("{}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		dir := t.TempDir()
		must(t, os.WriteFile(filepath.Join(dir, FileName), raw, 0o600))
		s, err := OpenStore(Config{Dir: dir, Now: newClock().now})
		if err != nil {
			return
		}
		defer s.Close()
		if _, err := s.List(nil); err != nil {
			t.Fatal(err)
		}
		must(t, s.Tick())
	})
}
