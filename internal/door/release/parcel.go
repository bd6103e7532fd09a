package release

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"time"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/sabotage"
)

// parcel is a run of whole server messages that leaves as one: a chunk with a record of its
// own, or covered bytes.
type parcel struct {
	held     *held
	salt     [32]byte // of the result's commitment
	rows     int64
	said     []*said
	covered  bool // everything in it so far is
	final    bool // ends with ReadyForQuery
	sqlstate string
	began    time.Time

	bytes      int64 // set when it is cut
	chunk      int64
	cumulative int64

	ready chan struct{} // closed when pass or err is set
	pass  cleared
	err   error
}

// name adds a statement once.
func (p *parcel) name(s *said) {
	if s == nil {
		return
	}
	for i := len(p.said) - 1; i >= 0; i-- {
		if p.said[i] == s {
			return
		}
	}
	p.said = append(p.said, s)
}

// drawSalt draws the salt of the result's commitment; the digest starts with it.
func drawSalt() (salt [32]byte, err error) {
	if _, err := rand.Read(salt[:]); err != nil {
		return salt, fmt.Errorf("draw salt: %w", err)
	}
	return salt, nil
}

// Outcomes of a chunk (docs/record-format.md).
const (
	outcomeComplete  = "complete"
	outcomePartial   = "partial"
	outcomeError     = "error"
	outcomeCancelled = "cancelled"
)

func (p *parcel) outcome() string {
	switch {
	case p.sqlstate == "57014":
		return outcomeCancelled
	case p.sqlstate != "":
		return outcomeError
	case p.final:
		return outcomeComplete
	}
	return outcomePartial
}

// statements are what the chunk's record says of them.
func (p *parcel) statements() []trefoil.Statement {
	statements := []trefoil.Statement{}
	for _, q := range p.said {
		tables := q.info.Tables
		if tables == nil {
			tables = []string{}
		}
		statements = append(statements, trefoil.Statement{
			Commitment: q.commitment, Fingerprint: q.fingerprint, Kind: q.info.Kind, Tables: tables,
		})
	}
	return statements
}

// body is the chunk's record, and its opening: the result's salt, then each statement's.
func (p *parcel) body(s *Session, unpermitted bool) (*trefoil.Body, []byte) {
	opening := append([]byte(nil), p.salt[:]...)
	for _, q := range p.said {
		opening = append(opening, q.salt[:]...)
	}
	b := s.newBody(trefoil.KindRelease)
	b.Release = &trefoil.ReleaseBody{
		Access: s.Access, Bytes: p.bytes, Chunk: p.chunk, Cumulative: p.cumulative, Final: p.final,
		Outcome: p.outcome(), Result: hex.EncodeToString(p.held.digest.Sum(nil)), Rows: p.rows,
		SQLState: p.sqlstate, Statements: p.statements(), Unpermitted: unpermitted,
	}
	if sabotage.Hostile("reorder") { // each pair of chunks the other way round
		b.Release.Chunk ^= 1
	}
	if sabotage.Hostile("understate") {
		b.Release.Bytes, b.Release.Cumulative, b.Release.Rows = 1, p.chunk+1, 0
	}
	return b, opening
}
