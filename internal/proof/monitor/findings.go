package monitor

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/anomaly"
)

// Finding is something that the monitor saw and that should not be. It stays for ever.
type Finding struct {
	At       time.Time `json:"at"`
	Rule     string    `json:"rule"` // closed set: docs/design/monitor.md
	Origin   string    `json:"origin,omitempty"`
	Index    *uint64   `json:"index,omitempty"`
	Text     string    `json:"text"`
	Evidence string    `json:"evidence,omitempty"` // signed by whom it is about

	Alert *anomaly.Alert `json:"alert,omitempty"` // of what is unusual: baseline, threshold, records
}

// maxFindings bounds the file: a flood says no more than its beginning.
const maxFindings = 100_000

// findings is state/findings.jsonl. The same finding twice is one.
type findings struct {
	mu    sync.Mutex
	file  *os.File
	seen  map[string]bool
	count int
	rules map[string]int
}

func openFindings(dir string) (*findings, error) {
	path := filepath.Join(dir, "findings.jsonl")
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read findings: %w", err)
	}
	f := &findings{seen: map[string]bool{}, rules: map[string]int{}}
	whole := 0
	for at, b := range old {
		if b != '\n' {
			continue
		}
		var x Finding
		if err := json.Unmarshal(old[whole:at], &x); err != nil {
			return nil, fmt.Errorf("read findings: line %d is not a finding", f.count+1)
		}
		f.note(x)
		whole = at + 1
	}
	if f.file, err = os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("open findings: %w", err)
	}
	// A last line without its end was never acknowledged.
	if err := errors.Join(f.file.Truncate(int64(whole)), syncDir(dir)); err != nil {
		return nil, errors.Join(fmt.Errorf("open findings: %w", err), f.file.Close())
	}
	if _, err := f.file.Seek(int64(whole), 0); err != nil {
		return nil, errors.Join(fmt.Errorf("open findings: %w", err), f.file.Close())
	}
	return f, nil
}

func (f *findings) note(x Finding) {
	f.seen[x.key()] = true
	f.count++
	f.rules[x.Rule]++
}

func (x Finding) key() string {
	if x.Index != nil {
		return fmt.Sprintf("%s %s %d", x.Rule, x.Origin, *x.Index)
	}
	return x.Rule + " " + x.Origin + " " + x.Text + " " + x.Evidence
}

// add writes a finding durably, once. It reports whether it was new.
func (f *findings) add(x Finding) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.seen[x.key()] || f.count >= maxFindings {
		return false, nil
	}
	line, err := json.Marshal(x)
	if err != nil {
		return false, fmt.Errorf("write finding: %w", err)
	}
	if _, err := f.file.Write(append(line, '\n')); err != nil {
		return false, fmt.Errorf("write finding: %w", err)
	}
	f.note(x)
	if err := f.file.Sync(); err != nil {
		return true, fmt.Errorf("write finding: %w", err)
	}
	return true, nil
}

// summary returns the number of findings, in all and by rule.
func (f *findings) summary() (int, map[string]int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	byRule := make(map[string]int, len(f.rules))
	for k, v := range f.rules {
		byRule[k] = v
	}
	return f.count, byRule
}

func (f *findings) close() error { return f.file.Close() }

// finding keeps x; an error is the disk's and is logged.
func (m *Monitor) finding(x Finding) {
	x.At = m.now().UTC()
	fresh, err := m.findings.add(x)
	if err != nil {
		m.logger.Error("keep finding", "rule", x.Rule, "error", err)
	}
	if fresh || x.Index == nil { // what is seen again after its incident was closed opens another
		if _, _, err := m.incidents.Open(incidentOf(x)); err != nil {
			m.logger.Error("open incident", "rule", x.Rule, "error", err)
		}
	}
	if fresh {
		m.logger.Warn("finding", "rule", x.Rule, "origin", x.Origin, "text", x.Text)
	}
}
