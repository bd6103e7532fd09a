package monitor

import (
	"time"

	"github.com/trefoil-eu/trefoil"
)

// Types of journal entry.
const (
	entryRecord  = "record"  // a record of a watched log, with the decision on it if there is one
	entryAck     = "ack"     // an acknowledged definition; the body is the catalog record's
	entryDropped = "dropped" // a dataset whose definitions count no more
	entryOrder   = "order"   // an officers' order that was obeyed; the body is the submission
	entryRules   = "rules"   // rules that came into force
	entryHalt    = "halt"    // a stop that the monitor made itself
	entryKey     = "key"     // a succession of the monitor's own keys; the body is the note
	entryOffer   = "offer"   // a definition that waits for an officer; the body is the definition
	entryRevoked = "revoked" // a grant that gives nothing any more
)

// entry is the header of a journal entry: one step of the monitor's state. A record's body
// follows it in the journal.
type entry struct {
	Type   string `json:"t"`
	At     int64  `json:"at"` // Unix microseconds, the monitor's clock
	Origin string `json:"o,omitempty"`
	Index  uint64 `json:"i,omitempty"`
	Leaf   []byte `json:"leaf,omitempty"` // leaf hash
	Salt   []byte `json:"salt,omitempty"`

	Kind       trefoil.Kind `json:"k,omitempty"`
	Session    string       `json:"s,omitempty"`
	Event      string       `json:"e,omitempty"`
	Path       string       `json:"p,omitempty"`
	Chunk      int64        `json:"n,omitempty"`
	Bytes      int64        `json:"b,omitempty"`
	Cumulative int64        `json:"c,omitempty"`
	Allowance  int64        `json:"a,omitempty"`
	Access     []byte       `json:"acc,omitempty"` // SHA-256 of the access, as it was encoded
	Recorded   int64        `json:"rec,omitempty"` // the record's own time, Unix microseconds

	Unpermitted bool `json:"u,omitempty"` // the record says so of itself

	Permitted bool   `json:"ok,omitempty"`
	Expires   int64  `json:"x,omitempty"` // of the permit, Unix seconds
	Epoch     uint64 `json:"ep,omitempty"`
	Rule      string `json:"r,omitempty"` // why not; "" with Permitted false: nobody asked
	Law       string `json:"l,omitempty"`

	Valve string `json:"valve,omitempty"` // of a session's first record: its connection at the valve; stays in the journal

	Name string `json:"d,omitempty"` // dataset, grant id, or order id
	Hash string `json:"h,omitempty"` // definition, or rules
	Note string `json:"w,omitempty"` // action of an order, or reason

	Signers []string `json:"sig,omitempty"`   // of an order: key ids
	Looser  []string `json:"loose,omitempty"` // of other rules: what they loosen

	Who   string `json:"who,omitempty"` // permitted: the principal's pseudonym of the day on which it was
	Rows  int64  `json:"row,omitempty"`
	Grant string `json:"g,omitempty"` // permitted: the grant it rests on
}

// recordEntry describes body, without a decision.
func recordEntry(b *trefoil.Body, index uint64, leaf [32]byte, salt []byte, now time.Time) *entry {
	e := &entry{Type: entryRecord, At: now.UnixMicro(), Origin: b.Origin, Index: index, Leaf: leaf[:], Salt: salt,
		Kind: b.Kind, Recorded: b.At.UnixMicro(), Unpermitted: trefoil.Unpermitted(b)}
	switch {
	case b.Release != nil:
		r := b.Release
		e.Session, e.Chunk, e.Bytes, e.Cumulative = r.Access.Session, r.Chunk, r.Bytes, r.Cumulative
		e.Access = accessHash(&r.Access)
	case b.Session != nil:
		s := b.Session
		e.Session, e.Event, e.Path, e.Allowance = s.Access.Session, s.Event, s.Path, s.Allowance
		e.Access = accessHash(&s.Access)
		if s.Event == "end" {
			e.Bytes = s.Released
			e.Cumulative = s.Covered
		}
	}
	return e
}

// needsPermit is trefoil.NeedsPermit of the record that e describes.
func (e *entry) needsPermit() bool {
	return e.Kind == trefoil.KindRelease || e.Kind == trefoil.KindSession && e.Event == "start" && e.Path != "service"
}
