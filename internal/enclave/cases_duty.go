package enclave

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

const (
	casesEvery = 2 * time.Second
	// caseBuildAfter leaves a new case to trefoil dataset follow: what it builds follows its source.
	caseBuildAfter = 10 * time.Second
)

// cases puts in force which cases there are, and ends those that are over and that nobody
// follows: who follows one ends it. Sessions of a case that is no more are ended.
func (d *duties) cases(ctx context.Context, g sessions) error {
	b := d.standing.builder
	err := LoadCases(ctx, d.store, b)
	d.now.setCases(b)
	r, now := d.now.get(), time.Now()
	over, e := r.Overdue(ctx, d.store, now)
	errs := []error{err, e}
	for _, name := range over {
		if n := g.CloseSessions(onCase(name), "the case is over"); n > 0 {
			d.logger.Info("sessions ended: the case is over", "case", name, "sessions", n)
		}
		if _, err := r.EndCase(ctx, d.store, b, name, now); err != nil && !errors.Is(err, dataset.ErrBusy) {
			errs = append(errs, fmt.Errorf("case %s: %w", name, err))
		} else if err == nil {
			d.logger.Info("case ended", "case", name)
		}
	}
	if len(over) > 0 {
		d.now.setCases(b)
	}
	return errors.Join(errs...)
}

func onCase(name string) func(gateway.SessionInfo) bool {
	return func(s gateway.SessionInfo) bool { return s.Path == gateway.Release && s.Database == name }
}

// buildCases builds the cases that stand nowhere and that nobody took up.
func (d *duties) buildCases(ctx context.Context) error {
	stored, err := d.store.Cases(ctx)
	if err != nil {
		return err
	}
	b := d.standing.builder
	var errs []error
	for _, c := range stored {
		if now := time.Now(); now.Before(c.At.Add(caseBuildAfter)) || !now.Before(c.Over) {
			continue
		}
		if _, known := b.Case(c.Name); !known {
			continue // SetCases said why
		}
		if _, _, err := b.Standing(ctx, c.Name); !errors.Is(err, dataset.ErrNotBuilt) {
			continue // it stands, or its cluster is away
		}
		if _, _, err := b.Build(ctx, c.Name); err != nil && !errors.Is(err, dataset.ErrBusy) {
			errs = append(errs, fmt.Errorf("case %s: %w", c.Name, err))
		}
	}
	return errors.Join(errs...)
}

// withCases returns rules under which the builder's cases are defined, beside the datasets
// that r defines.
func (r *Rules) withCases(b *dataset.Builder) *Rules {
	next := *r
	next.Definitions, next.Classes = maps.Clone(r.Definitions), maps.Clone(r.Classes)
	maps.DeleteFunc(next.Definitions, func(_ string, d *trefoil.Definition) bool { _, is := d.Case(); return is })
	maps.DeleteFunc(next.Classes, func(name string, _ law.Class) bool { return next.Definitions[name] == nil })
	for _, name := range b.Cases() {
		def, _, err := b.Define(name)
		if err != nil || next.Definitions[name] != nil {
			continue
		}
		next.Definitions[name] = def
		next.Classes[name], _ = catalog.ClassOf(def)
	}
	return &next
}

// standingDatasets are the names of the datasets that the files define, sorted.
func (r *Rules) standingDatasets() []string {
	var out []string
	for name, d := range r.Definitions {
		if _, is := d.Case(); !is {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
