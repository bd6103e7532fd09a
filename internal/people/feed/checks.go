package feed

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
)

// Checked is what one check of a surface found over a sample of decisions.
type Checked struct {
	Surface   string `json:"surface"`
	Decisions int    `json:"decisions"`

	Differ  int `json:"differ"`  // scored again with the same model and values, another answer
	Missing int `json:"missing"` // their model is not in the archive

	Moved        int `json:"moved"`         // without profiling, the scores moved with personal features
	KeptPersonal int `json:"kept_personal"` // made without profiling, and personal values are stored
}

// Holds says whether nothing was found.
func (c Checked) Holds() bool {
	return c.Differ == 0 && c.Missing == 0 && c.Moved == 0 && c.KeptPersonal == 0
}

// Check scores a sample of each day's decisions again and shows that the switch works on them;
// what it finds opens an incident, and a sample without a finding closes it.
func (s *Service) Check(ctx context.Context, surface string, days ...time.Time) (Checked, error) {
	c := Checked{Surface: surface}
	var sample []*decision.Decision
	for _, day := range days {
		found, err := s.store.Sample(ctx, surface, day, s.config.Checks.Sample)
		if err != nil {
			return c, fmt.Errorf("check surface %s: %w", surface, err)
		}
		sample = append(sample, found...)
	}
	donors := map[*bound][]float64{}
	for _, d := range sample {
		c.Decisions++
		if d.Unreadable {
			c.Differ++
			continue
		}
		b, err := s.modelOf(d)
		if errors.Is(err, errNotArchived) {
			c.Missing++
			continue
		}
		if err != nil {
			return c, fmt.Errorf("check surface %s: %w", surface, err)
		}
		if err := c.one(b, d, donors); err != nil {
			return c, fmt.Errorf("check surface %s: %w", surface, err)
		}
	}
	if c.Decisions == 0 {
		return c, nil // an empty sample shows nothing: incidents stay as they are
	}
	for reason, found := range map[Reason]int{ReasonNotReproducible: c.Differ, ReasonModelMissing: c.Missing,
		ReasonProfiled: c.Moved, ReasonKeptPersonal: c.KeptPersonal} {
		if err := s.incidents.set(ctx, surface, reason, found > 0); err != nil {
			return c, err
		}
	}
	return c, nil
}

// one checks a decision. donors holds the rows of the decision before, of the same model: other
// people's values of the personal features, as they really occur.
func (c *Checked) one(b *bound, d *decision.Decision, donors map[*bound][]float64) error {
	stored, err := b.rows(d)
	if err != nil {
		c.Differ++ // stored for another model than it names
		return nil
	}
	_, scores, _, err := b.again(d)
	if err != nil {
		return err
	}
	if decision.ScoreDigest(scores) != d.Scores || !slices.IsSortedFunc(scores, func(x, y float64) int {
		switch {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	}) {
		c.Differ++
	}
	if b.moves(d, stored, donors[b]) {
		c.Moved++
	}
	if !d.Settings.Profiling && b.keepsPersonal(d, stored) {
		c.KeptPersonal++
	}
	donors[b] = stored
	return nil
}

// moves scores the rows without profiling twice, the second time with other personal
// features. Whatever they are, not one bit of one score may differ.
func (b *bound) moves(d *decision.Decision, stored, donor []float64) bool {
	want := b.withoutProfiling(d.Settings, stored)
	width := len(b.model.Features)
	others := append([]float64(nil), stored...)
	for i := range others {
		if !b.personal[i%width] {
			continue
		}
		switch {
		case len(donor) > 0 && rand.IntN(2) == 0:
			row := rand.IntN(len(donor) / width)
			others[i] = donor[row*width+i%width]
		case rand.IntN(4) == 0:
			others[i] = math.NaN()
		default:
			others[i] = math.Trunc(rand.ExpFloat64()*8) / 4
		}
	}
	return !sameScores(want, b.withoutProfiling(d.Settings, others))
}

// keepsPersonal says whether a stored row differs from itself made neutral.
func (b *bound) keepsPersonal(d *decision.Decision, stored []float64) bool {
	neutral, width := append([]float64(nil), stored...), len(b.model.Features)
	for at := 0; at < len(neutral); at += width {
		b.words.Apply(d.Settings, neutral[at:at+width])
	}
	for i := range stored {
		if b.personal[i%width] && math.Float64bits(stored[i]) != math.Float64bits(neutral[i]) && (stored[i] == stored[i] || neutral[i] == neutral[i]) {
			return true
		}
	}
	return false
}

// CheckAll checks every surface over some days.
func (s *Service) CheckAll(ctx context.Context, days ...time.Time) ([]Checked, error) {
	var out []Checked
	for _, name := range slices.Sorted(maps.Keys(s.surfaces)) {
		c, err := s.Check(ctx, name, days...)
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}
