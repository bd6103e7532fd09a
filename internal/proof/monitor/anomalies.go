package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/anomaly"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/cheat"
)

// Bounds of what waits for the detector, and of what a restart replays.
const (
	maxWaiting   = 20_000              // records; then whoever appends one helps
	saveEvery    = 5_000               // records between two copies of the detector's memory
	saveInterval = 10 * time.Minute    // likewise
	oldest       = 90 * 24 * time.Hour // what is older than any history is not replayed
)

// anomalies follows the journal with the detector. Its memory is saved now and then with the
// number of the entry that it has seen; what came after is replayed at the next start. So an
// alert may be found twice, which makes one finding, and is never lost.
type anomalies struct {
	path string
	log  func(msg string, err error)

	mu      sync.Mutex // of waiting
	waiting []watched

	work     sync.Mutex // of all below; never taken by who holds the state's lock but to help
	detector *anomaly.Detector
	cheats   *cheat.Detector
	ruling   *book // whose rules both follow
	rules    *anomaly.Thresholds
	alerts   []anomaly.Alert
	seen     uint64 // journal entry
	saved    uint64
	since    int // records since it was saved
	savedAt  time.Time

	replayedTo uint64 // while replaying: journal entries counted
	skip       uint64 // those that the saved memory has
}

// watched is one record on its way to the detector.
type watched struct {
	seq    uint64
	record anomaly.Record
}

// memory is state/anomalies.json.
type memory struct {
	Entry    uint64          `json:"entry"`
	Detector json.RawMessage `json:"detector"`
	Cheats   json.RawMessage `json:"cheats,omitempty"`
}

// newAnomalies reads the memory. One that cannot be read is begun anew from the journal.
func (m *Monitor) newAnomalies(dir string) *anomalies {
	a := &anomalies{path: filepath.Join(dir, "anomalies.json"), rules: m.rules.Anomalies, savedAt: m.now(),
		log: func(msg string, err error) { m.logger.Error(msg, "error", err) }}
	who := func(pseudonym string, at time.Time) string {
		if p := m.book().principal(pseudonym, at); p != nil {
			return p.ID
		}
		return ""
	}
	a.detector = anomaly.New(a.rules, who)
	a.ruling = m.book()
	a.cheats = cheat.New(a.ruling.cheatRules())
	raw, err := os.ReadFile(a.path)
	if errors.Is(err, os.ErrNotExist) {
		return a
	}
	var kept memory
	if err == nil {
		err = json.Unmarshal(raw, &kept)
	}
	var d *anomaly.Detector
	if err == nil {
		d, err = anomaly.Restore(a.rules, who, kept.Detector)
	}
	var cheats *cheat.Detector
	if err == nil {
		cheats, err = cheat.Restore(a.ruling.cheatRules(), kept.Cheats)
	}
	if err != nil {
		a.log("read the memory of anomalies; it is made anew from the journal", err)
		return a
	}
	a.cheats = cheats
	a.detector, a.skip, a.seen, a.saved = d, kept.Entry, kept.Entry, kept.Entry
	return a
}

// telling reports whether an entry is news for the detector: a record at first sight, and a
// refusal of one that was seen before.
func (a *anomalies) telling(e *entry, first bool) bool {
	return e.Type == entryRecord && (first || e.Rule != "")
}

// note queues the record of a journal entry. The state's lock is held.
func (a *anomalies) note(seq uint64, e *entry, b *trefoil.Body, first bool) {
	if !a.telling(e, first) {
		return
	}
	a.mu.Lock()
	a.waiting = append(a.waiting, watched{seq, anomaly.Record{Origin: e.Origin, Index: e.Index, Body: b, Refused: e.Rule != ""}})
	full := len(a.waiting) >= maxWaiting
	a.mu.Unlock()
	if full {
		a.work.Lock()
		a.take()
		a.work.Unlock()
	}
}

// replayed is note for an entry that was in the journal already.
func (a *anomalies) replayed(e *entry, first bool, now time.Time, body func() ([]byte, error)) error {
	a.replayedTo++
	if a.replayedTo <= a.skip || !a.telling(e, first) || now.Sub(time.UnixMicro(e.At)) > oldest {
		return nil
	}
	raw, err := body()
	if err != nil {
		return err
	}
	b, err := trefoil.DecodeBody(raw)
	if err != nil {
		return fmt.Errorf("replay record %d of %s: %w", e.Index, e.Origin, err)
	}
	a.note(a.replayedTo, e, b, first)
	return nil
}

// take gives the detector what waits. The lock of work is held.
func (a *anomalies) take() {
	a.mu.Lock()
	batch := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	for _, w := range batch {
		a.alerts = append(a.alerts, a.detector.Observe(w.record)...)
		a.alerts = append(a.alerts, a.cheats.Observe(w.record)...)
		a.seen = max(a.seen, w.seq)
		a.since++
	}
}

// watchAnomalies takes what waits and makes findings of what it tips.
func (m *Monitor) watchAnomalies() error {
	a := m.anomalies
	a.work.Lock()
	defer a.work.Unlock()
	if rules := m.book().rules.Anomalies; rules != a.rules {
		a.rules = rules
		a.detector.Use(rules)
	}
	if b := m.book(); b != a.ruling {
		a.ruling = b
		a.cheats.Use(b.cheatRules())
	}
	a.take()
	for i := range a.alerts {
		x := &a.alerts[i]
		last := x.Records[len(x.Records)-1]
		m.finding(Finding{Rule: x.Rule, Origin: last.Origin, Index: &last.Index, Text: x.Text(), Alert: x})
	}
	a.alerts = nil
	if a.since == 0 || a.since < saveEvery && m.now().Sub(a.savedAt) < saveInterval {
		return nil
	}
	return a.save(m)
}

// save writes the memory, once the journal holds durably what it has seen. The lock of work is held.
func (a *anomalies) save(m *Monitor) error {
	if a.seen == a.saved {
		return nil
	}
	if err := m.journal.wait(a.seen); err != nil {
		return err
	}
	raw, err := a.detector.Snapshot()
	if err != nil {
		return err
	}
	cheats, err := a.cheats.Snapshot()
	if err != nil {
		return err
	}
	enc, err := json.Marshal(memory{a.seen, raw, cheats})
	if err != nil {
		return fmt.Errorf("save the memory of anomalies: %w", err)
	}
	if err := writeFileSync(a.path, enc, 0o600); err != nil {
		return err
	}
	a.saved, a.since, a.savedAt = a.seen, 0, m.now()
	return nil
}

// closeAnomalies makes findings of what waits, and saves the memory.
func (m *Monitor) closeAnomalies() error {
	if m.anomalies == nil || m.journal == nil {
		return nil
	}
	err := m.watchAnomalies()
	m.anomalies.work.Lock()
	defer m.anomalies.work.Unlock()
	return errors.Join(err, m.anomalies.save(m))
}

// bodyOf is where the body of a journal entry's record is: with it, or with an entry before.
func (m *Monitor) bodyOf(e *entry, at span) span {
	if at.len > 0 {
		return at
	}
	log, watched := m.state.logs[e.Origin]
	if r := m.state.records.get(recordKey{log, e.Index}); watched && r != nil {
		return r.body
	}
	return at
}
