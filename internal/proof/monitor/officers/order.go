// Package officers holds what a monitor's officers sign: orders to stop and resume, to change
// the rules, to acknowledge a definition; and counts who signed.
//
// The invariant it keeps: an order has one encoding, names the monitor it is for and has an id
// of its own, so that a signature counts for exactly one order; and two signatures count as two
// only when two persons gave them, whatever names and keys they use.
//
// It implements the C2SP signed note over a header line and one line of deterministic JSON
// (docs/design/officers.md). It is pure: no network, no disk, and time is an argument. What an
// order does, and that it is obeyed once, is the monitor's.
package officers

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Header is the first line of every order.
const Header = "trefoil.eu/order/v1"

// Bounds of an order: MaxSize in bytes with all signatures, MaxReason in bytes, MaxNames in a
// scope, and how long after At it is taken.
const (
	MaxSize   = 32 << 10
	MaxReason = 500
	MaxNames  = 200
	Term      = 24 * time.Hour
	Ahead     = 5 * time.Minute
)

// Action says what an order asks for. The zero value is not valid.
type Action string

// The actions.
const (
	Stop        Action = "stop"        // permits in its scope end at once
	Resume      Action = "resume"      // the stops that it names end
	Rules       Action = "rules"       // other rules
	Withdraw    Action = "withdraw"    // the rules that wait are dropped
	Acknowledge Action = "acknowledge" // a definition other than the pinned one counts
)

// Order is what officers sign. Fields that an action does not use are empty.
type Order struct {
	Action     Action    `json:"action"`
	At         time.Time `json:"at"`                   // UTC, seconds
	Base       string    `json:"base,omitempty"`       // rules: hex SHA-256 of the rules in force that it changes
	Dataset    string    `json:"dataset,omitempty"`    // acknowledge
	Definition string    `json:"definition,omitempty"` // acknowledge: hex hash
	ID         string    `json:"id"`                   // 32 hex digits, drawn by who proposes
	Monitor    string    `json:"monitor"`              // its name in its rules
	Reason     string    `json:"reason"`               // one line; a stop's is shown to clients
	Rules      string    `json:"rules,omitempty"`      // rules, withdraw: hex SHA-256 of the other rules' file
	Scope      *Scope    `json:"scope,omitempty"`      // stop
	Stops      []string  `json:"stops,omitempty"`      // resume: ids of the orders that stopped, sorted
}

// Scope is what a stop stops: all, or the accesses for which each of the lists that are given
// names something. An access is in a country with any one of its places or its importer.
type Scope struct {
	All        bool     `json:"all,omitempty"`
	Countries  []string `json:"countries,omitempty"`  // ISO 3166-1 alpha-2, sorted
	Principals []string `json:"principals,omitempty"` // ids, sorted
	Purposes   []string `json:"purposes,omitempty"`   // sorted
}

// ErrMalformed is wrapped by every error about an order's form. Nothing in it can be relied on.
var ErrMalformed = errors.New("malformed order")

var (
	hexHash = regexp.MustCompile(`^[0-9a-f]{64}$`)
	hexID   = regexp.MustCompile(`^[0-9a-f]{32}$`)
	country = regexp.MustCompile(`^[A-Z]{2}$`)
)

// New returns an order of action for the monitor called name, with a fresh id.
func New(action Action, name, reason string, at time.Time) (Order, error) {
	id := make([]byte, 16)
	if _, err := rand.Read(id); err != nil {
		return Order{}, fmt.Errorf("draw order id: %w", err)
	}
	return Order{Action: action, At: at.UTC().Truncate(time.Second), ID: hex.EncodeToString(id), Monitor: name, Reason: reason}, nil
}

// Text returns the order's only encoding: the header line and a line of JSON.
func (o Order) Text() (string, error) {
	o.Stops = sorted(o.Stops)
	if o.Scope != nil {
		o.Scope = &Scope{All: o.Scope.All, Countries: sorted(o.Scope.Countries), Principals: sorted(o.Scope.Principals), Purposes: sorted(o.Scope.Purposes)}
	}
	if err := o.validate(); err != nil {
		return "", err
	}
	return o.encode()
}

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return slices.Compact(s)
}

func (o Order) encode() (string, error) {
	enc, err := json.Marshal(o)
	if err != nil {
		return "", fmt.Errorf("%w: encode: %w", ErrMalformed, err)
	}
	return Header + "\n" + string(enc) + "\n", nil
}

// Parse reads an order's text as Text wrote it; any other encoding of the same fields is refused.
func Parse(text string) (Order, error) {
	var o Order
	if len(text) > MaxSize {
		return o, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	rest, ok := strings.CutPrefix(text, Header+"\n")
	if !ok {
		return o, fmt.Errorf("%w: header is not %s", ErrMalformed, Header)
	}
	if err := json.Unmarshal([]byte(rest), &o); err != nil {
		return Order{}, fmt.Errorf("%w: not JSON of an order", ErrMalformed)
	}
	if again, err := o.Text(); err != nil {
		return Order{}, err
	} else if again != text {
		return Order{}, fmt.Errorf("%w: not in its deterministic form", ErrMalformed)
	}
	return o, nil
}

// validate says what is wrong with the order, without its values.
func (o Order) validate() error {
	has := func(a ...Action) bool { return slices.Contains(a, o.Action) }
	for _, c := range []struct {
		bad  bool
		what string
	}{
		{!has(Stop, Resume, Rules, Withdraw, Acknowledge), "unknown action"},
		{!plain(o.Monitor), "monitor"},
		{!hexID.MatchString(o.ID), "id is not 32 hex digits"},
		{o.At.Location() != time.UTC || o.At.Nanosecond() != 0 || o.At.Year() < 2000 || o.At.Year() > 9999, "time is not in UTC and whole seconds"},
		{!sentence(o.Reason), "reason is empty, longer than 500 bytes or not one line"},
		{(o.Scope != nil) != has(Stop), "a scope belongs to a stop, and a stop has one"},
		{o.Scope != nil && !o.Scope.valid(), "scope is empty, malformed, or all and a part at once"},
		{(len(o.Stops) > 0) != has(Resume) || len(o.Stops) > MaxNames, "a resume names the stops that end"},
		{slices.ContainsFunc(o.Stops, func(s string) bool { return !hexID.MatchString(s) }), "a stop's id is not 32 hex digits"},
		{hexHash.MatchString(o.Rules) != has(Rules, Withdraw) || o.Rules != "" && !has(Rules, Withdraw), "rules are named by their hash"},
		{hexHash.MatchString(o.Base) != has(Rules) || o.Base != "" && !has(Rules), "base names the rules in force by their hash"},
		{plain(o.Dataset) != has(Acknowledge) || o.Dataset != "" && !has(Acknowledge), "dataset"},
		{hexHash.MatchString(o.Definition) != has(Acknowledge) || o.Definition != "" && !has(Acknowledge), "definition is not a hash"},
	} {
		if c.bad {
			return fmt.Errorf("%w: %s", ErrMalformed, c.what)
		}
	}
	return nil
}

func (s *Scope) valid() bool {
	part := len(s.Countries) + len(s.Principals) + len(s.Purposes)
	bad := func(list []string, ok func(string) bool) bool {
		return slices.ContainsFunc(list, func(v string) bool { return !ok(v) })
	}
	return s.All == (part == 0) && part <= MaxNames &&
		!bad(s.Countries, country.MatchString) && !bad(s.Principals, plain) && !bad(s.Purposes, plain)
}

// Covers reports whether the scope holds an access by principal for purpose from countries.
func (s *Scope) Covers(principal, purpose string, countries []string) bool {
	if s == nil {
		return false
	}
	either := func(list []string, values ...string) bool {
		return len(list) == 0 || slices.ContainsFunc(values, func(v string) bool { return slices.Contains(list, v) })
	}
	return s.All || either(s.Countries, countries...) && either(s.Principals, principal) && either(s.Purposes, purpose)
}

// plain reports whether s is a name: not empty, bounded, printable ASCII without spaces.
func plain(s string) bool {
	return s != "" && len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// sentence reports whether s is one line of text that can be shown anywhere.
func sentence(s string) bool {
	return strings.TrimSpace(s) != "" && len(s) <= MaxReason && utf8.ValidString(s) && !strings.ContainsFunc(s, func(r rune) bool {
		return !unicode.IsGraphic(r)
	})
}
