package law

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

//go:embed clocks.json
var embeddedClocks []byte

// Clock is one term within which a law wants something done about an incident. Its term
// begins with awareness, or, with After, when the duty of that clock was done. It is a term of
// hours or of months, never both.
type Clock struct {
	ID        string `json:"id"`
	Law       string `json:"law"`
	Duty      string `json:"duty"`
	To        string `json:"to"`
	From      Date   `json:"from"` // first day on which the duty applies
	Until     Date   `json:"until,omitzero"`
	Hours     int    `json:"hours,omitempty"`
	Months    int    `json:"months,omitempty"`
	After     string `json:"after,omitempty"`
	Unless    string `json:"unless"` // what a triage has to find before the clock may be stopped
	Reference string `json:"reference"`
}

// Due returns when the clock's term ends that began at start. A term of months ends on the
// same day of the last month, or on that month's last day where it has none (Regulation
// (EEC, Euratom) No 1182/71, art. 3(2)(c)). Week-ends and holidays add nothing: stricter than
// art. 3(4) of it.
func (c Clock) Due(start time.Time) time.Time {
	if c.Months == 0 {
		return start.Add(time.Duration(c.Hours) * time.Hour)
	}
	year, month, day := start.Date()
	last := time.Date(year, month+time.Month(c.Months)+1, 0, 0, 0, 0, 0, start.Location()).Day()
	return time.Date(year, month+time.Month(c.Months), min(day, last), start.Hour(), start.Minute(), start.Second(), start.Nanosecond(), start.Location())
}

// Clocks returns the clocks of the embedded data that apply to what became known on day.
func Clocks(day time.Time) ([]Clock, error) { return ParseClocks(embeddedClocks, day) }

// ParseClocks reads a file of clocks strictly and returns those in force on day, in its order.
func ParseClocks(src []byte, day time.Time) ([]Clock, error) {
	var f struct {
		Version int     `json:"version"`
		Checked Date    `json:"checked"`
		Clocks  []Clock `json:"clocks"`
	}
	dec := json.NewDecoder(bytes.NewReader(src))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&f); err != nil {
		return nil, fmt.Errorf("parse clocks: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("parse clocks: something follows the data")
	}
	if f.Version != 1 || f.Checked.IsZero() {
		return nil, errors.New("parse clocks: version must be 1, and checked a date")
	}
	seen := map[string]bool{"": true}
	var in []Clock
	for _, c := range f.Clocks {
		switch {
		case c.ID == "" || seen[c.ID]:
			return nil, errors.New("parse clocks: an id is missing or given twice")
		case c.Law == "" || c.Duty == "" || c.To == "" || c.Unless == "" || c.Reference == "" || c.From.IsZero():
			return nil, fmt.Errorf("parse clocks: %s lacks law, duty, to, unless, reference or from", c.ID)
		case c.Hours < 0 || c.Months < 0 || (c.Hours == 0) == (c.Months == 0):
			return nil, fmt.Errorf("parse clocks: %s needs hours or months", c.ID)
		case !seen[c.After]:
			return nil, fmt.Errorf("parse clocks: %s comes after a clock that is not before it", c.ID)
		}
		seen[c.ID] = true
		if !day.Before(c.From.Time) && (c.Until.IsZero() || day.Before(c.Until.Time)) {
			in = append(in, c)
		}
	}
	return in, nil
}
