package feed_test

import (
	"math"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
	"github.com/trefoil-eu/trefoil/internal/people/feed/sheet"
)

func newest(t *testing.T, w *world) *sheet.Sheet {
	t.Helper()
	is, _, err := w.Sheet(t.Context(), demo.Surface)
	if err != nil || is == nil {
		t.Fatalf("no sheet: %v", err)
	}
	return is
}

func duties(t *testing.T, w *world) {
	t.Helper()
	if err := w.Duties(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func share(t *testing.T, s *sheet.Sheet, group string) sheet.Parameter {
	t.Helper()
	for _, p := range s.Parameters {
		if p.Group == group {
			return p
		}
	}
	t.Fatalf("the sheet does not name %s", group)
	return sheet.Parameter{}
}

func TestTheSheetsWeightsMoveWhenTrafficMoves(t *testing.T) {
	pg, _ := onPostgres(t)
	w := start(t, pg)
	traffic(t, w, 60, true)
	duties(t, w)
	first := newest(t, w)
	w.wait(25 * time.Hour)
	traffic(t, w, 60, false)
	duties(t, w)
	second := newest(t, w)
	was, is := share(t, first, "watching"), share(t, second, "watching")
	if first.Decisions != 60 || second.Decisions != 60 || is.High >= was.Low {
		t.Errorf("without profiling “watching” weighs %.3f, with it %.3f", is.Share, was.Share)
	}
	total := 0.0
	for _, p := range second.Parameters {
		total += p.Share
		if p.Low > p.Share || p.Share > p.High || p.Name.FR == "" || p.Change.EN == "" {
			t.Errorf("%+v", p)
		}
	}
	if math.Abs(total-1) > 1e-9 {
		t.Errorf("shares add up to %v", total)
	}
}

func TestTheSheetIsBoundToTheModelInTheLog(t *testing.T) {
	w := start(t)
	traffic(t, w, 20, true)
	duties(t, w)
	is := newest(t, w)
	last := w.log.bodies[len(w.log.bodies)-1]
	if last.Kind != trefoil.KindModel || last.Model.Event != "sheet" || last.Model.Sheet != is.Hash() || last.Model.Model != is.Model ||
		last.Model.Features != is.Features || is.Model != status(t, w).Model {
		t.Errorf("the log says %+v", last.Model)
	}
}

func TestANewModelHasItsSheetAtOnceFromRealDecisions(t *testing.T) {
	w := start(t)
	traffic(t, w, 20, true)
	duties(t, w)
	replace(t, w.config.Surfaces[demo.Surface].Model, otherModel(t, w))
	if err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if is := newest(t, w); is.Model != status(t, w).Model || is.Decisions != 20 || w.log.count("opened") != 0 {
		t.Errorf("%d decisions under %.6s: %v", is.Decisions, is.Model, w.log.said())
	}
}

func TestAModelThatRanksWithoutACurrentSheetIsAnIncident(t *testing.T) {
	w := start(t)
	refuse(w, func(b *trefoil.Body) bool { return b.Kind == trefoil.KindModel && b.Model.Event == "sheet" })
	duties(t, w)
	if len(status(t, w).Incidents) != 0 {
		t.Error("a surface that ranked nothing opened an incident")
	}
	traffic(t, w, 20, true)
	duties(t, w)
	if s := status(t, w); len(s.Incidents) != 1 || s.Incidents[0].Reason != feed.ReasonSheetMissing {
		t.Fatalf("missing: %+v", s)
	}
	refuse(w, nil)
	duties(t, w)
	if s := status(t, w); len(s.Incidents) != 0 {
		t.Fatalf("made: %+v", s)
	}
	refuse(w, func(b *trefoil.Body) bool { return b.Kind == trefoil.KindModel && b.Model.Event == "sheet" })
	w.wait(49 * time.Hour)
	traffic(t, w, 20, true)
	duties(t, w)
	if s := status(t, w); len(s.Incidents) != 1 || s.Incidents[0].Reason != feed.ReasonSheetStale {
		t.Fatalf("stale: %+v", s)
	}
}

func TestAWeightThatLeavesItsStatedRangeIsAnIncident(t *testing.T) {
	w := start(t, func(w *world) {
		s := w.config.Surfaces[demo.Surface]
		s.Weights = map[string]sheet.Range{"watching": {Min: 0.2, Max: 1}}
		w.config.Surfaces[demo.Surface] = s
	})
	traffic(t, w, 40, true)
	duties(t, w)
	if s := status(t, w); len(s.Incidents) != 0 {
		t.Fatalf("%+v: %+v", s, share(t, newest(t, w), "watching"))
	}
	w.wait(25 * time.Hour)
	traffic(t, w, 40, false)
	duties(t, w)
	if s := status(t, w); len(s.Incidents) != 1 || s.Incidents[0].Reason != feed.ReasonWeights {
		t.Errorf("%+v", s)
	}
}

func TestRestrictedSubjectsMoveNoWeight(t *testing.T) {
	w := start(t)
	traffic(t, w, 20, true)
	for i := range 20 {
		q := ask("restricted", 30, uint64(i))
		rank(t, w, q)
	}
	if err := w.parts.Store.Restrict(t.Context(), "restricted", true); err != nil {
		t.Fatal(err)
	}
	duties(t, w)
	if is := newest(t, w); is.Decisions != 20 {
		t.Errorf("the sheet rests on %d decisions", is.Decisions)
	}
}
