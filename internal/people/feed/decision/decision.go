// Package decision holds ranked answers: what was shown to whom, by which model, from which
// values, so that the same answer can be given again and its reasons told.
//
// The invariant it keeps: a stored decision holds everything that reproduction needs (hashes
// of model and features file, the values as the model saw them, the settings, a digest of
// the exact scores), and it is reached by its subject: access, erasure and restriction (GDPR
// arts. 15, 17, 18) find every copy the store has. A decision of a restricted subject is
// kept and used for nothing.
//
// It does not score: scores follow from model and values, and their digest tells whether
// they came out the same.
package decision

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Bounds of one decision.
const (
	MaxItems    = 2000
	MaxFeatures = 4096
	MaxText     = 256 // bytes of an item's id, a topic, a region, a surface, a subject
	MaxTopics   = 64  // and switches that one subject's settings name
)

// ErrNotFound means that the store has no such decision: it ran out, was erased or never was.
var ErrNotFound = errors.New("no such decision")

// ID names a decision: 48 bits of milliseconds since 1970, then 80 random bits, so that an
// id leads to its day and cannot be guessed.
type ID [16]byte

// NewID draws an id for a decision made at a time.
func NewID(at time.Time) ID {
	var id ID
	rand.Read(id[:]) //nolint:errcheck // crypto/rand never fails (it ends the program instead)
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(at.UnixMilli())<<16)
	copy(id[:6], ms[:6])
	return id
}

// ParseID reads the 32 hex digits that String writes.
func ParseID(s string) (ID, error) {
	var id ID
	if n, err := hex.Decode(id[:], []byte(clip(s, 33))); err != nil || n != len(id) || len(s) != 32 {
		return ID{}, errors.New("a decision's id is 32 hex digits")
	}
	return id, nil
}

func clip(s string, n int) string { return s[:min(n, len(s))] }

// String returns 32 hex digits.
func (id ID) String() string { return hex.EncodeToString(id[:]) }

// At returns the id's time, exact to the millisecond.
func (id ID) At() time.Time {
	var ms [8]byte
	copy(ms[2:], id[:6])
	return time.UnixMilli(int64(binary.BigEndian.Uint64(ms[:]))).UTC()
}

// Day returns the first instant of a time's day in UTC: the key of its partition.
func Day(at time.Time) time.Time { return at.UTC().Truncate(24 * time.Hour) }

// Hash is a SHA-256.
type Hash [sha256.Size]byte

// String returns 64 hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText writes hex digits.
func (h Hash) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (h *Hash) UnmarshalText(text []byte) error {
	if len(text) != 2*len(h) {
		return errors.New("a hash is 64 hex digits")
	}
	if _, err := hex.Decode(h[:], text); err != nil {
		return errors.New("a hash is 64 hex digits")
	}
	return nil
}

// Item is one thing that was ranked. Values are in the model's feature order, NaN where
// missing. Without profiling they are what the model saw: what is personal is neutral and what
// the platform sent is not kept. With profiling they are as sent, and Settings tell the rest.
type Item struct {
	ID      string
	Topic   string
	Region  string
	Creator string // class of the creator's size
	Values  []float64
}

// Decision is one answer. Items are in the order they were shown.
type Decision struct {
	ID       ID
	Surface  string
	Subject  string
	Model    Hash // of the model's file
	Features Hash // of the features file
	Scores   Hash // ScoreDigest of the final scores, in the order of Items
	Settings features.Settings
	Items    []Item

	// Unreadable says that what is stored is no decision: only ID, Surface and Subject are set.
	// Lists hold it all the same, so that one spoiled row hides no other.
	Unreadable bool
}

// At is when the decision was made.
func (d *Decision) At() time.Time { return d.ID.At() }

// ScoreDigest is the SHA-256 of the scores' 64-bit patterns, big endian: two answers have
// one digest only if every score is the same to the bit.
func ScoreDigest(scores []float64) Hash {
	buf := make([]byte, 0, 8*len(scores))
	for _, s := range scores {
		buf = binary.BigEndian.AppendUint64(buf, math.Float64bits(s))
	}
	return sha256.Sum256(buf)
}

// check refuses what the bounds do not allow. It names no value.
func (d *Decision) check() error {
	switch {
	case len(d.Items) == 0 || len(d.Items) > MaxItems:
		return fmt.Errorf("a decision has 1 to %d items", MaxItems)
	case len(d.Items[0].Values) > MaxFeatures:
		return fmt.Errorf("a decision has at most %d features", MaxFeatures)
	case len(d.Settings.Topics) > MaxTopics || len(d.Settings.Off) > MaxTopics:
		return fmt.Errorf("settings name at most %d topics and switches", MaxTopics)
	}
	for i := range d.Items {
		it := &d.Items[i]
		if len(it.Values) != len(d.Items[0].Values) {
			return errors.New("items differ in their number of features")
		}
		if max(len(it.ID), len(it.Topic), len(it.Region), len(it.Creator)) > MaxText {
			return fmt.Errorf("a text is longer than %d bytes", MaxText)
		}
	}
	return nil
}
