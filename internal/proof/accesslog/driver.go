package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/storage/posix"
	"k8s.io/klog/v2"
)

const (
	minCheckpointInterval = 100 * time.Millisecond // the driver's own floor
	maxBatch              = 4096                   // leaves that the driver integrates at once
	batchAge              = time.Millisecond
	collectEvery          = 10 * time.Second // partial tiles that full ones replaced
	maxWitnessAnswer      = 64 << 10
)

// driver is the Tessera log below.
type driver struct {
	add       tessera.AddFn
	shutdown  func(context.Context) error
	reader    tessera.LogReader
	witnesses *witnessTransport
	cancel    context.CancelFunc
}

// openDriver opens or makes the Tessera log in dir. It never waits for a witness: a new log
// wants its empty checkpoint cosigned first and fails if it is not, but the second attempt
// finds the tree's state and leaves the checkpoint to the publisher, which keeps trying.
func openDriver(c *Config, dir string) (*driver, error) {
	quiet(c.Logger)
	d := &driver{witnesses: newWitnessTransport(c)}
	client := &http.Client{
		Transport:     d.witnesses,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	group, err := witnessGroup(c)
	if err != nil {
		return nil, err
	}
	options := tessera.NewAppendOptions().
		WithCheckpointSigner(c.Signer).
		WithCheckpointInterval(c.CheckpointInterval).
		WithBatching(maxBatch, batchAge).
		WithGarbageCollectionInterval(collectEvery).
		WithWitnesses(group, &tessera.WitnessOptions{Timeout: c.WitnessTimeout, FailOpen: false})

	ctx, cancel := context.WithCancel(context.Background())
	d.cancel = cancel
	d.witnesses.blocked.Store(true)
	var a *tessera.Appender
	for range 2 {
		var storage tessera.Driver
		if storage, err = posix.New(ctx, posix.Config{HTTPClient: client, Path: dir}); err != nil {
			break
		}
		if a, d.shutdown, d.reader, err = tessera.NewAppender(ctx, storage, options); err == nil {
			break
		}
	}
	d.witnesses.blocked.Store(false)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open tessera log: %w", err)
	}
	d.add = a.Add
	return d, nil
}

func witnessGroup(c *Config) (tessera.WitnessGroup, error) {
	none := tessera.NewWitnessGroup(0)
	if c.Quorum < 0 {
		return none, nil
	}
	var all []tessera.Witness
	for i, w := range c.Witnesses {
		u, err := url.Parse(w.URL)
		if err != nil || u.Host == "" {
			return none, fmt.Errorf("witness %d: not a URL", i+1)
		}
		tw, err := tessera.NewWitness(w.Key, u)
		if err != nil {
			return none, fmt.Errorf("witness %d: %w", i+1, err)
		}
		all = append(all, tw)
	}
	need := c.Quorum
	if need == 0 {
		need = len(all)
	}
	g := tessera.WitnessGroup{N: need}
	for _, w := range all {
		g.Components = append(g.Components, w)
	}
	return g, nil
}

// close stops the driver. Its goroutines end with the context and cannot be joined, so the
// signer has been told to sign no more, and requests under way are waited for.
func (d *driver) close(ctx context.Context) error {
	err := d.shutdown(ctx)
	d.cancel()
	d.witnesses.drain()
	return err
}

// witnessTransport is the way to the witnesses: bounded answers, and what went wrong last.
type witnessTransport struct {
	order   *precedence
	base    *http.Transport
	blocked atomic.Bool
	flight  sync.WaitGroup
	last    atomic.Pointer[error]
}

func newWitnessTransport(c *Config) *witnessTransport {
	return &witnessTransport{order: newPrecedence(c), base: &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 2 * time.Second, KeepAlive: 5 * time.Second}).DialContext,
		TLSHandshakeTimeout:   2 * time.Second,
		TLSClientConfig:       c.TLS,
		MaxIdleConnsPerHost:   2,
		IdleConnTimeout:       time.Minute,
		ResponseHeaderTimeout: 10 * time.Second,
	}}
}

var errNotYet = errors.New("witnesses are asked once the log is open")

// RoundTrip implements http.RoundTripper.
func (t *witnessTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	if t.blocked.Load() {
		return nil, errNotYet
	}
	t.flight.Add(1)
	defer t.flight.Done()
	sent := time.Now()
	resp, err := t.base.RoundTrip(req)
	first := t.order.isFirst(req)
	if t.order.prefix != "" && !first {
		t.order.hold(req.Context(), sent)
	}
	if err != nil {
		if first {
			t.order.arrived()
		}
		t.last.Store(&err)
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusConflict: // the driver asks again from the size in the answer
	case http.StatusOK:
		t.last.Store(nil)
	default:
		status := fmt.Errorf("witness answered %d", resp.StatusCode)
		t.last.Store(&status)
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxWitnessAnswer), resp.Body}
	if first && resp.StatusCode != http.StatusConflict {
		resp.Body = firstBody{resp.Body, t.order}
	}
	return resp, nil
}

// lastError is what the last unsuccessful request to a witness met, or nil.
func (t *witnessTransport) lastError() error {
	if p := t.last.Load(); p != nil {
		return *p
	}
	return nil
}

func (t *witnessTransport) drain() {
	t.flight.Wait()
	t.base.CloseIdleConnections()
}

// quieted is set once: the driver logs through klog, whose logger belongs to the process.
var quieted sync.Once

// quiet sends the driver's own words to the operator's debug log. What matters of them comes
// back as errors, and while a witness is away they would be ten lines a second.
func quiet(logger *slog.Logger) {
	quieted.Do(func() { klog.SetSlogLogger(slog.New(debugOnly{logger.Handler()})) })
}

// debugOnly lowers every message to debug level.
type debugOnly struct{ slog.Handler }

// Enabled implements slog.Handler.
func (d debugOnly) Enabled(ctx context.Context, _ slog.Level) bool {
	return d.Handler.Enabled(ctx, slog.LevelDebug)
}

// Handle implements slog.Handler.
func (d debugOnly) Handle(ctx context.Context, r slog.Record) error {
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}
