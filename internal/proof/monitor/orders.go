package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/officers"
)

// LooseningWait is how long rules that loosen anything wait before they count.
const LooseningWait = 72 * time.Hour

// maxProposals bounds how many orders wait for another signature.
const maxProposals = 64

// Submission is an order as it reaches the monitor. Rules is the file of other rules, which the
// order names by its hash.
type Submission struct {
	Order string `json:"order"`
	Rules string `json:"rules,omitempty"`
}

// OrderAnswer is what became of a submission.
type OrderAnswer struct {
	ID      string          `json:"id,omitempty"`
	Action  officers.Action `json:"action,omitempty"`
	Done    bool            `json:"done"`              // it is in force, or for rules: taken
	Waits   string          `json:"waits,omitempty"`   // what it still needs
	From    time.Time       `json:"from,omitzero"`     // rules: when they count
	Looser  []string        `json:"looser,omitempty"`  // rules: what they loosen
	Refused string          `json:"refused,omitempty"` // why nothing came of it
}

// errNoOfficers means that the rules name nobody who may order. Add officers, and start anew.
var errNoOfficers = errors.New("the monitor's rules name no officers")

// Submit takes an order: it is verified, made durable, and in force when Submit returns with
// Done. An order with too few signatures is kept for another officer to second. The error is
// the monitor's disk.
func (m *Monitor) Submit(s Submission) (*OrderAnswer, error) {
	m.ordering.Lock()
	defer m.ordering.Unlock()
	b, now := m.book(), m.now()
	if len(b.rules.Officers) == 0 {
		return &OrderAnswer{Refused: errNoOfficers.Error()}, nil
	}
	signed, err := b.roster.Open(s.Order, b.rules.Name, now)
	if err != nil {
		return &OrderAnswer{Refused: err.Error()}, nil
	}
	o := signed.Order
	a := &OrderAnswer{ID: o.ID, Action: o.Action}
	need, e, err := m.weigh(b, signed, s, now, a)
	switch {
	case err != nil:
		a.Refused = err.Error()
		return a, nil
	case len(signed.Officers) < need:
		a.Waits = fmt.Sprintf("the signature of %d more officer, another person: trefoil monitor second %s", need-len(signed.Officers), o.ID)
		return a, m.propose(o.ID, s)
	}
	if err := m.obeyed(e, signed, s); err != nil {
		return nil, err
	}
	a.Done = true
	if o.Action == officers.Rules && len(a.Looser) == 0 {
		return a, m.enforceDue(now)
	}
	return a, nil
}

// weigh says how many persons must sign the order, and what it enters in the journal. The error
// is why it is refused.
func (m *Monitor) weigh(b *book, signed *officers.Signed, s Submission, now time.Time, a *OrderAnswer) (int, *entry, error) {
	o := signed.Order
	e := &entry{Type: entryOrder, At: now.UnixMicro(), Name: o.ID, Note: string(o.Action), Expires: now.Unix()}
	m.state.mu.Lock()
	st := m.state.orders
	used, pending := st.used[o.ID], st.pending
	ended := slices.ContainsFunc(o.Stops, func(id string) bool { return st.stop(id) == nil })
	m.state.mu.Unlock()
	switch {
	case used:
		return 0, nil, errors.New("this order was obeyed before: its signatures count once")
	case o.Action == officers.Stop:
		return 1, e, nil
	case o.Action == officers.Resume && ended:
		return 0, nil, errors.New("it names a stop that is not in force")
	case o.Action == officers.Resume:
		return 2, e, nil
	case o.Action == officers.Withdraw && (pending == nil || pending.hash != o.Rules):
		return 0, nil, errors.New("no such rules wait")
	case o.Action == officers.Withdraw:
		return 1, e, nil
	case o.Action == officers.Acknowledge && b.datasets[o.Dataset] == nil:
		return 0, nil, errors.New("the rules name no such dataset")
	case o.Action == officers.Acknowledge:
		return 1, e, nil
	}
	other, err := m.otherRules(b, o, s)
	if err != nil {
		return 0, nil, err
	}
	a.Looser, a.From, e.Hash = Looser(b.rules, other), now.UTC().Truncate(time.Second), o.Rules
	e.Looser = a.Looser
	if len(a.Looser) == 0 {
		return 1, e, nil
	}
	e.Expires = now.Add(LooseningWait).Unix()
	a.From = time.Unix(e.Expires, 0).UTC()
	return 2, e, nil
}

// otherRules reads the rules that an order brings.
func (m *Monitor) otherRules(b *book, o officers.Order, s Submission) (*Rules, error) {
	m.state.mu.Lock()
	base := m.state.orders.rules
	m.state.mu.Unlock()
	switch {
	case base == "" || o.Base != base:
		return nil, errors.New("it changes other rules than those in force")
	case hashOf([]byte(s.Rules)) != o.Rules:
		return nil, errors.New("the rules that came with it are not those that were signed")
	}
	other, err := ParseRules(RulesFile, []byte(s.Rules))
	if err != nil {
		return nil, fmt.Errorf("the other rules are wrong: %w", err)
	}
	if other.Name != b.rules.Name {
		return nil, errors.New("the monitor's name does not change")
	}
	if _, err := newBook(other, m.dir); err != nil {
		return nil, fmt.Errorf("the other rules are wrong: %w", err)
	}
	return other, nil
}

// obeyed makes an order durable and in force.
func (m *Monitor) obeyed(e *entry, signed *officers.Signed, s Submission) error {
	for _, o := range signed.Officers {
		e.Signers = append(e.Signers, o.KeyID())
	}
	body, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("keep order: %w", err)
	}
	m.state.mu.Lock()
	seq, err := m.step(e, body)
	m.state.mu.Unlock()
	if err != nil {
		return err
	}
	if err := m.journal.wait(seq); err != nil {
		return err
	}
	m.logger.Warn("officers' order", "action", e.Note, "order", e.Name)
	if err := os.Remove(m.proposal(e.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("keep order: %w", err)
	}
	return nil
}

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

func (m *Monitor) proposal(id string) string {
	return filepath.Join(m.dir, "state", "orders", "proposed", id+".json")
}

// propose keeps an order that waits for another signature.
func (m *Monitor) propose(id string, s Submission) error {
	dir := filepath.Dir(m.proposal(id))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("keep proposal: %w", err)
	}
	if err := m.forgetProposals(dir); err != nil {
		return err
	}
	enc, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("keep proposal: %w", err)
	}
	return writeFileSync(m.proposal(id), enc, 0o600)
}

// forgetProposals removes proposals that are too old to be seconded, and the oldest of too many.
func (m *Monitor) forgetProposals(dir string) error {
	kept, err := readProposals(dir)
	if err != nil {
		return err
	}
	for i, p := range kept {
		if i < len(kept)-maxProposals+1 || m.now().Sub(p.order.At) > officers.Term {
			if err := os.Remove(filepath.Join(dir, p.order.ID+".json")); err != nil {
				return fmt.Errorf("forget proposal: %w", err)
			}
		}
	}
	return nil
}

type proposal struct {
	order officers.Order
	sub   Submission
}

// readProposals returns what waits in dir, oldest first. What cannot be read is left out.
func readProposals(dir string) ([]proposal, error) {
	files, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read proposals: %w", err)
	}
	var out []proposal
	for _, f := range files {
		raw, err := os.ReadFile(filepath.Join(dir, f.Name()))
		var p proposal
		if err != nil || json.Unmarshal(raw, &p.sub) != nil {
			continue
		}
		if p.order, err = officers.Read(p.sub.Order); err != nil || p.order.ID+".json" != f.Name() {
			continue
		}
		out = append(out, p)
	}
	slices.SortStableFunc(out, func(a, b proposal) int { return a.order.At.Compare(b.order.At) })
	return out, nil
}
