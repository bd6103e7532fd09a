package monitor

import (
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// signed is an order of action, signed by the named officers.
func (w *world) signed(action officers.Action, fill func(*officers.Order), by ...string) (string, officers.Order) {
	w.t.Helper()
	o, err := officers.New(action, "monitor.example", "drill of the day", w.clock.now())
	if err != nil {
		w.t.Fatal(err)
	}
	if fill != nil {
		fill(&o)
	}
	text, err := officers.Sign(o, w.officers[by[0]])
	for _, name := range by[1:] {
		if err == nil {
			text, _, err = officers.Second(text, w.officers[name])
		}
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return text, o
}

func (w *world) submit(s Submission) *OrderAnswer {
	w.t.Helper()
	a, err := w.m.Submit(s)
	if err != nil {
		w.t.Fatal(err)
	}
	return a
}

// ordered is a signed order that must be obeyed at once.
func (w *world) ordered(action officers.Action, fill func(*officers.Order), by ...string) string {
	w.t.Helper()
	text, o := w.signed(action, fill, by...)
	if a := w.submit(Submission{Order: text}); !a.Done {
		w.t.Fatalf("order %s by %v: %s", action, by, show(a))
	}
	return o.ID
}

// stop stops everything, and returns the order's id.
func (w *world) stop() string {
	w.t.Helper()
	return w.ordered(officers.Stop, func(o *officers.Order) { o.Scope = &officers.Scope{All: true} }, "ada")
}

func (w *world) stopPart(s officers.Scope) string {
	w.t.Helper()
	return w.ordered(officers.Stop, func(o *officers.Order) { o.Scope = &s }, "ada")
}

func (w *world) resume(stops ...string) {
	w.t.Helper()
	w.ordered(officers.Resume, func(o *officers.Order) { o.Stops = stops }, "ada", "ben")
}

// rewritten is an order for rules in which each old is replaced by new.
func (w *world) rewritten(by []string, edits ...string) *OrderAnswer {
	w.t.Helper()
	file := string(w.m.book().rules.source)
	for i := 0; i < len(edits); i += 2 {
		next := string(replaced([]byte(file), edits[i], edits[i+1]))
		if next == file {
			w.t.Fatalf("the rules do not hold %q", edits[i])
		}
		file = next
	}
	text, _ := w.signed(officers.Rules, func(o *officers.Order) {
		o.Base, o.Rules = hashOf(w.m.book().rules.source), hashOf([]byte(file))
	}, by...)
	return w.submit(Submission{Order: text, Rules: file})
}

func TestOneStopsTwoResume(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	id := w.stop()
	w.refused(ruleStopped, w.release(a, 0, 1, 1))
	if _, no, _ := w.ask(w.release(a, 0, 1, 1)); no.Reason != "the monitor has stopped this: drill of the day" {
		t.Errorf("the client is told %q", no.Reason)
	}
	text, o := w.signed(officers.Resume, func(o *officers.Order) { o.Stops = []string{id} }, "ben")
	if a := w.submit(Submission{Order: text}); a.Done || a.Waits == "" {
		t.Errorf("one officer resumed: %s", show(a))
	}
	w.refused(ruleStopped, w.release(a, 0, 1, 1))
	kept, err := readProposals(w.dir + "/state/orders/proposed")
	if err != nil || len(kept) != 1 || kept[0].order.ID != o.ID {
		t.Fatalf("proposals %+v, %v", kept, err)
	}
	both, _, err := officers.Second(kept[0].sub.Order, w.officers["ada"])
	if err != nil {
		t.Fatal(err)
	}
	if a := w.submit(Submission{Order: both}); !a.Done {
		t.Fatalf("two officers: %s", show(a))
	}
	w.permitted(w.release(a, 0, 1, 1))
	if kept, err := readProposals(w.dir + "/state/orders/proposed"); err != nil || len(kept) != 0 {
		t.Errorf("what was obeyed still waits: %+v, %v", kept, err)
	}
}

// TestOneOfficerUnderTwoNamesResumes: two keys and two names of one person are one person.
func TestOneOfficerUnderTwoNamesResumes(t *testing.T) {
	w := newWorld(t)
	id := w.stop()
	for _, by := range [][]string{{"ada", "adele"}, {"adele", "ada"}, {"ada", "ada"}} {
		text, _ := w.signed(officers.Resume, func(o *officers.Order) { o.Stops = []string{id} }, by...)
		if a := w.submit(Submission{Order: text}); a.Done {
			t.Errorf("%v resumed", by)
		}
	}
	if len(w.m.state.orders.stops) != 1 {
		t.Error("the stop is gone")
	}
	w.resume(id)
}

// TestOfficersSignatureReplayedOnAnotherOrder: a signature counts for the order it was given
// for, once, at this monitor, on its day.
func TestOfficersSignatureReplayedOnAnotherOrder(t *testing.T) {
	w := newWorld(t)
	first := w.stop()
	resume, _ := w.signed(officers.Resume, func(o *officers.Order) { o.Stops = []string{first} }, "ada", "ben")
	if a := w.submit(Submission{Order: resume}); !a.Done {
		t.Fatal(show(a))
	}
	second := w.stop()
	if a := w.submit(Submission{Order: resume}); a.Done || a.Refused == "" {
		t.Errorf("the old resume ended another stop: %s", show(a))
	}
	moved := string(replaced([]byte(resume), first, second))
	if a := w.submit(Submission{Order: moved}); a.Done {
		t.Errorf("signatures moved to another order: %s", show(a))
	}
	other, _ := w.signed(officers.Resume, func(o *officers.Order) { o.Stops, o.Monitor = []string{second}, "monitor.other" }, "ada", "ben")
	if a := w.submit(Submission{Order: other}); a.Done {
		t.Errorf("an order for another monitor: %s", show(a))
	}
	late, _ := w.signed(officers.Resume, func(o *officers.Order) { o.Stops = []string{second} }, "ada", "ben")
	w.clock.add(officers.Term + time.Second)
	if a := w.submit(Submission{Order: late}); a.Done {
		t.Errorf("an order of the day before yesterday: %s", show(a))
	}
	w.close()
	w.open()
	if w.m.state.orders.stop(second) == nil {
		t.Error("the stop did not survive a restart")
	}
}

func TestStopsOfAPart(t *testing.T) {
	w := newWorld(t)
	cn, ie := analyticsDefinition(), supportDefinition()
	w.acknowledged(cn, ie)
	chen, aoife := w.access("chen", cn), w.access("aoife", ie)
	w.permitted(w.start(chen))
	w.permitted(w.start(aoife))
	for i, c := range []struct {
		scope       officers.Scope
		chen, aoife bool
	}{
		{officers.Scope{Countries: []string{"CN"}}, true, false},
		{officers.Scope{Countries: []string{"CN", "IE"}}, true, true},
		{officers.Scope{Principals: []string{"aoife"}}, false, true},
		{officers.Scope{Purposes: []string{"support"}}, false, true},
		{officers.Scope{Countries: []string{"CN"}, Purposes: []string{"support"}}, false, false},
		{officers.Scope{Countries: []string{"CN"}, Principals: []string{"chen"}, Purposes: []string{"product-analytics"}}, true, false},
	} {
		id := w.stopPart(c.scope)
		n := int64(i)
		if _, no, _ := w.ask(w.release(chen, n, 1, n+1)); (no != nil) != c.chen {
			t.Errorf("%s: chen got %s", show(c.scope), show(no))
		}
		if _, no, _ := w.ask(w.release(aoife, n, 1, n+1)); (no != nil) != c.aoife {
			t.Errorf("%s: aoife got %s", show(c.scope), show(no))
		}
		w.resume(id)
		for _, a := range []*trefoil.Access{&chen, &aoife} {
			if _, no, _ := w.ask(w.release(*a, n, 1, n+1)); no != nil && no.Rule != ruleReplay {
				t.Fatalf("after the resume: %s", show(no))
			}
		}
	}
}

// TestStopOfOthersLeavesLongSessionsTheirs: it voids all permits, and the start of a session that
// has been open for hours is permitted again.
func TestStopOfOthersLeavesLongSessionsTheirs(t *testing.T) {
	w := newWorld(t)
	cn, ie := analyticsDefinition(), supportDefinition()
	w.acknowledged(cn, ie)
	_, _, start := w.ask(w.start(w.access("chen", cn)))
	_, _, other := w.ask(w.start(w.access("aoife", ie)))
	w.clock.add(5 * time.Hour)
	w.stopPart(officers.Scope{Principals: []string{"aoife"}})
	text, no, err := w.m.Permit(t.Context(), start)
	if err != nil || no != nil {
		t.Fatalf("%s, %v", show(no), err)
	}
	if p, err := trefoil.OpenPermit(text, w.trust.Permit); err != nil || p.StopEpoch != 1 {
		t.Errorf("permit %+v, %v", p, err)
	}
	if _, no, err := w.m.Permit(t.Context(), other); err != nil || no == nil || no.Rule != ruleStopped {
		t.Errorf("%s, %v", show(no), err)
	}
}
