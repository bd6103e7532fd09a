package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// feedFiles writes a feed.yaml that serves the demonstration's model on a database of the test's own.
func feedFiles(t *testing.T) (config, dsn string) {
	t.Helper()
	dir := t.TempDir()
	if _, err := demo.Write(dir); err != nil {
		t.Fatal(err)
	}
	dsn = pgtest.Start(t).Database(t)
	config = filepath.Join(dir, "feed.yaml")
	for name, text := range map[string]string{"token": "secret\n", "dsn": dsn + "\n", "feed.yaml": `version: 1
listen: 127.0.0.1:0
token: token
database: dsn
control: dsn
retention_days: 30
surfaces:
  for-you: {title: {en: For you, fr: Pour vous}, model: ranker.lightgbm.txt, features: features.yaml}
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return config, dsn
}

// shared is a writer that a running command and a test may both use.
type shared struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *shared) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

func runFeed(ctx context.Context, out io.Writer, args ...string) error {
	root := newRoot()
	root.SetArgs(append([]string{"feed"}, args...))
	root.SetOut(out)
	root.SetErr(io.Discard)
	return root.ExecuteContext(ctx)
}

const feedRequest = `{"surface":"for-you","subject":"anna","profiling":true,"features":["topic_affinity","creator_followed","watch_ratio_7d","freshness_hours",
	"popularity_log","language_match","video_length_s","region_trend","session_depth","shares_by_friends","topic","device_class"],
	"items":[{"id":"1","values":[0.5,1,null,3,5,1,20,0.5,10,0,2,1]},{"id":"2","values":[0.1,0,0.2,30,5,1,20,0.5,10,0,3,1]}]}`

func TestFeedServesAndItsCheckFindsWhatWasChanged(t *testing.T) {
	config, dsn := feedFiles(t)
	ctx, stop := context.WithTimeout(t.Context(), 60*time.Second)
	defer stop()
	serving, end := context.WithCancel(ctx)
	defer end()
	out, done := &shared{}, make(chan error, 1)
	go func() { done <- runFeed(serving, out, "serve", "-c", config) }()
	address := regexp.MustCompile(`http://\S+`)
	for !address.MatchString(out.String()) {
		select {
		case err := <-done:
			t.Fatalf("serve ended: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address.FindString(out.String())+"/rank", strings.NewReader(feedRequest))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer secret")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var answer struct{ Order []string }
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || len(answer.Order) != 2 {
		t.Fatalf("%d: %v, %v", resp.StatusCode, answer, err)
	}
	end()
	if err := <-done; err != nil {
		t.Fatalf("serve: %v", err)
	}
	var report shared
	if err := runFeed(ctx, &report, "check", "-c", config, "--json"); err != nil || !strings.Contains(report.String(), `"decisions": 1`) {
		t.Fatalf("check: %v\n%s", err, report.String())
	}
	if err := runFeed(ctx, &report, "audit", "-c", config, "--json"); err != nil || !strings.Contains(report.String(), `"exposure"`) {
		t.Errorf("audit: %v\n%s", err, report.String())
	}
	spoil(t, dsn)
	if code := run(ctx, []string{"feed", "check", "-c", config}); code != exitUnheld {
		t.Errorf("a changed decision: exit %d", code)
	}
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // test
	kinds := ""
	if err := conn.QueryRow(ctx, "select string_agg(convert_from(body, 'UTF8')::jsonb->>'kind', ' ' order by id) from trefoil.outbox").Scan(&kinds); err != nil ||
		!strings.HasPrefix(kinds, "model") || !strings.HasSuffix(kinds, "incident") {
		t.Errorf("the outbox holds %q: %v", kinds, err)
	}
}

// spoil overwrites the stored decision.
func spoil(t *testing.T, dsn string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(t.Context())) //nolint:errcheck // test
	tag, err := conn.Exec(t.Context(), "update trefoil_feed.decisions set surface = 'for-you', payload = $1", []byte(strings.Repeat("x", 10)))
	if err != nil || tag.RowsAffected() != 1 {
		t.Fatalf("spoil: %v", err)
	}
}

func TestFeedRefusesAWrongConfiguration(t *testing.T) {
	config, _ := feedFiles(t)
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	bad := filepath.Join(filepath.Dir(config), "bad.yaml")
	if err := os.WriteFile(bad, append(text, "colour: green\n"...), 0o600); err != nil {
		t.Fatal(err)
	}
	if code := run(t.Context(), []string{"feed", "serve", "-c", bad}); code != exitUnheld {
		t.Errorf("an unknown key: exit %d", code)
	}
	if err := runFeed(t.Context(), io.Discard, "serve", "-c", bad); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("bad.yaml:%d:1", strings.Count(string(text), "\n")+1)) {
		t.Errorf("%v", err)
	}
	for _, args := range [][]string{{"feed", "audit", "--days", "0"}, {"feed", "demo", "--memory", "--database", "x"}, {"feed", "sample", "--keep-days", "0"}} {
		if code := run(t.Context(), args); code != exitUsage {
			t.Errorf("%v: exit %d", args, code)
		}
	}
}
