package model

import (
	"bufio"
	"compress/gzip"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"
)

func unzip(t testing.TB, name string) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name)
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
	return data
}

// table reads tab-separated numbers after skip lines.
func table(t testing.TB, name string, skip int) [][]float64 {
	t.Helper()
	var out [][]float64
	for s := bufio.NewScanner(strings.NewReader(string(unzip(t, name)))); s.Scan(); {
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

func reference(t testing.TB, name string) *Model {
	t.Helper()
	m, err := Read(name, strings.NewReader(string(unzip(t, name+".lightgbm.txt.gz"))))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestScoresEqualLightGBMs compares with what LightGBM 4.6 itself answered.
func TestScoresEqualLightGBMs(t *testing.T) {
	rows := table(t, "rows.tsv.gz", 1)
	missing := 0
	for _, name := range []string{"ranker", "binary"} {
		m, want := reference(t, name), table(t, name+".scores.tsv.gz", 0)
		if len(rows) != len(want) || len(rows) < 300 {
			t.Fatalf("%d rows, %d scores", len(rows), len(want))
		}
		var flat []float64
		for i, row := range rows {
			row = row[1:]
			if err := m.CheckRow(row); err != nil {
				t.Fatal(err)
			}
			if math.IsNaN(row[2]) {
				missing++
			}
			if got := m.Score(row); math.Abs(got-want[i][0]) > 1e-9 {
				t.Fatalf("%s, row %d: score %.17g, LightGBM's %.17g", name, i, got, want[i][0])
			}
			flat = append(flat, row...)
		}
		out := make([]float64, len(rows))
		m.ScoreRows(flat, out)
		for i := range out {
			if math.Abs(out[i]-want[i][0]) > 1e-9 {
				t.Fatalf("%s, row %d in a batch: %.17g, LightGBM's %.17g", name, i, out[i], want[i][0])
			}
		}
	}
	if missing < 10 {
		t.Errorf("only %d rows have a missing value", missing)
	}
}

func TestScoringDoesNotAllocate(t *testing.T) {
	if raceDetector {
		t.Skip("the race detector makes pools forget")
	}
	m, rows := reference(t, "ranker"), table(t, "rows.tsv.gz", 1)
	out := make([]float64, 1)
	if n := testing.AllocsPerRun(100, func() { out = m.Scores(rows[0][1:], out) }); n != 0 {
		t.Errorf("%v allocations a row", n)
	}
}

func TestWhatTheReferenceModelsAre(t *testing.T) {
	for name, objective := range map[string]string{"ranker": "lambdarank", "binary": "binary"} {
		m := reference(t, name)
		if m.Format != LightGBM || m.Objective != objective || m.Outputs != 1 || len(m.Trees()) != 100 || len(m.Features) != 12 || len(m.Hash) != 64 {
			t.Errorf("%s: %s %s, %d outputs, %d trees, %d features", name, m.Format, m.Objective, m.Outputs, len(m.Trees()), len(m.Features))
		}
		topic := m.Features[m.Index("topic")]
		if !topic.Categorical || len(topic.Categories) != 24 || m.Features[0].Categorical {
			t.Errorf("%s: topic %+v", name, topic)
		}
	}
}

func BenchmarkScore(b *testing.B) {
	m, rows := reference(b, "ranker"), table(b, "rows.tsv.gz", 1)
	for i := 0; b.Loop(); i++ {
		m.Score(rows[i%len(rows)][1:])
	}
}

func BenchmarkScoreRows500(b *testing.B) {
	m, rows := reference(b, "ranker"), table(b, "rows.tsv.gz", 1)
	var flat []float64
	for i := range 500 {
		flat = append(flat, rows[i%len(rows)][1:]...)
	}
	out := make([]float64, 500)
	for b.Loop() {
		m.ScoreRows(flat, out)
	}
}
