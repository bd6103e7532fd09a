package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const feedReference = "../../internal/people/feed/model/testdata"

func feedUnzip(t *testing.T, name string) []byte {
	t.Helper()
	f, err := os.Open(filepath.Join(feedReference, name))
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

// TestFeedExplainReproducesTheReference runs the command on the models and rows that LightGBM 4.6
// itself answered for, and compares every number.
func TestFeedExplainReproducesTheReference(t *testing.T) {
	dir := t.TempDir()
	write := func(name, zipped string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, feedUnzip(t, zipped), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	rows := write("rows.tsv", "rows.tsv.gz")
	for _, name := range []string{"ranker", "binary"} {
		root, out := newRoot(), &bytes.Buffer{}
		root.SetOut(out)
		root.SetArgs([]string{"feed", "explain", "--model", write(name+".lightgbm.txt", name+".lightgbm.txt.gz"), "--rows", rows, "--json"})
		if err := root.Execute(); err != nil {
			t.Fatal(err)
		}
		got := strings.Split(strings.TrimSpace(out.String()), "\n")
		want := strings.Split(strings.TrimSpace(string(feedUnzip(t, name+".contributions.tsv.gz"))), "\n")
		scores := strings.Fields(string(feedUnzip(t, name+".scores.tsv.gz")))
		if len(got) != len(want) || len(got) != len(scores) || len(got) < 300 {
			t.Fatalf("%s: %d lines of %d", name, len(got), len(want))
		}
		for i, line := range got {
			compareExplained(t, line, want[i]+"\t"+scores[i])
		}
	}
}

func compareExplained(t *testing.T, line, want string) {
	t.Helper()
	var x explained
	if err := json.Unmarshal([]byte(line), &x); err != nil {
		t.Fatal(err)
	}
	if len(x.Contributions) != 12 || x.Contributions[0].Feature != "topic_affinity" || x.Contributions[11].Feature != "device_class" {
		t.Fatalf("contributions are not in the model's order: %+v", x.Contributions)
	}
	var got []float64
	sum := x.Expected
	for _, c := range x.Contributions {
		got, sum = append(got, c.Value), sum+c.Value
	}
	got = append(got, x.Expected, x.Score)
	for i, word := range strings.Split(want, "\t") {
		w, err := strconv.ParseFloat(word, 64)
		if err != nil || math.Abs(got[i]-w) > 1e-9 {
			t.Fatalf("number %d is %.17g, LightGBM's %s (%v)", i, got[i], word, err)
		}
	}
	if math.Abs(sum-x.Score) > 1e-9 {
		t.Fatalf("the parts add up to %v, the score is %v", sum, x.Score)
	}
}
