package trefoil

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
)

// Reason is why something does not verify: one of a closed set.
type Reason string

// The reasons, in the order in which a receipt is checked.
const (
	ReasonFormat       Reason = "format"        // a part cannot be read at all
	ReasonRecord       Reason = "record"        // the body is not a record in its one form
	ReasonLogSignature Reason = "log-signature" // the checkpoint is not signed by the log's key
	ReasonOrigin       Reason = "origin"        // checkpoint or record is another log's
	ReasonQuorum       Reason = "quorum"        // too few distinct trusted witnesses cosigned
	ReasonInclusion    Reason = "inclusion"     // body and salt are not the leaf at that index of that tree
	ReasonPermit       Reason = "permit"        // the permit is not signed by the permit key
	ReasonPermitOther  Reason = "permit-other"  // the permit is for another log, index or leaf
	ReasonPermitTime   Reason = "permit-time"   // the permit ended before the record was made
	ReasonNoPermit     Reason = "no-permit"     // this kind of record needs one
	ReasonEntries      Reason = "entries"       // a bundle of entries is missing or malformed
	ReasonRoot         Reason = "root"          // the entries do not give the checkpoint's root
	ReasonTiles        Reason = "tiles"         // a published tile is not the entries' hashes
	ReasonRewound      Reason = "rewound"       // the log is smaller than it was
	ReasonSplit        Reason = "split"         // the log's past differs from what was seen before
	ReasonStatement    Reason = "statement"     // a monitor's statement is not signed, not whole, or takes an earlier one back
)

// VerifyError names the first thing that does not verify.
type VerifyError struct {
	Reason Reason
	Text   string // one plain sentence, safe to print
}

// Error returns the reason and its sentence.
func (e *VerifyError) Error() string { return fmt.Sprintf("%s: %s", e.Reason, e.Text) }

func failed(r Reason, format string, args ...any) *VerifyError {
	return &VerifyError{Reason: r, Text: fmt.Sprintf(format, args...)}
}

// futureSlack is how far ahead a witness's clock may be.
const futureSlack = 5 * time.Minute

// VerifyCheckpoint requires the log's signature, the log's origin, and the quorum of
// cosignatures by distinct witnesses. Its errors are *VerifyError.
func (t *Trust) VerifyCheckpoint(cp []byte) (*Checkpoint, error) {
	if t == nil || t.Log == nil {
		return nil, failed(ReasonLogSignature, "no log key is trusted")
	}
	c, err := ParseCheckpoint(cp)
	if err != nil {
		return nil, failed(ReasonFormat, "%v", err)
	}
	c.Witnessed = t.cosignatures(cp)
	if !t.logSigned(cp, c) {
		return nil, failed(ReasonLogSignature, "the checkpoint carries no valid signature of the log's key %s", t.Log.Name())
	}
	if c.Origin != t.Log.Name() {
		return nil, failed(ReasonOrigin, "the checkpoint is of another log than the trusted key's")
	}
	need, err := t.quorum()
	if err != nil {
		return nil, failed(ReasonQuorum, "%v", err)
	}
	if len(c.Witnessed) < need {
		return nil, failed(ReasonQuorum, "%d of %d needed witnesses cosigned the checkpoint", len(c.Witnessed), need)
	}
	return c, nil
}

// logSigned reports whether a key of the log signed the checkpoint that counted when the first
// trusted witness cosigned it. Without a cosignature there is no time: then only a key counts
// that nothing has succeeded.
func (t *Trust) logSigned(cp []byte, c *Checkpoint) bool {
	for _, k := range t.keysOf(SuccessionLog, 0, t.Log) {
		n, err := note.Open(cp, note.VerifierList(k.v))
		if err != nil || !canonical(n) {
			continue
		}
		if len(c.Witnessed) == 0 && k.until.IsZero() || len(c.Witnessed) > 0 && k.counts(c.Witnessed[0].At) {
			return true
		}
	}
	return false
}

// canonical reports whether the verified signatures are in the one spelling of their base64:
// the note library lets the unused bits at the end be anything.
func canonical(n *note.Note) bool {
	for _, s := range n.Sigs {
		if _, err := base64.StdEncoding.Strict().DecodeString(s.Base64); err != nil {
			return false
		}
	}
	return true
}

// quorum returns how many witnesses must have cosigned. No witness is trusted: nothing
// holds, unless the caller says Quorum < 0 in so many words.
func (t *Trust) quorum() (int, error) {
	switch {
	case t.Quorum < 0:
		return 0, nil
	case len(t.Witnesses) == 0:
		return 0, errors.New("no witness is trusted")
	case t.Quorum > len(t.Witnesses):
		return 0, fmt.Errorf("a quorum of %d cannot be met by %d trusted witnesses", t.Quorum, len(t.Witnesses))
	case t.Quorum == 0:
		return len(t.Witnesses), nil
	}
	return t.Quorum, nil
}

// cosignatures counts each trusted witness at most once, however often it signed.
func (t *Trust) cosignatures(cp []byte) []Cosignature {
	type signer struct {
		name string
		hash uint32
	}
	var found []Cosignature
	counted := make(map[signer]bool)
	for i, w := range t.Witnesses {
		id := signer{w.Name(), w.KeyHash()}
		if counted[id] {
			continue
		}
		for _, k := range t.keysOf(SuccessionWitness, i, w) { // a witness and who succeeded it count once
			n, err := note.Open(cp, note.VerifierList(k.v))
			if err != nil || !canonical(n) {
				continue
			}
			at, err := fnote.CoSigV1Timestamp(n.Sigs[0])
			if err != nil || at.Unix() < 0 || !t.timely(at) || !k.counts(at) {
				continue
			}
			counted[id] = true
			found = append(found, Cosignature{Witness: k.v.Name(), At: at.UTC()})
			break
		}
	}
	slices.SortFunc(found, func(a, b Cosignature) int { return a.At.Compare(b.At) })
	return found
}

func (t *Trust) timely(at time.Time) bool {
	if t.At.IsZero() {
		return true
	}
	if at.After(t.At.Add(futureSlack)) {
		return false
	}
	return t.MaxAge <= 0 || !at.Before(t.At.Add(-t.MaxAge))
}

// VerifyProof checks the proof's checkpoint, and that leaf is at the proof's index under it.
func (t *Trust) VerifyProof(p *Proof, leaf []byte) (*Checkpoint, error) {
	if p == nil {
		return nil, failed(ReasonFormat, "there is no proof")
	}
	c, err := t.VerifyCheckpoint(p.Checkpoint)
	if err != nil {
		return nil, err
	}
	path := make([][]byte, len(p.Hashes))
	for i := range p.Hashes {
		path[i] = p.Hashes[i][:]
	}
	hash := LeafHash(leaf)
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, p.Index, c.Size, hash[:], path, c.Root[:]); err != nil {
		return nil, failed(ReasonInclusion, "this body with this salt is not entry %d of the tree of size %d", p.Index, c.Size)
	}
	return c, nil
}

// VerifyReceipt checks everything a receipt claims: that its record was logged, witnessed
// and, for a release and the start of a session on the release path, permitted. A record
// that says of itself that it went out unpermitted (inside the region, monitor away) needs
// no permit: the body returned says so, and callers must report it. It does not prove that
// no other byte left.
func (t *Trust) VerifyReceipt(r *Receipt) (*Body, error) {
	if r == nil {
		return nil, failed(ReasonFormat, "there is no receipt")
	}
	b, err := DecodeBody(r.Record.Body)
	if err != nil {
		return nil, failed(ReasonRecord, "%v", err)
	}
	if len(r.Record.Salt) != SaltSize {
		return nil, failed(ReasonRecord, "the salt is not %d bytes", SaltSize)
	}
	p, err := ParseProof(r.Proof)
	if err != nil {
		return nil, failed(ReasonFormat, "%v", err)
	}
	leaf := r.Record.Leaf()
	c, err := t.VerifyProof(p, leaf)
	if err != nil {
		return nil, err
	}
	if b.Origin != c.Origin {
		return nil, failed(ReasonOrigin, "the record names another log than the one that holds it")
	}
	if err := t.verifyPermit(r.Permit, b, c.Origin, p.Index, LeafHash(leaf)); err != nil {
		return nil, err
	}
	return b, nil
}

func (t *Trust) verifyPermit(text string, b *Body, origin string, index uint64, leaf [32]byte) error {
	if text == "" {
		if NeedsPermit(b) && !Unpermitted(b) {
			return failed(ReasonNoPermit, "a %s record needs the monitor's permit, and the receipt has none", b.Kind)
		}
		return nil
	}
	if t.Permit == nil {
		return failed(ReasonPermit, "no permit key is trusted")
	}
	p, err := t.OpenPermit(text, b.At)
	if err != nil {
		return failed(ReasonPermit, "%v", err)
	}
	if p.Origin != origin || p.Index != index || p.Leaf != leaf {
		return failed(ReasonPermitOther, "the permit is for another record")
	}
	if p.Expires.Before(b.At.Truncate(time.Second)) {
		return failed(ReasonPermitTime, "the permit ended before the record was made")
	}
	return nil
}

// NeedsPermit reports whether b may have effect only with the monitor's permit: a release,
// and the start of a session on the release path.
func NeedsPermit(b *Body) bool {
	switch {
	case b == nil:
		return true
	case b.Release != nil:
		return true
	case b.Session != nil:
		return b.Session.Event == "start" && b.Session.Path != "service"
	}
	return false
}

// Unpermitted reports whether b says of itself that it went out without a permit.
func Unpermitted(b *Body) bool {
	return b != nil && (b.Release != nil && b.Release.Unpermitted || b.Session != nil && b.Session.Unpermitted)
}
