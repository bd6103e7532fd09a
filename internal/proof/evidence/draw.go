package evidence

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

// Sample is what an inspector asks for.
type Sample struct {
	Seed string
	N    int
	Kind trefoil.Kind // "": any
	Head []byte       // a checkpoint that the inspector took before; nil: the published one
}

// SiteKeys are a site's own: the log's signing key, and the vkeys that its receipts rest on.
type SiteKeys struct {
	Signer    note.Signer
	Log       string
	Witnesses []string
	Permit    string
}

// Draw writes to path the pack of an inspection sample, with the openings of its records: it
// is made at the site, and stays in the region.
func Draw(ctx context.Context, r *accesslog.Reader, s Sample, k SiteKeys, now time.Time, path string) (*pack.Drawn, *pack.Report, error) {
	if s.N < 1 || s.N > register.MaxDraw {
		return nil, nil, fmt.Errorf("draw: a sample has 1 to %d records", register.MaxDraw)
	}
	_, raw, err := r.Checkpoint(ctx)
	if err != nil {
		return nil, nil, err
	}
	if s.Head != nil {
		raw = s.Head
	}
	t, err := trefoil.ParseTrust(k.Log, append(append([]string{}, k.Witnesses...), k.Permit))
	if err != nil {
		return nil, nil, err
	}
	head, err := t.VerifyCheckpoint(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("draw: the head: %w", err)
	}
	w, err := pack.NewWriter(path)
	if err != nil {
		return nil, nil, err
	}
	d := &pack.Drawn{Seed: s.Seed, Head: string(raw), Kind: s.Kind, Want: s.N, Indexes: []pack.DrawnIndex{}}
	hash := logHash(head.Origin)
	if err := draw(ctx, r, d, head, hash, w); err != nil {
		return nil, nil, errors.Join(err, w.Abort())
	}
	keys := pack.Keys{Signer: k.Log, Witnesses: k.Witnesses, Permit: k.Permit, Logs: []pack.LogKey{{Origin: head.Origin, Hash: hash, Key: k.Log}}}
	if err := w.Finish(pack.Manifest{At: now, Kind: pack.KindDraw, Name: head.Origin, Until: now}, keys, k.Signer); err != nil {
		return nil, nil, errors.Join(err, w.Abort())
	}
	report, err := pack.Verify(path, keys.All())
	return d, report, err
}

func draw(ctx context.Context, r *accesslog.Reader, d *pack.Drawn, head *trefoil.Checkpoint, hash string, w *pack.Writer) error {
	next, err := register.NewDraw(d.Seed, head)
	if err != nil {
		return err
	}
	for counted := 0; counted < d.Want; {
		index, more := next.Next()
		if !more {
			break
		}
		receipt, err := r.Receipt(ctx, index)
		if errors.Is(err, accesslog.ErrNoBody) {
			d.Indexes = append(d.Indexes, pack.DrawnIndex{Index: index, Gone: true})
			continue
		}
		if err != nil {
			return err
		}
		text, err := receipt.Marshal()
		if err != nil {
			return err
		}
		b, err := trefoil.DecodeBody(receipt.Record.Body)
		if err != nil {
			return err
		}
		without := receipt.Permit == "" && trefoil.NeedsPermit(b) && !trefoil.Unpermitted(b)
		d.Indexes = append(d.Indexes, pack.DrawnIndex{Index: index, NoPermit: without})
		if err := w.Add(pack.ReceiptPath(hash, index), text); err != nil {
			return err
		}
		if err := addOpening(r, hash, index, w); err != nil {
			return err
		}
		if d.Kind == "" || b.Kind == d.Kind {
			counted++
		}
	}
	return w.AddJSON("draw.json", d)
}

// addOpening adds the salts of a record's commitments, if there are any.
func addOpening(r *accesslog.Reader, hash string, index uint64, w *pack.Writer) error {
	opening, err := r.Opening(index)
	switch {
	case errors.Is(err, accesslog.ErrNoBody), err == nil && len(opening) == 0:
		return nil
	case err != nil:
		return err
	}
	return w.Add(pack.OpeningPath(hash, index), opening)
}

// logHash names a log's files, as a monitor does.
func logHash(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:16])
}
