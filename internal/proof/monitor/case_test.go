package monitor

import (
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// caseOf is a case of a definition for one principal and two hours.
func (w *world) caseOf(d *trefoil.Definition, name, principal, grantID string) *trefoil.Definition {
	w.t.Helper()
	return trefoil.CaseDefinition(d, trefoil.Case{Name: name, Subjects: strings.Repeat("ab", 16), Grant: grantID, Until: w.clock.now().Add(2 * time.Hour),
		Who: []string{trefoil.CasePseudonym(w.staff, name, principal)}})
}

func TestACaseOpensForWhomItNames(t *testing.T) {
	w := newWorld(t)
	d := supportDefinition()
	own := w.caseOf(d, "case_1", "aoife", "")
	if a := w.acknowledge(own); a.Refusal == nil || a.Refusal.Rule != ruleDefinition {
		t.Fatalf("a case of a dataset that nobody acknowledged: %s", show(a))
	}
	w.acknowledged(d, own)
	w.permitted(w.start(w.access("aoife", own)))
	w.refused(ruleCase, w.start(w.access("yuki", own)))
	w.clock.add(2 * time.Hour)
	w.refused(ruleCase, w.start(w.access("aoife", own)))
	w.permitted(w.start(w.access("aoife", d))) // the dataset itself goes on
}

// A gateway publishes as a case what is not a part of any dataset that was acknowledged.
func TestACaseThatShowsMoreThanItsDatasetIsNotAcknowledged(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*trefoil.Definition)
		rule   string
	}{
		"another column": {func(d *trefoil.Definition) {
			d.Columns = append(d.Columns, trefoil.DefinedColumn{Category: "contact", Column: "phone", Form: "clear", Table: "app.users", Type: "text"})
		}, ruleDefinition},
		"a clearer form":        {func(d *trefoil.Definition) { d.Columns[1].Form = "clear" }, ruleDefinition},
		"more subjects":         {func(d *trefoil.Definition) { delete(d.Rows, "residence") }, ruleDefinition},
		"outside":               {func(d *trefoil.Definition) { d.Cluster = "outside" }, ruleDefinition},
		"of another dataset":    {func(d *trefoil.Definition) { d.Rows["of"] = "analytics" }, ruleDefinition},
		"of none":               {func(d *trefoil.Definition) { d.Rows["of"] = "secret" }, ruleDataset},
		"of nothing":            {func(d *trefoil.Definition) { delete(d.Rows, "of") }, ruleDataset},
		"without an end":        {func(d *trefoil.Definition) { delete(d.Rows, "until") }, ruleDefinition},
		"over":                  {func(d *trefoil.Definition) { d.Rows["until"] = "2026-11-20T12:00:00Z" }, ruleCase},
		"in the dataset's name": {func(d *trefoil.Definition) { d.Name = "support"; d.Rows["of"] = "analytics" }, ruleDefinition},
		"another person table":  {func(d *trefoil.Definition) { d.Person = "app.watches" }, ruleDefinition},
		"another regime":        {func(d *trefoil.Definition) { d.Regimes = []string{"CH", "EU"} }, ruleDefinition},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.acknowledged(supportDefinition(), analyticsDefinition())
			own := w.caseOf(supportDefinition(), "case_1", "aoife", "")
			columns := append([]trefoil.DefinedColumn{}, own.Columns...)
			own.Columns = columns
			c.change(own)
			if a := w.acknowledge(own); a.Refusal == nil || a.Refusal.Rule != c.rule || a.Acknowledgement != "" {
				t.Errorf("answer %s, want refusal %q", show(a), c.rule)
			}
		})
	}
}

// A pseudonymised dataset may be read from anywhere; a case of it names its subjects.
func TestACaseOfAPseudonymisedDatasetDoesNotLeaveTheRegion(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	own := w.caseOf(d, "case_1", "chen", "")
	if a := w.acknowledge(own); a.Refusal == nil {
		t.Fatalf("the rules open it pseudonymised alone: %s", show(a))
	}
	w = newWorld(t, "    cluster: outside\n", "    cluster: inside\n", "      - { groups: [analysts], where: elsewhere, class: pseudonymised }\n",
		"      - { groups: [analysts], where: elsewhere, class: pseudonymised }\n      - { groups: [analysts], where: region, class: clear }\n")
	d.Cluster = "inside"
	own = w.caseOf(d, "case_1", "chen", "")
	w.acknowledged(d, own)
	w.permitted(w.start(w.access("chen", d)))
	a := w.access("chen", own)
	a.Instrument = trefoil.Instrument{Transfer: true}
	text, no, _ := w.ask(w.start(a))
	if text != "" || no == nil || !strings.HasPrefix(no.Rule, "floor") {
		t.Errorf("permit %q, refusal %s", text, show(no))
	}
}

// The case of a grant needs the grant: for its principal, its dataset and what that was then.
func TestTheCaseOfAGrantNeedsTheGrant(t *testing.T) {
	w := newWorld(t)
	d := supportDefinition()
	w.acknowledged(d)
	id, approval := w.approve("dpo", w.approver, "yuki", d, time.Hour)
	other, wrong := w.approve("dpo", w.approver, "yuki", analyticsDefinition(), time.Hour)
	own := w.caseOf(d, "case_1", "yuki", id)
	w.acknowledged(own)
	with := func(id string) trefoil.Access {
		a := w.access("yuki", own)
		a.Grant = id
		if id != "" {
			a.Approvals = []string{grant.KeyID(w.m.book().grants.Approvers[0].Verifier)}
		}
		return a
	}
	w.refused(ruleGrant, w.start(with("")))
	w.refused(ruleGrant, w.start(with("")), approval)
	w.refused(ruleGrant, w.start(with(id)))
	w.refused(ruleGrant, w.start(with(id)), wrong)
	w.refused(ruleGrant, w.start(with(other)), wrong, approval)
	w.permitted(w.start(with(id)), approval)
	w.clock.add(90 * time.Minute) // the case goes on, its grant does not
	w.refused(ruleGrant, w.start(with(id)), approval)
}
