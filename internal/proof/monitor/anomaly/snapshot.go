package anomaly

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// snapshotVersion changes when a memory of before cannot be read any more.
const snapshotVersion = 1

type snapshot struct {
	Version int                `json:"version"`
	People  map[string]*person `json:"people"`
}

// Snapshot returns the memory as JSON. Restore of it goes on where this detector is.
func (d *Detector) Snapshot() ([]byte, error) {
	raw, err := json.Marshal(snapshot{snapshotVersion, d.people})
	if err != nil {
		return nil, fmt.Errorf("encode memory: %w", err)
	}
	return raw, nil
}

// Restore is New with the memory of a snapshot. It fails on what is none: begin anew then.
func Restore(t *Thresholds, who func(pseudonym string, at time.Time) string, raw []byte) (*Detector, error) {
	d := New(t, who)
	var s snapshot
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil || dec.More() {
		return nil, errors.New("restore memory: not a snapshot")
	}
	if s.Version != snapshotVersion || len(s.People) > MaxPeople {
		return nil, errors.New("restore memory: of another version")
	}
	for k, p := range s.People {
		if p == nil || len(p.Days) > maxDays || len(p.Shapes) > maxShapes || len(p.Open) > maxOpen || len(p.Refusals) > maxTimes {
			return nil, errors.New("restore memory: out of bounds")
		}
		d.people[k] = p
	}
	return d, nil
}

// Use puts other thresholds in force; what is remembered stays.
func (d *Detector) Use(t *Thresholds) {
	d.rules = t.withDefaults()
	d.zone = d.rules.Hours.zone()
}
