package monitor

import (
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/rules/grant"
)

// TestApproverWhoIsThePrincipal: the gateway takes an approval that the monitor knows to be
// the principal's own, under another name and key.
func TestApproverWhoIsThePrincipal(t *testing.T) {
	for _, c := range []struct{ persons, rule string }{{"[chen]", ""}, {"[chen, yuki]", "grant"}} {
		w := newWorld(t, "{ name: dpo, ", "{ name: dpo, persons: "+c.persons+", ")
		d := supportDefinition()
		w.acknowledged(d)
		id, approval := w.approve("dpo", w.approver, "yuki", d, 20*time.Minute)
		a := w.access("yuki", d)
		a.Grant, a.Approvals = id, []string{grant.KeyID(w.m.book().grants.Approvers[0].Verifier)}
		if c.rule == "" {
			w.permitted(w.start(a), approval)
		} else {
			w.refused(c.rule, w.start(a), approval)
		}
	}
}
