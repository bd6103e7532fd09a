package monitor

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/batch"
	"golang.org/x/mod/sumdb/note"
)

// permitBatch is how many permits' signatures are checked at once.
const permitBatch = 256

// maxFaults bounds how many faults a report names; all are counted.
const maxFaults = 100

// Checker checks records in full, apart from the tree: body and salt against the leaf, the body's
// form, the permit's signature, and that the monitor's rules of today would permit it. One
// goroutine uses it.
type Checker struct {
	book     *book
	known    *state // every definition that was ever acknowledged, and nothing else
	permit   note.Verifier
	key      *batch.Key
	decoder  *trefoil.Decoder
	sessions map[string]time.Time // when sessions began that have not ended
	wait     []waiting
	items    []batch.Item
	Report   CheckReport
}

// waiting is a permit whose signature is not checked yet.
type waiting struct {
	index uint64
	text  string
}

// CheckReport is what a Checker found.
type CheckReport struct {
	Records  uint64       `json:"records"`
	Gone     uint64       `json:"bodies_gone"`
	Permits  uint64       `json:"permits"`
	Unjudged uint64       `json:"unjudged"` // rest on a grant whose signed approval is not at hand
	Faults   uint64       `json:"faults"`
	First    []CheckFault `json:"first_faults"` // at most 100
}

// CheckFault is one record that does not hold.
type CheckFault struct {
	Index uint64 `json:"index"`
	Text  string `json:"text"`
}

// NewChecker reads the rules, keys and acknowledged definitions of the monitor in dir.
func NewChecker(dir string) (*Checker, error) {
	rules, err := LoadRules(dir)
	if err != nil {
		return nil, err
	}
	c := &Checker{known: newState(rules.Logs), decoder: trefoil.NewDecoder(), sessions: map[string]time.Time{}, Report: CheckReport{First: []CheckFault{}}}
	if c.book, err = newBook(rules, dir); err != nil {
		return nil, err
	}
	vkey, err := ReadVerifierKey(UsePermit, filepath.Join(dir, "keys", UsePermit))
	if err != nil {
		return nil, err
	}
	if err := c.trust(vkey); err != nil {
		return nil, err
	}
	err = readJournalOf(filepath.Join(dir, "state"), []string{entryAck}, func(e *entry, raw []byte) error {
		return c.known.apply(e, span{}, func() ([]byte, error) { return raw, nil })
	})
	return c, err
}

// trust takes the vkey of a permit key.
func (c *Checker) trust(vkey string) (err error) {
	if c.permit, err = note.NewVerifier(vkey); err != nil {
		return fmt.Errorf("read permit key: %w", err)
	}
	_, encoded, _ := strings.Cut(vkey[strings.IndexByte(vkey, '+')+1:], "+")
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil || len(raw) != 1+ed25519.PublicKeySize {
		return errors.New("read permit key: not an Ed25519 vkey")
	}
	c.key, err = batch.NewKey(raw[1:])
	return err
}

// Add checks one record that the log holds at index as leaf. permit is "" for none. Signatures
// are checked in batches: call Flush at the end.
func (c *Checker) Add(index uint64, leaf []byte, r trefoil.Record, permit string) {
	c.Report.Records++
	own := r.Leaf()
	b, err := c.decoder.Decode(r.Body)
	switch {
	case string(own) != string(leaf) || len(r.Salt) != trefoil.SaltSize:
		c.fault(index, "its body is not what its leaf commits to")
		return
	case err != nil:
		c.fault(index, "its body is no record")
		return
	}
	if s := b.Session; s != nil && s.Event == "end" {
		delete(c.sessions, s.Access.Session)
	}
	if !trefoil.NeedsPermit(b) || trefoil.Unpermitted(b) {
		return
	}
	if permit == "" { // refused, or nobody asked: then nothing may have left, which its session's end says
		return
	}
	c.Report.Permits++
	c.signature(index, b, trefoil.LeafHash(own), permit)
	c.rules(index, b)
}

// signature reads the permit and puts its signature with those that are checked next.
func (c *Checker) signature(index uint64, b *trefoil.Body, leaf [32]byte, text string) {
	p, message, signature, err := trefoil.UncheckedPermit(text, c.permit.Name(), c.permit.KeyHash())
	if err != nil { // another form, which may be a permit all the same
		if p, err = trefoil.OpenPermit(text, c.permit); err != nil {
			c.fault(index, "its permit is not signed by the monitor's permit key")
			return
		}
	} else {
		c.wait = append(c.wait, waiting{index, text})
		c.items = append(c.items, batch.Item{Message: message, Signature: signature})
	}
	if p.Origin != b.Origin || p.Index != index || p.Leaf != leaf {
		c.fault(index, "its permit is of another record")
	}
	if p.Expires.Before(b.At.Truncate(time.Second)) {
		c.fault(index, "its permit ended before the record was made")
	}
	if len(c.items) == permitBatch {
		c.Flush()
	}
}

// rules applies the monitor's own rules once more, at the record's own time.
func (c *Checker) rules(index uint64, b *trefoil.Body) {
	access, no := judged(b)
	if no == nil {
		k := &accessCase{access: access, recorded: b.At, began: c.sessions[access.Session], now: b.At,
			definition: c.known.acknowledged(access.Dataset, access.Hashes.Dataset), revoked: func(string) bool { return false }}
		k.parents = c.known.parents(k.definition)
		_, no = c.book.judge(k)
	}
	if b.Session != nil {
		c.sessions[access.Session] = b.At
	}
	if no == nil {
		no = c.book.ceilings(b)
	}
	switch {
	case no == nil:
	case no.Rule == ruleGrant && access.Grant != "":
		c.Report.Unjudged++
	default:
		c.fault(index, "the rules would not permit it: "+no.Rule)
	}
}

// Flush checks the signatures that wait. Where a batch fails each is checked alone.
func (c *Checker) Flush() {
	if !c.key.Good(c.items) {
		for _, w := range c.wait {
			if _, err := trefoil.OpenPermit(w.text, c.permit); err != nil {
				c.fault(w.index, "its permit is not signed by the monitor's permit key")
			}
		}
	}
	c.wait, c.items = c.wait[:0], c.items[:0]
}

func (c *Checker) fault(index uint64, text string) {
	c.Report.Faults++
	if len(c.Report.First) < maxFaults {
		c.Report.First = append(c.Report.First, CheckFault{index, text})
	}
}

// VerifySite checks a copy of a watched log's whole directory, what its operator keeps beside it
// included: the tree, and every record in full. dir is the monitor's. Its error wraps ErrFault
// where something does not hold.
func VerifySite(ctx context.Context, dir, site string, progress func(done, total uint64)) (*CheckReport, error) {
	c, err := NewChecker(dir)
	if err != nil {
		return nil, err
	}
	r, err := accesslog.OpenReader(site)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cp, _, err := r.Checkpoint(ctx)
	if err != nil {
		return nil, err
	}
	var key note.Verifier
	for _, l := range c.book.rules.Logs {
		if l.Origin == cp.Origin {
			key, err = note.NewVerifier(l.Key)
		}
	}
	if err != nil || key == nil {
		return nil, fmt.Errorf("check log: the rules do not name this log, or not its key")
	}
	_, err = trefoil.VerifyLog(ctx, trefoil.Directory(filepath.Join(site, accesslog.PublicDir)), &trefoil.Trust{Log: key, Quorum: -1},
		trefoil.LogOptions{Progress: progress, Leaf: func(index uint64, leaf []byte) error {
			rec, permit, err := r.Body(index)
			if errors.Is(err, accesslog.ErrNoBody) {
				c.Report.Gone++
				return nil
			}
			if err != nil {
				return err
			}
			c.Add(index, leaf, rec, permit)
			return nil
		}})
	c.Flush()
	var failed *trefoil.VerifyError
	switch {
	case errors.As(err, &failed):
		return &c.Report, fmt.Errorf("%w: %w", ErrFault, err)
	case err != nil:
		return nil, err
	case c.Report.Faults > 0:
		return &c.Report, fmt.Errorf("%w: %d records do not hold", ErrFault, c.Report.Faults)
	}
	return &c.Report, nil
}
