package enclave

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/release"
)

// meters count what goes through the gateway process. Whatever matters is a record, so they
// count records; labels are of closed sets, never a person, a statement or a client's word.
type meters struct {
	registry  *prometheus.Registry
	records   *prometheus.CounterVec
	sessions  *prometheus.CounterVec
	refusals  *prometheus.CounterVec
	bytes     *prometheus.CounterVec
	rows      *prometheus.CounterVec
	calls     prometheus.Counter
	unparsed  prometheus.Counter
	permits   *prometheus.CounterVec
	permitted prometheus.Histogram
	witnessed prometheus.Histogram
}

func newMeters() *meters {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "trefoil_" + name, Help: help}, labels)
	}
	waits := []float64{.001, .002, .005, .01, .025, .05, .1, .15, .2, .3, .5, 1, 2, 5, 10}
	m := &meters{
		registry:  prometheus.NewRegistry(),
		records:   counter("records_total", "Records appended to the access log.", "kind"),
		sessions:  counter("sessions_total", "Sessions that began and ended.", "path", "event"),
		refusals:  counter("refusals_total", "Recorded refusals.", "stage", "reason"),
		bytes:     counter("bytes_total", "Bytes of recorded summaries and releases.", "path", "direction"),
		rows:      counter("rows_total", "Rows of recorded summaries and releases.", "path"),
		permits:   counter("permits_total", "Answers of the monitor to requests for a permit.", "answer"),
		calls:     prometheus.NewCounter(prometheus.CounterOpts{Name: "trefoil_service_calls_total", Help: "Statements of services that were attributed."}),
		unparsed:  prometheus.NewCounter(prometheus.CounterOpts{Name: "trefoil_service_unparsed_total", Help: "Statements of services that were counted and not attributed."}),
		permitted: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "trefoil_permit_seconds", Help: "Wait for the monitor's answer.", Buckets: waits}),
		witnessed: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "trefoil_witnessed_seconds", Help: "Wait from append to a cosigned checkpoint, of releases.", Buckets: waits}),
	}
	m.registry.MustRegister(m.records, m.sessions, m.refusals, m.bytes, m.rows, m.permits, m.calls, m.unparsed, m.permitted, m.witnessed,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// gauges adds what is asked for when the figures are read.
func (m *meters) gauges(p *process) {
	gauge := func(name, help string, read func() float64) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "trefoil_" + name, Help: help}, read))
	}
	for _, path := range []gateway.Path{gateway.Service, gateway.Release} {
		gauge("sessions_"+pathName(path), "Open sessions of the "+pathName(path)+" path.", func() float64 {
			n := 0
			for _, s := range p.gateway.Sessions() {
				if s.Path == path {
					n++
				}
			}
			return float64(n)
		})
	}
	gauge("log_records", "Records in the access log.", func() float64 { return float64(p.log.Size()) })
	gauge("log_witnessed_records", "Records under the published, cosigned checkpoint.", func() float64 {
		if head := p.log.Checkpoint(); head != nil {
			return float64(head.Size)
		}
		return 0
	})
	m.registry.MustRegister(routeCollector{p.routes})
}

func pathName(p gateway.Path) string {
	if p == gateway.Service {
		return "service"
	}
	return "release"
}

// observe counts a body that was appended.
func (m *meters) observe(b *trefoil.Body) {
	if m == nil { // a command that appends a record of its own
		return
	}
	m.records.WithLabelValues(string(b.Kind)).Inc()
	switch {
	case b.Session != nil:
		m.sessions.WithLabelValues(b.Session.Path, b.Session.Event).Inc()
	case b.Refusal != nil:
		m.refusals.WithLabelValues(b.Refusal.Stage, b.Refusal.Reason).Inc()
	case b.Summary != nil:
		m.bytes.WithLabelValues("service", "in").Add(float64(b.Summary.BytesIn))
		m.bytes.WithLabelValues("service", "out").Add(float64(b.Summary.BytesOut))
		m.rows.WithLabelValues("service").Add(float64(b.Summary.Rows))
		m.unparsed.Add(float64(b.Summary.Unparsed))
		for _, s := range b.Summary.Statements {
			m.calls.Add(float64(s.Calls))
		}
	case b.Release != nil:
		m.bytes.WithLabelValues("release", "out").Add(float64(b.Release.Bytes))
		m.rows.WithLabelValues("release").Add(float64(b.Release.Rows))
	}
}

// measuredRecorder counts the records of the release path and how long their proofs take.
type measuredRecorder struct {
	release.Recorder
	m *meters
	s *spans
}

// Append implements release.Recorder.
func (r measuredRecorder) Append(ctx context.Context, rec trefoil.Record, opening []byte) (release.Ticket, error) {
	ctx, end := r.s.wait(ctx, "append record")
	t, err := r.Recorder.Append(ctx, rec, opening)
	end(err)
	if err != nil {
		return nil, err
	}
	if b, err := trefoil.DecodeBody(rec.Body); err == nil { // it was encoded a moment ago
		r.m.observe(b)
	}
	return measuredTicket{t, r.m, r.s, time.Now()}, nil
}

type measuredTicket struct {
	release.Ticket
	m     *meters
	s     *spans
	since time.Time
}

// Witnessed implements release.Ticket.
func (t measuredTicket) Witnessed(ctx context.Context) (*trefoil.Proof, error) {
	ctx, end := t.s.wait(ctx, "await cosignatures")
	p, err := t.Ticket.Witnessed(ctx)
	end(err)
	if err == nil {
		t.m.witnessed.Observe(time.Since(t.since).Seconds())
	}
	return p, err
}

// measuredPermitter counts the monitor's answers.
type measuredPermitter struct {
	release.Permitter
	m *meters
	s *spans
}

// Permit implements release.Permitter.
func (p measuredPermitter) Permit(ctx context.Context, r trefoil.PermitRequest) (trefoil.PermitAnswer, error) {
	began := time.Now()
	ctx, end := p.s.wait(ctx, "ask the monitor")
	a, err := p.Permitter.Permit(ctx, r)
	end(err)
	p.m.permitted.Observe(time.Since(began).Seconds())
	answer := "permit"
	switch {
	case err != nil:
		answer = "none"
	case a.Refusal != nil:
		answer = "refusal"
	}
	p.m.permits.WithLabelValues(answer).Inc()
	return a, err
}

// routeCollector tells of the servers of every route.
type routeCollector struct{ routes *routes }

var (
	routePrimary = prometheus.NewDesc("trefoil_route_primary", "1 where the server takes writes.", []string{"database", "server"}, nil)
	routeUp      = prometheus.NewDesc("trefoil_route_up", "1 where the server answers.", []string{"database", "server"}, nil)
	routeLag     = prometheus.NewDesc("trefoil_route_lag_bytes", "Bytes that a replica is behind the primary.", []string{"database", "server"}, nil)
)

// Describe implements prometheus.Collector.
func (c routeCollector) Describe(out chan<- *prometheus.Desc) {
	out <- routePrimary
	out <- routeUp
	out <- routeLag
}

// Collect implements prometheus.Collector.
func (c routeCollector) Collect(out chan<- prometheus.Metric) {
	for database, members := range c.routes.states() {
		for _, s := range members {
			truth := func(b bool) float64 {
				if b {
					return 1
				}
				return 0
			}
			out <- prometheus.MustNewConstMetric(routePrimary, prometheus.GaugeValue, truth(s.Role == "primary"), database, s.Address)
			out <- prometheus.MustNewConstMetric(routeUp, prometheus.GaugeValue, truth(s.Error == ""), database, s.Address)
			out <- prometheus.MustNewConstMetric(routeLag, prometheus.GaugeValue, float64(s.Lag), database, s.Address)
		}
	}
}
