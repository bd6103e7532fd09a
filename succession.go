package trefoil

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// SuccessionHeader is the first line of a succession.
const SuccessionHeader = "trefoil.eu/succession/v1"

// maxSuccession bounds a succession's signed note, in bytes.
const maxSuccession = 4096

// Uses of keys that a succession can hand on.
const (
	SuccessionLog     = "log"
	SuccessionWitness = "witness"
	SuccessionPermit  = "permit"
)

// Succession says that one key takes over from another. It is a signed note by the outgoing key,
// or by a regulator's whom the verifier names. From From the new key counts, until Until the old
// one; both count in between.
type Succession struct {
	Use   string    // SuccessionLog, SuccessionWitness or SuccessionPermit
	Old   string    // vkey; a log's old and new key have the same name, its origin
	New   string    // vkey of the same kind
	From  time.Time // UTC, seconds
	Until time.Time // UTC, seconds; not before From
}

// successor is a key that counts in a period, in the place of one that was trusted beforehand.
type successor struct {
	use   string
	root  int // index into Trust.Witnesses; 0 for log and permit
	vkey  string
	v     note.Verifier
	from  time.Time
	until time.Time // zero: no end known

	replaced bool // a second succession of the same key is a fork: a regulator alone may say so
}

func (s *successor) counts(at time.Time) bool {
	return !at.Before(s.from) && (s.until.IsZero() || !at.After(s.until))
}

// SignSuccession returns s as a signed note. The signer of a witness is the plain Ed25519 note
// signer with the witness key's name and seed.
func SignSuccession(s Succession, k note.Signer) (string, error) {
	if err := s.check(); err != nil {
		return "", fmt.Errorf("sign succession: %w", err)
	}
	out, err := note.Sign(&note.Note{Text: s.text()}, k)
	if err != nil {
		return "", fmt.Errorf("sign succession: %w", err)
	}
	return string(out), nil
}

func (s Succession) text() string {
	return strings.Join([]string{SuccessionHeader, s.Use, s.Old, s.New, s.From.UTC().Format(time.RFC3339), s.Until.UTC().Format(time.RFC3339)}, "\n") + "\n"
}

func (s Succession) check() error {
	kind := byte(algEd25519)
	switch s.Use {
	case SuccessionWitness:
		kind = algCosignature
	case SuccessionLog, SuccessionPermit:
	default:
		return errors.New("use is none of log, witness, permit")
	}
	oldName, _, _ := strings.Cut(s.Old, "+")
	newName, _, _ := strings.Cut(s.New, "+")
	switch {
	case keyAlgorithm(s.Old) != kind || keyAlgorithm(s.New) != kind:
		return errors.New("a key is not of the kind that its use needs")
	case keyMaterial(s.Old) == keyMaterial(s.New):
		return errors.New("old and new key are the same")
	case s.Use == SuccessionLog && oldName != newName:
		return errors.New("a log keeps its name")
	case s.From.IsZero() || s.Until.Before(s.From):
		return errors.New("until is before from")
	}
	return nil
}

// ReadSuccession reads a succession without verifying its signature: for showing. Succeed
// verifies.
func ReadSuccession(text string) (Succession, error) {
	n, err := openUnverified(text)
	if err != nil {
		return Succession{}, err
	}
	return parseSuccession(n.Text)
}

func openUnverified(text string) (*note.Note, error) {
	if len(text) > maxSuccession {
		return nil, errors.New("read succession: too long")
	}
	_, err := note.Open([]byte(text), note.VerifierList())
	var unverified *note.UnverifiedNoteError
	if !errors.As(err, &unverified) {
		return nil, errors.New("read succession: not a signed note")
	}
	return unverified.Note, nil
}

func parseSuccession(text string) (Succession, error) {
	lines := strings.Split(text, "\n")
	if len(lines) != 7 || lines[0] != SuccessionHeader {
		return Succession{}, errors.New("read succession: not a succession")
	}
	s := Succession{Use: lines[1], Old: lines[2], New: lines[3]}
	var errs [2]error
	s.From, errs[0] = time.Parse(time.RFC3339, lines[4])
	s.Until, errs[1] = time.Parse(time.RFC3339, lines[5])
	if errors.Join(errs[:]...) != nil || s.text() != text {
		return Succession{}, errors.New("read succession: not in its one form")
	}
	return s, s.check()
}

// Succeed takes up a succession, if the key that it replaces is trusted now and signed it, or a
// regulator of t did. Take up several in the order in which they were made. Without it a replaced
// key verifies nothing.
func (t *Trust) Succeed(text string) error {
	s, err := ReadSuccession(text)
	if err != nil {
		return err
	}
	old, err := t.successorOf(s)
	if err != nil {
		return err
	}
	signers := append([]note.Verifier{}, t.Regulators...)
	outgoing, err := plainVerifier(s.Old)
	if err != nil {
		return fmt.Errorf("take up succession: %w", err)
	}
	if !old.replaced {
		signers = append(signers, outgoing)
	}
	if n, err := note.Open([]byte(text), note.VerifierList(signers...)); err != nil || !canonical(n) {
		return errors.New("take up succession: neither the outgoing key, which may name one successor, nor a regulator signed it")
	}
	var v note.Verifier
	if s.Use == SuccessionWitness {
		v, err = NewWitnessVerifier(s.New)
	} else {
		v, err = note.NewVerifier(s.New)
	}
	if err != nil {
		return fmt.Errorf("take up succession: new key: %w", err)
	}
	if t.knowsKey(s.New) {
		return errors.New("take up succession: the new key is trusted already")
	}
	old.replaced = true
	if old.until.IsZero() || s.Until.Before(old.until) {
		old.until = s.Until
	}
	t.successors = append(t.successors, &successor{use: s.Use, root: old.root, vkey: s.New, v: v, from: s.From})
	return nil
}

// successorOf returns the period of the key that s replaces, from the beginning of time if it is
// one that was trusted beforehand.
func (t *Trust) successorOf(s Succession) (*successor, error) {
	for _, x := range t.successors {
		if x.use == s.Use && x.vkey == s.Old {
			return x, nil
		}
	}
	root, v, err := t.trusted(s)
	if err != nil {
		return nil, err
	}
	x := &successor{use: s.Use, root: root, vkey: s.Old, v: v}
	t.successors = append(t.successors, x)
	return x, nil
}

// trusted finds the key that s replaces among those that were trusted beforehand.
func (t *Trust) trusted(s Succession) (int, note.Verifier, error) {
	v, err := note.NewVerifier(s.Old)
	if s.Use == SuccessionWitness {
		v, err = NewWitnessVerifier(s.Old)
	}
	if err != nil {
		return 0, nil, fmt.Errorf("take up succession: old key: %w", err)
	}
	is := func(w note.Verifier) bool { return w != nil && w.Name() == v.Name() && w.KeyHash() == v.KeyHash() }
	switch {
	case s.Use == SuccessionLog && is(t.Log), s.Use == SuccessionPermit && is(t.Permit):
		return 0, v, nil
	case s.Use == SuccessionWitness:
		for i, w := range t.Witnesses {
			if is(w) {
				return i, v, nil
			}
		}
	}
	return 0, nil, errors.New("take up succession: the key that it replaces is not trusted")
}

func (t *Trust) knowsKey(vkey string) bool {
	for _, x := range t.successors {
		if keyMaterial(x.vkey) == keyMaterial(vkey) {
			return true
		}
	}
	return false
}

// plainVerifier is the Ed25519 note verifier with the name and public key of vkey.
func plainVerifier(vkey string) (note.Verifier, error) {
	name, _, _ := strings.Cut(vkey, "+")
	plain, err := note.NewEd25519VerifierKey(name, []byte(keyMaterial(vkey)))
	if err != nil {
		return nil, err
	}
	return note.NewVerifier(plain)
}

// keysOf returns the keys that stand in the place of root for use: what was trusted beforehand,
// and what succeeded it, each with its period.
func (t *Trust) keysOf(use string, root int, beforehand note.Verifier) []*successor {
	var out []*successor
	known := false
	for _, x := range t.successors {
		if x.use == use && x.root == root {
			out = append(out, x)
			known = known || beforehand != nil && x.v.Name() == beforehand.Name() && x.v.KeyHash() == beforehand.KeyHash()
		}
	}
	if !known && beforehand != nil {
		out = append(out, &successor{use: use, root: root, v: beforehand})
	}
	return out
}

// OpenPermit is the package's OpenPermit with the permit key that counted at a time, and those
// that succeeded it.
func (t *Trust) OpenPermit(text string, at time.Time) (Permit, error) {
	var last error = errors.New("open permit: no permit key to check it with")
	for _, k := range t.keysOf(SuccessionPermit, 0, t.Permit) {
		if !k.counts(at) {
			last = errors.New("open permit: signed by a key that did not count then")
			continue
		}
		p, err := OpenPermit(text, k.v)
		if err == nil {
			return p, nil
		}
		last = err
	}
	return Permit{}, last
}
