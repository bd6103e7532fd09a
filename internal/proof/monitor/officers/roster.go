package officers

import (
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Officer may sign orders. Person says who it is: two officers with one person are one.
type Officer struct {
	Name   string `yaml:"name" json:"name"`
	Person string `yaml:"person" json:"-"` // as in the monitor's staff register
	Key    string `yaml:"key" json:"key"`  // vkey, used for nothing else
}

// KeyID is the note key hash of the officer's key, 8 hex digits.
func (o Officer) KeyID() string {
	_, rest, _ := strings.Cut(o.Key, "+")
	id, _, _ := strings.Cut(rest, "+")
	return id
}

// Roster is a set of officers. The zero value takes no order.
type Roster struct {
	officers  []Officer
	verifiers []note.Verifier
}

// Errors of Open that say why signatures do not suffice.
var (
	ErrUnsigned = errors.New("order carries no valid signature of an officer")
	ErrOther    = errors.New("order is for another monitor")
	ErrTime     = errors.New("order is too old, or from the future")
)

// NewRoster checks officers and reads their keys. A public key may stand for one officer only
// and for nothing among others (vkeys of other uses): two names for one key would count twice.
func NewRoster(list []Officer, others ...string) (*Roster, error) {
	r := &Roster{officers: slices.Clone(list)}
	used, names := map[string]bool{}, map[string]bool{}
	for _, vkey := range others {
		used[Material(vkey)] = true
	}
	for i, o := range list {
		v, err := note.NewVerifier(o.Key)
		m := Material(o.Key)
		switch {
		case o.Name == "" || names[o.Name]:
			return nil, fmt.Errorf("officer %d: the name is missing or given twice", i+1)
		case strings.TrimSpace(o.Person) == "":
			return nil, fmt.Errorf("officer %s: person is missing: who holds this key", o.Name)
		case err != nil || m == "":
			return nil, fmt.Errorf("officer %s: key must be a vkey", o.Name)
		case used[m]:
			return nil, fmt.Errorf("officer %s: the key has another use, or is another officer's", o.Name)
		}
		used[m], names[o.Name] = true, true
		r.verifiers = append(r.verifiers, v)
	}
	return r, nil
}

// Material is the bare public key of an Ed25519 vkey, whatever its name and kind; "" if it is none.
func Material(vkey string) string {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return ""
	}
	raw, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return ""
	}
	return string(raw[1:])
}

// Persons is how many persons the officers are.
func (r *Roster) Persons() int {
	seen := map[string]bool{}
	for _, o := range r.officers {
		seen[person(o)] = true
	}
	return len(seen)
}

func person(o Officer) string { return strings.ToLower(strings.Join(strings.Fields(o.Person), " ")) }

// Signed is an order with the officers who signed it, each another person.
type Signed struct {
	Order    Order
	Officers []Officer
	Text     string
}

// Open verifies an order for the monitor called name at now. Signatures of unknown keys count
// for nothing; a second signature of the same person does not count.
func (r *Roster) Open(text, name string, now time.Time) (*Signed, error) {
	if len(text) > MaxSize {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	n, err := note.Open([]byte(text), note.VerifierList(r.verifiers...))
	if err != nil {
		return nil, ErrUnsigned
	}
	s := &Signed{Text: text}
	if s.Order, err = Parse(n.Text); err != nil {
		return nil, err
	}
	switch {
	case s.Order.Monitor != name:
		return nil, ErrOther
	case now.Sub(s.Order.At) > Term || s.Order.At.Sub(now) > Ahead:
		return nil, ErrTime
	}
	seen := map[string]bool{}
	for _, sig := range n.Sigs {
		i := slices.IndexFunc(r.verifiers, func(v note.Verifier) bool { return v.Name() == sig.Name && v.KeyHash() == sig.Hash })
		if i < 0 || seen[person(r.officers[i])] {
			continue
		}
		seen[person(r.officers[i])] = true
		s.Officers = append(s.Officers, r.officers[i])
	}
	if len(s.Officers) == 0 {
		return nil, ErrUnsigned
	}
	return s, nil
}

// Sign returns the order as a note with s's signature.
func Sign(o Order, s note.Signer) (string, error) {
	text, err := o.Text()
	if err != nil {
		return "", fmt.Errorf("sign order: %w", err)
	}
	signed, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return "", fmt.Errorf("sign order: %w", err)
	}
	return string(signed), nil
}

// Second adds s's signature to an order that another signed, and changes nothing in it. It
// returns what it signs too, for who seconds to read; it does not verify the first signature.
func Second(text string, s note.Signer) (string, Order, error) {
	if len(text) > MaxSize {
		return "", Order{}, fmt.Errorf("second order: %w: too long", ErrMalformed)
	}
	_, err := note.Open([]byte(text), note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return "", Order{}, fmt.Errorf("second order: %w: not a signed note", ErrMalformed)
	}
	o, err := Parse(unverified.Note.Text)
	if err != nil {
		return "", Order{}, fmt.Errorf("second order: %w", err)
	}
	signed, err := note.Sign(unverified.Note, s)
	if err != nil {
		return "", Order{}, fmt.Errorf("second order: %w", err)
	}
	return string(signed), o, nil
}

// Read returns the order in a signed note without verifying any signature: for what was
// verified before, and for showing.
func Read(text string) (Order, error) {
	if len(text) > MaxSize {
		return Order{}, fmt.Errorf("%w: too long", ErrMalformed)
	}
	_, err := note.Open([]byte(text), note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return Order{}, fmt.Errorf("%w: not a signed note", ErrMalformed)
	}
	return Parse(unverified.Note.Text)
}
