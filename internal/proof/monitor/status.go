package monitor

import (
	"net/http"
	"time"
)

// Status is the answer to GET /status. Sessions are shown to whoever has the monitor's own
// token: they are personal data of staff.
type Status struct {
	Name     string          `json:"name"`
	At       time.Time       `json:"at"`
	Stopped  bool            `json:"stopped"`
	Epoch    uint64          `json:"stop_epoch"`
	Findings int             `json:"findings"`
	ByRule   map[string]int  `json:"findings_by_rule"`
	Datasets map[string]int  `json:"acknowledged_definitions"`
	Backlog  int             `json:"own_log_backlog"`
	OwnLog   uint64          `json:"own_log_size"`
	Logs     []LogStatus     `json:"logs"`
	Sessions []SessionStatus `json:"sessions,omitempty"`
}

// LogStatus is what the monitor holds of one log.
type LogStatus struct {
	Origin   string `json:"origin"`
	Hash     string `json:"hash"` // names the log under /mirror and /bodies
	Cosigned uint64 `json:"cosigned_size"`
	Mirrored uint64 `json:"mirrored_size"`
	Bodies   uint64 `json:"bodies_up_to"` // below it every body is here or gone
	Gone     uint64 `json:"bodies_gone"`
	Asked    string `json:"last_round,omitempty"`
	Trouble  string `json:"trouble,omitempty"`
	Totals
}

// SessionStatus is one session as the mirror holds it.
type SessionStatus struct {
	Session   string `json:"session"`
	Chunks    int64  `json:"chunks"`
	Bytes     int64  `json:"release_bytes"`
	Permitted int64  `json:"permitted_release_bytes"`
	Allowance int64  `json:"allowance"`
	Closed    bool   `json:"closed"`
}

// Status reports what the monitor holds; with sessions too if all.
func (m *Monitor) Status(all bool) Status {
	s := Status{Name: m.rules.Name, At: m.now().UTC(), Backlog: m.diary.backlog(), OwnLog: m.diary.log.Size(), Datasets: map[string]int{}}
	s.Findings, s.ByRule = m.findings.summary()
	for _, f := range m.followers {
		s.Logs = append(s.Logs, f.status())
	}
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	s.Stopped, s.Epoch = m.state.stopped, m.state.epoch
	for name, d := range m.state.acks {
		s.Datasets[name] = len(d)
	}
	for i := range s.Logs {
		s.Logs[i].Totals = m.state.totals[i]
	}
	if !all {
		for i := range s.Logs {
			s.Logs[i].Trouble = "" // it names hosts
		}
		return s
	}
	for name, x := range m.state.sessions {
		s.Sessions = append(s.Sessions, SessionStatus{Session: name, Chunks: x.next, Bytes: x.total, Permitted: x.released,
			Allowance: x.allowance, Closed: x.closed != 0})
	}
	return s
}

func (f *follower) status() LogStatus {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := LogStatus{Origin: f.origin, Hash: originHash(f.origin), Cosigned: f.witness.size(), Mirrored: f.tree.size(),
		Bodies: f.next, Gone: f.gone, Trouble: f.trouble}
	if !f.asked.IsZero() {
		s.Asked = f.asked.UTC().Format(time.RFC3339)
	}
	return s
}

func (m *Monitor) status(w http.ResponseWriter, r *http.Request) {
	writeJSON(w, http.StatusOK, m.Status(m.bearer(r, m.bodies)))
}
