package monitor

import (
	"slices"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

func TestAcknowledgeIsIdempotentAndSurvives(t *testing.T) {
	w := newWorld(t)
	d := supportDefinition()
	first := w.acknowledge(d)
	a, err := trefoil.OpenAcknowledgement(first.Acknowledgement, w.trust.Permit)
	if err != nil {
		t.Fatal(err)
	}
	if a.Dataset != "support" || a.Definition != trefoil.DefinitionHash(d) || a.Class != string(law.ClassClear) || a.Origin != testOrigin {
		t.Errorf("acknowledgement %+v", a)
	}
	w.close()
	w.open()
	if again := w.acknowledge(d); again.Acknowledgement != first.Acknowledgement {
		t.Errorf("asked again: %s, want %s", again.Acknowledgement, first.Acknowledgement)
	}
	w.permitted(w.start(w.access("aoife", d)))
}

// TestDefinitionsThatTheRulesDoNotAllow: the gateway calls it pseudonymised; the monitor looks
// at the columns.
func TestDefinitionsThatTheRulesDoNotAllow(t *testing.T) {
	for name, c := range map[string]struct {
		change func(d *trefoil.Definition)
		rule   string
	}{
		"clear e-mail outside": {func(d *trefoil.Definition) {
			d.Columns = append(d.Columns, trefoil.DefinedColumn{Category: "contact", Column: "email", Form: "clear", Table: "app.users", Type: "text"})
		}, ruleDefinition},
		"exact times": {func(d *trefoil.Definition) {
			d.Columns = append(d.Columns, trefoil.DefinedColumn{Category: "behaviour", Column: "at", Form: "clear", Table: "app.watches", Trait: "time", Type: "timestamp with time zone"})
		}, ruleDefinition},
		"small cells": {func(d *trefoil.Definition) {
			d.K = 1
			d.Columns = append(d.Columns, trefoil.DefinedColumn{Category: "location", Column: "country", Form: "clear", Table: "app.users", Trait: "residence", Type: "text"})
		}, ruleDefinition},
		"unknown form":    {func(d *trefoil.Definition) { d.Columns[0].Form = "hashed" }, ruleDefinition},
		"no columns":      {func(d *trefoil.Definition) { d.Columns = nil }, ruleDefinition},
		"inside":          {func(d *trefoil.Definition) { d.Cluster = "inside" }, ruleDefinition},
		"another purpose": {func(d *trefoil.Definition) { d.Purpose = "support" }, ruleDefinition},
		"more regimes":    {func(d *trefoil.Definition) { d.Regimes = []string{"CH", "EU"} }, ruleDefinition},
		"no regimes":      {func(d *trefoil.Definition) { d.Regimes = nil }, ruleDefinition},
		"unknown name":    {func(d *trefoil.Definition) { d.Name = "copy" }, ruleDataset},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			d := analyticsDefinition()
			c.change(d)
			if a := w.acknowledge(d); a.Refusal == nil || a.Refusal.Rule != c.rule || a.Acknowledgement != "" {
				t.Errorf("answer %s, want refusal %q", show(a), c.rule)
			}
			if d.Name == "analytics" && d.Purpose == "product-analytics" {
				w.refused(ruleAcknowledged, w.start(w.access("chen", d)))
			}
		})
	}
}

func TestHashThatIsNotTheDefinitions(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	index := w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindCatalog, Origin: testOrigin,
		Catalog: &trefoil.CatalogBody{Definition: d, Event: "defined", Hash: strings.Repeat("0", 64)}})
	answer, err := w.m.Acknowledge(w.log.request(index, w.log.cosigned(w.m)))
	if err != nil || answer.Refusal == nil || answer.Refusal.Rule != ruleLying {
		t.Errorf("answer %s, %v; want refusal %q", show(answer), err, ruleLying)
	}
}

func TestPinnedDefinition(t *testing.T) {
	d := analyticsDefinition()
	w := newWorld(t, "    cluster: outside\n", "    cluster: outside\n    definition: "+trefoil.DefinitionHash(d)+"\n")
	w.acknowledged(d)
	d.K = 11
	if a := w.acknowledge(d); a.Refusal == nil || a.Refusal.Rule != ruleDefinition {
		t.Errorf("answer %s, want refusal %q", show(a), ruleDefinition)
	}
}

// TestWidenedDefinitionIsReported: what the rules allow is acknowledged, and what it shows
// beyond the last one is said.
func TestWidenedDefinitionIsReported(t *testing.T) {
	w := newWorld(t, "    cluster: inside\n", "    cluster: inside\n    acknowledge: auto\n")
	d := supportDefinition()
	if a := w.acknowledge(d); len(a.Widened) != 0 {
		t.Errorf("first definition is widened by %v", a.Widened)
	}
	d.Columns[1].Form = "clear"
	d.Columns = append(d.Columns, trefoil.DefinedColumn{Category: "contact", Column: "phone", Form: "generalised", Detail: "prefix:3", Table: "app.users", Type: "text"})
	d.Rows = map[string]string{}
	a := w.acknowledge(d)
	want := []string{"app.users.id: clear, was pseudonymised", "app.users.phone: new, generalised", "rows: residence is another choice"}
	if !slices.Equal(a.Widened, want) {
		t.Errorf("widened %v, want %v", a.Widened, want)
	}
	if w.found("definition-widened") != 1 {
		t.Error("no finding")
	}
	if a := w.acknowledge(supportDefinition()); len(a.Widened) != 0 {
		t.Errorf("the narrower one again is widened by %v", a.Widened)
	}
}

func TestDroppedDatasetGivesNothing(t *testing.T) {
	w := newWorld(t)
	d := analyticsDefinition()
	w.acknowledged(d)
	a := w.access("chen", d)
	w.permitted(w.start(a))
	w.log.add(&trefoil.Body{At: w.clock.now(), Kind: trefoil.KindCatalog, Origin: testOrigin,
		Catalog: &trefoil.CatalogBody{Definition: d, Event: "dropped", Hash: trefoil.DefinitionHash(d)}})
	w.log.cosigned(w.m)
	w.synced()
	w.refused(ruleAcknowledged, w.release(a, 0, 1, 1))
}
