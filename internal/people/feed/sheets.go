package feed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/sheet"
)

// itemsMeasured bounds the items of one decision that a weight is measured on: the first
// shown, which are what the person saw.
const itemsMeasured = 20

// MakeSheet measures the weights of the model in production over the surface's decisions of
// the last 24 hours, keeps the sheet, and binds it to the model in the log. Decisions that an
// earlier model with the same features made count too, scored by the model in production, so that
// a new model has its sheet at once. With no such decisions it returns sheet.ErrNoDecisions and
// the last sheet stays.
func (s *Service) MakeSheet(ctx context.Context, surface string) (*sheet.Sheet, error) {
	sf, err := s.surface(surface)
	if err != nil {
		return nil, err
	}
	b, now := sf.current.Load(), s.now().UTC()
	from := now.Add(-24 * time.Hour)
	recent, err := s.recent(ctx, surface, b, from, now)
	if err != nil {
		return nil, fmt.Errorf("make sheet: %w", err)
	}
	var samples []sheet.Sample
	for _, d := range recent {
		rows, _, _, err := b.again(d)
		if err != nil {
			return nil, fmt.Errorf("make sheet: %w", err)
		}
		samples = append(samples, b.weigh(d.Settings, rows))
	}
	out := &sheet.Sheet{Surface: surface, Title: sf.config.Title, Model: b.modelHash.String(), Features: b.wordsHash.String(),
		Measured: now, From: from, Until: now}
	if err := out.Measure(b.parameters(sf.config), samples); err != nil {
		return nil, err
	}
	return out, s.publish(ctx, b, out)
}

// recent samples decisions of a period whose rows fit a model: made by it, or by one with the
// same features.
func (s *Service) recent(ctx context.Context, surface string, b *bound, from, until time.Time) ([]*decision.Decision, error) {
	var out []*decision.Decision
	for day := decision.Day(from); !day.After(until); day = day.AddDate(0, 0, 1) {
		found, err := s.store.Sample(ctx, surface, day, s.config.Checks.Sample)
		if err != nil {
			return nil, err
		}
		for _, d := range found {
			if d.Unreadable || d.At().Before(from) || d.At().After(until) {
				continue
			}
			made, err := s.modelOf(d)
			if errors.Is(err, errNotArchived) {
				continue // Check opens its incident
			}
			if err != nil {
				return nil, err
			}
			if made == b || slices.Equal(made.model.Names(), b.model.Names()) {
				out = append(out, d)
			}
		}
	}
	return out, nil
}

// weigh sums the absolute contribution of each group over the first rows. A group that the
// settings made neutral weighed nothing: its value was the same for every item and person, and
// what the model makes of it says nothing of either.
func (b *bound) weigh(s features.Settings, rows []float64) sheet.Sample {
	width, groupOf := len(b.model.Features), b.words.GroupOf()
	out := sheet.Sample{Sums: make([]float64, len(b.words.File.Groups)), Items: min(itemsMeasured, len(rows)/width)}
	phi, sums := make([]float64, width), make([]float64, len(out.Sums))
	for i := range out.Items {
		b.explainer.Contributions(rows[i*width:(i+1)*width], phi)
		clear(sums)
		for f, v := range phi {
			sums[groupOf[f]] += v
		}
		for g, v := range sums {
			if !b.words.File.Groups[g].Neutral(s) {
				out.Sums[g] += math.Abs(v)
			}
		}
	}
	return out
}

// parameters lists the groups as the features file does, with the stated ranges.
func (b *bound) parameters(c SurfaceConfig) []sheet.Parameter {
	var out []sheet.Parameter
	for _, g := range b.words.File.Groups {
		p := sheet.Parameter{Group: g.Group, Name: g.Name, Change: g.Change, Personal: g.Personal}
		if r, ok := c.Weights[g.Group]; ok {
			p.Stated = &r
		}
		out = append(out, p)
	}
	return out
}

// publish records the sheet, then keeps it, and the one before it.
func (s *Service) publish(ctx context.Context, b *bound, is *sheet.Sheet) error {
	err := s.recorder.Enqueue(ctx, &trefoil.Body{At: is.Measured, Kind: trefoil.KindModel, Model: b.body("sheet", is.Surface, is.Hash())})
	if err != nil {
		return fmt.Errorf("record sheet: %w", err)
	}
	var was sheet.Sheet
	had, err := s.state.Get(ctx, "sheet/"+is.Surface, &was)
	if err != nil {
		return err
	}
	if had {
		if err := s.state.Put(ctx, "sheet-before/"+is.Surface, &was); err != nil {
			return err
		}
	}
	return s.state.Put(ctx, "sheet/"+is.Surface, is)
}

// Sheet returns a surface's newest sheet and the one before, each nil if there is none.
func (s *Service) Sheet(ctx context.Context, surface string) (is, before *sheet.Sheet, err error) {
	if _, err := s.surface(surface); err != nil {
		return nil, nil, err
	}
	read := func(key string) (*sheet.Sheet, error) {
		var x sheet.Sheet
		if ok, err := s.state.Get(ctx, key+surface, &x); err != nil || !ok {
			return nil, err
		}
		return &x, nil
	}
	if is, err = read("sheet/"); err != nil {
		return nil, nil, err
	}
	before, err = read("sheet-before/")
	return is, before, err
}

// CheckSheets makes each surface's sheet anew where it is due, and opens an incident where a
// model ranks without a current sheet, or a weight left its stated range.
func (s *Service) CheckSheets(ctx context.Context) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(s.surfaces)) {
		errs = append(errs, s.checkSheet(ctx, name))
	}
	return errors.Join(errs...)
}

func (s *Service) checkSheet(ctx context.Context, surface string) error {
	b := s.surfaces[surface].current.Load()
	is, _, err := s.Sheet(ctx, surface)
	if err != nil {
		return err
	}
	age := time.Duration(s.config.Checks.SheetAge)
	current := is != nil && is.Model == b.modelHash.String() && is.Features == b.wordsHash.String()
	if !current || s.now().Sub(is.Measured) > age/4 {
		made, err := s.MakeSheet(ctx, surface)
		switch {
		case err == nil:
			is, current = made, true
		case errors.Is(err, sheet.ErrNoDecisions):
			return nil // nothing was ranked: there is nothing to say about it
		default:
			s.logger.Error("a parameter sheet could not be made", "surface", surface, "err", err)
		}
	}
	err = errors.Join(
		s.incidents.set(ctx, surface, ReasonSheetMissing, !current),
		s.incidents.set(ctx, surface, ReasonSheetStale, current && s.now().Sub(is.Measured) > age))
	if current {
		err = errors.Join(err, s.incidents.set(ctx, surface, ReasonWeights, len(is.Outside()) > 0))
	}
	return err
}
