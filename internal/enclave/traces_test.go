package enclave

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/release"
)

// failing is a log and a monitor that fail with a text that must not travel.
type failing struct{ release.Recorder }

var errTelling = errors.New("a literal: caoimhe@example.org")

func (failing) Append(context.Context, trefoil.Record, []byte) (release.Ticket, error) {
	return nil, errTelling
}

func (failing) Permit(context.Context, trefoil.PermitRequest) (trefoil.PermitAnswer, error) {
	return trefoil.PermitAnswer{}, errTelling
}

// TestTracesTellWaitsAndNobody: a collector gets the session's waits, and neither the person,
// nor what an error says.
func TestTracesTellWaitsAndNobody(t *testing.T) {
	var mu sync.Mutex
	var got bytes.Buffer
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = io.Copy(&got, r.Body)
	}))
	defer collector.Close()
	c := &Config{Site: "dublin"}
	c.Gateway.Traces = &Traces{OTLP: collector.URL + "/v1/traces"}
	s, err := c.traces(t.Context(), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	a := trefoil.Access{Session: "5e55", Dataset: "research", Principal: "aoife", Grant: "grant-of-aoife"}
	ctx, end := s.session(t.Context(), a)
	m := newMeters()
	if _, err := (measuredRecorder{failing{}, m, s}).Append(ctx, trefoil.Record{}, nil); err == nil {
		t.Error("no error")
	}
	if _, err := (measuredPermitter{failing{}, m, s}).Permit(ctx, trefoil.PermitRequest{}); err == nil {
		t.Error("no error")
	}
	end(nil)
	if err := s.end(t.Context()); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	defer mu.Unlock()
	for _, want := range []string{"append record", "ask the monitor", "session", "5e55", "research", "dublin"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("the collector was not told of %q", want)
		}
	}
	for _, never := range []string{"aoife", "caoimhe", "literal"} {
		if strings.Contains(got.String(), never) {
			t.Errorf("the collector was told of %q", never)
		}
	}
}

// TestACollectorThatIsAwayHoldsNothingUp: what cannot be sent is said once and dropped.
func TestACollectorThatIsAwayHoldsNothingUp(t *testing.T) {
	away := httptest.NewServer(http.NotFoundHandler())
	away.Close()
	var said bytes.Buffer
	c := &Config{}
	c.Gateway.Traces = &Traces{OTLP: away.URL}
	s, err := c.traces(t.Context(), slog.New(slog.NewTextHandler(&said, nil)))
	if err != nil {
		t.Fatal(err)
	}
	_, end := s.session(t.Context(), trefoil.Access{})
	end(nil)
	if err := s.end(t.Context()); err != nil || !strings.Contains(said.String(), "not taken by the collector") {
		t.Errorf("%v %s", err, said.String())
	}
	c.Gateway.Traces = nil
	if s, err = c.traces(t.Context(), nil); err != nil || s.end(t.Context()) != nil {
		t.Error("without settings something is sent")
	}
}

func TestTracesToAStrangerAreRefused(t *testing.T) {
	for url, ok := range map[string]bool{
		"https://collector.example:4318/v1/traces": true, "http://127.0.0.1:4318/v1/traces": true, "http://localhost:4318": true,
		"http://collector.example:4318": false, "collector:4318": false, "": false, "https://user:word@collector.example": false, "ftp://127.0.0.1": false,
	} {
		complaints := 0
		(&Traces{OTLP: url}).validate(func(string, string, ...any) { complaints++ })
		if (complaints == 0) != ok {
			t.Errorf("%q: %d complaints", url, complaints)
		}
	}
	complaints := 0
	(&Traces{OTLP: "https://a.example", Sample: 1.5}).validate(func(string, string, ...any) { complaints++ })
	if complaints != 1 {
		t.Error("a sample of 150 % is taken")
	}
}
