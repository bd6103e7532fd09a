package enclave

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/certfile"
)

// Traces sends OpenTelemetry traces of the release path to a collector: how long a session
// waited for the log, for cosignatures and for the monitor. Spans carry the session's id as
// its records do, the dataset and outcomes; never a person, an address, a statement or a value.
type Traces struct {
	OTLP      string  `yaml:"otlp"`                // the collector's URL, as in https://collector:4318/v1/traces; http to this machine alone
	Authority string  `yaml:"authority,omitempty"` // PEM of who signed its certificate; default the system's
	Sample    float64 `yaml:"sample,omitempty"`    // share of sessions, 0 to 1; default 1
}

// validate checks the settings of traces.
func (t *Traces) validate(bad func(string, string, ...any)) {
	if t == nil {
		return
	}
	u, err := url.Parse(t.OTLP)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		bad("gateway.traces.otlp", "give the collector's URL, as in https://collector:4318/v1/traces")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		bad("gateway.traces.otlp", "a collector on another machine is spoken to by https")
	case u.User != nil:
		bad("gateway.traces.otlp", "a URL in this file has no password: use a collector on this machine, or the network's own means")
	}
	if t.Sample < 0 || t.Sample > 1 {
		bad("gateway.traces.sample", "sample is a share from 0 to 1")
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// spans names what the release path waits for.
type spans struct {
	tracer trace.Tracer
	stop   func(context.Context) error // sends what is left
}

// traces starts to send; without settings nothing is made or sent.
func (c *Config) traces(ctx context.Context, logger *slog.Logger) (*spans, error) {
	t := c.Gateway.Traces
	if t == nil {
		return &spans{tracer: noop.NewTracerProvider().Tracer("")}, nil
	}
	options := []otlptracehttp.Option{otlptracehttp.WithEndpointURL(t.OTLP), otlptracehttp.WithTimeout(5 * time.Second)}
	if t.Authority != "" {
		secure, err := certfile.Client(t.Authority)
		if err != nil {
			return nil, fmt.Errorf("gateway.traces: %w", err)
		}
		options = append(options, otlptracehttp.WithTLSClientConfig(secure))
	}
	to, err := otlptracehttp.New(ctx, options...)
	if err != nil {
		return nil, errors.New("gateway.traces: the collector's URL cannot be used")
	}
	share := t.Sample
	if share == 0 {
		share = 1
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(reporting{to, logger}), sdk.WithSampler(sdk.ParentBased(sdk.TraceIDRatioBased(share))),
		sdk.WithResource(resource.NewSchemaless(attribute.String("service.name", "trefoil-gateway"), attribute.String("service.instance.id", c.Site))))
	return &spans{p.Tracer("trefoil"), p.Shutdown}, nil
}

// reporting says in the operator's log that the collector cannot be reached: nothing else does.
type reporting struct {
	sdk.SpanExporter
	logger *slog.Logger
}

// ExportSpans implements sdk.SpanExporter. What a collector does not take is lost: traces hold nothing up.
func (r reporting) ExportSpans(ctx context.Context, list []sdk.ReadOnlySpan) error {
	if err := r.SpanExporter.ExportSpans(ctx, list); err != nil {
		r.logger.Warn("traces are not taken by the collector", "spans", len(list), "error", err)
	}
	return nil
}

// end sends what is left, for a bounded time.
func (s *spans) end(ctx context.Context) error {
	if s == nil || s.stop == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
	defer cancel()
	_ = s.stop(ctx) // said by reporting
	return nil
}

// session begins the span of a session of the release path.
func (s *spans) session(ctx context.Context, a trefoil.Access) (context.Context, func(error)) {
	ctx, span := s.tracer.Start(ctx, "session", trace.WithAttributes(attribute.String("trefoil.session", a.Session),
		attribute.String("trefoil.dataset", a.Dataset), attribute.Bool("trefoil.transfer", a.Instrument.Transfer)))
	return ctx, ending(span)
}

// wait begins the span of something that a session waits for.
func (s *spans) wait(ctx context.Context, what string) (context.Context, func(error)) {
	ctx, span := s.tracer.Start(ctx, what)
	return ctx, ending(span)
}

// ending ends a span. An error's text may name what a trace must not, so it stays here.
func ending(span trace.Span) func(error) {
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, "failed")
		}
		span.End()
	}
}
