package feed_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/people/feed"
	"github.com/trefoil-eu/trefoil/internal/people/feed/decision"
	"github.com/trefoil-eu/trefoil/internal/people/feed/demo"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// recorder keeps records; refuse makes it fail.
type recorder struct {
	mu     sync.Mutex
	bodies []*trefoil.Body
	refuse func(*trefoil.Body) bool
}

var errAway = errors.New("the control store is away")

func (r *recorder) Enqueue(_ context.Context, b *trefoil.Body) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.refuse != nil && r.refuse(b) {
		return errAway
	}
	sealed := *b
	sealed.Origin = "log.example/dublin-1"
	if _, err := trefoil.EncodeBody(&sealed); err != nil {
		return err // what the log could not hold
	}
	r.bodies = append(r.bodies, b)
	return nil
}

// said lists incidents and model records, in words.
func (r *recorder) said() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, b := range r.bodies {
		switch b.Kind {
		case trefoil.KindIncident:
			out = append(out, b.Incident.Event+" "+b.Incident.Reason)
		case trefoil.KindModel:
			out = append(out, fmt.Sprintf("%s %.6s", b.Model.Event, b.Model.Model))
		}
	}
	return out
}

func (r *recorder) count(line string) int {
	n := 0
	for _, s := range r.said() {
		if strings.HasPrefix(s, line) {
			n++
		}
	}
	return n
}

// world is a service on a clock of its own.
type world struct {
	*feed.Service
	config *feed.Config
	parts  feed.Parts
	log    *recorder
	mu     sync.Mutex
	at     time.Time
}

func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.at
}

func (w *world) wait(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = w.at.Add(d)
}

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// start serves the demonstration's model from memory, at noon.
func start(t testing.TB, change ...func(*world)) *world {
	t.Helper()
	c, err := demo.Write(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{config: c, log: &recorder{}, at: time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)}
	w.parts = feed.Parts{Store: decision.NewMemory(10_000), State: feed.NewMemoryState(), Recorder: w.log, Logger: silent, Now: w.now}
	for _, f := range change {
		f(w)
	}
	if w.Service, err = feed.New(t.Context(), c, w.parts); err != nil {
		t.Fatal(err)
	}
	return w
}

// onPostgres puts decisions and state into a database of the test's own.
func onPostgres(t *testing.T) (func(*world), *pgxpool.Pool) {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgtest.Start(t).Database(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	store, state := decision.NewPostgres(pool), feed.NewPostgresState(pool)
	if err := errors.Join(store.Prepare(t.Context()), state.Prepare(t.Context())); err != nil {
		t.Fatal(err)
	}
	return func(w *world) { w.parts.Store, w.parts.State = store, state }, pool
}

var names = []string{"topic_affinity", "creator_followed", "watch_ratio_7d", "freshness_hours", "popularity_log", "language_match",
	"video_length_s", "region_trend", "session_depth", "shares_by_friends", "topic", "device_class"}

// personal are the features of names that features.yaml marks so.
var personal = []int{0, 1, 2, 5, 8, 9, 11}

func values(r *rand.Rand) feed.Values {
	v := feed.Values{r.Float64(), float64(r.IntN(2)), r.Float64(), r.ExpFloat64() * 30, r.NormFloat64()*2 + 5, float64(r.IntN(2)), r.ExpFloat64() * 40,
		r.Float64(), float64(1 + r.IntN(60)), float64(r.IntN(6)), float64(r.IntN(24)), float64(r.IntN(4))}
	if r.IntN(6) == 0 {
		v[2] = math.NaN()
	}
	return v
}

// ask makes a request of n random items for a subject.
func ask(subject string, n int, seed uint64) *feed.Request {
	r := rand.New(rand.NewPCG(seed, 9))
	q := &feed.Request{Surface: demo.Surface, Subject: subject, Profiling: true, Features: names}
	for i := range n {
		q.Items = append(q.Items, feed.RequestItem{ID: fmt.Sprint("item-", i), Region: []string{"IE", "FR"}[i%2], Creator: []string{"small", "large"}[i%3%2], Values: values(r)})
	}
	return q
}

func rank(t testing.TB, w *world, q *feed.Request) *feed.Answer {
	t.Helper()
	a, err := w.Rank(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func stored(t testing.TB, w *world, a *feed.Answer) *decision.Decision {
	t.Helper()
	id, err := decision.ParseID(a.Decision)
	if err != nil {
		t.Fatal(err)
	}
	d, err := w.parts.Store.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func why(t testing.TB, w *world, a *feed.Answer, item string, first int) *feed.Reasons {
	t.Helper()
	id, err := decision.ParseID(a.Decision)
	if err != nil {
		t.Fatal(err)
	}
	r, err := w.Reasons(t.Context(), id, item, first)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func refuseAll(w *world, on bool) { refuse(w, func(*trefoil.Body) bool { return on }) }

func refuse(w *world, f func(*trefoil.Body) bool) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	w.log.refuse = f
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}
