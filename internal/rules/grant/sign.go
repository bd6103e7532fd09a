package grant

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/note"
)

// Why a signed envelope gives nothing. Each is final for this envelope; the caller should
// ask for a new approval, except ErrNotYet, where waiting helps.
var (
	ErrUnknownKey = errors.New("grant is not signed by a known approver")
	ErrSelf       = errors.New("nobody approves their own request")
	ErrAltered    = errors.New("approved request is another one")
	ErrExpired    = errors.New("grant has expired")
	ErrNotYet     = errors.New("grant is not in force yet")
	ErrPurpose    = errors.New("approver may not approve for this purpose")
	ErrKind       = errors.New("envelope is of another kind")
	ErrRetired    = errors.New("approver's key is not in use")
)

// Approver may sign approvals, denials and revocations. An empty Purposes allows none. Who
// changes their key is there twice, under one name.
type Approver struct {
	Name     string // as in the configuration; the key's own name may differ
	Verifier note.Verifier
	Purposes []string // "*" for every purpose
	Persons  []string // ids of principals who are the same person; they get nothing by this approver

	// The key approves from From until before Until; zero: without bound. What it approved gives
	// nothing once it is out of use, since whoever finds an old key can sign with an old date.
	// What it denied or revoked stays.
	From, Until time.Time
}

// maxSkew is how far an approver's clock may be ahead of the one that judges.
const maxSkew = 2 * time.Minute

func (a *Approver) inUse(signed, now time.Time) bool {
	return !signed.Before(a.From) && (a.Until.IsZero() || signed.Before(a.Until) && now.Before(a.Until))
}

// is reports whether the approver is a principal, by any name they have.
func (a *Approver) is(principal string) bool {
	return a.Name == principal || a.Verifier != nil && a.Verifier.Name() == principal || slices.Contains(a.Persons, principal)
}

// Signed is an opened envelope and the approver who signed it.
type Signed struct {
	Envelope Envelope
	Approver Approver
	Key      string // KeyID of the approver's key
}

// KeyID returns a key's short public name in records: its note key hash, 8 hex digits.
func KeyID(v note.Verifier) string { return fmt.Sprintf("%08x", v.KeyHash()) }

// Sign returns the envelope as a signed note. Approvals, denials and revocations must be
// stated by the key's owner.
func Sign(e Envelope, s note.Signer) (string, error) {
	text, err := e.Text()
	if err != nil {
		return "", fmt.Errorf("sign envelope: %w", err)
	}
	if e.Kind != KindRequest && e.By == e.Request.Principal {
		return "", fmt.Errorf("sign envelope: %w", ErrSelf)
	}
	out, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return "", fmt.Errorf("sign envelope: %w", err)
	}
	return string(out), nil
}

// Open verifies a signed envelope against the approvers' keys. It does not look at times:
// Check does. By must be the approver's name, so that no key speaks for another.
func Open(signed string, approvers []Approver) (*Signed, error) {
	if len(signed) > MaxSize {
		return nil, fmt.Errorf("open envelope: %w: longer than %d bytes", ErrMalformed, MaxSize)
	}
	for _, a := range approvers {
		if a.Verifier == nil {
			continue
		}
		n, err := note.Open([]byte(signed), note.VerifierList(a.Verifier))
		if err != nil {
			continue
		}
		e, err := ParseText(n.Text)
		if err != nil {
			return nil, fmt.Errorf("open envelope: %w", err)
		}
		if e.By != a.Name {
			return nil, fmt.Errorf("open envelope: %w", ErrUnknownKey)
		}
		return &Signed{Envelope: e, Approver: a, Key: KeyID(a.Verifier)}, nil
	}
	return nil, fmt.Errorf("open envelope: %w", ErrUnknownKey)
}

// Check reports whether approval gives principal the dataset with that definition hash at
// now. It returns nil, or an error that wraps one of this package's.
func Check(approval string, approvers []Approver, principal, dataset, hash string, now time.Time) error {
	s, err := Open(approval, approvers)
	if err != nil {
		return err
	}
	return s.Check(principal, dataset, hash, now)
}

// Check is the same for an envelope that is open.
func (s *Signed) Check(principal, dataset, hash string, now time.Time) error {
	e := s.Envelope
	switch {
	case e.Kind != KindApproval:
		return fmt.Errorf("check grant: %w", ErrKind)
	case e.Request.Principal != principal, e.Request.Dataset != dataset, e.Request.Definition != hash:
		return fmt.Errorf("check grant: %w", ErrAltered)
	case s.Approver.is(principal), e.By == principal:
		return fmt.Errorf("check grant: %w", ErrSelf)
	case !slices.Contains(s.Approver.Purposes, e.Request.Purpose) && !slices.Contains(s.Approver.Purposes, "*"):
		return fmt.Errorf("check grant: %w", ErrPurpose)
	case !s.Approver.inUse(e.At, now):
		return fmt.Errorf("check grant: %w", ErrRetired)
	case e.At.After(now.Add(maxSkew)): // the clock that judges was set back, or the approver's is wrong
		return fmt.Errorf("check grant: signed in the future: %w", ErrNotYet)
	case now.Before(e.Request.From):
		return fmt.Errorf("check grant: %w", ErrNotYet)
	case !now.Before(e.Request.Until):
		return fmt.Errorf("check grant: %w", ErrExpired)
	}
	return nil
}

// CheckAnswers reports whether s is about exactly the request that r is: an approval of an
// altered request is not.
func (s *Signed) CheckAnswers(r Request) error {
	r.From, r.Until = seconds(r.From), seconds(r.Until)
	if s.Envelope.Hash != r.Hash() {
		return fmt.Errorf("check grant: %w", ErrAltered)
	}
	return nil
}

// NewVerifier reads an approver's key as the files name it: the vkey of a note key.
func NewVerifier(key string) (note.Verifier, error) {
	v, err := note.NewVerifier(key)
	if err != nil {
		return nil, errors.New("read approver's key: not a verifier key")
	}
	return v, nil
}
