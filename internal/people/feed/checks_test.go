package feed_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
)

func traffic(t testing.TB, w *world, n int, profiling bool) {
	t.Helper()
	for i := range n {
		q := ask(fmt.Sprint("person-", i), 30, uint64(i))
		q.Profiling = profiling
		rank(t, w, q)
	}
}

func check(t *testing.T, w *world) feed.Checked {
	t.Helper()
	c, err := w.Check(t.Context(), demo.Surface, w.now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestDecisionsComeOutTheSameAgain(t *testing.T) {
	pg, _ := onPostgres(t)
	w := start(t, pg)
	traffic(t, w, 20, true)
	traffic(t, w, 20, false)
	if c := check(t, w); c.Decisions != 40 || !c.Holds() {
		t.Errorf("%+v", c)
	}
	if n := w.log.count("opened"); n != 0 {
		t.Errorf("%d incidents: %v", n, w.log.said())
	}
}

// Somebody changes a stored answer: in the database, or in the code that scores.
func TestADecisionThatDiffersIsAnIncidentOpenedOnceAndClosedOnce(t *testing.T) {
	pg, pool := onPostgres(t)
	w := start(t, pg)
	a := rank(t, w, ask("anna", 30, 1))
	traffic(t, w, 5, true)
	d := stored(t, w, a)
	good, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	d.Items[0], d.Items[1] = d.Items[1], d.Items[0] // the second was shown first, it claims
	bad, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	write := func(payload []byte) {
		if _, err := pool.Exec(t.Context(), "update trefoil_feed.decisions set payload = $1 where id = $2", payload, [16]byte(d.ID)); err != nil {
			t.Fatal(err)
		}
	}
	write(bad)
	if c := check(t, w); c.Differ != 1 {
		t.Fatalf("%+v", c)
	}
	if why(t, w, a, "", 1).Reproduce {
		t.Error("reasons claim that the scores came out as stored")
	}
	again, err := feed.New(t.Context(), w.config, w.parts) // after a restart too
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.Check(t.Context(), demo.Surface, w.now()); err != nil {
		t.Fatal(err)
	}
	write(good)
	check(t, w)
	check(t, w)
	opened, closed := w.log.count("opened "+string(feed.ReasonNotReproducible)), w.log.count("closed "+string(feed.ReasonNotReproducible))
	if opened != 1 || closed != 1 {
		t.Errorf("opened %d times, closed %d times: %v", opened, closed, w.log.said())
	}
}

// Profiled rows are stored under a decision that says it was made without.
func TestPersonalValuesInADecisionWithoutProfilingAreAnIncident(t *testing.T) {
	w := start(t)
	d := stored(t, w, rank(t, w, ask("anna", 30, 1)))
	d.ID, d.Settings.Profiling = decision.NewID(w.now()), false
	if err := w.parts.Store.Save(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if c := check(t, w); c.KeptPersonal != 1 || c.Differ != 1 {
		t.Errorf("%+v", c)
	}
	if w.log.count("opened "+string(feed.ReasonKeptPersonal)) != 1 {
		t.Errorf("%v", w.log.said())
	}
}

// One spoiled row must not blind the check to the others.
func TestASpoiledRowIsAnIncidentAndHidesNoOther(t *testing.T) {
	pg, pool := onPostgres(t)
	w := start(t, pg)
	a := rank(t, w, ask("anna", 30, 1))
	traffic(t, w, 5, true)
	id := stored(t, w, a).ID
	if _, err := pool.Exec(t.Context(), "update trefoil_feed.decisions set payload = 'x' where id = $1", [16]byte(id)); err != nil {
		t.Fatal(err)
	}
	if c := check(t, w); c.Decisions != 6 || c.Differ != 1 {
		t.Errorf("%+v", c)
	}
	duties(t, w)
	if w.log.count("opened "+string(feed.ReasonNotReproducible)) != 1 || newest(t, w).Decisions != 5 {
		t.Errorf("%v", w.log.said())
	}
}

func TestAnEmptySampleClosesNoIncident(t *testing.T) {
	w := start(t)
	d := stored(t, w, rank(t, w, ask("anna", 30, 1)))
	d.ID, d.Scores = decision.NewID(w.now()), decision.Hash{}
	if err := w.parts.Store.Save(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	check(t, w)
	w.wait(24 * time.Hour)
	if check(t, w); w.log.count("closed") != 0 {
		t.Error("a day without decisions closed an incident")
	}
}

// model returns another model than the demonstration's: its last tree is gone.
func otherModel(t testing.TB, w *world) []byte {
	t.Helper()
	text, err := os.ReadFile(w.config.Surfaces[demo.Surface].Model)
	if err != nil {
		t.Fatal(err)
	}
	head, _, ok := strings.Cut(string(text), "\nTree=60\n")
	_, tail, ok2 := strings.Cut(string(text), "\nend of trees\n")
	if !ok || !ok2 {
		t.Fatal("the demonstration's model has another shape")
	}
	lines := strings.Split(head, "\n")
	for i, line := range lines {
		if sizes, ok := strings.CutPrefix(line, "tree_sizes="); ok {
			lines[i] = "tree_sizes=" + strings.Join(strings.Fields(sizes)[:60], " ")
		}
	}
	return []byte(strings.Join(lines, "\n") + "\nend of trees\n" + tail)
}

func replace(t testing.TB, path string, content []byte) {
	t.Helper()
	next := filepath.Join(filepath.Dir(path), ".next")
	if err := os.WriteFile(next, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, path); err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, w *world) feed.Status {
	t.Helper()
	s, err := w.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s[0]
}

func TestOldDecisionsComeOutTheSameUnderANewModel(t *testing.T) {
	w := start(t)
	traffic(t, w, 5, true)
	a := rank(t, w, ask("anna", 30, 1))
	replace(t, w.config.Surfaces[demo.Surface].Model, otherModel(t, w))
	if err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := rank(t, w, ask("anna", 30, 1))
	if a.Model == b.Model || slices.Equal(a.Scores, b.Scores) {
		t.Fatalf("the new model did not go into production: %s", status(t, w).Fault)
	}
	if old := why(t, w, a, "", 3); old.Model != a.Model || !old.Reproduce || old.Items[0].Score != a.Scores[0] {
		t.Error("an old decision's reasons come from the new model")
	}
	if c := check(t, w); c.Decisions != 7 || !c.Holds() {
		t.Errorf("%+v", c)
	}
	if w.log.count("production") != 2 || w.log.count(fmt.Sprintf("retired %.6s", a.Model)) != 1 {
		t.Errorf("the log: %v", w.log.said())
	}
}

func TestADecisionWhoseModelIsGoneOrAlteredIsAnIncident(t *testing.T) {
	for name, spoil := range map[string]func(path string) error{
		"gone":    os.Remove,
		"altered": func(path string) error { return os.WriteFile(path, []byte("tree\nversion=v4\n"), 0o600) },
		"another": func(path string) error {
			old, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(path, append(old, '\n'), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := start(t)
			a := rank(t, w, ask("anna", 30, 1))
			replace(t, w.config.Surfaces[demo.Surface].Model, otherModel(t, w))
			if err := w.Reload(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := spoil(filepath.Join(w.config.Archive, a.Model+".model")); err != nil {
				t.Fatal(err)
			}
			var err error // a restart forgets what is still in memory
			if w.Service, err = feed.New(t.Context(), w.config, w.parts); err != nil {
				t.Fatal(err)
			}
			if c := check(t, w); c.Missing != 1 {
				t.Fatalf("%+v", c)
			}
			if w.log.count("opened "+string(feed.ReasonModelMissing)) != 1 {
				t.Errorf("no incident: %v", w.log.said())
			}
		})
	}
}

func TestAModelThatDoesNotLoadLeavesTheLastGoodOneAndSaysSo(t *testing.T) {
	w := start(t)
	files := w.config.Surfaces[demo.Surface]
	good, err := os.ReadFile(files.Model)
	if err != nil {
		t.Fatal(err)
	}
	words, err := os.ReadFile(files.Features)
	if err != nil {
		t.Fatal(err)
	}
	want := rank(t, w, ask("anna", 30, 1))
	for name, spoil := range map[string]func(){
		"cut off":      func() { replace(t, files.Model, good[:len(good)/2]) },
		"no model":     func() { replace(t, files.Model, []byte("hello")) },
		"empty":        func() { replace(t, files.Model, nil) },
		"gone":         func() { _ = os.Remove(files.Model) },
		"100 megabyte": func() { replace(t, files.Model, good); _ = os.Truncate(files.Model, 100<<20) },
		"a category the features file lacks": func() {
			replace(t, files.Features, []byte(strings.Replace(string(words), ", architecture, crafts]", "]", 1)))
		},
		"a feature in no group": func() {
			replace(t, files.Features, []byte(strings.Replace(string(words), "  - {feature: region_trend, group: trend, neutral: 0.5}\n", "", 1)))
		},
		"a range for no group": func() { replace(t, files.Features, []byte(strings.ReplaceAll(string(words), "watching", "looking"))) },
	} {
		spoil()
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		s := status(t, w)
		if s.Fault == "" || s.Model != want.Model || len(s.Incidents) != 1 || s.Incidents[0].Reason != feed.ReasonNotLoaded {
			t.Errorf("%s: %+v", name, s)
		}
		if got := rank(t, w, ask("anna", 30, 1)); got.Model != want.Model || !slices.Equal(got.Scores, want.Scores) {
			t.Errorf("%s: the last good model does not rank", name)
		}
		replace(t, files.Model, good)
		replace(t, files.Features, words)
		if err := w.Reload(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s := status(t, w); s.Fault != "" || len(s.Incidents) != 0 {
			t.Errorf("%s: mended, and still %+v", name, s)
		}
	}
}

func TestAModelThatCannotBeRecordedDoesNotRank(t *testing.T) {
	w := start(t)
	was := status(t, w).Model
	replace(t, w.config.Surfaces[demo.Surface].Model, otherModel(t, w))
	refuseAll(w, true)
	if err := w.Reload(t.Context()); err == nil {
		t.Error("the incident was not recorded, and nothing failed")
	}
	if s := status(t, w); s.Model != was {
		t.Error("a model ranks that is in no log")
	}
	refuseAll(w, false)
	if err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := status(t, w); s.Model == was || s.Fault != "" {
		t.Errorf("the log is back, and the model does not rank: %+v", s)
	}
}
