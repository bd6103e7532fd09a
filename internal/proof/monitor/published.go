package monitor

import (
	"encoding/json"
	"net/http"
	"path/filepath"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// Ordered is the answer to GET /orders: what officers ordered and what waits. Stops of
// principals, and the orders that wait for a signature, are shown to the monitor's own people.
type Ordered struct {
	Monitor   string        `json:"monitor"`
	Rules     string        `json:"rules,omitempty"` // hash of the rules in force; none: nobody may change them while it runs
	Epoch     uint64        `json:"stop_epoch"`
	Stops     []halt        `json:"stops"`
	Pending   *PendingRules `json:"pending,omitempty"`
	Proposals []Submission  `json:"proposals,omitempty"`
}

// PendingRules are rules that wait until From, and what they loosen. GET /rules/pending.
type PendingRules struct {
	Order  string    `json:"order"`
	Reason string    `json:"reason"`
	Rules  string    `json:"rules"`
	Looser []string  `json:"looser"`
	From   time.Time `json:"from"`
}

// Ordered reports what is in force of the officers' orders; with all, also what names people.
func (m *Monitor) Ordered(all bool) Ordered {
	out := Ordered{Monitor: m.rules.Name, Stops: []halt{}}
	m.state.mu.Lock()
	o := m.state.orders
	out.Rules, out.Epoch = o.rules, m.state.epoch
	for _, h := range o.stops {
		if !all && len(h.Scope.Principals) > 0 {
			scope := *h.Scope
			scope.Principals = []string{"(named)"}
			h.Scope = &scope
		}
		out.Stops = append(out.Stops, h)
	}
	if p := o.pending; p != nil {
		out.Pending = &PendingRules{Order: p.order.ID, Reason: p.order.Reason, Rules: p.hash, Looser: p.looser, From: time.Unix(p.due, 0).UTC()}
	}
	m.state.mu.Unlock()
	if !all {
		return out
	}
	kept, err := readProposals(filepath.Join(m.dir, "state", "orders", "proposed"))
	if err != nil {
		m.logger.Error("read proposals", "error", err)
	}
	for _, p := range kept {
		out.Proposals = append(out.Proposals, p.sub)
	}
	return out
}

// handleOrders serves the officers: POST /orders takes a Submission, the rest is for reading.
func (m *Monitor) handleOrders(mux *http.ServeMux) {
	mux.HandleFunc("POST /orders", m.limited(m.asks, m.postOrder))
	mux.HandleFunc("GET /orders", m.limited(m.reads, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, m.Ordered(m.bearer(r, m.bodies)))
	}))
	mux.HandleFunc("GET /rules/pending", m.limited(m.reads, func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, m.Ordered(false).Pending)
	}))
	mux.HandleFunc("GET /keys", m.limited(m.reads, m.getKeys))
	mux.HandleFunc("GET /stops", m.limited(m.reads, m.getStops))
}

// postOrder takes a signed order. The signature is the credential.
func (m *Monitor) postOrder(w http.ResponseWriter, r *http.Request) {
	raw, ok := readBody(w, r, maxSubmission)
	if !ok {
		return
	}
	var s Submission
	if err := json.Unmarshal(raw, &s); err != nil {
		http.Error(w, "not an order", http.StatusBadRequest)
		return
	}
	a, err := m.Submit(s)
	switch {
	case err != nil:
		m.failed(w, r, err)
	case a.Refused != "":
		writeJSON(w, http.StatusForbidden, a)
	case !a.Done:
		writeJSON(w, http.StatusAccepted, a)
	default:
		writeJSON(w, http.StatusOK, a)
	}
}

// getStops signs the count of stops, for gateways whose sessions run.
func (m *Monitor) getStops(w http.ResponseWriter, r *http.Request) {
	m.state.mu.Lock()
	s := trefoil.Stops{Monitor: m.rules.Name, Epoch: m.state.epoch, At: m.now().UTC().Truncate(time.Second)}
	m.state.mu.Unlock()
	text, err := trefoil.SignStops(s, m.keys.stop)
	if err != nil {
		m.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = w.Write([]byte(text)) // a gateway that went away asks again
}
