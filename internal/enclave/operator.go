package enclave

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

// serveOperator serves figures and status until ctx ends. What cannot be served does not keep
// the gateway from its work.
func (p *process) serveOperator(ctx context.Context, all *sync.WaitGroup) error {
	p.meters.gauges(p)
	var errs []error
	if l, err := openSocket(p.config.Gateway.Status); err != nil {
		errs = append(errs, err)
	} else {
		p.serveUntil(ctx, all, l, p.statusHandler())
	}
	if address := p.config.Gateway.Metrics; address != "" {
		if l, err := net.Listen("tcp", address); err != nil {
			errs = append(errs, fmt.Errorf("serve metrics: %w", err))
		} else {
			p.serveUntil(ctx, all, l, p.metricsHandler())
		}
	}
	if err := p.serveGrants(ctx, all); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// serveGrants serves the API for grants, under the gateway's own certificate if it has one.
func (p *process) serveGrants(ctx context.Context, all *sync.WaitGroup) error {
	address := p.config.Gateway.API
	if address == "" {
		return nil
	}
	secure, err := p.config.serverTLS()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("serve grants: %w", err)
	}
	if secure != nil {
		l = tls.NewListener(l, secure)
	}
	p.serveUntil(ctx, all, l, newGrantsAPI(p.auth.now.get, p.store, p.config.Log.Origin, time.Now, p.logger).handler())
	return nil
}

func (p *process) serveUntil(ctx context.Context, all *sync.WaitGroup, l net.Listener, h http.Handler) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	all.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			p.logger.Error("status is no longer served", "address", l.Addr().String(), "error", err)
		}
	})
	all.Go(func() {
		<-ctx.Done()
		_ = server.Close() // what it was asked for is not worth waiting for
	})
}
