// Package credit is the stream by which a monitor tells its valve what may pass.
//
// The invariant it keeps: amounts are cumulative, for the connection's whole life, so a line
// that comes twice gives nothing twice, and a lost one is healed by the next; a gap in the
// numbers ends the stream. What was never said is no credit.
//
// The stream is GET /valve of the monitor: JSON lines, a state first, then the credit of every
// open session, then what changes, and a beat each second (docs/design/valve.md).
package credit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// Beat is how often a line comes at least.
const Beat = time.Second

// maxLine bounds a line in bytes.
const maxLine = 1 << 10

// Kinds of line.
const (
	State  = "state"  // whether the monitor has stopped releases
	Credit = "credit" // what one connection may pass in all
	Quiet  = "beat"
)

// Line is one line of the stream.
type Line struct {
	Seq       uint64 `json:"seq"` // from 1, each one more than the one before
	Kind      string `json:"kind"`
	Stopped   bool   `json:"stopped,omitempty"`   // state
	Valve     string `json:"valve,omitempty"`     // credit: the connection, 32 hex digits
	Session   string `json:"session,omitempty"`   // credit: the session that came through it, 32 hex digits
	Held      bool   `json:"held,omitempty"`      // credit: the session was stopped: nothing of it passes
	Allowance int64  `json:"allowance,omitempty"` // credit: bytes under the session's permit
	Bytes     int64  `json:"bytes,omitempty"`     // credit: payload bytes of permitted releases
	Releases  int64  `json:"releases,omitempty"`  // credit: how many they are
}

// Report is what a valve tells the monitor of connections that it closed because more came
// than was permitted: the body of POST /valve.
type Report struct {
	Valve string `json:"valve"`
	Sent  int64  `json:"sent"`           // bytes that passed
	Limit int64  `json:"limit"`          // what could have
	More  int64  `json:"more,omitempty"` // other such connections since the last report
}

var id = regexp.MustCompile(`^[0-9a-f]{32}$`)

// ValidID reports whether s names a connection.
func ValidID(s string) bool { return id.MatchString(s) }

// ErrStream means that the stream cannot be relied on any more: connect again.
var ErrStream = errors.New("the monitor's stream is broken")

// Reader reads a stream.
type Reader struct {
	scan *bufio.Scanner
	seq  uint64
}

// NewReader reads lines from r.
func NewReader(r io.Reader) *Reader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 0, maxLine), maxLine)
	return &Reader{scan: s}
}

// Next returns the next line. Every error ends the stream; it wraps ErrStream.
func (r *Reader) Next() (*Line, error) {
	if !r.scan.Scan() {
		return nil, fmt.Errorf("%w: it ended", ErrStream)
	}
	var l Line
	if err := json.Unmarshal(r.scan.Bytes(), &l); err != nil {
		return nil, fmt.Errorf("%w: no JSON", ErrStream)
	}
	first := r.seq == 0
	r.seq++
	switch {
	case l.Seq != r.seq:
		return nil, fmt.Errorf("%w: a line is missing", ErrStream)
	case first && l.Kind != State:
		return nil, fmt.Errorf("%w: it does not begin with a state", ErrStream)
	case l.Kind == Credit && (!ValidID(l.Valve) || l.Session != "" && !ValidID(l.Session) || l.Allowance < 0 || l.Bytes < 0 || l.Releases < 0):
		return nil, fmt.Errorf("%w: a credit that is none", ErrStream)
	case l.Kind != State && l.Kind != Credit && l.Kind != Quiet:
		return nil, fmt.Errorf("%w: an unknown line", ErrStream)
	}
	return &l, nil
}
