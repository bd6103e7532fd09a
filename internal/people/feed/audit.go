package feed

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
)

// Audit is what a surface's ranking did over a period: aggregates alone, nothing of a person.
type Audit struct {
	Surface   string           `json:"surface"`
	Model     string           `json:"model"`
	From      time.Time        `json:"from"`
	Until     time.Time        `json:"until"`
	Decisions int              `json:"decisions"`
	Profiled  float64          `json:"profiled"` // share of decisions with profiling
	Exposure  map[string][]One `json:"exposure"` // by topic, region, creator_size: the most exposed first
	Drift     *Drift           `json:"drift,omitempty"`
}

// One is one class's exposure.
type One struct {
	Class     string  `json:"class"`
	Exposed   float64 `json:"exposed"`   // share of attention: items weigh 1 ÷ log2(1 + rank)
	Offered   float64 `json:"offered"`   // share of the items that could have been shown
	Ratio     float64 `json:"ratio"`     // exposed ÷ offered: above 1, the ranking favours the class
	Decisions int     `json:"decisions"` // in which the class was offered
}

// Drift compares two models on the same items.
type Drift struct {
	Before    string             `json:"before"` // hash of the model that ranked before
	Decisions int                `json:"decisions"`
	Overlap   float64            `json:"overlap"`         // mean share of the first shown that both models show
	Tau       float64            `json:"tau"`             // mean Kendall rank correlation over the first 50 items
	Weights   map[string]float64 `json:"weights"`         // group → change of its share of all contributions
	Exposure  map[string]float64 `json:"exposure_change"` // topic → change of its share of attention
}

// smallestAudited is the fewest decisions behind a class that the report shows: fewer might
// point at someone.
const smallestAudited = 10

// Audit measures a surface over the sampled decisions of a period (whole days).
func (s *Service) Audit(ctx context.Context, surface string, from, until time.Time) (*Audit, error) {
	sf, err := s.surface(surface)
	if err != nil {
		return nil, err
	}
	b := sf.current.Load()
	found, err := s.recent(ctx, surface, b, from, until)
	if err != nil {
		return nil, fmt.Errorf("audit surface %s: %w", surface, err)
	}
	a := &Audit{Surface: surface, Model: b.modelHash.String(), From: from.UTC(), Until: until.UTC(), Decisions: len(found), Exposure: map[string][]One{}}
	for name, of := range map[string]func(decision.Item) string{
		"topic":        func(i decision.Item) string { return i.Topic },
		"region":       func(i decision.Item) string { return i.Region },
		"creator_size": func(i decision.Item) string { return i.Creator },
	} {
		a.Exposure[name] = exposure(found, of)
	}
	for _, d := range found {
		if d.Settings.Profiling {
			a.Profiled += 1 / float64(len(found))
		}
	}
	a.Drift, err = s.drift(ctx, sf, b, found)
	return a, err
}

// attention is what a place in the list is worth.
func attention(rank int) float64 { return 1 / math.Log2(float64(rank)+2) }

// exposure measures the classes of one kind, leaving out those that too few decisions offered.
func exposure(found []*decision.Decision, of func(decision.Item) string) []One {
	by := map[string]*One{}
	exposed, offered := 0.0, 0.0
	for _, d := range found {
		seen := map[string]bool{}
		for rank, it := range d.Items {
			class := of(it)
			if by[class] == nil {
				by[class] = &One{Class: class}
			}
			x := by[class]
			if !seen[class] {
				seen[class] = true
				x.Decisions++
			}
			x.Exposed += attention(rank)
			exposed += attention(rank)
			x.Offered++
			offered++
		}
	}
	out := []One{}
	for _, class := range slices.Sorted(maps.Keys(by)) {
		x := by[class]
		if x.Decisions < smallestAudited {
			continue
		}
		x.Exposed, x.Offered = x.Exposed/exposed, x.Offered/offered
		x.Ratio = x.Exposed / x.Offered
		out = append(out, *x)
	}
	slices.SortStableFunc(out, func(a, b One) int { return descending(a.Exposed, b.Exposed) })
	return out
}

func descending(a, b float64) int {
	switch {
	case a > b:
		return -1
	case a < b:
		return 1
	}
	return 0
}

// drift ranks the same items with the model before and the model now. It is nil where no model
// came before, or it has other features.
func (s *Service) drift(ctx context.Context, sf *surface, now *bound, found []*decision.Decision) (*Drift, error) {
	var was inProduction
	if ok, err := s.state.Get(ctx, "previous/"+sf.name, &was); err != nil || !ok || len(found) == 0 {
		return nil, err
	}
	var modelHash, wordsHash decision.Hash
	if modelHash.UnmarshalText([]byte(was.Model)) != nil || wordsHash.UnmarshalText([]byte(was.Features)) != nil {
		return nil, fmt.Errorf("audit surface %s: the model before has no hash", sf.name)
	}
	before, err := s.archive.find(modelHash, wordsHash)
	if err != nil {
		return nil, fmt.Errorf("audit surface %s: %w", sf.name, err)
	}
	if !slices.Equal(before.model.Names(), now.model.Names()) {
		return nil, nil
	}
	x := &Drift{Before: was.Model, Weights: map[string]float64{}, Exposure: map[string]float64{}}
	return x, x.measure(before, now, found, sf.config.Shown)
}

func (x *Drift) measure(before, now *bound, found []*decision.Decision, shown int) error {
	weights := [2]map[string]float64{{}, {}}
	var totals [2]float64
	worth := 0.0
	for _, d := range found {
		var orders [2][]int
		for m, b := range []*bound{before, now} {
			rows, scores, _, err := b.again(d)
			if err != nil {
				return err
			}
			orders[m] = orderOf(scores)
			for g, sum := range b.weigh(d.Settings, rows).Sums {
				weights[m][b.words.File.Groups[g].Group] += sum
				totals[m] += sum
			}
		}
		x.Decisions++
		x.Overlap += overlap(orders[0], orders[1], shown)
		x.Tau += tau(orders[0], orders[1], 50)
		for rank := range orders[0] {
			worth += attention(rank)
			x.Exposure[d.Items[orders[0][rank]].Topic] -= attention(rank)
			x.Exposure[d.Items[orders[1][rank]].Topic] += attention(rank)
		}
	}
	x.Overlap /= float64(x.Decisions)
	x.Tau /= float64(x.Decisions)
	for topic := range x.Exposure {
		x.Exposure[topic] /= worth
	}
	for m, sign := range []float64{-1, 1} {
		for group, sum := range weights[m] {
			if totals[m] > 0 {
				x.Weights[group] += sign * sum / totals[m]
			}
		}
	}
	return nil
}

// overlap is the share of the first n of one order that are among the first n of the other.
func overlap(a, b []int, n int) float64 {
	n = min(n, len(a))
	both := 0
	for _, i := range a[:n] {
		if slices.Contains(b[:n], i) {
			both++
		}
	}
	return float64(both) / float64(n)
}

// tau is Kendall's rank correlation of two orders over the first n items of a.
func tau(a, b []int, n int) float64 {
	n = min(n, len(a))
	if n < 2 {
		return 1
	}
	at := make([]int, len(b))
	for rank, i := range b {
		at[i] = rank
	}
	agree := 0
	for i := range n {
		for j := range i {
			if at[a[j]] < at[a[i]] {
				agree++
			} else {
				agree--
			}
		}
	}
	return float64(agree) / float64(n*(n-1)/2)
}

// Audits measures every surface.
func (s *Service) Audits(ctx context.Context, from, until time.Time) ([]*Audit, error) {
	out := []*Audit{}
	for _, name := range slices.Sorted(maps.Keys(s.surfaces)) {
		a, err := s.Audit(ctx, name, from, until)
		if err != nil {
			return nil, err
		}
		out = append(out, a)
	}
	return out, nil
}
