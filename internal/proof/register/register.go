// Package register answers what a regulator asks of the records: what was transferred to whom
// under which tool, whether anything went to a country, what a published notice leaves out,
// which claim was contradicted when, and which systems are measured at all.
//
// The invariant it keeps: a figure that is not known is shown as unknown, never as nothing;
// what was not let out is not counted as let out; and nothing that a file says of itself is
// shown as measured. It implements GDPR arts. 13(1)(f), 30(1)(e) and 44 to 49 as
// docs/design/registers.md reads them. It reads records and files that it is given, no clock,
// no network; it decides nothing about anybody's access.
package register

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/trefoil-eu/trefoil"
)

// Record is one record of a watched log as a mirror, or the site itself, keeps it.
type Record struct {
	Origin    string
	Index     uint64
	Leaf      [32]byte // RFC 6962 leaf hash
	Body      *trefoil.Body
	Permitted bool // the monitor permitted it
}

// Source calls f for every record, in any order; an error of f ends it.
type Source func(f func(*Record) error) error

// accessOf returns the access of a record by which something may have gone out, and the bytes
// and rows of it; nil for every other.
func accessOf(r *Record) (a *trefoil.Access, bytes, rows int64) {
	b := r.Body
	switch {
	case b.Release != nil:
		return &b.Release.Access, b.Release.Bytes, b.Release.Rows
	case b.Summary != nil:
		return &b.Summary.Access, b.Summary.BytesOut, b.Summary.Rows
	case b.Session != nil && b.Session.Event == "end":
		return &b.Session.Access, b.Session.Covered, 0
	}
	return nil, 0, 0
}

// LetOut reports whether a record says, or lets follow, that something went out: a release
// that was permitted or says that it went without, and every record that needs no permit.
func LetOut(r *Record) bool {
	return r.Permitted || !trefoil.NeedsPermit(r.Body) || trefoil.Unpermitted(r.Body)
}

// Places are the countries of an access by who says so: importer, employer, workplace, network.
// "" is unknown. A record without a place of a source has it unknown.
func Places(a *trefoil.Access) map[string]string {
	out := map[string]string{"importer": a.Importer.Country, "employer": "", "workplace": "", "network": ""}
	for _, p := range a.Location {
		out[p.Source] = p.Country
	}
	return out
}

// item is what a receipt root commits to for one record.
type item struct {
	origin string
	index  uint64
	leaf   [32]byte
}

// root is the RFC 6962 root over SHA-256(origin ‖ 0x00 ‖ index as 8 bytes ‖ leaf hash) of the
// records, sorted by origin and index: whoever holds their receipts computes it again.
func root(items []item) string {
	slices.SortFunc(items, func(a, b item) int {
		return cmp.Or(strings.Compare(a.origin, b.origin), cmp.Compare(a.index, b.index), bytes.Compare(a.leaf[:], b.leaf[:]))
	})
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	all := factory.NewEmptyRange(0)
	for _, x := range items {
		h := sha256.New()
		h.Write([]byte(x.origin))
		h.Write([]byte{0})
		h.Write(binary.BigEndian.AppendUint64(nil, x.index))
		h.Write(x.leaf[:])
		if err := all.Append(rfc6962.DefaultHasher.HashLeaf(h.Sum(nil)), nil); err != nil {
			return "" // it has no hash to merge: cannot happen
		}
	}
	sum, err := all.GetRootHash(nil)
	if err != nil || len(items) == 0 {
		sum = rfc6962.DefaultHasher.EmptyRoot()
	}
	return hex.EncodeToString(sum)
}

// Month is the month of a time, as registers name it: 2026-11.
func Month(at time.Time) string { return at.UTC().Format("2006-01") }
