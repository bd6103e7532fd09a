package feed_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
)

func audit(t *testing.T, w *world) *feed.Audit {
	t.Helper()
	a, err := w.Audit(t.Context(), demo.Surface, w.now().Add(-24*time.Hour), w.now())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestExposureFollowsWhatIsRankedHigh(t *testing.T) {
	w := start(t)
	for i := range 20 {
		q := ask(fmt.Sprint("p", i), 40, uint64(i))
		for j := range q.Items { // what small creators make is of friends and followed, so it ranks high
			q.Items[j].Values[1], q.Items[j].Values[9] = 0, 0
			if q.Items[j].Creator == "small" {
				q.Items[j].Values[1], q.Items[j].Values[9] = 1, 5
			}
		}
		q.Items[0].Region = "MT" // offered to few
		if i > 4 {
			q.Items[0].Region = "IE"
		}
		rank(t, w, q)
	}
	a := audit(t, w)
	if a.Decisions != 20 || math.Abs(a.Profiled-1) > 1e-9 || a.Drift != nil {
		t.Errorf("%+v", a)
	}
	sizes := a.Exposure["creator_size"]
	if sizes[0].Class != "small" || sizes[0].Ratio <= 1.1 || sizes[1].Ratio >= 1 || math.Abs(sizes[0].Exposed+sizes[1].Exposed-1) > 1e-9 {
		t.Errorf("%+v", sizes)
	}
	for _, x := range a.Exposure["region"] {
		if x.Class == "MT" {
			t.Error("a class of five decisions is in the report")
		}
	}
	if len(a.Exposure["topic"]) < 20 {
		t.Errorf("topics: %d", len(a.Exposure["topic"]))
	}
}

func TestDriftComparesTheModelsOnTheSameItems(t *testing.T) {
	w := start(t)
	traffic(t, w, 20, true)
	was := status(t, w).Model
	replace(t, w.config.Surfaces[demo.Surface].Model, otherModel(t, w))
	if err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := audit(t, w).Drift
	if d == nil || d.Before != was || d.Decisions != 20 {
		t.Fatalf("%+v", d)
	}
	if d.Overlap <= 0.3 || d.Overlap >= 1 || d.Tau <= 0.3 || d.Tau >= 1 {
		t.Errorf("forty trees fewer: overlap %.2f, tau %.2f", d.Overlap, d.Tau)
	}
	total := 0.0
	for _, v := range d.Weights {
		total += v
	}
	if math.Abs(total) > 1e-9 {
		t.Errorf("changes of shares add up to %v", total)
	}
}

func TestTheResearchSampleForgetsErasedAndRestrictedSubjects(t *testing.T) {
	_, pool := onPostgres(t)
	c, err := demo.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o, err := feed.OpenPool(t.Context(), c, pool, silent)
	if err != nil {
		t.Fatal(err)
	}
	for _, who := range []string{"anna", "bert", "carl"} {
		if _, err := o.Rank(t.Context(), ask(who, 30, 1)); err != nil {
			t.Fatal(err)
		}
	}
	count := func(who string) int {
		n := 0
		if err := pool.QueryRow(t.Context(), "select count(*) from trefoil_feed.research_sample where subject = $1", who).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	sample := func() {
		if _, err := o.SampleForResearch(t.Context(), time.Now(), time.Now().AddDate(0, 0, -7)); err != nil {
			t.Fatal(err)
		}
	}
	sample()
	sample() // a second time replaces, not adds
	if count("anna") != 10 || count("bert") != 10 {
		t.Fatalf("%d and %d rows", count("anna"), count("bert"))
	}
	if n, err := o.Subjects.Erase(t.Context(), "anna"); err != nil || n != 1 {
		t.Fatalf("erased %d: %v", n, err)
	}
	if err := o.Subjects.Restrict(t.Context(), "bert", true); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if count("anna") != 0 || count("bert") != 0 || count("carl") != 10 {
			t.Errorf("%d, %d and %d rows", count("anna"), count("bert"), count("carl"))
		}
		sample()
	}
}

func serve(t *testing.T, w *world) *httptest.Server {
	t.Helper()
	h, err := w.Handler("secret")
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func call(t *testing.T, method, url, token, body string) (*http.Response, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp, readAll(t, resp)
}

func TestNothingOfAPersonIsServedWithoutTheToken(t *testing.T) {
	w := start(t)
	s, a := serve(t, w), rank(t, w, ask("anna", 5, 1))
	for _, path := range []string{"POST /rank", "GET /surfaces", "GET /decisions/" + a.Decision + "/reasons"} {
		method, path, _ := strings.Cut(path, " ")
		for _, token := range []string{"", "Bearer ", "Bearer wrong", "secret", "Basic secret", "bearer secret"} {
			if resp, _ := call(t, method, s.URL+path, token, "{}"); resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s with %q: %d", path, token, resp.StatusCode)
			}
		}
		if resp, _ := call(t, method, s.URL+path, "Bearer secret", "{}"); resp.StatusCode == http.StatusUnauthorized {
			t.Errorf("%s: the right token was refused", path)
		}
	}
	h, err := w.Handler("") // a service without a token lets nobody in
	if err != nil {
		t.Fatal(err)
	}
	rec := httptest.NewRecorder()
	r := httptest.NewRequest("GET", "/surfaces", nil)
	r.Header.Set("Authorization", "Bearer ")
	if h.ServeHTTP(rec, r); rec.Code != http.StatusUnauthorized {
		t.Errorf("the empty token opened the service: %d", rec.Code)
	}
}

func TestTheServiceAnswersOverHTTP(t *testing.T) {
	w := start(t)
	s := serve(t, w)
	traffic(t, w, 20, true)
	duties(t, w)
	const good = `{"surface":"for-you","subject":"anna","profiling":true,"features":["topic_affinity","creator_followed","watch_ratio_7d","freshness_hours",
		"popularity_log","language_match","video_length_s","region_trend","session_depth","shares_by_friends","topic","device_class"],
		"items":[{"id":"1","values":[0.5,1,null,3,5,1,20,0.5,10,0,2,1]},{"id":"2","values":[0.1,0,0.2,30,5,1,20,0.5,10,0,3,1]}],"reasons":{"items":1}}`
	resp, body := call(t, "POST", s.URL+"/rank", "Bearer secret", good)
	if resp.StatusCode != 200 || !strings.Contains(body, `"order":["1","2"]`) || !strings.Contains(body, `"sentence"`) {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		says               string
	}{
		"too large":        {"POST", "/rank", `{"surface":"` + strings.Repeat("x", 5<<20) + `"}`, 413, "too-large"},
		"a bad value":      {"POST", "/rank", strings.Replace(good, "null", `"a"`, 1), 400, "bad-value"},
		"unknown decision": {"GET", "/decisions/" + decision.NewID(w.now()).String() + "/reasons", "", 404, "unknown-decision"},
		"no id":            {"GET", "/decisions/xyz/reasons", "", 400, "malformed"},
		"a bad number":     {"GET", "/decisions/" + decision.NewID(w.now()).String() + "/reasons?items=-1", "", 400, "malformed"},
		"surfaces":         {"GET", "/surfaces", "", 200, `"incidents":[]`},
		"sheet":            {"GET", "/sheet/for-you?lang=fr", "", 200, "Comment ceci est classé"},
		"sheet as JSON":    {"GET", "/sheet/for-you.json", "", 200, `"parameters":[{"group"`},
		"no such sheet":    {"GET", "/sheet/nowhere", "", 404, "unknown-surface"},
		"component":        {"GET", "/why-this.js", "", 200, "customElements.define"},
		"style":            {"GET", "/feed.css", "", 200, "@media print"},
		"health":           {"GET", "/healthz", "", 200, "ok"},
		"wrong method":     {"GET", "/rank", "", 405, ""},
	} {
		resp, body := call(t, c.method, s.URL+c.path, "Bearer secret", c.body)
		if resp.StatusCode != c.status || !strings.Contains(body, c.says) {
			t.Errorf("%s: %d %.200s", name, resp.StatusCode, body)
		}
		if c.status == 200 && !strings.Contains(resp.Header.Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("%s: no policy", name)
		}
		if strings.Contains(body, "<style") || strings.Contains(body, "style=") || strings.Contains(body, "https://") || strings.Contains(body, "onclick=") {
			t.Errorf("%s: inline style or script, or a third party", name)
		}
	}
	replace(t, w.config.Surfaces[demo.Surface].Model, []byte("hello"))
	if err := w.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if resp, _ := call(t, "GET", s.URL+"/healthz", "", ""); resp.StatusCode != 503 {
		t.Error("a surface serves an older model than its files, and health does not say so")
	}
}

func TestRankingGoesOnWhileModelsChange(t *testing.T) {
	w := start(t)
	good, other := status(t, w).Model, otherModel(t, w)
	var wg sync.WaitGroup
	errs := make(chan error, 64)
	for i := range 4 {
		wg.Go(func() {
			for j := range 10 {
				if _, err := w.Rank(t.Context(), ask(fmt.Sprint(i), 20, uint64(j))); err != nil {
					errs <- err
				}
			}
		})
	}
	replace(t, w.config.Surfaces[demo.Surface].Model, other)
	errs <- errors.Join(w.Reload(t.Context()), w.CheckSheets(t.Context()))
	wg.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if c := check(t, w); !c.Holds() || c.Decisions != 40 || status(t, w).Model == good {
		t.Errorf("%+v", c)
	}
}
