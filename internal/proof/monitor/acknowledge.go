package monitor

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// Acknowledge judges a catalog record that publishes a dataset's definition. It answers with
// a signed acknowledgement, or a refusal, or an error that wraps errUnproved or errJournal.
// Asked again, it gives the same answer: gateways ask at every start.
func (m *Monitor) Acknowledge(r *trefoil.PermitRequest) (*trefoil.AcknowledgeAnswer, error) {
	p, err := m.prove(r)
	if err != nil {
		return nil, err
	}
	no := func(rule, article, text string) (*trefoil.AcknowledgeAnswer, error) {
		return &trefoil.AcknowledgeAnswer{Refusal: refuse(rule, article, text)}, nil
	}
	if p.body.Catalog == nil || p.body.Catalog.Definition == nil {
		return no(ruleKind, "", "the record publishes no definition")
	}
	c := p.body.Catalog
	d := c.Definition
	rules := m.book()
	set := rules.ruleOf(d.Name, d)
	m.state.mu.Lock()
	parents := m.state.parents(d)
	m.state.mu.Unlock()
	switch {
	case c.Event == "dropped":
		return no(ruleKind, "", "the record drops the dataset")
	case c.Hash != trefoil.DefinitionHash(d):
		return no(ruleLying, "GDPR art. 5(2)", "the record's hash is not that of its definition")
	case set == nil:
		return no(ruleDataset, "GDPR art. 25(2)", "the monitor's rules name no such dataset")
	case set.Definition != "" && set.Definition != c.Hash:
		return no(ruleDefinition, "GDPR art. 25(2)", "the monitor's rules pin another definition of the dataset")
	}
	if refused := rules.allows(set, d); refused != nil {
		return &trefoil.AcknowledgeAnswer{Refusal: refused}, nil
	}
	if refused := rules.caseDefined(d, parents, m.now()); refused != nil {
		return &trefoil.AcknowledgeAnswer{Refusal: refused}, nil
	}
	if refused, err := m.pinned(p, set, d, c.Hash); refused != nil || err != nil {
		return &trefoil.AcknowledgeAnswer{Refusal: refused}, err
	}
	return m.acknowledge(p, d, c.Hash)
}

// acknowledge keeps the definition, once, and signs.
func (m *Monitor) acknowledge(p *proved, d *trefoil.Definition, hash string) (*trefoil.AcknowledgeAnswer, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("acknowledge: %w", err)
	}
	s, now := m.state, m.now()
	s.mu.Lock()
	answer := &trefoil.AcknowledgeAnswer{}
	old := s.acks[d.Name]
	seq, at := m.journal.last(), now.UnixMicro()
	i := slices.IndexFunc(old, func(x definition) bool { return x.hash == hash })
	if i >= 0 {
		at = old[i].at
		if i > 0 {
			answer.Widened = widened(old[i-1].d, d)
		}
	} else {
		if last, known := s.last[d.Name]; known {
			answer.Widened = widened(last.d, d)
		}
		seq, err = m.step(&entry{Type: entryAck, At: at, Origin: p.body.Origin, Index: p.index, Leaf: p.leaf[:], Name: d.Name, Hash: hash}, body)
	}
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if err := m.journal.wait(seq); err != nil {
		return nil, err
	}
	if i < 0 && len(answer.Widened) > 0 {
		m.finding(Finding{Rule: "definition-widened", Origin: p.body.Origin, Index: &p.index,
			Text: fmt.Sprintf("dataset %s shows more than before: %d changes, the rules allow them", d.Name, len(answer.Widened))})
	}
	first, others := m.keys.permitAt(now)
	answer.Acknowledgement, err = trefoil.SignAcknowledgement(trefoil.Acknowledgement{Dataset: d.Name, Definition: hash,
		Class: string(classOf(d)), Origin: p.body.Origin, At: time.UnixMicro(at).UTC().Truncate(time.Second)}, first, others...)
	return answer, err
}

// widened lists what b shows beyond a, sorted: columns that are new or in a more revealing
// form, a smaller cell, other subjects, another regime left out.
func widened(a, b *trefoil.Definition) []string {
	var out []string
	type name struct{ table, column string }
	before := map[name]trefoil.DefinedColumn{}
	for _, c := range a.Columns {
		before[name{c.Table, c.Column}] = c
	}
	for _, c := range b.Columns {
		old, had := before[name{c.Table, c.Column}]
		at := c.Table + "." + c.Column
		switch {
		case law.Form(c.Form) == law.Withheld:
		case !had:
			out = append(out, fmt.Sprintf("%s: new, %s", at, c.Form))
		case !law.Within(law.Form(c.Form), law.Form(old.Form)):
			out = append(out, fmt.Sprintf("%s: %s, was %s", at, c.Form, old.Form))
		case c.Form == old.Form && c.Detail != old.Detail:
			out = append(out, fmt.Sprintf("%s: %s by %q, was by %q", at, c.Form, c.Detail, old.Detail))
		case c.Category != old.Category || c.Trait != old.Trait:
			out = append(out, fmt.Sprintf("%s: %s %s, was %s %s", at, c.Category, c.Trait, old.Category, old.Trait))
		}
	}
	if b.K < a.K {
		out = append(out, fmt.Sprintf("smallest cell: %d, was %d", b.K, a.K))
	}
	if b.Person != a.Person {
		out = append(out, "the person table is another one")
	}
	for k, v := range a.Rows {
		if b.Rows[k] != v {
			out = append(out, "rows: "+k+" is another choice")
		}
	}
	for _, r := range b.Regimes {
		if !slices.Contains(a.Regimes, r) {
			out = append(out, "regimes: "+r+" is new")
		}
	}
	slices.Sort(out)
	return out
}
