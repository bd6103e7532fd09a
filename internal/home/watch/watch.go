// Package watch tells Prometheus and health checks how datasets follow their sources.
//
// The invariant it keeps: every answer is of the moment it is asked for, read from the
// datasets and sources themselves and not from the process that follows, so a flow that hangs
// shows as one. No name but those of datasets and no value is in an answer. It serves the text
// format of Prometheus at /metrics and a plain answer at /healthz.
//
// What it does not do: follow, alert, or guard itself: it has no login, and is meant for
// loopback or a network of the operator's own.
package watch

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
)

// Datasets tell how they are. A dataset.Builder does.
type Datasets interface {
	Status(ctx context.Context, name string) (*dataset.Status, error)
}

// askFor bounds one answer.
const askFor = 10 * time.Second

// unbounded is how far behind a dataset without bounds may be before /healthz says so.
const unbounded = time.Minute

// Watch answers for some datasets.
type Watch struct {
	datasets Datasets
	names    []string
	logger   *slog.Logger
	of       map[string]*prometheus.Desc
}

// New makes a Watch for the named datasets.
func New(d Datasets, names []string, logger *slog.Logger) *Watch {
	w := &Watch{datasets: d, names: names, logger: logger, of: map[string]*prometheus.Desc{}}
	for name, help := range map[string]string{
		"up":                 "1 when the dataset could be read.",
		"following":          "1 while the dataset follows its source.",
		"stale":              "1 when the dataset stands as it was and is to be built again.",
		"held":               "1 when a column waits for review: trefoil dataset drift.",
		"lag_seconds":        "How old the dataset's rows are.",
		"lag_bytes":          "Bytes of the source's log that are not in the dataset yet.",
		"changes_total":      "Rows written or looked at since the dataset was built.",
		"batches_total":      "Batches applied since the dataset was built.",
		"orphans_total":      "Rows left out since the dataset was built because they lead to no row.",
		"rebuilds_total":     "How often the dataset was built again.",
		"resyncs_total":      "How often the dataset was brought back to its source by comparison.",
		"retained_wal_bytes": "Bytes of its log that the source keeps for the dataset.",
		"retained_wal_bound": "Bytes of log beyond which the slot is given up.",
	} {
		w.of[name] = prometheus.NewDesc("trefoil_flow_"+name, help, []string{"dataset"}, nil)
	}
	return w
}

// Describe implements prometheus.Collector.
func (w *Watch) Describe(to chan<- *prometheus.Desc) {
	for _, d := range w.of {
		to <- d
	}
}

// Collect implements prometheus.Collector. What is not known of a dataset has no sample.
func (w *Watch) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), askFor)
	defer cancel()
	for name, s := range w.all(ctx) {
		send := func(metric string, kind prometheus.ValueType, v float64) {
			to <- prometheus.MustNewConstMetric(w.of[metric], kind, v, name)
		}
		gauge := func(metric string, v float64) { send(metric, prometheus.GaugeValue, v) }
		flag := func(metric string, on bool) {
			if on {
				gauge(metric, 1)
			} else {
				gauge(metric, 0)
			}
		}
		flag("up", s != nil)
		if s == nil || s.Info == nil {
			continue
		}
		flag("following", s.Fresh.State == "following")
		flag("stale", s.Fresh.State == "stale")
		flag("held", s.Held)
		gauge("lag_seconds", s.Fresh.Lag.Seconds())
		send("rebuilds_total", prometheus.CounterValue, float64(s.Rebuilt))
		send("resyncs_total", prometheus.CounterValue, float64(s.Resynced))
		gauge("retained_wal_bound", float64(s.Bound))
		if s.Fresh.Bytes >= 0 {
			gauge("lag_bytes", float64(s.Fresh.Bytes))
		}
		if s.Retained >= 0 {
			gauge("retained_wal_bytes", float64(s.Retained))
		}
		if s.Flow == nil {
			continue
		}
		send("changes_total", prometheus.CounterValue, float64(s.Flow.Rows))
		send("batches_total", prometheus.CounterValue, float64(s.Flow.Batches))
		send("orphans_total", prometheus.CounterValue, float64(s.Flow.Orphans))
	}
}

// all asks every dataset at once; nil for one that could not be read.
func (w *Watch) all(ctx context.Context) map[string]*dataset.Status {
	out := make(map[string]*dataset.Status, len(w.names))
	var mu sync.Mutex
	var asking sync.WaitGroup
	for _, name := range w.names {
		asking.Go(func() {
			s, err := w.datasets.Status(ctx, name)
			if err != nil {
				w.logger.Warn("dataset could not be read", "dataset", name, "error", err)
				s = nil
			}
			mu.Lock()
			defer mu.Unlock()
			out[name] = s
		})
	}
	asking.Wait()
	return out
}

// health is the answer of /healthz: why each dataset that is not well is not; "" for the others.
type health struct {
	Holds    bool              `json:"holds"`
	Datasets map[string]string `json:"datasets"`
}

func (w *Watch) health(ctx context.Context) health {
	h := health{Holds: true, Datasets: map[string]string{}}
	for name, s := range w.all(ctx) {
		h.Datasets[name] = unwell(s)
		h.Holds = h.Holds && h.Datasets[name] == ""
	}
	return h
}

// unwell says in a word of a closed set what a dataset lacks.
func unwell(s *dataset.Status) string {
	bound := unbounded
	switch {
	case s == nil:
		return "away"
	case s.Info == nil:
		return "not built"
	case s.Held:
		return "waits for review"
	case s.Fresh.State != "following":
		return "does not follow"
	case s.Fresh.Refuse > 0:
		bound = s.Fresh.Refuse
	case s.Fresh.Warn > 0:
		bound = s.Fresh.Warn
	}
	if s.Fresh.Lag > bound {
		return fmt.Sprintf("more than %s behind", bound)
	}
	return ""
}

// Handler serves /metrics and /healthz.
func (w *Watch) Handler() (http.Handler, error) {
	registry := prometheus.NewRegistry()
	if err := registry.Register(w); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: askFor}))
	mux.HandleFunc("GET /healthz", func(rw http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), askFor)
		defer cancel()
		h := w.health(ctx)
		rw.Header().Set("Content-Type", "application/json")
		if !h.Holds {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(rw).Encode(h) // who asked may have gone
	})
	return mux, nil
}

// Serve answers on an address, HOST:PORT or :PORT for loopback, until ctx ends.
func (w *Watch) Serve(ctx context.Context, address string, ready func(net.Addr)) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	if host == "" {
		host = "127.0.0.1" // what is open to others is named
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, port))
	if err != nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	handler, err := w.Handler()
	if err != nil {
		_ = l.Close()
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: askFor, WriteTimeout: 2 * askFor, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if ready != nil {
		ready(l.Addr())
	}
	if err := server.Serve(l); ctx.Err() == nil {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}
