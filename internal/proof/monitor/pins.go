package monitor

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// maxOffers bounds how many definitions of one dataset wait for an officer: the newest stay.
const maxOffers = 10

func (s *state) applyAck(e *entry, d *trefoil.Definition) {
	got := definition{d: d, hash: e.Hash, index: e.Index, at: e.At}
	s.acks[e.Name] = append(s.acks[e.Name], got)
	s.last[e.Name] = got
	s.offers[e.Name] = slices.DeleteFunc(s.offers[e.Name], func(x definition) bool { return x.hash == e.Hash })
}

func (s *state) applyOffer(e *entry, raw []byte) error {
	var d trefoil.Definition
	if err := json.Unmarshal(raw, &d); err != nil {
		return fmt.Errorf("decode offered definition: %w", err)
	}
	all := append(s.offers[e.Name], definition{d: &d, hash: e.Hash, index: e.Index, at: e.At})
	s.offers[e.Name] = all[max(0, len(all)-maxOffers):]
	return nil
}

// pinned refuses a definition that is another than the dataset's first, unless the rules or an
// officer let it count. What is refused is kept, for the officers to compare. A dataset that was
// dropped stays pinned: dropping it would be a way round.
func (m *Monitor) pinned(p *proved, set *DatasetRule, d *trefoil.Definition, hash string) (*refusal, error) {
	s := m.state
	s.mu.Lock()
	last, known := s.last[d.Name]
	is := func(x definition) bool { return x.hash == hash }
	free := !known || last.hash == hash || set.Acknowledge == AcknowledgeAuto || set.Definition == hash || s.orders.pins[d.Name][hash] ||
		slices.ContainsFunc(s.acks[d.Name], is)
	offered := slices.ContainsFunc(s.offers[d.Name], is)
	var err error
	seq := m.journal.last()
	if !free && !offered {
		var body []byte
		if body, err = json.Marshal(d); err == nil {
			seq, err = m.step(&entry{Type: entryOffer, At: m.now().UnixMicro(), Origin: p.body.Origin, Index: p.index, Leaf: p.leaf[:], Name: d.Name, Hash: hash}, body)
		}
	}
	s.mu.Unlock()
	if err != nil || free {
		return nil, err
	}
	if err := m.journal.wait(seq); err != nil {
		return nil, err
	}
	if more := widened(last.d, d); len(more) > 0 && !offered {
		m.finding(Finding{Rule: "definition-offered", Origin: p.body.Origin, Index: &p.index,
			Text: fmt.Sprintf("dataset %s would show more than the acknowledged definition: %d changes wait for an officer", d.Name, len(more))})
	}
	return refuse(ruleDefinition, "GDPR art. 25(2)", fmt.Sprintf("the monitor acknowledged another definition of the dataset; "+
		"one of its officers may acknowledge this one: trefoil monitor acknowledge %s %s", d.Name, hash)), nil
}

// DefinitionChange is one definition that was offered to the monitor, with what it shows beyond
// the one that counted before it.
type DefinitionChange struct {
	At      time.Time `json:"at"`
	Dataset string    `json:"dataset"`
	Event   string    `json:"event"` // acknowledged, offered (waits for an officer), dropped
	Hash    string    `json:"hash,omitempty"`
	Before  string    `json:"before,omitempty"` // hash of the definition that counted
	Widened []string  `json:"widened,omitempty"`
	Order   string    `json:"order,omitempty"` // by which an officer acknowledged it
	Reason  string    `json:"reason,omitempty"`
}

// DefinitionChanges reads the dated changes of every dataset's definition from the journal in
// dir, oldest first. It changes nothing, and may run beside the monitor.
func DefinitionChanges(dir string) ([]DefinitionChange, error) {
	r := changesReader{last: map[string]*trefoil.Definition{}, by: map[string]officers.Order{}}
	if err := readJournal(filepath.Join(dir, "state"), r.entry); err != nil {
		return nil, fmt.Errorf("read definitions: %w", err)
	}
	return r.out, nil
}

type changesReader struct {
	out  []DefinitionChange
	last map[string]*trefoil.Definition
	by   map[string]officers.Order // dataset and hash → order
}

func (r *changesReader) entry(e *entry, raw []byte) error {
	c := DefinitionChange{At: time.UnixMicro(e.At).UTC(), Dataset: e.Name, Hash: e.Hash, Event: "offered"}
	switch e.Type {
	case entryOrder:
		var s Submission
		if err := json.Unmarshal(raw, &s); err != nil {
			return fmt.Errorf("decode order: %w", err)
		}
		o, err := officers.Read(s.Order)
		if err == nil && o.Action == officers.Acknowledge {
			r.by[o.Dataset+" "+o.Definition] = o
		}
		return err
	case entryDropped:
		c.Event = "dropped"
	case entryAck, entryOffer:
		var d trefoil.Definition
		if err := json.Unmarshal(raw, &d); err != nil {
			return fmt.Errorf("decode definition: %w", err)
		}
		if before := r.last[e.Name]; before != nil {
			c.Before, c.Widened = trefoil.DefinitionHash(before), widened(before, &d)
		}
		if e.Type == entryAck {
			c.Event, r.last[e.Name] = "acknowledged", &d
			o := r.by[e.Name+" "+e.Hash]
			c.Order, c.Reason = o.ID, o.Reason
		}
	default:
		return nil
	}
	r.out = append(r.out, c)
	return nil
}
