package pack

import (
	"errors"
	"fmt"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

// Drawn is draw.json: an inspection sample. Every index that was drawn is in it, in order.
type Drawn struct {
	Seed    string       `json:"seed"`
	Head    string       `json:"head"`           // checkpoint that the sample was drawn from
	Kind    trefoil.Kind `json:"kind,omitempty"` // only records of this kind count; "": all
	Want    int          `json:"want"`           // how many were asked for
	Indexes []DrawnIndex `json:"indexes"`
}

// DrawnIndex is one record of the sample.
type DrawnIndex struct {
	Index uint64 `json:"index"`
	Gone  bool   `json:"gone,omitempty"` // its body is deleted or has expired

	// NoPermit says that the record asks for a release and that the site has no permit of it: the
	// monitor refused it, or was away.
	NoPermit bool `json:"no_permit,omitempty"`
}

// ReceiptPath and OpeningPath are where a sample's files are.
func ReceiptPath(hash string, index uint64) string {
	return fmt.Sprintf("receipts/%s/%d", hash, index)
}

// OpeningPath is where the salts of a record's commitments are: 32 bytes each, the result's
// first, then the statements' in their order.
func OpeningPath(hash string, index uint64) string {
	return fmt.Sprintf("openings/%s/%d", hash, index)
}

// draw draws again, and checks that nothing was passed over.
func (v *verifier) draw(*Manifest) error {
	var d Drawn
	if err := v.json("draw.json", &d); err != nil {
		return err
	}
	if len(v.keys.Logs) != 1 {
		return failed("a sample is of one log")
	}
	l := v.keys.Logs[0]
	t := v.logs[l.Hash]
	head, err := t.VerifyCheckpoint([]byte(d.Head))
	if err != nil {
		return err
	}
	again, err := register.NewDraw(d.Seed, head)
	if err != nil {
		return failed("draw.json: %v", err)
	}
	counted, gone, without := 0, 0, 0
	for _, x := range d.Indexes {
		index, more := again.Next()
		if !more || index != x.Index || counted >= d.Want {
			return failed("record %d is not what seed and head draw", x.Index)
		}
		if x.Gone {
			gone++
			continue
		}
		body, err := v.receipt(l, index, x.NoPermit)
		if err != nil {
			return err
		}
		if x.NoPermit {
			without++
		}
		if d.Kind == "" || body.Kind == d.Kind {
			counted++
		}
		if name := OpeningPath(l.Hash, index); v.list[name].path != "" {
			if v.used[name] = true; v.list[name].size%trefoil.SaltSize != 0 {
				return failed("%s is no list of salts", name)
			}
		}
	}
	if _, more := again.Next(); more && counted < d.Want {
		return failed("%d records were drawn where %d were asked for", counted, d.Want)
	}
	v.drawn(&d, l.Origin, head.Size, counted, gone, without)
	return nil
}

// drawn says what a sample proves.
func (v *verifier) drawn(d *Drawn, origin string, size uint64, counted, gone, without int) {
	kind := "records"
	if d.Kind != "" {
		kind = string(d.Kind) + " records"
	}
	v.prove("%d %s were drawn by seed and head of %s at size %d, in this order, none passed over; the bodies of %d more are gone", counted, kind, origin, size, gone)
	if without > 0 {
		v.caveat("that %d of the records, which have no permit here, let nothing out: the monitor says whether it gave one", without)
	}
	v.caveat("that the seed was not known before the head was fixed: the inspector knows")
	v.caveat("what statements and results were: the openings show it beside the text or the bytes, in the region")
}

// receipt checks the receipt of one record; of one without a permit, all but that.
func (v *verifier) receipt(l LogKey, index uint64, noPermit bool) (*trefoil.Body, error) {
	name := ReceiptPath(l.Hash, index)
	raw, err := v.read(name)
	if err != nil {
		return nil, err
	}
	r, err := trefoil.ParseReceipt(raw)
	if err != nil {
		return nil, failed("%s: %v", name, err)
	}
	body, err := v.logs[l.Hash].VerifyReceipt(r)
	var no *trefoil.VerifyError
	if noPermit && errors.As(err, &no) && no.Reason == trefoil.ReasonNoPermit { // asked last: the rest holds
		body, err = trefoil.DecodeBody(r.Record.Body)
	} else if noPermit && err == nil {
		return nil, failed("%s is said to have no permit", name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	p, err := trefoil.ParseProof(r.Proof)
	if err != nil || p.Index != index || body.Origin != l.Origin {
		return nil, failed("%s is the receipt of another record", name)
	}
	return body, nil
}
