package enclave

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/certfile"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/release"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/home/control"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
	"github.com/trefoil-eu/trefoil/internal/proof/audit/secrets"
)

// RunGateway runs the door of one site until ctx ends: dataset clusters, access log and its
// HTTP service, sessions, and the duties beside them. It starts without the monitor.
//
// It stops in this order: sessions first, since their last records need the log; then the
// duties, which append too; then the clusters; then the log.
func RunGateway(ctx context.Context, c *Config, logger *slog.Logger) error {
	open := doors{}
	defer open.close()
	if err := c.openDoors(ctx, open); err != nil {
		return err
	}
	return runGateway(ctx, c, open, logger)
}

func runGateway(ctx context.Context, c *Config, open doors, logger *slog.Logger) (err error) {
	p := &process{config: c, logger: logger, meters: newMeters(), doors: open}
	defer func() { err = errors.Join(err, p.close()) }()
	for _, step := range []func(context.Context) error{p.readRules, p.openLog, p.openClusters, p.openStore, p.makeGateway} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return p.run(ctx)
}

// process is what one gateway process holds open.
type process struct {
	config   *Config
	quota    *quota
	logger   *slog.Logger
	rules    *Rules
	trust    *trefoil.Trust
	others   *trefoil.Trust
	token    string
	binary   string
	log      *accesslog.Log
	server   *http.Server
	listener net.Listener
	scribe   *scribe
	clusters *Clusters
	store    *control.Store
	standing *standing
	auth     *Authoriser
	gateway  *gateway.Gateway
	routes   *routes
	meters   *meters
	spans    *spans
	doors    doors
	secure   *tls.Config // towards the monitor
	sources  *sources
	tokens   *tokenBook
	kept     kept
	secrets  *secrets.Store // of sessions through the valve; nil: not kept
	leave    context.CancelCauseFunc
	epoch    *release.Epoch // highest count of stops that the monitor told
	vigil    *vigil
}

func (p *process) readRules(context.Context) error {
	var err error
	if p.rules, err = LoadRules(p.config); err != nil {
		return err
	}
	if p.trust, err = p.config.Trust(); err != nil {
		return err
	}
	if p.others, err = p.config.OtherTrust(); err != nil {
		return err
	}
	if p.token, err = readToken(p.config.Monitor.Token); err != nil {
		return err
	}
	p.binary, err = BinaryHash()
	return err
}

func (p *process) openLog(ctx context.Context) error {
	var err error
	if dir := p.config.Gateway.SpillDir; dir != "" {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make spill directory: %w", err)
		}
	}
	if p.log, err = p.config.OpenLog(ctx, p.logger); err != nil {
		return err
	}
	p.scribe = &scribe{log: p.log, origin: p.config.Log.Origin, now: time.Now, meters: p.meters}
	if p.secure, err = p.config.monitorTLS(); err != nil {
		return err
	}
	serving, err := certfile.Server(p.config.Log.Certificate, p.config.Log.ServerKey)
	if err != nil {
		return fmt.Errorf("serve log: %w", err)
	}
	p.listener = p.doors[p.config.Log.Listen]
	if serving != nil {
		p.listener = tls.NewListener(p.listener, serving)
	}
	p.server = &http.Server{Handler: p.log.Handler(p.token), ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	return nil
}

func (p *process) openClusters(ctx context.Context) error {
	var err error
	p.clusters, err = p.config.OpenClusters(ctx, p.logger)
	return err
}

func (p *process) openStore(ctx context.Context) error {
	var err error
	p.store, err = control.Open(ctx, p.config.Control)
	return err
}

func (p *process) makeGateway(ctx context.Context) error {
	limits, err := p.config.limits()
	if err != nil {
		return err
	}
	secret, err := readSecret(p.config.Keys.Statements, "statements key")
	if err != nil {
		return err
	}
	if p.standing, err = p.datasets(); err != nil {
		return err
	}
	k := keyer{secret: secret, classifier: statement.NewClassifier(nil)}
	p.auth = NewAuthoriser(p.rules, p.clusters, p.standing, p.store, p.binary)
	if p.routes, err = p.config.openRoutes(p.leaveServer, p.logger); err != nil {
		return err
	}
	p.routes.ask(ctx)
	p.auth.routes = p.routes
	p.sources = newSources(p.auth.now, p.routes, p.logger)
	live, err := p.live(ctx, p.rules)
	if err != nil {
		return err
	}
	live.Limits = limits
	clients, err := p.withValve(p.clientDoors())
	if err != nil {
		return err
	}
	if p.spans, err = p.config.traces(ctx, p.logger); err != nil {
		return err
	}
	p.quota = newQuota(p.config.Gateway.TemporaryBytes, p.config.Gateway.TemporaryBytesAll)
	keeper, err := p.secretKeeper()
	if err != nil {
		return err
	}
	p.epoch = new(release.Epoch)
	if p.vigil, err = newVigil(p.config, p.secure, p.epoch, time.Now); err != nil {
		return err
	}
	p.gateway, err = gateway.New(gateway.Config{
		Secrets:   keeper,
		Listeners: clients, TLS: live.TLS, RequireTLS: live.RequireTLS,
		Directory: live.Directory, Locator: live.Locator, OIDC: live.OIDC, Certificates: live.Certificates, Sources: p.sources,
		TokenUsed: p.tokens.used, Authoriser: p.auth, Recorder: p.scribe, Accountant: k,
		Pseudonym: func(id string, at time.Time) string { return trefoil.StaffPseudonym(p.rules.StaffKey, at, id) },
		Releases: &runner{now: p.auth.now, auth: p.auth, log: p.log, trust: p.trust, others: p.others, keyer: k, epoch: p.epoch,
			permitter: measuredPermitter{release.NewHTTPPermitter(p.config.Monitor.URL, p.token, p.secure), p.meters, p.spans}, meters: p.meters, spans: p.spans, limits: p.releaseLimits(),
			store: release.NewStore(heldMemory, heldDisk), quota: p.quota,
			logger: p.logger, shared: map[string]*sharedByDataset{}},
		Limits: limits, Logger: p.logger,
	})
	return err
}

func (p *process) clientDoors() []net.Listener {
	var out []net.Listener
	for _, address := range p.config.clientAddresses() {
		out = append(out, p.doors[address])
	}
	return out
}

func (c *Config) limits() (gateway.Limits, error) {
	of := c.Gateway.Limits
	l := gateway.Limits{Sessions: c.Gateway.MaxSessions, SessionsPer: of.SessionsPer, PersonSessions: of.PersonSessions,
		PersonPerSec: of.PersonPerSec, ServicePerSec: of.ServicePerSec, RefusedPerMinute: of.RefusedPerMinute}
	if text := c.Gateway.SummaryInterval; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return l, fmt.Errorf("gateway.summary_interval: %w", err)
		}
		l.Summary = d
	}
	return l, nil
}

// What the sessions of the release path hold together: a few clients that never read must
// not take the service path down with them.
const (
	heldMemory = 1 << 30
	heldDisk   = 32 << 30
)

func (p *process) releaseLimits() release.Limits {
	g := p.config.Gateway
	return release.Limits{ChunkBytes: g.ChunkBytes, MemoryBytes: g.MemoryBytes, Allowance: g.CatalogAllowance}
}

// serverTLS is what clients are offered; nil without a certificate.
func (c *Config) serverTLS() (*tls.Config, error) {
	g := c.Gateway
	if g.Certificate == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(g.Certificate, g.Key)
	if err != nil {
		return nil, fmt.Errorf("read the gateway's certificate: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// run serves until ctx ends or a part fails.
func (p *process) run(ctx context.Context) error {
	if err := p.announce(ctx); err != nil {
		return err
	}
	var all sync.WaitGroup
	failed := make(chan error, 1)
	all.Go(func() {
		if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
			failed <- fmt.Errorf("serve log: %w", err)
		}
	})
	serving, cancel := context.WithCancelCause(ctx)
	p.leave = cancel
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	d := &duties{now: p.auth.now, scribe: p.scribe, store: p.store, log: p.log, auth: p.auth, standing: p.standing, quota: p.quota,
		asker: newAcknowledger(p.config, p.scribe, p.trust.Permit, p.token, p.secure), logger: p.logger}
	all.Go(func() { d.run(work, p.gateway) })
	all.Go(func() { d.repeat(work, "vigil over the monitor", time.Second, p.vigil.round) })
	all.Go(func() { p.routes.run(work) })
	if p.secrets != nil {
		all.Go(func() { p.secrets.Run(work, p.logger) })
	}
	all.Go(func() { p.reloads(work) })
	if err := p.serveOperator(work, &all); err != nil {
		p.logger.Error("the gateway runs without it", "error", err)
	}

	go func() {
		select {
		case err := <-failed:
			cancel(err)
		case <-serving.Done():
		}
	}()
	p.logger.Info("gateway is ready", "address", p.gateway.Addr().String(), "log", p.listener.Addr().String())
	err := p.gateway.Run(serving)
	if cause := context.Cause(serving); err == nil && ctx.Err() == nil && !errors.Is(cause, errTakenOver) {
		err = cause
	}
	cancel(nil)
	stop()
	err = errors.Join(err, p.scribe.Record(context.WithoutCancel(ctx), p.siteBody("stopped")), p.server.Close(), p.spans.end(ctx))
	all.Wait()
	return err
}

// leaveServer ends the service sessions on a server that is no longer the primary. Those that
// only read may stay where they are.
func (p *process) leaveServer(database, address string) {
	n := p.gateway.CloseSessions(func(s gateway.SessionInfo) bool {
		return s.Path == gateway.Service && s.Server == address && !s.ReadOnly
	}, "database "+database+" has another primary now: connect again")
	p.logger.Warn("primary changed", "database", database, "from", address, "sessions", n)
}

// announce records that the gateway starts, and which rules are in force.
func (p *process) announce(ctx context.Context) error {
	return errors.Join(
		p.scribe.Record(ctx, p.siteBody("started")), p.announceMode(ctx, p.rules),
		p.scribe.Record(ctx, &trefoil.Body{Kind: trefoil.KindPolicy, Policy: &trefoil.PolicyBody{Hashes: p.rules.Hashes("", p.binary)}}))
}

func (p *process) siteBody(event string) *trefoil.Body {
	b := &trefoil.SiteBody{Event: event, Part: "gateway", Site: p.config.Site}
	for _, s := range p.config.Sites {
		if s.Name == p.config.Site {
			b.Country, b.Simulated = s.Country, s.Simulated
		}
	}
	return &trefoil.Body{Kind: trefoil.KindSite, Site: b}
}

// close releases what is open, the log after all who append to it.
func (p *process) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	var errs []error
	if p.gateway != nil {
		p.gateway.Close()
	}
	if p.sources != nil {
		p.sources.close()
	}
	if p.standing != nil {
		p.standing.positions.Close()
	}
	if p.listener != nil {
		if err := p.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if p.store != nil {
		p.store.Close()
	}
	if p.clusters != nil { // before the log: who waits for its lock starts them again
		errs = append(errs, p.clusters.Stop(ctx))
	}
	if p.log != nil {
		errs = append(errs, p.log.Close(ctx))
	}
	return errors.Join(errs...)
}
