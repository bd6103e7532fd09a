package explain

import (
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed/features"
	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

func bound(t *testing.T, m *model.Model) *features.Features {
	t.Helper()
	src, err := os.ReadFile("../features/testdata/features.yaml")
	if err != nil {
		t.Fatal(err)
	}
	file, err := features.Parse("features.yaml", src)
	if err != nil {
		t.Fatal(err)
	}
	f, err := file.Bind(m)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// settings are random choices of a user.
func settings(r *rand.Rand) features.Settings {
	s := features.Settings{Profiling: r.IntN(3) > 0, Reset: r.IntN(5) == 0, Topics: map[string]features.Want{}}
	if r.IntN(4) == 0 {
		s.Off = []string{"region-trend"}
	}
	for _, topic := range []string{"music", "cooking", "science", "gaming"} {
		s.Topics[topic] = features.Want(r.IntN(3) - 1)
	}
	return s
}

// TestSentencesObeyTheRules takes 10,000 random decisions of the reference model: a sentence names
// a real contribution with the right sign, share and rank, no unnamed group weighed more than a
// named one, and a clause about values is true of the values that were used.
func TestSentencesObeyTheRules(t *testing.T) {
	m, e := reference(t, "ranker")
	f, all := bound(t, m), rows(t)
	r := rand.New(rand.NewPCG(5, 5))
	phi := make([]float64, len(m.Features))
	seen := map[string]int{}
	for range 10_000 {
		row := slices.Clone(all[r.IntN(len(all))])
		for range 3 { // between rows, so that no decision is one of the table's
			i := r.IntN(len(row))
			row[i] = all[r.IntN(len(all))][i]
		}
		s := settings(r)
		d := Decision{Row: row, Settings: s, Contributions: phi}
		d.Adjust = f.Apply(s, row)
		score := e.Contributions(row, phi)
		reasons := Reasons(f, d)
		checkReasons(t, f, d, reasons, score-e.Expected())
		checkSummary(t, reasons)
		for _, x := range reasons {
			seen[x.Group]++
		}
	}
	for _, g := range append([]string{TopicSetting}, groupNames(f)...) {
		if seen[g] == 0 {
			t.Errorf("no decision had the group %s", g)
		}
	}
}

func groupNames(f *features.Features) (out []string) {
	for _, g := range f.File.Groups {
		out = append(out, g.Group)
	}
	return out
}

func checkReasons(t *testing.T, f *features.Features, d Decision, reasons []Reason, moved float64) {
	t.Helper()
	want := map[string]float64{}
	for i, c := range d.Contributions {
		want[f.File.Groups[f.GroupOf()[i]].Group] += c
	}
	if d.Adjust != 0 {
		want[TopicSetting] = d.Adjust
	}
	total, sum, shares := 0.0, 0.0, 0.0
	for name, c := range want {
		if total += math.Abs(c); c == 0 {
			delete(want, name)
		}
	}
	for i, x := range reasons {
		c, real := want[x.Group]
		switch {
		case !real || math.Abs(c-x.Contribution) > 1e-12:
			t.Fatalf("%s: contribution %v, the features' add up to %v", x.Group, x.Contribution, c)
		case math.Abs(x.Share-math.Abs(c)/total) > 1e-12:
			t.Fatalf("%s: share %v, want %v", x.Group, x.Share, math.Abs(c)/total)
		case i > 0 && math.Abs(x.Contribution) > math.Abs(reasons[i-1].Contribution):
			t.Fatalf("%s weighs more than %s, which is named before it", x.Group, reasons[i-1].Group)
		case strings.HasPrefix(x.Sentence.EN, "held back ") != (c < 0) || strings.HasPrefix(x.Sentence.FR, "moins mis en avant, ") != (c < 0):
			t.Fatalf("%s: %q of a contribution of %v", x.Group, x.Sentence, c)
		case strings.Contains(x.Sentence.EN, "mostly") != (x.Share >= 1.0/3) || strings.Contains(x.Sentence.EN, "slightly") != (x.Share < 0.1):
			t.Fatalf("%s: %q of a share of %v", x.Group, x.Sentence.EN, x.Share)
		case !strings.HasSuffix(x.Sentence.EN, "("+percent(x.Share)+")") || !strings.HasSuffix(x.Sentence.FR, "("+percent(x.Share)+")"):
			t.Fatalf("%s: %q does not say its share", x.Group, x.Sentence)
		}
		checkClause(t, d, x)
		sum, shares = sum+x.Contribution, shares+x.Share
		delete(want, x.Group)
	}
	if len(want) > 0 || math.Abs(sum-moved-d.Adjust) > 1e-9 || math.Abs(shares-1) > 1e-9 {
		t.Fatalf("left out: %v; reasons add up to %v of %v, shares to %v", want, sum, moved+d.Adjust, shares)
	}
}

// checkClause knows, apart from the file, what its clauses about values mean.
func checkClause(t *testing.T, d Decision, x Reason) {
	t.Helper()
	watched, follows, friends := d.Row[2], d.Row[1], d.Row[9]
	for clause, true := range map[string]bool{
		"you finished similar videos":            d.Settings.Profiling && !d.Settings.Reset && watched >= 0.7,
		"you left similar videos early":          d.Settings.Profiling && !d.Settings.Reset && watched <= 0.2,
		"you watched no similar video this week": d.Settings.Profiling && !d.Settings.Reset && math.IsNaN(watched),
		"you follow its creator":                 d.Settings.Profiling && follows == 1,
		"you do not follow its creator":          d.Settings.Profiling && follows == 0,
		"because your friends shared it":         d.Settings.Profiling && friends >= 1,
		"of how it does in your region":          len(d.Settings.Off) == 0,
		"you asked for more of this topic":       d.Adjust > 0,
		"you asked for less of this topic":       d.Adjust < 0,
		"your settings leave out":                x.Neutral,
		"of how far you are in this visit":       d.Settings.Profiling,
		"of the kind of your device":             d.Settings.Profiling,
		"of how you watched similar videos (":    d.Settings.Profiling && !d.Settings.Reset,
		"a neutral value stands in its place (":  x.Neutral,
		"of how often your friends shared it":    d.Settings.Profiling,
	} {
		if strings.Contains(x.Sentence.EN, clause) && !true {
			t.Fatalf("%q is not true of %v under %+v", x.Sentence.EN, d.Row, d.Settings)
		}
	}
}

func checkSummary(t *testing.T, reasons []Reason) {
	t.Helper()
	for _, language := range []string{"en", "fr"} {
		summary, at := Summary(reasons, 3, language), 0
		for _, x := range reasons[:min(3, len(reasons))] {
			clause := x.Sentence.In(language)
			clause = clause[strings.IndexByte(clause, ' '):] // the first word may have become a capital
			next := strings.Index(summary[at:], clause)
			if next < 0 {
				t.Fatalf("%q does not name %q in its place", summary, clause)
			}
			at += next
		}
	}
}

func TestSentencesRead(t *testing.T) {
	for _, c := range []struct {
		en, fr string
		raised bool
		share  float64
		want   features.Text
	}{
		{"you finished similar videos", "vous avez regardé des vidéos semblables jusqu'au bout", true, 0.41, features.Text{
			EN: "mostly because you finished similar videos (41 %)", FR: "surtout parce que vous avez regardé des vidéos semblables jusqu'au bout (41 %)"}},
		{"of its age", "de son âge", false, 0.2, features.Text{
			EN: "held back because of its age (20 %)", FR: "moins mis en avant, à cause de son âge (20 %)"}},
		{"it is new", "elle est nouvelle", true, 0.001, features.Text{
			EN: "slightly because it is new (< 1 %)", FR: "un peu parce qu'elle est nouvelle (< 1 %)"}},
	} {
		if got := sentence(features.Text{EN: c.en, FR: c.fr}, c.raised, c.share); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	if got := Summary(nil, 3, "fr"); !strings.HasPrefix(got, "Rien") {
		t.Error(got)
	}
}

// TestNoSmallerChangeOfSettingsDropsTheItem ranks the list anew, by Score alone, under every change
// of settings that a user could make.
func TestNoSmallerChangeOfSettingsDropsTheItem(t *testing.T) {
	m, _ := reference(t, "ranker")
	f, all := bound(t, m), rows(t)
	r := rand.New(rand.NewPCG(6, 6))
	found, none, sizes := 0, 0, map[int]int{}
	for range 150 {
		list := make([][]float64, 25)
		for i := range list {
			list[i] = all[r.IntN(len(all))]
		}
		s := features.Settings{Profiling: r.IntN(4) > 0}
		const shown = 10
		item := ranked(f, m, s, list)[r.IntN(shown)]
		c, err := Dropped(f, s, list, item, shown)
		if err != nil {
			t.Fatal(err)
		}
		sizes[len(c.Changes)]++
		smaller := len(c.Changes)
		if smaller == 0 {
			none++
			smaller = maxChanges + 1
			if strings.Contains(c.Text.EN, "after") || c.Rank >= shown {
				t.Fatalf("%+v", c)
			}
		} else {
			found++
			if got := slices.Index(ranked(f, m, c.After, list), item); got != c.Rank || got < shown {
				t.Fatalf("with %v the item has rank %d, said %d", c.Changes, got, c.Rank)
			}
		}
		tryAll(t, f, m, s, list, item, shown, smaller)
	}
	if found < 30 || none == 0 && sizes[2] == 0 {
		t.Errorf("%d found, %d not, sizes %v: the test says little", found, none, sizes)
	}
}

// tryAll makes every set of fewer than smaller changes by hand.
func tryAll(t *testing.T, f *features.Features, m *model.Model, s features.Settings, list [][]float64, item, shown, smaller int) {
	t.Helper()
	for set := 1; set < 16; set++ {
		with, size := s.Clone(), 0
		change := func(bit int, possible bool, apply func()) {
			if set>>bit&1 == 1 && possible {
				size++
				apply()
			}
		}
		change(0, f.Topic(list[item]) != "", func() { with.Topics[f.Topic(list[item])] = features.Less })
		change(1, true, func() { with.Off = []string{"region-trend"} })
		change(2, true, func() { with.Reset = true })
		change(3, s.Profiling, func() { with.Profiling = false })
		if size > 0 && size < smaller && slices.Index(ranked(f, m, with, list), item) >= shown {
			t.Fatalf("%d changes (%+v) drop the item too, and %d were said to be the fewest", size, with, smaller)
		}
	}
}

func ranked(f *features.Features, m *model.Model, s features.Settings, list [][]float64) []int {
	scores, order := make([]float64, len(list)), make([]int, len(list))
	for i, row := range list {
		row = slices.Clone(row)
		add := f.Apply(s, row)
		scores[i], order[i] = m.Score(row)+add, i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[a] < scores[b]:
			return 1
		}
		return 0
	})
	return order
}

func TestAnItemThatIsNotShownCannotBeDropped(t *testing.T) {
	m, _ := reference(t, "ranker")
	f, list := bound(t, m), rows(t)[:20]
	s := features.Settings{Profiling: true}
	last := ranked(f, m, s, list)[19]
	if _, err := Dropped(f, s, list, last, 10); !errors.Is(err, ErrNotShown) {
		t.Errorf("got %v", err)
	}
	for _, i := range []int{-1, 20} {
		if _, err := Dropped(f, s, list, i, 10); err == nil {
			t.Errorf("item %d of 20 was found", i)
		}
	}
}
