package feed

import (
	"context"
	"fmt"
	"math"
	"sort"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Answer is a ranking.
type Answer struct {
	Decision   string    `json:"decision"` // 32 hex digits: asks for reasons later
	Surface    string    `json:"surface"`
	Model      string    `json:"model"`     // hex SHA-256 of the model's file
	Profiling  bool      `json:"profiling"` // whether personal features counted
	Restricted bool      `json:"restricted,omitempty"`
	Order      []string  `json:"order"`             // ids, the first shown first
	Scores     []float64 `json:"scores"`            // in that order
	Reasons    *Reasons  `json:"reasons,omitempty"` // where asked for
}

// Rank orders the items, stores the decision and returns it: in this order. A *Refusal says
// what is wrong with the request; CodeUnavailable says that nothing could be stored.
func (s *Service) Rank(ctx context.Context, r *Request) (*Answer, error) {
	sf, err := s.surface(r.Surface)
	if err != nil {
		return nil, err
	}
	if len(r.Subject) > decision.MaxText || (r.Profiling && r.Subject == "") {
		return nil, refuse(CodeSubject, "profiling needs a subject, of at most %d bytes", decision.MaxText)
	}
	restricted := false
	if r.Subject != "" {
		if restricted, err = s.store.Restricted(ctx, r.Subject); err != nil {
			return nil, s.unavailable("read restriction", err)
		}
	}
	b := sf.current.Load()
	asked := *r
	asked.Profiling = r.Profiling && !restricted
	d, scores, err := s.decide(b, &asked)
	if err != nil {
		return nil, err
	}
	if err := s.store.Save(ctx, d); err != nil {
		return nil, s.unavailable("save decision", err)
	}
	a := &Answer{Decision: d.ID.String(), Surface: d.Surface, Model: b.model.Hash, Profiling: d.Settings.Profiling,
		Restricted: restricted, Scores: scores, Order: make([]string, len(d.Items))}
	for i := range d.Items {
		a.Order[i] = d.Items[i].ID
	}
	if r.Reasons != nil {
		if a.Reasons, err = s.reasons(b, d, selection{first: r.Reasons.Items}); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func (s *Service) unavailable(what string, err error) error {
	s.logger.Error("rank", "doing", what, "err", err)
	return refuse(CodeUnavailable, "the decision could not be stored, so there is none: try again")
}

// decide ranks without storing. Scores are in the order of the decision's items.
func (s *Service) decide(b *bound, r *Request) (*decision.Decision, []float64, error) {
	settings, err := r.settings(b)
	if err != nil {
		return nil, nil, err
	}
	sent, err := r.flat(b, s.config.MaxItems)
	if err != nil {
		return nil, nil, err
	}
	seen := append([]float64(nil), sent...)
	scores, _ := b.score(settings, seen)
	order, width := orderOf(scores), len(b.model.Features)
	kept := sent
	if !settings.Profiling { // what is personal is not kept where it was not used
		for at := 0; at < len(kept); at += width {
			b.apply(features.Settings{}, kept[at:at+width])
		}
	}
	d := &decision.Decision{ID: decision.NewID(s.now()), Surface: r.Surface, Subject: r.Subject, Model: b.modelHash,
		Features: b.wordsHash, Settings: settings, Items: make([]decision.Item, len(order))}
	sorted := make([]float64, len(order))
	for rank, i := range order {
		it, row := r.Items[i], kept[i*width:(i+1)*width]
		if it.Topic == "" {
			it.Topic = b.words.Topic(row)
		}
		d.Items[rank] = decision.Item{ID: it.ID, Topic: it.Topic, Region: it.Region, Creator: it.Creator, Values: row}
		sorted[rank] = scores[i]
	}
	d.Scores = decision.ScoreDigest(sorted)
	return d, sorted, nil
}

// orderOf returns positions by descending score; equal scores stay as they came.
func orderOf(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(x, y int) bool { return scores[order[x]] > scores[order[y]] })
	return order
}

// again scores a stored decision as it was scored. Scores are in the order shown.
func (b *bound) again(d *decision.Decision) (rows, scores, adjust []float64, err error) {
	if rows, err = b.rows(d); err != nil {
		return nil, nil, nil, fmt.Errorf("score decision again: %w", err)
	}
	scores, adjust = b.score(d.Settings, rows)
	return rows, scores, adjust, nil
}

// withoutProfiling scores rows as they were sent with the switch off. rows is not changed.
func (b *bound) withoutProfiling(s features.Settings, rows []float64) []float64 {
	s.Profiling = false
	scores, _ := b.score(s, append([]float64(nil), rows...))
	return scores
}

func sameScores(a, b []float64) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if math.Float64bits(a[i]) != math.Float64bits(b[i]) {
			return false
		}
	}
	return true
}
