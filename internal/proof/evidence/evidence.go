// Package evidence makes registers and packs out of what a monitor, or a site, keeps: its
// records, heads, findings and incidents.
//
// The invariant it keeps: a pack is made whole or not at all, is verified as an outsider would
// before it counts as made, and holds no name of staff and no secret: rules are packed with
// pseudonyms in place of principals. It implements docs/design/registers.md. It changes nothing
// in the directory that it reads, which a monitor may be writing meanwhile.
package evidence

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/pack"
	"github.com/trefoil-eu/trefoil/internal/proof/register"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// record is a kept record as registers read it.
func record(k *monitor.Kept) *register.Record {
	return &register.Record{Origin: k.Origin, Index: k.Index, Leaf: k.Leaf, Body: k.Body, Permitted: k.Permitted}
}

// Mirror is the source of registers that a monitor's directory is.
func Mirror(a *monitor.Archive) register.Source {
	return func(f func(*register.Record) error) error {
		return a.Each(func(k *monitor.Kept) error { return f(record(k)) })
	}
}

// Site is the source that a site's own log is, up to size. Whether a record was permitted is
// whether its permit is stored.
func Site(r *accesslog.Reader, size uint64) register.Source {
	return func(f func(*register.Record) error) error {
		for index := range size {
			rec, permit, err := r.Body(index)
			if errors.Is(err, accesslog.ErrNoBody) {
				continue
			}
			if err != nil {
				return err
			}
			b, err := trefoil.DecodeBody(rec.Body)
			if err != nil {
				return fmt.Errorf("record %d: %w", index, err)
			}
			if err := f(&register.Record{Origin: b.Origin, Index: index, Leaf: trefoil.LeafHash(rec.Leaf()), Body: b, Permitted: permit != ""}); err != nil {
				return err
			}
		}
		return nil
	}
}

// Inside reports whether a country is in the monitor's region.
func Inside(a *monitor.Archive) (register.Inside, error) {
	region, err := law.NewRegion(a.Rules.Region)
	if err != nil {
		return nil, fmt.Errorf("region: %w", err)
	}
	return func(country string) bool { return country != "" && region.Contains(country) }, nil
}

// keysOf are the keys that a pack of a monitor names.
func keysOf(a *monitor.Archive) (pack.Keys, error) {
	public, err := a.Public()
	if err != nil {
		return pack.Keys{}, err
	}
	k := pack.Keys{Signer: public[monitor.UseStatement], MonitorLog: public[monitor.UseLog], Witnesses: []string{public[monitor.UseWitness]},
		Permit: public[monitor.UsePermit], Logs: []pack.LogKey{}}
	for _, l := range a.Logs {
		k.Logs = append(k.Logs, pack.LogKey{Origin: l.Origin, Hash: l.Hash, Key: l.Key})
	}
	return k, nil
}

// finish signs a pack and verifies it as an outsider would. A pack that does not verify is
// removed, but for an order that does not hold: that is its answer.
func finish(w *pack.Writer, path string, m pack.Manifest, k pack.Keys, a *monitor.Archive) (*pack.Report, error) {
	if err := w.Finish(m, k, a.Signer()); err != nil {
		return nil, errors.Join(err, w.Abort())
	}
	return pack.Verify(path, k.All())
}

// newestUntil returns the heads up to a time, and where the period begins in them: the last
// head of before from counts as its beginning.
func headsBetween(all []*monitor.Head, from, until time.Time) []*monitor.Head {
	begin := 0
	for i, h := range all {
		if !h.At.After(from) {
			begin = i
		}
	}
	end := len(all)
	for i := len(all) - 1; i > begin; i-- {
		if all[i].At.After(until) {
			end = i + 1 // the first one after the period closes it
		}
	}
	return slices.Clone(all[min(begin, len(all)):end])
}
