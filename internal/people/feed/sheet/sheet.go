// Package sheet is a surface's parameter sheet: the main parameters of its ranking, what they
// weighed over real decisions, and how to change them.
//
// The invariant it keeps: a weight is measured, never declared; it carries its interval, the
// period and the number of decisions it was measured on, and the hash of the model that made them.
//
// It implements what DSA art. 27 asks for (main parameters, their relative importance, the
// options to modify them) and knows nothing of HTTP, stores or models.
package sheet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
)

// Sheet is one version of a surface's parameter sheet.
type Sheet struct {
	Surface    string        `json:"surface"`
	Title      features.Text `json:"title"`
	Model      string        `json:"model"`    // hex SHA-256 of the model's file
	Features   string        `json:"features"` // hex SHA-256 of the features file
	Measured   time.Time     `json:"measured"`
	From       time.Time     `json:"from"` // the decisions' period
	Until      time.Time     `json:"until"`
	Decisions  int           `json:"decisions"`
	Items      int           `json:"items"`
	Parameters []Parameter   `json:"parameters"` // the heaviest first
}

// Parameter is one group of features as users understand it.
type Parameter struct {
	Group    string        `json:"group"`
	Name     features.Text `json:"name"`
	Change   features.Text `json:"change"` // how a user can change it
	Personal bool          `json:"personal"`
	Share    float64       `json:"share"` // of all parameters' mean absolute contributions
	Low      float64       `json:"low"`   // 95 % interval of the share
	High     float64       `json:"high"`
	Mean     float64       `json:"mean"`             // mean absolute contribution, in the score's unit
	Stated   *Range        `json:"stated,omitempty"` // what the operator said the share would stay in
}

// Range is a stated range of a share, both ends included.
type Range struct {
	Min float64 `yaml:"min" json:"min"`
	Max float64 `yaml:"max" json:"max"`
}

// Hash is the hex SHA-256 of the sheet's JSON: what the log binds.
func (s *Sheet) Hash() string {
	enc, err := json.Marshal(s)
	if err != nil {
		return "" // a share that is not a number; Measure makes none
	}
	sum := sha256.Sum256(enc)
	return hex.EncodeToString(sum[:])
}

// Outside names the groups whose measured interval lies wholly outside their stated range,
// so that chance alone opens no incident.
func (s *Sheet) Outside() []string {
	var out []string
	for _, p := range s.Parameters {
		if p.Stated != nil && (p.High < p.Stated.Min || p.Low > p.Stated.Max) {
			out = append(out, p.Group)
		}
	}
	return out
}

// Sample is what one decision gives to the weights: for each group the sum over its items of
// the absolute contribution, and how many items that was.
type Sample struct {
	Sums  []float64
	Items int
}

// resamples is how often the bootstrap draws: its 2.5 % and 97.5 % points rest on 25 draws each.
const resamples = 1000

// ErrNoDecisions means that there is nothing to measure. The caller keeps the last sheet.
var ErrNoDecisions = errors.New("no decisions to measure weights on")

// Measure fills the weights of parameters (in the order of the samples' sums), and sorts
// them. Intervals come from a bootstrap over whole decisions: items of one decision are alike,
// and drawing items would make intervals too narrow.
func (s *Sheet) Measure(parameters []Parameter, samples []Sample) error {
	for _, x := range samples {
		if len(x.Sums) != len(parameters) || x.Items <= 0 {
			return errors.New("measure weights: a sample does not fit the parameters")
		}
		s.Items += x.Items
	}
	if s.Decisions = len(samples); s.Decisions == 0 {
		return ErrNoDecisions
	}
	mean, share := weights(samples, nil, len(parameters))
	draws := make([][]float64, len(parameters))
	r := rand.New(rand.NewPCG(27, uint64(len(samples)))) // the same decisions give the same sheet
	pick := make([]int, len(samples))
	for range resamples {
		for i := range pick {
			pick[i] = r.IntN(len(samples))
		}
		_, drawn := weights(samples, pick, len(parameters))
		for g, v := range drawn {
			draws[g] = append(draws[g], v)
		}
	}
	s.Parameters = slices.Clone(parameters)
	for g := range s.Parameters {
		slices.Sort(draws[g])
		p := &s.Parameters[g]
		p.Mean, p.Share = mean[g], share[g]
		p.Low, p.High = draws[g][resamples*25/1000], draws[g][resamples*975/1000-1]
	}
	slices.SortStableFunc(s.Parameters, func(a, b Parameter) int {
		switch {
		case a.Share > b.Share:
			return -1
		case a.Share < b.Share:
			return 1
		}
		return 0
	})
	return nil
}

// weights gives the mean absolute contribution and its share of the whole for each group,
// over the picked samples or, where pick is nil, over all.
func weights(samples []Sample, pick []int, groups int) (mean, share []float64) {
	mean, share = make([]float64, groups), make([]float64, groups)
	items := 0
	add := func(x *Sample) {
		items += x.Items
		for g, v := range x.Sums {
			mean[g] += v
		}
	}
	if pick == nil {
		for i := range samples {
			add(&samples[i])
		}
	}
	for _, i := range pick {
		add(&samples[i])
	}
	total := 0.0
	for g := range mean {
		mean[g] /= float64(items)
		total += mean[g]
	}
	for g := range mean {
		if total > 0 {
			share[g] = mean[g] / total
		}
	}
	return mean, share
}

// Percent writes a share for people: 41 %, with no digits that the interval does not hold.
func Percent(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }
