package feed

import (
	"context"
	"errors"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/explain"
	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Reasons say why a decision's items stand where they stand.
type Reasons struct {
	Decision  string            `json:"decision"`
	Surface   string            `json:"surface"`
	Model     string            `json:"model"` // hex SHA-256: that of the parameter sheet and of the log
	At        time.Time         `json:"at"`
	Settings  features.Settings `json:"settings"`
	Expected  float64           `json:"expected"` // the score before anything is known of an item
	Items     []ItemReasons     `json:"items"`
	Shown     int               `json:"shown"`     // what "dropped" in a counterfactual means: not among the first so many
	Reproduce bool              `json:"reproduce"` // whether the scores came out as stored, to the bit
}

// ItemReasons are one item's.
type ItemReasons struct {
	ID             string                  `json:"id"`
	Rank           int                     `json:"rank"` // from 1
	Score          float64                 `json:"score"`
	Summary        features.Text           `json:"summary"`
	Reasons        []explain.Reason        `json:"reasons"`
	Counterfactual *explain.Counterfactual `json:"counterfactual,omitempty"` // for one item, and for the first shown
}

// selection says which items: one by id, or the first so many.
type selection struct {
	item           string
	first          int
	counterfactual bool
}

// summarised is how many reasons a summary joins.
const summarised = 2

// defaultReasons is how many items have reasons when nobody says.
const defaultReasons = 10

// Reasons tells why, for one item (counterfactual included) or for the first so many.
func (s *Service) Reasons(ctx context.Context, id decision.ID, item string, first int) (*Reasons, error) {
	d, err := s.store.Get(ctx, id)
	if errors.Is(err, decision.ErrNotFound) {
		return nil, refuse(CodeNotFound, "no such decision: it ran out, was erased or never was")
	}
	if err != nil {
		return nil, s.unavailable("read decision", err)
	}
	b, err := s.modelOf(d)
	if err != nil {
		s.logger.Error("reasons", "err", err)
		return nil, refuse(CodeUnavailable, "the model of this decision cannot be read")
	}
	return s.reasons(b, d, selection{item: item, first: first, counterfactual: item != ""})
}

// modelOf returns the model that made a decision: the one in production, or one of the archive.
func (s *Service) modelOf(d *decision.Decision) (*bound, error) {
	if sf := s.surfaces[d.Surface]; sf != nil {
		if b := sf.current.Load(); b.modelHash == d.Model && b.wordsHash == d.Features {
			return b, nil
		}
	}
	return s.archive.find(d.Model, d.Features)
}

func (s *Service) reasons(b *bound, d *decision.Decision, sel selection) (*Reasons, error) {
	rows, scores, adjust, err := b.again(d)
	if err != nil {
		s.logger.Error("reasons", "err", err)
		return nil, refuse(CodeUnavailable, "this decision cannot be scored again")
	}
	shown := defaultReasons
	if sf := s.surfaces[d.Surface]; sf != nil {
		shown = sf.config.Shown
	}
	out := &Reasons{Decision: d.ID.String(), Surface: d.Surface, Model: b.model.Hash, At: d.At(), Settings: d.Settings,
		Expected: b.explainer.Expected(), Shown: shown, Reproduce: decision.ScoreDigest(scores) == d.Scores}
	if sel.first <= 0 {
		sel.first = defaultReasons
	}
	width := len(b.model.Features)
	for i := range d.Items {
		if (sel.item != "" && d.Items[i].ID != sel.item) || (sel.item == "" && i >= sel.first) {
			continue
		}
		phi := make([]float64, width)
		row := rows[i*width : (i+1)*width]
		b.explainer.Contributions(row, phi)
		reasons := explain.Reasons(b.words, explain.Decision{Row: row, Settings: d.Settings, Contributions: phi, Adjust: adjust[i]})
		it := ItemReasons{ID: d.Items[i].ID, Rank: i + 1, Score: scores[i], Reasons: reasons,
			Summary: features.Text{EN: explain.Summary(reasons, summarised, "en"), FR: explain.Summary(reasons, summarised, "fr")}}
		if sel.counterfactual && i < shown && len(d.Items) > shown {
			if it.Counterfactual, err = counterfactual(b, d, i, shown); err != nil {
				s.logger.Error("counterfactual", "err", err)
				return nil, refuse(CodeUnavailable, "this decision cannot be scored again")
			}
		}
		out.Items = append(out.Items, it)
	}
	if len(out.Items) == 0 {
		return nil, refuse(CodeNotFound, "the decision has no such item")
	}
	return out, nil
}

func counterfactual(b *bound, d *decision.Decision, i, shown int) (*explain.Counterfactual, error) {
	rows := make([][]float64, len(d.Items))
	for j := range d.Items {
		rows[j] = d.Items[j].Values
	}
	c, err := explain.Dropped(b.words, d.Settings, rows, i, shown)
	return &c, err
}
