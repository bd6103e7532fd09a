package watch

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

type some map[string]*dataset.Status

func (s some) Status(_ context.Context, name string) (*dataset.Status, error) {
	if s[name] == nil {
		return nil, errors.New("away")
	}
	return s[name], nil
}

func well() *dataset.Status {
	return &dataset.Status{Info: &dataset.Info{}, Fresh: dataset.Freshness{Lag: 1500 * time.Millisecond, Bytes: 4096, State: "following"}, Retained: 77, Bound: 32 << 30,
		Rebuilt: 2, Resynced: 1, Flow: &dataset.FlowState{State: "following", Rows: 9, Batches: 3, Orphans: 5}}
}

// serve answers for the datasets until the test ends.
func serve(t *testing.T, s some) (url string) {
	t.Helper()
	names := []string{"away"}
	for n := range s {
		names = append(names, n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	address, done := make(chan net.Addr, 1), make(chan error, 1)
	go func() {
		done <- New(s, names, slog.New(slog.DiscardHandler)).Serve(ctx, ":0", func(a net.Addr) { address <- a })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case a := <-address:
		if !a.(*net.TCPAddr).IP.IsLoopback() {
			t.Errorf("it listens on %s", a)
		}
		return "http://" + a.String()
	case err := <-done:
		t.Fatal(err)
	}
	return ""
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, string(b)
}

func TestMetrics(t *testing.T) {
	held := well()
	held.Fresh.State, held.Held, held.Fresh.Bytes, held.Retained = "stale", true, -1, -1
	code, text := get(t, serve(t, some{"good": well(), "held": held})+"/metrics")
	if code != 200 {
		t.Fatalf("%d: %s", code, text)
	}
	for _, line := range []string{
		`trefoil_flow_up{dataset="good"} 1`, `trefoil_flow_up{dataset="away"} 0`, `trefoil_flow_lag_seconds{dataset="good"} 1.5`,
		`trefoil_flow_lag_bytes{dataset="good"} 4096`, `trefoil_flow_changes_total{dataset="good"} 9`, `trefoil_flow_batches_total{dataset="good"} 3`,
		`trefoil_flow_orphans_total{dataset="good"} 5`, `trefoil_flow_rebuilds_total{dataset="good"} 2`, `trefoil_flow_resyncs_total{dataset="good"} 1`,
		`trefoil_flow_retained_wal_bytes{dataset="good"} 77`, `trefoil_flow_stale{dataset="good"} 0`, `trefoil_flow_stale{dataset="held"} 1`,
		`trefoil_flow_held{dataset="held"} 1`, `trefoil_flow_following{dataset="good"} 1`, `trefoil_flow_retained_wal_bound{dataset="good"} 3.4359738368e+10`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("without %s", line)
		}
	}
	for _, line := range []string{`trefoil_flow_lag_bytes{dataset="held"}`, `trefoil_flow_lag_seconds{dataset="away"}`} {
		if strings.Contains(text, line) {
			t.Errorf("it says what it does not know: %s", line)
		}
	}
}

func TestHealth(t *testing.T) {
	change := func(f func(*dataset.Status)) *dataset.Status {
		s := well()
		f(s)
		return s
	}
	for _, c := range []struct {
		s    *dataset.Status
		want string
	}{
		{well(), ""},
		{nil, "away"},
		{&dataset.Status{}, "not built"},
		{change(func(s *dataset.Status) { s.Fresh.State = "stale" }), "does not follow"},
		{change(func(s *dataset.Status) { s.Fresh.State = "" }), "does not follow"},
		{change(func(s *dataset.Status) { s.Held = true }), "waits for review"},
		{change(func(s *dataset.Status) { s.Fresh.Lag = 61 * time.Second }), "more than 1m0s behind"},
		{change(func(s *dataset.Status) { s.Fresh.Lag, s.Fresh.Refuse = 61*time.Second, 5*time.Minute }), ""},
		{change(func(s *dataset.Status) { s.Fresh.Lag, s.Fresh.Warn = 11*time.Second, 10*time.Second }), "more than 10s behind"},
	} {
		if got := unwell(c.s); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
	url := serve(t, some{"good": well()})
	if code, text := get(t, url+"/healthz"); code != 503 || !strings.Contains(text, `"away":"away"`) || !strings.Contains(text, `"good":""`) {
		t.Errorf("%d %s", code, text)
	}
}
