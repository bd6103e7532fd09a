// Package grant holds the signed envelopes of a grant: the request of a principal for a
// dataset, and an approver's approval, denial or revocation of exactly that request; and the
// rules of who has to approve what.
//
// The invariant it keeps: what was approved is what was asked. An approval repeats the whole
// request and its hash, an envelope has one encoding only, nobody approves for themselves, and
// nobody counts twice. The free-text reason stays out: an envelope holds only its salted hash.
//
// It implements the C2SP signed note over a header line and one line of deterministic JSON
// (docs/design/grants.md). It is pure: no network, no disk, and time is an argument.
package grant

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// Header is the first line of every envelope.
const Header = "trefoil.eu/grant/v1"

// MaxSize bounds an envelope in bytes, signatures included.
const MaxSize = 16 << 10

// MaxTerm is the longest time that a request may ask for.
const MaxTerm = 366 * 24 * time.Hour

// Kind says what an envelope states. The zero value is not valid.
type Kind string

// Kinds of envelope.
const (
	KindRequest    Kind = "request"
	KindApproval   Kind = "approval"
	KindDenial     Kind = "denial"
	KindRevocation Kind = "revocation"
)

// Request is what a principal asks for. All its fields are part of its hash.
type Request struct {
	Dataset    string    `json:"dataset"`
	Definition string    `json:"definition"` // hex SHA-256 of the dataset's definition
	From       time.Time `json:"from"`       // UTC, seconds
	ID         string    `json:"id"`         // 32 hex digits, drawn by whoever asks
	Policy     string    `json:"policy"`     // hex SHA-256 of the policy in force
	Principal  string    `json:"principal"`  // the principal's own id, never in a record
	Purpose    string    `json:"purpose"`
	Reason     string    `json:"reason"`              // hex SHA-256(salt ‖ text); ReasonHash
	Statement  string    `json:"statement,omitempty"` // keyed fingerprint of the only statement whose rows may leave; "": any
	Subjects   string    `json:"subjects,omitempty"`  // keyed digest of the subjects of a case; "": the dataset itself
	Until      time.Time `json:"until"`               // UTC, seconds; not after From + MaxTerm
}

// Envelope is one statement about one request. By is who states it: the principal for a
// request, an approver's name for the rest. Hash is Request.Hash() in the same envelope.
type Envelope struct {
	At      time.Time `json:"at"` // UTC, seconds
	By      string    `json:"by"`
	Hash    string    `json:"hash"` // of the request, hex
	Kind    Kind      `json:"kind"`
	Request Request   `json:"request"`
}

// ErrMalformed is wrapped by every error about an envelope's form. The caller should refuse
// the envelope; nothing in it can be relied on.
var ErrMalformed = errors.New("malformed grant envelope")

var (
	hexHash = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hexID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	hexMark = regexp.MustCompile(`^[0-9a-f]{16}$`)
)

// Hash returns the hex SHA-256 of the request's deterministic JSON.
func (r Request) Hash() string {
	enc, err := json.Marshal(r)
	if err != nil { // a time outside years 0–9999: no valid request has it
		return ""
	}
	sum := sha256.Sum256(enc)
	return hex.EncodeToString(sum[:])
}

// ReasonHash returns the hex SHA-256(salt ‖ text). Salt has at least 16 random bytes and
// stays with the text, or the text could be guessed.
func ReasonHash(salt []byte, text string) string {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(text))
	return hex.EncodeToString(h.Sum(nil))
}

// New returns the envelope of kind about r, as by states it at that time. Times are cut to
// seconds in UTC.
func New(kind Kind, r Request, by string, at time.Time) Envelope {
	r.From, r.Until = seconds(r.From), seconds(r.Until)
	return Envelope{At: seconds(at), By: by, Hash: r.Hash(), Kind: kind, Request: r}
}

func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }

// Text returns the envelope's only encoding: the header line and a line of JSON. It fails if
// the envelope is not valid.
func (e Envelope) Text() (string, error) {
	if err := e.validate(); err != nil {
		return "", err
	}
	return e.encode()
}

func (e Envelope) encode() (string, error) {
	enc, err := json.Marshal(e)
	if err != nil {
		return "", fmt.Errorf("%w: encode: %w", ErrMalformed, err)
	}
	return Header + "\n" + string(enc) + "\n", nil
}

// ParseText reads an envelope's text, as Text wrote it. Any other encoding of the same
// fields is refused, so a hash of the text names one envelope.
func ParseText(text string) (Envelope, error) {
	var e Envelope
	if len(text) > MaxSize {
		return e, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	rest, ok := strings.CutPrefix(text, Header+"\n")
	if !ok {
		return e, fmt.Errorf("%w: header is not %s", ErrMalformed, Header)
	}
	if err := json.Unmarshal([]byte(rest), &e); err != nil {
		return Envelope{}, fmt.Errorf("%w: not JSON of an envelope", ErrMalformed)
	}
	again, err := e.encode()
	if err != nil || again != text {
		return Envelope{}, fmt.Errorf("%w: not in its deterministic form", ErrMalformed)
	}
	if err := e.validate(); err != nil {
		return Envelope{}, err
	}
	return e, nil
}

// validate says what is wrong with the envelope's fields, without their values.
func (e Envelope) validate() error {
	r := e.Request
	for _, c := range []struct {
		bad  bool
		what string
	}{
		{e.Kind != KindRequest && e.Kind != KindApproval && e.Kind != KindDenial && e.Kind != KindRevocation, "unknown kind"},
		{!plain(e.By), "by"},
		{!plain(r.Dataset), "dataset"},
		{!plain(r.Principal), "principal"},
		{!plain(r.Purpose), "purpose"},
		{!hexHash.MatchString(r.Definition), "definition is not a hash"},
		{!hexHash.MatchString(r.Policy), "policy is not a hash"},
		{!hexHash.MatchString(r.Reason), "reason is not a hash"},
		{!hexID.MatchString(r.ID), "id is not 32 hex digits"},
		{r.Subjects != "" && !hexID.MatchString(r.Subjects), "subjects is not 32 hex digits"},
		{r.Statement != "" && !hexMark.MatchString(r.Statement), "statement is not 16 hex digits"},
		{!whole(e.At) || !whole(r.From) || !whole(r.Until), "a time is not in UTC and whole seconds"},
		{!r.Until.After(r.From), "until is not after from"},
		{r.Until.Sub(r.From) > MaxTerm, "term is too long"},
		{e.Hash != r.Hash() || e.Hash == "", "hash is not the request's"},
		{e.Kind == KindRequest && e.By != r.Principal, "a request is stated by its principal"},
	} {
		if c.bad {
			return fmt.Errorf("%w: %s", ErrMalformed, c.what)
		}
	}
	return nil
}

// plain reports whether s is a name: not empty, bounded, printable ASCII without spaces.
func plain(s string) bool {
	if s == "" || len(s) > 256 {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

func whole(t time.Time) bool {
	return t.Location() == time.UTC && t.Nanosecond() == 0 && t.Year() >= 2000 && t.Year() < 10000
}
