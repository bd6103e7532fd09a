package sheet_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/sheet"
)

func parameters(names ...string) []sheet.Parameter {
	var out []sheet.Parameter
	for _, n := range names {
		out = append(out, sheet.Parameter{Group: n, Name: features.Text{EN: n, FR: n + "-fr"}})
	}
	return out
}

// traffic draws decisions whose groups weigh as given, up to noise.
func traffic(n int, noise float64, means ...float64) []sheet.Sample {
	r := rand.New(rand.NewPCG(1, 2))
	var out []sheet.Sample
	for range n {
		s := sheet.Sample{Items: 10}
		for _, m := range means {
			s.Sums = append(s.Sums, 10*m*(1+noise*(r.Float64()-0.5)))
		}
		out = append(out, s)
	}
	return out
}

func measure(t *testing.T, p []sheet.Parameter, samples []sheet.Sample) *sheet.Sheet {
	t.Helper()
	var s sheet.Sheet
	if err := s.Measure(p, samples); err != nil {
		t.Fatal(err)
	}
	return &s
}

func TestWeightsAreTheMeanAbsoluteContributions(t *testing.T) {
	s := measure(t, parameters("a", "b", "c"), traffic(50, 0, 1, 3, 0))
	if s.Parameters[0].Group != "b" || math.Abs(s.Parameters[0].Share-0.75) > 1e-12 || math.Abs(s.Parameters[0].Mean-3) > 1e-12 {
		t.Errorf("the heaviest: %+v", s.Parameters[0])
	}
	if s.Parameters[2].Group != "c" || s.Parameters[2].Share != 0 || s.Decisions != 50 || s.Items != 500 {
		t.Errorf("%+v", s)
	}
}

func TestTheIntervalHoldsTheShareAndNarrowsWithDecisions(t *testing.T) {
	width := func(n int) float64 {
		p := measure(t, parameters("a", "b"), traffic(n, 1.5, 1, 1)).Parameters[0]
		if p.Low > p.Share || p.High < p.Share || p.Low == p.High {
			t.Errorf("%d decisions: %f is not within %f to %f", n, p.Share, p.Low, p.High)
		}
		return p.High - p.Low
	}
	if few, many := width(20), width(2000); many > few/5 {
		t.Errorf("a hundred times the decisions narrowed the interval from %f to %f only", few, many)
	}
}

// 95 of 100 intervals should hold the truth; far fewer would claim more than was measured.
func TestIntervalsHoldTheTruthAsOftenAsTheySay(t *testing.T) {
	held, r := 0, rand.New(rand.NewPCG(3, 4))
	for range 60 {
		var samples []sheet.Sample
		for range 60 {
			samples = append(samples, sheet.Sample{Items: 1, Sums: []float64{r.ExpFloat64(), r.ExpFloat64()}})
		}
		p := measure(t, parameters("a", "b"), samples).Parameters[0]
		if p.Low <= 0.5 && 0.5 <= p.High {
			held++
		}
	}
	if held < 50 {
		t.Errorf("%d of 60 intervals held the truth", held)
	}
}

func TestWithoutDecisionsThereIsNoSheet(t *testing.T) {
	if err := new(sheet.Sheet).Measure(parameters("a"), nil); !errors.Is(err, sheet.ErrNoDecisions) {
		t.Errorf("a sheet of nothing: %v", err)
	}
}

func TestAWeightOutsideItsStatedRangeIsNamedAndChanceIsNot(t *testing.T) {
	p := parameters("a", "b")
	p[0].Stated = &sheet.Range{Min: 0, Max: 0.2}
	p[1].Stated = &sheet.Range{Min: 0.7, Max: 1}
	s := measure(t, p, traffic(50, 0.1, 1, 3)) // a is at 0.25, b at 0.75
	if out := s.Outside(); len(out) != 1 || out[0] != "a" {
		t.Errorf("outside: %v", out)
	}
	p[0].Stated = &sheet.Range{Min: 0, Max: 0.24} // just beside the truth
	if out := measure(t, p, traffic(12, 1.9, 1, 3)).Outside(); len(out) != 0 {
		t.Errorf("a dozen decisions opened an incident: %v", out)
	}
}

func TestTheSheetsHashMovesWithWhatItSays(t *testing.T) {
	a, b := measure(t, parameters("a", "b"), traffic(9, 0, 1, 2)), measure(t, parameters("a", "b"), traffic(9, 0, 2, 1))
	if a.Hash() == b.Hash() || len(a.Hash()) != 64 || a.Hash() != measure(t, parameters("a", "b"), traffic(9, 0, 1, 2)).Hash() {
		t.Error("the hash does not follow the sheet")
	}
}

func TestTheDifferenceIsSaidInWords(t *testing.T) {
	older, newer := measure(t, parameters("a", "b", "c"), traffic(90, 0.1, 1, 3, 2)), measure(t, parameters("a", "b", "d"), traffic(90, 0.1, 3, 1, 2))
	older.Model, newer.Model = strings.Repeat("a", 64), strings.Repeat("b", 64)
	for i := range newer.Parameters {
		newer.Parameters[i].Personal = newer.Parameters[i].Group == "a"
	}
	var en, fr strings.Builder
	for _, line := range sheet.Diff(older, newer) {
		en.WriteString(line.EN + "\n")
		fr.WriteString(line.FR + "\n")
	}
	for _, want := range []string{"A new model ranks: bbbbbbbbbbbb instead of aaaaaaaaaaaa.", "“a” now counts as personal", "“a” weighs more than before: 50 % instead of 17 % (33 points).",
		"“b” weighs less than before", "Gone: “c”, which weighed 33 %.", "New: “d” weighs 33 %."} {
		if !strings.Contains(en.String(), want) {
			t.Errorf("%q is missing of:\n%s", want, en.String())
		}
	}
	if !strings.Contains(fr.String(), "« a-fr » pèse plus qu’avant : 50 % au lieu de 17 %") {
		t.Error(fr.String())
	}
	if same := sheet.Diff(older, older); len(same) != 1 || same[0].EN != "Nothing changed beyond what chance explains." {
		t.Errorf("no difference: %v", same)
	}
}
