package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
)

// StatementsDir is where a monitor keeps what it stated, inside its directory: DAY.note, in the
// order of their names.
var StatementsDir = filepath.Join("state", "statements")

// stateEvery is the term of a statement: from midnight to midnight, UTC.
const stateEvery = 24 * time.Hour

// statements is what the monitor stated, and states next.
type statements struct {
	dir string

	mu    sync.Mutex
	begin time.Time // midnight of the day on which the first was due
	last  *trefoil.DailyStatement
	text  string // of last
}

// openStatements reads the last statement, and holds what the monitor knows against it.
func (m *Monitor) openStatements(context.Context, Config) error {
	s := &statements{dir: filepath.Join(m.dir, StatementsDir)}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("open statements: %w", err)
	}
	path := filepath.Join(s.dir, "begin")
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		raw = []byte(m.now().UTC().Truncate(stateEvery).Format(time.RFC3339) + "\n")
		err = writeFileSync(path, raw, 0o600)
	}
	if err != nil {
		return fmt.Errorf("open statements: %w", err)
	}
	if s.begin, err = time.Parse(time.RFC3339, strings.TrimSpace(string(raw))); err != nil {
		return fmt.Errorf("open statements: begin: %w", err)
	}
	names, err := statementNames(s.dir)
	if err != nil {
		return err
	}
	if len(names) > 0 {
		text, err := os.ReadFile(filepath.Join(s.dir, names[len(names)-1]))
		if err != nil {
			return fmt.Errorf("open statements: %w", err)
		}
		if s.last, err = trefoil.OpenStatement(string(text), m.keys.statementVerifier); err != nil {
			return fmt.Errorf("open statements: %s: %w", names[len(names)-1], err)
		}
		s.text = string(text)
	}
	m.stated = s
	if s.last != nil {
		return m.contradicted(s.last, s.text)
	}
	return nil
}

var statementName = regexp.MustCompile(`^[0-9]{4}-[0-9]{2}-[0-9]{2}\.note$`)

// statementNames lists the statements in dir, oldest first.
func statementNames(dir string) ([]string, error) {
	files, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list statements: %w", err)
	}
	names := []string{}
	for _, f := range files {
		if statementName.MatchString(f.Name()) {
			names = append(names, f.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// makeStatement signs the statement of the last whole day, if it is not signed yet. Days on which no
// monitor ran are part of the next statement: its From says since when it speaks.
func (m *Monitor) makeStatement(context.Context) error {
	s := m.stated
	s.mu.Lock()
	defer s.mu.Unlock()
	now := m.now().UTC()
	next := &trefoil.DailyStatement{At: now.Truncate(time.Microsecond), From: s.begin, Until: now.Truncate(stateEvery), Number: 1, Monitor: m.rules.Name}
	if s.last != nil {
		next.From, next.Number, next.Previous = s.last.Until, s.last.Number+1, trefoil.StatementHash(s.text)
	}
	if !next.Until.After(next.From) {
		return nil
	}
	if s.last != nil { // what was stated must still be true before more is stated
		if err := m.contradicted(s.last, s.text); err != nil {
			return err
		}
	}
	if err := m.fill(next, s.last); err != nil {
		return err
	}
	text, err := trefoil.SignStatement(next, m.keys.statement)
	if err != nil {
		return err
	}
	name := next.Until.Add(-time.Second).Format(time.DateOnly) + ".note"
	if err := writeFileSync(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		return fmt.Errorf("keep statement: %w", err)
	}
	s.last, s.text = next, text
	m.logger.Info("statement", "number", next.Number, "until", next.Until)
	return nil
}

// fill states what the monitor holds now.
func (m *Monitor) fill(s, before *trefoil.DailyStatement) error {
	earlier := map[string]trefoil.StatedCount{}
	if before != nil {
		for _, l := range before.Logs {
			earlier[l.Origin] = l.Total
		}
	}
	status := m.Status(true)
	for i, f := range m.followers {
		l := f.state(status.Logs[i].Totals)
		l.Day = l.Total.Minus(earlier[l.Origin])
		s.Logs = append(s.Logs, l)
	}
	s.OwnLog = trefoil.StatedLog{Origin: m.keys.log.Name(), Size: int64(status.OwnLog)}
	if raw, err := os.ReadFile(filepath.Join(m.dir, "state", "log", "log", "checkpoint")); err == nil {
		if c, err := trefoil.ParseCheckpoint(raw); err == nil {
			s.OwnLog.Checkpoint, s.OwnLog.Size = string(raw), int64(c.Size)
		}
	}
	s.Orders = trefoil.StatedOrders{Stopped: m.stopsInForce(), Epoch: int64(status.Epoch)}
	s.Findings, s.Fresh = map[string]int64{}, map[string]int64{}
	for rule, n := range status.ByRule {
		s.Findings[rule] = int64(n)
		old := int64(0)
		if before != nil {
			old = before.Findings[rule]
		}
		if int64(n) > old {
			s.Fresh[rule] = int64(n) - old
		}
	}
	src, err := os.ReadFile(filepath.Join(m.dir, RulesFile))
	if err != nil {
		return fmt.Errorf("state rules: %w", err)
	}
	sum := sha256.Sum256(src)
	s.Rules = hex.EncodeToString(sum[:])
	return m.fillIncidents(s)
}

func (f *follower) state(t Totals) trefoil.StatedLog {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := trefoil.StatedLog{Origin: f.origin, Checkpoint: string(f.tree.raw), Size: int64(f.tree.size()), Trouble: f.trouble != "",
		LastRound: time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), WithoutBody: int64(f.gone),
		Total: trefoil.StatedCount{Records: int64(t.Records), Permits: int64(t.Permits), Refusals: int64(t.Refusals),
			Unpermitted: int64(t.Without), Bytes: t.Bytes, Permitted: t.Permitted}}
	if !f.asked.IsZero() {
		l.LastRound = f.asked.UTC().Truncate(time.Microsecond)
	}
	return l
}

func (m *Monitor) fillIncidents(s *trefoil.DailyStatement) error {
	list, err := m.incidents.List(nil)
	if err != nil {
		return err
	}
	s.Clocks = map[string][]int64{}
	for _, x := range list {
		if x.State == incident.StateClosed {
			s.Incidents.Closed++
			continue
		}
		s.Incidents.Open++
		for _, t := range x.Clocks {
			n := s.Clocks[t.Clock.ID]
			if n == nil {
				n = make([]int64, 3)
				s.Clocks[t.Clock.ID] = n
			}
			switch {
			case !t.Applies:
			case t.Late:
				n[2]++
			case t.Met.IsZero():
				n[0]++
			default:
				n[1]++
			}
		}
	}
	n, tip, err := m.incidents.Tip()
	s.Incidents.Events, s.Incidents.Tip = int64(n), tip
	return err
}

// stopsInForce says what is stopped. A person's stop says that it is one, and not whose.
func (m *Monitor) stopsInForce() []string {
	m.state.mu.Lock()
	defer m.state.mu.Unlock()
	out := []string{}
	for _, h := range m.state.orders.stops {
		var parts []string
		if h.Scope.All {
			parts = append(parts, "all")
		}
		for _, c := range h.Scope.Countries {
			parts = append(parts, "country "+c)
		}
		for _, p := range h.Scope.Purposes {
			parts = append(parts, "purpose "+p)
		}
		if n := len(h.Scope.Principals); n > 0 {
			parts = append(parts, fmt.Sprintf("%d persons", n))
		}
		out = append(out, strings.Join(parts, ", "))
	}
	return out
}

// contradicted makes a finding, and so an incident, of a statement that what the monitor holds
// does not bear out: something was taken back. The statement is its evidence.
func (m *Monitor) contradicted(s *trefoil.DailyStatement, text string) error {
	var wrong []string
	status := m.Status(false)
	for _, l := range s.Logs {
		i := slices.IndexFunc(m.followers, func(f *follower) bool { return f.origin == l.Origin })
		if i < 0 { // no longer watched: the rules say so
			continue
		}
		if why := m.followers[i].contradicts(l, status.Logs[i].Totals); why != "" {
			wrong = append(wrong, l.Origin+": "+why)
		}
	}
	if int64(status.Epoch) < s.Orders.Epoch {
		wrong = append(wrong, "stops")
	}
	if status.OwnLog < uint64(s.OwnLog.Size) {
		wrong = append(wrong, "the own log")
	}
	for rule, n := range s.Findings {
		if int64(status.ByRule[rule]) < n {
			wrong = append(wrong, "findings")
			break
		}
	}
	if ok, err := m.incidents.Had(uint64(s.Incidents.Events), s.Incidents.Tip); err != nil {
		return err
	} else if !ok {
		wrong = append(wrong, "incidents")
	}
	if len(wrong) > 0 {
		slices.Sort(wrong)
		m.finding(Finding{Rule: "contradiction", Origin: m.rules.Name, Evidence: text,
			Text: fmt.Sprintf("statement %d is contradicted by what the monitor holds: %s", s.Number, strings.Join(wrong, ", "))})
	}
	return nil
}

// contradicts says what of l is not borne out, "" for nothing.
func (f *follower) contradicts(l trefoil.StatedLog, t Totals) string {
	f.mu.Lock()
	tree := f.tree
	f.mu.Unlock()
	switch {
	case tree.size() < uint64(l.Size):
		return "fewer entries"
	case t.Records < uint64(l.Total.Records) || t.Permits < uint64(l.Total.Permits) || t.Refusals < uint64(l.Total.Refusals):
		return "fewer records or decisions"
	}
	c, err := trefoil.ParseCheckpoint([]byte(l.Checkpoint))
	if err != nil {
		return ""
	}
	if root, err := tree.rootAt(c.Size); err != nil || root != c.Root {
		return "another past"
	}
	return ""
}

// Hold takes a statement that somebody brings back, and makes a finding of one that this monitor
// signed and that is not among what it stated or no longer true. It reports whether it holds.
func (m *Monitor) Hold(text string) (bool, error) {
	s, err := trefoil.OpenStatement(text, m.keys.statementVerifier)
	if err != nil {
		return false, fmt.Errorf("%w: not a statement of this monitor", errMalformed)
	}
	before, _ := m.findings.summary()
	own, err := os.ReadFile(filepath.Join(m.dir, StatementsDir, s.Until.Add(-time.Second).Format(time.DateOnly)+".note"))
	if err != nil || string(own) != text {
		m.finding(Finding{Rule: "contradiction", Origin: m.rules.Name, Evidence: text,
			Text: fmt.Sprintf("statement %d that this monitor signed is not the one that it keeps", s.Number)})
		return false, nil
	}
	err = m.contradicted(s, text)
	after, _ := m.findings.summary()
	return err == nil && after == before, err
}

// statement serves what was stated: a list of names, the newest, or one of them.
func (m *Monitor) statement(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	dir := filepath.Join(m.dir, StatementsDir)
	names, err := statementNames(dir)
	if err != nil {
		m.failed(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	switch {
	case name == "":
		_, _ = fmt.Fprintln(w, strings.Join(names, "\n"))
		return
	case name == "latest" && len(names) > 0:
		name = names[len(names)-1]
	case !slices.Contains(names, name):
		http.NotFound(w, r)
		return
	}
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		m.failed(w, r, err)
		return
	}
	_, _ = w.Write(raw)
}

// hold answers whether a statement that is brought back holds.
func (m *Monitor) hold(w http.ResponseWriter, r *http.Request) {
	raw, ok := readBody(w, r, maxPermitRequest)
	if !ok {
		return
	}
	holds, err := m.Hold(string(raw))
	switch {
	case errors.Is(err, errMalformed):
		http.Error(w, err.Error(), http.StatusBadRequest)
	case err != nil:
		m.failed(w, r, err)
	default:
		writeJSON(w, http.StatusOK, map[string]bool{"holds": holds})
	}
}
