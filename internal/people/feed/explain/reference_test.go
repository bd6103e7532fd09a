package explain

import (
	"bufio"
	"compress/gzip"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/people/feed/model"
)

func unzip(t testing.TB, name string) string {
	t.Helper()
	f, err := os.Open("../model/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// table reads tab-separated numbers after skip lines.
func table(t testing.TB, name string, skip int) [][]float64 {
	t.Helper()
	var out [][]float64
	for s := bufio.NewScanner(strings.NewReader(unzip(t, name))); s.Scan(); {
		if skip > 0 {
			skip--
			continue
		}
		var row []float64
		for word := range strings.SplitSeq(s.Text(), "\t") {
			v, err := strconv.ParseFloat(word, 64)
			if err != nil {
				t.Fatal(err)
			}
			row = append(row, v)
		}
		out = append(out, row)
	}
	return out
}

func reference(t testing.TB, name string) (*model.Model, *Explainer) {
	t.Helper()
	m, err := model.Read(name, strings.NewReader(unzip(t, name+".lightgbm.txt.gz")))
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(m, 0)
	if err != nil {
		t.Fatal(err)
	}
	return m, e
}

// rows returns the reference rows without their label.
func rows(t testing.TB) [][]float64 {
	all := table(t, "rows.tsv.gz", 1)
	for i := range all {
		all[i] = all[i][1:]
	}
	return all
}

// TestContributionsEqualLightGBMs compares with what LightGBM 4.6 itself answered.
func TestContributionsEqualLightGBMs(t *testing.T) {
	all := rows(t)
	for _, name := range []string{"ranker", "binary"} {
		m, e := reference(t, name)
		want := table(t, name+".contributions.tsv.gz", 0)
		phi := make([]float64, len(m.Features))
		worst := 0.0
		for i, row := range all {
			score := e.Contributions(row, phi)
			for j, v := range append(phi, e.Expected()) {
				worst = max(worst, math.Abs(v-want[i][j]))
			}
			if math.Abs(score-m.Score(row)) > 1e-9 {
				t.Fatalf("%s, row %d: contributions add up to %.17g, the score is %.17g", name, i, score, m.Score(row))
			}
		}
		if worst > 1e-9 {
			t.Errorf("%s: a contribution is off by %g", name, worst)
		}
	}
}

func TestExplainingDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	m, e := reference(t, "ranker")
	phi, row := make([]float64, len(m.Features)), rows(t)[0]
	if n := testing.AllocsPerRun(100, func() { e.Contributions(row, phi) }); n != 0 {
		t.Errorf("%v allocations a row", n)
	}
}

func BenchmarkContributions(b *testing.B) {
	m, e := reference(b, "ranker")
	all, phi := rows(b), make([]float64, len(m.Features))
	for i := 0; b.Loop(); i++ {
		e.Contributions(all[i%len(all)], phi)
	}
}

// TestOneExplainerServesManyGoroutines: what one computation needs belongs to it alone.
func TestOneExplainerServesManyGoroutines(t *testing.T) {
	m, e := reference(t, "ranker")
	all := rows(t)[:50]
	want := make([][]float64, len(all))
	for i, row := range all {
		want[i] = make([]float64, len(m.Features))
		e.Contributions(row, want[i])
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			phi := make([]float64, len(m.Features))
			for i, row := range all {
				score := e.Contributions(row, phi)
				if !slices.Equal(phi, want[i]) || math.Abs(score-m.Score(row)) > 1e-9 {
					t.Errorf("row %d: %v, alone %v", i, phi, want[i])
				}
			}
		})
	}
	wg.Wait()
}
