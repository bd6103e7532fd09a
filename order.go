package trefoil

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// KindOrder is what a monitor's officers ordered: only in a monitor's own log.
const KindOrder Kind = "order"

// OrderBody is one order of a monitor's officers, or what became of one. Principals and officers
// appear by pseudonym and key id; the signed text itself stays with the monitor, and Signed is
// its hash.
type OrderBody struct {
	Action     string    `json:"action"`               // stop, resume, rules, withdraw, acknowledge; in-force: rules that waited, or the first
	Countries  []string  `json:"countries,omitempty"`  // of a stop's scope, sorted
	Dataset    string    `json:"dataset,omitempty"`    // acknowledge
	Definition string    `json:"definition,omitempty"` // acknowledge: its hash
	Epoch      int64     `json:"epoch"`                // the count of stops afterwards
	From       time.Time `json:"from"`                 // when it has effect: later than the record's time for rules that wait
	Looser     []string  `json:"looser,omitempty"`     // rules: what they loosen
	Officers   []string  `json:"officers"`             // key ids of the persons who signed, 8 hex digits each
	Order      string    `json:"order"`                // its id; "" for the first rules
	Principals []string  `json:"principals,omitempty"` // of a stop's scope, by the month's pseudonym
	Purposes   []string  `json:"purposes,omitempty"`   // of a stop's scope, sorted
	Reason     string    `json:"reason"`
	Rules      string    `json:"rules,omitempty"` // hex SHA-256 of the rules' file
	Signed     string    `json:"signed"`          // hex SHA-256 of the signed order; "" for the first rules
	Stops      []string  `json:"stops,omitempty"` // resume: ids of the stops that end
}

// StopsHeader is the first line of a monitor's signed count of stops.
const StopsHeader = "trefoil.eu/stops/v1"

// Stops is the monitor's signed count of stops at a time: permits of a lower epoch are void. It
// widens nothing, so a replayed one does no more than the first.
type Stops struct {
	Monitor string    // its name
	Epoch   uint64    // as Permit.StopEpoch
	At      time.Time // UTC, seconds
}

// SignStops returns s as a signed note.
func SignStops(s Stops, k note.Signer) (string, error) {
	if s.Monitor == "" || strings.ContainsAny(s.Monitor, "\n\r") {
		return "", fmt.Errorf("sign stops: the monitor's name is not one line")
	}
	out, err := note.Sign(&note.Note{Text: s.text()}, k)
	if err != nil {
		return "", fmt.Errorf("sign stops: %w", err)
	}
	return string(out), nil
}

func (s Stops) text() string {
	return fmt.Sprintf("%s\n%s\n%d\n%s\n", StopsHeader, s.Monitor, s.Epoch, s.At.UTC().Format(time.RFC3339))
}

// OpenStops verifies a count of stops with the monitor's stop key.
func OpenStops(text string, v note.Verifier) (Stops, error) {
	if v == nil || len(text) > maxPermitSize {
		return Stops{}, fmt.Errorf("open stops: no stop key, or too long")
	}
	n, err := note.Open([]byte(text), note.VerifierList(v))
	if err != nil {
		return Stops{}, fmt.Errorf("open stops: no valid signature of the stop key")
	}
	lines := strings.Split(n.Text, "\n")
	if len(lines) != 5 {
		return Stops{}, fmt.Errorf("open stops: not a count of stops")
	}
	s := Stops{Monitor: lines[1]}
	if s.Epoch, err = strconv.ParseUint(lines[2], 10, 64); err != nil {
		return Stops{}, fmt.Errorf("open stops: not a count of stops")
	}
	if s.At, err = time.Parse(time.RFC3339, lines[3]); err != nil || s.text() != n.Text {
		return Stops{}, fmt.Errorf("open stops: not a count of stops in its one form")
	}
	return s, nil
}
