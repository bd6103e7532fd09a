package feed

import (
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// unpackModel writes the demonstration's model into dir. (The demonstration's own package
// imports this one, so that tests inside it cannot.)
func unpackModel(t *testing.T, dir string) string {
	t.Helper()
	f, err := os.Open("demo/files/ranker.lightgbm.txt.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "ranker.lightgbm.txt")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func switchRequest() *Request {
	q := &Request{Surface: "for-you", Subject: "anna", Profiling: true, Features: []string{"topic_affinity", "creator_followed", "watch_ratio_7d",
		"freshness_hours", "popularity_log", "language_match", "video_length_s", "region_trend", "session_depth", "shares_by_friends", "topic", "device_class"}}
	for i := range 20 {
		q.Items = append(q.Items, RequestItem{ID: fmt.Sprint(i), Values: Values{rand.Float64(), float64(rand.IntN(2)), rand.Float64(), rand.ExpFloat64() * 30,
			rand.Float64() * 10, float64(rand.IntN(2)), rand.Float64() * 60, rand.Float64(), float64(rand.IntN(60)), float64(rand.IntN(6)),
			float64(rand.IntN(24)), float64(rand.IntN(4))}})
	}
	return q
}
