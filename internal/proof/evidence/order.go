package evidence

import (
	"context"
	"errors"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
)

// Order writes to path the pack that shows whether anything went to a country since a time, and
// returns what it states. The pack of an order that does not hold is written too.
func Order(ctx context.Context, a *monitor.Archive, country string, since, now time.Time, path string) (*pack.Order, *pack.Report, error) {
	k, err := keysOf(a)
	if err != nil {
		return nil, nil, err
	}
	w, err := pack.NewWriter(path)
	if err != nil {
		return nil, nil, err
	}
	o := &pack.Order{Country: country, Since: since.UTC(), Holds: true, Logs: []*register.OrderResult{}}
	for _, l := range a.Logs {
		result, err := orderLog(ctx, a, w, l, o)
		if err != nil {
			return nil, nil, errors.Join(err, w.Abort())
		}
		o.Logs = append(o.Logs, result)
		o.Holds = o.Holds && result.Holds()
	}
	if err := w.AddJSON("order.json", o); err != nil {
		return nil, nil, errors.Join(err, w.Abort())
	}
	report, err := finish(w, path, pack.Manifest{At: now, Kind: pack.KindOrder, Name: a.Rules.Name, From: since, Until: now}, k, a)
	var no *trefoil.VerifyError
	if errors.As(err, &no) && !o.Holds {
		return o, nil, nil
	}
	return o, report, err
}

// orderLog packs every record of a log from the last head of before the time on.
func orderLog(ctx context.Context, a *monitor.Archive, w *pack.Writer, l *monitor.ArchivedLog, o *pack.Order) (*register.OrderResult, error) {
	heads, err := l.Heads(ctx)
	if err != nil {
		return nil, err
	}
	head, err := l.Head(ctx)
	if err != nil {
		return nil, err
	}
	var before *monitor.Head
	for _, h := range heads {
		if !h.At.After(o.Since) {
			before = h
		}
	}
	begin, raw := uint64(0), []byte(nil)
	result := register.NewOrderResult(l.Origin, 0, head.Checkpoint.Size)
	if before != nil {
		begin, raw = before.Checkpoint.Size, before.Raw
		result.Begin, result.Before = begin, before.At
	}
	result.Until = head.At
	run, err := w.AddRun(ctx, "logs/"+l.Hash, l.Tiles, head.Raw, begin, head.Checkpoint.Size, raw)
	if err != nil {
		return nil, err
	}
	leaves := leafReader{tiles: l.Tiles, size: head.Checkpoint.Size}
	err = a.Range(l.Origin, begin, head.Checkpoint.Size, func(index uint64, k *monitor.Kept) error {
		if k == nil {
			result.Add(index, nil, o.Country)
			leaf, err := leaves.at(ctx, index)
			if err != nil {
				return err
			}
			return run.Leaf(leaf)
		}
		result.Add(index, record(k), o.Country)
		permit, err := a.Permit(k)
		if err != nil {
			return err
		}
		return run.Record(trefoil.Record{Body: k.Raw, Salt: k.Salt}, permit)
	})
	return result, err
}

// leafReader reads single leaves, one bundle at a time.
type leafReader struct {
	tiles  trefoil.Fetcher
	size   uint64
	bundle uint64
	leaves [][]byte
}

func (r *leafReader) at(ctx context.Context, index uint64) ([]byte, error) {
	if b := index / trefoil.TileWidth; r.leaves == nil || b != r.bundle {
		width := int(min(r.size-b*trefoil.TileWidth, trefoil.TileWidth))
		raw, err := r.tiles.Entries(ctx, b, width)
		if err != nil {
			return nil, err
		}
		if r.leaves, err = trefoil.SplitEntries(raw, width); err != nil {
			return nil, err
		}
		r.bundle = b
	}
	return r.leaves[index%trefoil.TileWidth], nil
}
