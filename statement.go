package trefoil

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// StatementHeader is the first line of a monitor's statement.
const StatementHeader = "trefoil.eu/statement/v1"

// DailyStatement is what a monitor states, once a day and in public, of everything up to Until. Its
// signed form is a signed document under the monitor's statement key. Each names the one before
// by its hash, so none can be taken back or changed. It holds counts and heads: no record, no
// person, no reason.
type DailyStatement struct {
	At        time.Time          `json:"at"`     // when it was signed; counts and heads are of this moment
	From      time.Time          `json:"from"`   // the end of the one before
	Until     time.Time          `json:"until"`  // midnight, UTC
	Number    int64              `json:"number"` // from 1, without a gap
	Previous  string             `json:"previous"`
	Monitor   string             `json:"monitor"`
	Rules     string             `json:"rules"` // hex SHA-256 of the rules in force
	Logs      []StatedLog        `json:"logs"`
	OwnLog    StatedLog          `json:"own_log"`
	Orders    StatedOrders       `json:"orders"`
	Findings  map[string]int64   `json:"findings"` // by rule, since the beginning
	Fresh     map[string]int64   `json:"fresh"`    // of those, since the one before
	Incidents StatedIncidents    `json:"incidents"`
	Clocks    map[string][]int64 `json:"clocks"` // legal clock → [running, done in time, late], of incidents not closed
}

// StatedLog is the head of a log and what it held. Counts are since the beginning; those of Day
// since the statement before.
type StatedLog struct {
	Origin      string      `json:"origin"`
	Checkpoint  string      `json:"checkpoint"` // signed; "" while nothing was mirrored
	Size        int64       `json:"size"`
	Total       StatedCount `json:"total"`
	Day         StatedCount `json:"day"`
	Trouble     bool        `json:"trouble"`      // the log could not be followed when this was signed
	LastRound   time.Time   `json:"last_round"`   // when it last could; year 1: never
	WithoutBody int64       `json:"without_body"` // records whose body the log no longer gives
}

// StatedCount counts records of one log.
type StatedCount struct {
	Records     int64 `json:"records"`
	Permits     int64 `json:"permits"`
	Refusals    int64 `json:"refusals"`
	Unpermitted int64 `json:"unpermitted"` // went out in the region while the monitor was away
	Bytes       int64 `json:"bytes"`       // of release records
	Permitted   int64 `json:"permitted"`   // of those permitted
}

// Minus is what came since earlier.
func (c StatedCount) Minus(earlier StatedCount) StatedCount {
	return StatedCount{c.Records - earlier.Records, c.Permits - earlier.Permits, c.Refusals - earlier.Refusals,
		c.Unpermitted - earlier.Unpermitted, c.Bytes - earlier.Bytes, c.Permitted - earlier.Permitted}
}

// StatedOrders are the orders in force.
type StatedOrders struct {
	Stopped []string `json:"stopped"` // scopes: "all", "country CN"; empty: releases go on
	Epoch   int64    `json:"epoch"`   // count of stops
}

// StatedIncidents says how far the monitor's incidents are.
type StatedIncidents struct {
	Events int64  `json:"events"` // of the store
	Tip    string `json:"tip"`    // hash of the last of them
	Open   int64  `json:"open"`
	Closed int64  `json:"closed"`
}

// SignStatement returns s as a signed document.
func SignStatement(s *DailyStatement, key note.Signer) (string, error) {
	return SignDocument(StatementHeader, *s, key)
}

// OpenStatement verifies a statement with the monitor's statement key and reads it.
func OpenStatement(text string, key note.Verifier) (*DailyStatement, error) {
	var s DailyStatement
	if err := OpenDocument(StatementHeader, text, &s, key); err != nil {
		return nil, fmt.Errorf("open statement: %w", err)
	}
	return &s, nil
}

// StatementHash is what the next statement names this one by.
func StatementHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// VerifyStatements checks a chain of signed statements, oldest first: signatures, that none is
// missing between the first and the last, and that none takes back what an earlier one stated.
// With trust, by log origin, each head must verify under it. Its errors are *VerifyError.
func VerifyStatements(texts []string, key note.Verifier, trust map[string]*Trust) ([]*DailyStatement, error) {
	var all []*DailyStatement
	for i, text := range texts {
		s, err := OpenStatement(text, key)
		if err != nil {
			return nil, failed(ReasonStatement, "statement %d of %d: %v", i+1, len(texts), err)
		}
		if err := s.heads(trust); err != nil {
			return nil, err
		}
		if i > 0 {
			if err := s.follows(all[i-1], texts[i-1]); err != nil {
				return nil, err
			}
		}
		all = append(all, s)
	}
	return all, nil
}

// heads checks that each head is a checkpoint of the log and size that the statement says.
func (s *DailyStatement) heads(trust map[string]*Trust) error {
	for _, l := range s.Logs {
		if l.Checkpoint == "" && l.Size == 0 {
			continue
		}
		c, err := ParseCheckpoint([]byte(l.Checkpoint))
		if err != nil || c.Origin != l.Origin || c.Size != uint64(l.Size) {
			return failed(ReasonStatement, "statement %d: the head of %s is not a checkpoint of the size it states", s.Number, l.Origin)
		}
		if t := trust[l.Origin]; t != nil {
			if _, err := t.VerifyCheckpoint([]byte(l.Checkpoint)); err != nil {
				return err
			}
		}
	}
	return nil
}

// follows checks that s may come after earlier, whose signed text is given.
func (s *DailyStatement) follows(earlier *DailyStatement, text string) error {
	switch {
	case s.Number != earlier.Number+1 || s.Previous != StatementHash(text):
		return failed(ReasonStatement, "statement %d does not follow the one given before it, number %d", s.Number, earlier.Number)
	case s.Monitor != earlier.Monitor || !s.From.Equal(earlier.Until) || s.At.Before(earlier.At):
		return failed(ReasonStatement, "statement %d leaves out time or is of another monitor", s.Number)
	}
	before := map[string]StatedLog{}
	for _, l := range earlier.Logs {
		before[l.Origin] = l
	}
	for _, l := range s.Logs {
		b, ok := before[l.Origin]
		if !ok {
			continue
		}
		if l.Size < b.Size {
			return failed(ReasonRewound, "statement %d: %s had %d entries before and has %d", s.Number, l.Origin, b.Size, l.Size)
		}
		if l.Size == b.Size && l.Size > 0 && sameRoot(l.Checkpoint, b.Checkpoint) != nil {
			return failed(ReasonSplit, "statement %d: %s has another root at the size it had before", s.Number, l.Origin)
		}
		if l.Day != l.Total.Minus(b.Total) {
			return failed(ReasonStatement, "statement %d: the counts of %s do not follow from those before", s.Number, l.Origin)
		}
	}
	for rule, n := range earlier.Findings {
		if s.Findings[rule] < n {
			return failed(ReasonStatement, "statement %d takes back findings of %s", s.Number, rule)
		}
	}
	if s.Incidents.Events < earlier.Incidents.Events || s.Orders.Epoch < earlier.Orders.Epoch {
		return failed(ReasonStatement, "statement %d takes back incidents or stops", s.Number)
	}
	return nil
}

// sameRoot is nil if both texts are checkpoints of the same root.
func sameRoot(a, b string) error {
	x, err := ParseCheckpoint([]byte(a))
	if err != nil {
		return err
	}
	y, err := ParseCheckpoint([]byte(b))
	if err == nil && x.Root != y.Root {
		err = errDocument
	}
	return err
}
