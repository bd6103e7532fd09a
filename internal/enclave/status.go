package enclave

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/trefoil-eu/trefoil/internal/door/pool"
	"github.com/trefoil-eu/trefoil/internal/door/route"
)

// Status is what a running gateway tells its operator. Principals are under their own ids:
// it is read through a socket that the gateway's account alone may open.
type Status struct {
	At       time.Time                `json:"at"`
	Name     string                   `json:"name"`
	Site     string                   `json:"site"`
	Checks   map[string]string        `json:"checks"` // "ok", or what is wrong
	Log      LogStatus                `json:"log"`
	Clients  []ClientStatus           `json:"clients"`
	Routes   map[string][]route.State `json:"routes"`
	Sessions map[string]int           `json:"sessions"` // by path
	Pools    []pool.Info              `json:"pools"`    // of the service path
}

// LogStatus is how far the access log and its witnesses are.
type LogStatus struct {
	Origin    string `json:"origin"`
	Records   uint64 `json:"records"`
	Witnessed uint64 `json:"witnessed"`
}

// ClientStatus is one open session.
type ClientStatus struct {
	Session   string    `json:"session"`
	Principal string    `json:"principal"`
	Database  string    `json:"database"`
	Path      string    `json:"path"`
	Server    string    `json:"server"`
	Grant     string    `json:"grant,omitempty"`
	Since     time.Time `json:"since"`
	Until     time.Time `json:"until,omitzero"`
}

// status takes stock.
func (p *process) status(ctx context.Context) Status {
	s := Status{At: time.Now().UTC(), Name: p.config.Name, Site: p.config.Site, Checks: p.checks(ctx), Clients: []ClientStatus{},
		Log: LogStatus{Origin: p.config.Log.Origin, Records: p.log.Size()}, Routes: p.routes.states(), Sessions: map[string]int{}}
	if head := p.log.Checkpoint(); head != nil {
		s.Log.Witnessed = head.Size
	}
	s.Pools = p.gateway.Pools()
	for _, c := range p.gateway.Sessions() {
		s.Sessions[pathName(c.Path)]++
		s.Clients = append(s.Clients, ClientStatus{Session: c.ID, Principal: c.Principal, Database: c.Database, Path: pathName(c.Path),
			Server: c.Server, Grant: c.Grant, Since: c.Since.UTC(), Until: c.Until})
	}
	slices.SortFunc(s.Clients, func(a, b ClientStatus) int {
		return cmp.Or(cmp.Compare(a.Database, b.Database), a.Since.Compare(b.Since), cmp.Compare(a.Session, b.Session))
	})
	return s
}

// Names of the checks.
const (
	checkLog     = "log"
	checkControl = "control store"
	checkMonitor = "monitor"
)

// checks looks at what the gateway depends on.
func (p *process) checks(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	out := map[string]string{}
	note := func(name string, err error) {
		out[name] = "ok"
		if err != nil {
			out[name] = err.Error()
		}
	}
	var err error
	if p.log.Checkpoint() == nil {
		err = errors.New("there is no checkpoint that verifies")
	}
	note(checkLog, err)
	note(checkControl, p.store.Ping(ctx))
	note(checkMonitor, reachable(ctx, p.config.Monitor.URL))
	for name, router := range p.routes.routers {
		_, err := router.Primary()
		note("database "+name, err)
	}
	return out
}

// reachable says whether somebody listens where a URL points to.
func reachable(ctx context.Context, address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return errors.New("its URL does not parse")
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), map[string]string{"https": "443"}[u.Scheme], "80")))
	if err != nil {
		return err
	}
	return conn.Close()
}

// metricsHandler serves /metrics, /healthz (the process answers) and /readyz (it takes
// sessions: without monitor or control store the service path goes on, without log it does not).
func (p *process) metricsHandler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(p.meters.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		checks := p.checks(r.Context())
		w.Header().Set("Content-Type", "application/json")
		if checks[checkLog] != "ok" {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(checks)
	})
	return mux
}

// statusHandler serves the whole status to the operator.
func (p *process) statusHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(p.status(r.Context())) // a client that went away needs no answer
	})
	mux.HandleFunc("POST /takeover", p.handOver)
	return mux
}

// openSocket listens on the status socket. One that an earlier process left is replaced; one
// that somebody listens on is not.
func openSocket(path string) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		_ = conn.Close()
		return nil, fmt.Errorf("open status socket %s: another gateway listens there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("open status socket: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("open status socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect status socket: %w", err), l.Close())
	}
	return l, nil
}

// GatewayStatus asks the gateway that runs with this configuration.
func (c *Config) GatewayStatus(ctx context.Context) (*Status, error) {
	client := c.socketClient()
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://gateway/status", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the gateway: nobody answers on %s (is it running, and is this its account?): %w", c.Gateway.Status, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	var s Status
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		return nil, fmt.Errorf("ask the gateway: read its answer: %w", err)
	}
	return &s, nil
}
