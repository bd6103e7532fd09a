package trefoil

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// maxAccesses bounds what a Decoder remembers.
const maxAccesses = 4096

// Decoder reads many bodies. It takes exactly what DecodeBody takes, and gives the same; but the
// access of a session, which is the larger part of each of its release records, is read once and
// shared by the bodies: callers must not change it. One goroutine at a time may use a Decoder.
type Decoder struct {
	accesses map[string]*Access
}

// NewDecoder returns an empty Decoder.
func NewDecoder() *Decoder { return &Decoder{accesses: map[string]*Access{}} }

// releaseHead is what stands before the access in a release record; its three values are cut out.
var releaseHead = [...]string{`{"at":"`, `","kind":"release","origin":"`, `","release":{"access":`}

// releaseRest is a ReleaseBody without its access.
type releaseRest struct {
	Bytes        int64       `json:"bytes"`
	Chunk        int64       `json:"chunk"`
	Cumulative   int64       `json:"cumulative"`
	Final        bool        `json:"final"`
	Outcome      string      `json:"outcome"`
	Result       string      `json:"result"`
	Rows         int64       `json:"rows"`
	SQLState     string      `json:"sqlstate,omitempty"`
	Statements   []Statement `json:"statements"`
	Subjects     *int64      `json:"subjects"`
	SubjectsRoot *string     `json:"subjects_root"`
	Unpermitted  bool        `json:"unpermitted,omitempty"`
}

// Decode is DecodeBody.
func (d *Decoder) Decode(enc []byte) (*Body, error) {
	if len(enc) <= MaxBodySize {
		if b := d.release(enc); b != nil {
			return b, nil
		}
	}
	return DecodeBody(enc)
}

// release reads a release record part by part, or returns nil: then it is for DecodeBody to say
// what is wrong, if anything is. Each part is read and written again like a whole body.
func (d *Decoder) release(enc []byte) *Body {
	at, rest, ok := between(enc, releaseHead[0], releaseHead[1])
	if !ok || len(at) != len(timeLayout) {
		return nil
	}
	origin, rest, ok := bytes.Cut(rest, []byte(releaseHead[2]))
	if !ok || len(origin) == 0 || !plain(origin) {
		return nil
	}
	when, err := time.Parse(timeLayout, string(at))
	if err != nil || when.IsZero() || when.Format(timeLayout) != string(at) {
		return nil
	}
	n := object(rest)
	if n < 0 || n+1 >= len(rest) || rest[n] != ',' || !bytes.HasSuffix(rest, []byte("}}")) {
		return nil
	}
	access, err := d.access(rest[:n])
	if err != nil {
		return nil
	}
	// What follows the access is the object without it, but for its first byte.
	tail := rest[n : len(rest)-1]
	own := append(make([]byte, 0, len(tail)), '{')
	own = append(own, tail[1:]...)
	var r releaseRest
	if strict(own, &r) != nil {
		return nil
	}
	return &Body{At: when, Kind: KindRelease, Origin: string(origin), Release: &ReleaseBody{Access: *access, Bytes: r.Bytes, Chunk: r.Chunk,
		Cumulative: r.Cumulative, Final: r.Final, Outcome: r.Outcome, Result: r.Result, Rows: r.Rows, SQLState: r.SQLState,
		Statements: r.Statements, Subjects: r.Subjects, SubjectsRoot: r.SubjectsRoot, Unpermitted: r.Unpermitted}}
}

func (d *Decoder) access(enc []byte) (*Access, error) {
	if a := d.accesses[string(enc)]; a != nil {
		return a, nil
	}
	a := new(Access)
	if err := strict(enc, a); err != nil {
		return nil, err
	}
	if len(d.accesses) >= maxAccesses {
		clear(d.accesses)
	}
	d.accesses[string(enc)] = a
	return a, nil
}

// strict reads enc, which must be what encodeJSON writes of v.
func strict(enc []byte, v any) error {
	if err := json.Unmarshal(enc, v); err != nil {
		return errors.New("not the JSON of this part")
	}
	again, err := encodeJSON(v)
	if err != nil {
		return fmt.Errorf("encode again: %w", err)
	}
	if !bytes.Equal(enc, again) {
		return errors.New("not in its one deterministic form")
	}
	return nil
}

// between returns what stands between a at the beginning and the next b, and what follows b.
func between(enc []byte, a, b string) (in, after []byte, ok bool) {
	rest, ok := bytes.CutPrefix(enc, []byte(a))
	if !ok {
		return nil, nil, false
	}
	return bytes.Cut(rest, []byte(b))
}

// plain reports whether s is printable ASCII that JSON does not escape.
func plain(s []byte) bool {
	for _, c := range s {
		if c < 0x20 || c > 0x7e || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// object returns the length of the JSON object at the beginning of s, or -1.
func object(s []byte) int {
	depth, quoted := 0, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{':
			depth++
		case c == '}':
			if depth--; depth == 0 {
				return i + 1
			}
		case depth == 0:
			return -1
		}
	}
	return -1
}
