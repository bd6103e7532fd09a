package monitor

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// ValveRequired in the rules: nothing is permitted for places outside the region unless it
// goes through the valve.
const ValveRequired = "required"

// maxValveReport bounds a valve's report in bytes.
const maxValveReport = 4 << 10

// maxValveStreams bounds how many valves listen at a time.
const maxValveStreams = 16

// valves tells the valves what may pass. It says of a permit what the journal holds, never
// before the journal holds it.
type valves struct {
	mu      sync.Mutex
	streams map[*valveStream]bool
	over    chan struct{} // closed when the monitor serves no more
	once    sync.Once
}

// valveStream is what one listening valve was not told yet: the latest of each connection.
type valveStream struct {
	wake  chan struct{} // at most one waits there
	mu    sync.Mutex
	seq   uint64 // of the journal: what must be durable before lines may go
	lines map[string]credit.Line
	state *credit.Line // goes at once when it is a stop
}

func newValves() *valves {
	return &valves{streams: map[*valveStream]bool{}, over: make(chan struct{})}
}

// bound holds a record's connection against its session: a session has one, or none, for its
// whole life, and a connection has one session. The state's lock is held.
func (m *Monitor) bound(p *proved, session string, zone law.Zone) *refusal {
	x := m.state.sessions[session]
	switch {
	case p.valve != "" && !credit.ValidID(p.valve):
		return refuse(ruleValve, "", "the valve's connection is not 32 hex digits")
	case x != nil && x.valve != p.valve:
		return refuse(ruleValve, "", "the session began on another connection of the valve")
	case x == nil && p.valve != "" && m.state.valves[p.valve] != "":
		return refuse(ruleValve, "", "another session came through this connection of the valve")
	case p.valve == "" && m.book().rules.Valve == ValveRequired && zone != law.ZoneRegion:
		return refuse(ruleValve, "", "what leaves the region goes through the monitor's valve")
	}
	return nil
}

// creditOf is all that session x of this name may pass through its connection.
func creditOf(name string, x *session) credit.Line {
	l := credit.Line{Kind: credit.Credit, Valve: x.valve, Session: name, Held: x.held, Bytes: x.released, Releases: x.grants}
	if x.permitted {
		l.Allowance = x.allowance
	}
	return l
}

// note takes up what entry seq changed. The state's lock is held.
func (v *valves) note(seq uint64, e *entry, s *state) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.streams) == 0 {
		return
	}
	if e.Type != entryRecord {
		var lines []credit.Line
		if e.changesStops() {
			lines = s.credits()
		}
		for st := range v.streams {
			st.put(seq, &credit.Line{Kind: credit.State, Stopped: s.stopped}, lines)
		}
		return
	}
	if x := s.sessions[e.Session]; e.Permitted && x != nil && x.valve != "" {
		for st := range v.streams {
			st.put(seq, nil, []credit.Line{creditOf(e.Session, x)})
		}
	}
}

func (st *valveStream) put(seq uint64, state *credit.Line, lines []credit.Line) {
	st.mu.Lock()
	st.seq = max(st.seq, seq)
	if state != nil {
		st.state = state
	}
	for _, l := range lines {
		st.lines[l.Valve] = l
	}
	st.mu.Unlock()
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// take empties the stream. Unless all is true it takes no more than a stop.
func (st *valveStream) take(all bool) (lines []credit.Line, seq uint64) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.state != nil && (all || st.state.Stopped) {
		lines = append(lines, *st.state)
		st.state = nil
	}
	if all {
		for id, l := range st.lines {
			lines = append(lines, l)
			delete(st.lines, id)
		}
	}
	return lines, st.seq
}

// openValve registers a stream that begins with everything there is.
func (m *Monitor) openValve() (*valveStream, bool) {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	m.valves.mu.Lock()
	defer m.valves.mu.Unlock()
	if len(m.valves.streams) >= maxValveStreams {
		return nil, false
	}
	st := &valveStream{wake: make(chan struct{}, 1), lines: map[string]credit.Line{}}
	m.holdSessions()
	st.put(m.journal.last(), &credit.Line{Kind: credit.State, Stopped: m.state.stopped}, m.state.credits())
	m.valves.streams[st] = true
	return st, true
}

func (m *Monitor) closeValve(st *valveStream) {
	m.valves.mu.Lock()
	defer m.valves.mu.Unlock()
	delete(m.valves.streams, st)
}

// EndStreams ends the streams of valves, which otherwise never end: for a server's shutdown.
func (m *Monitor) EndStreams() { m.valves.once.Do(func() { close(m.valves.over) }) }

// withValveToken lets a valve in. No token in the rules: nobody.
func (m *Monitor) withValveToken(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if m.bearer(r, m.valveToken) {
			h(w, r)
			return
		}
		if !m.wrong.allow(r.RemoteAddr, m.now()) {
			http.Error(w, "too many requests", http.StatusTooManyRequests)
			return
		}
		w.Header().Set("WWW-Authenticate", `Bearer realm="valve"`)
		http.Error(w, "the valve's token is missing or wrong", http.StatusUnauthorized)
	}
}

// valve is GET /valve: the stream.
func (m *Monitor) valve(w http.ResponseWriter, r *http.Request) {
	st, ok := m.openValve()
	if !ok {
		http.Error(w, "too many valves", http.StatusServiceUnavailable)
		return
	}
	defer m.closeValve(st)
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // a server without deadlines has none to lift
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	out := &valveWriter{enc: json.NewEncoder(w), control: control}
	beat := time.NewTicker(credit.Beat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-st.wake:
			err = m.tell(st, out)
		case <-beat.C:
			err = out.write([]credit.Line{{Kind: credit.Quiet}})
		case <-m.valves.over:
			return
		case <-r.Context().Done():
			return
		}
		if err != nil {
			return // the valve holds everything, and asks again
		}
	}
}

// tell says a stop at once, and everything else once the journal holds it.
func (m *Monitor) tell(st *valveStream, out *valveWriter) error {
	if out.seq > 0 { // the first line is the state, whichever it is
		lines, _ := st.take(false)
		if err := out.write(lines); err != nil {
			return err
		}
	}
	lines, seq := st.take(true)
	if err := m.journal.wait(seq); err != nil {
		return fmt.Errorf("tell valve: %w", err)
	}
	return out.write(lines)
}

// valveWriter numbers lines.
type valveWriter struct {
	enc     *json.Encoder
	control *http.ResponseController
	seq     uint64
}

func (o *valveWriter) write(lines []credit.Line) error {
	if len(lines) == 0 {
		return nil
	}
	_ = o.control.SetWriteDeadline(time.Now().Add(10 * time.Second)) // not that of the whole answer
	for _, l := range lines {
		o.seq++
		l.Seq = o.seq
		if err := o.enc.Encode(l); err != nil {
			return fmt.Errorf("tell valve: %w", err)
		}
	}
	if err := o.control.Flush(); err != nil {
		return fmt.Errorf("tell valve: %w", err)
	}
	return nil
}

// valveReport is POST /valve: the valve closed a connection because more came than was
// permitted. That is a finding.
func (m *Monitor) valveReport(w http.ResponseWriter, r *http.Request) {
	raw, ok := readBody(w, r, maxValveReport)
	if !ok {
		return
	}
	var rep credit.Report
	if err := json.Unmarshal(raw, &rep); err != nil || !credit.ValidID(rep.Valve) {
		http.Error(w, "not a report", http.StatusBadRequest)
		return
	}
	m.state.mu.Lock()
	session := m.state.valves[rep.Valve]
	var origin string
	if x := m.state.sessions[session]; x != nil {
		origin = m.rules.Logs[x.log].Origin
	}
	m.state.mu.Unlock()
	if session == "" {
		session = "none"
	}
	m.finding(Finding{Rule: "valve", Origin: origin, Text: fmt.Sprintf(
		"the valve closed connection %s (session %s): %d bytes passed, %d were permitted, and more came; other such connections: %d",
		rep.Valve, session, rep.Sent, rep.Limit, rep.More)})
	w.WriteHeader(http.StatusNoContent)
}
