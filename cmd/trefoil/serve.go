package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"
)

// serveUntil serves l beside run until ctx ends or serving fails. Requests end first, within
// five seconds, then run: what was answered is also what run still writes down.
func serveUntil(ctx context.Context, server *http.Server, l net.Listener, run func(context.Context) error) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	served, ran := make(chan error, 1), make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	go func() { ran <- run(running) }()
	var err error
	select {
	case <-ctx.Done():
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err = server.Shutdown(grace); err != nil {
			err = errors.Join(err, server.Close())
		}
		<-served
	case err = <-served:
	}
	stop()
	return errors.Join(err, <-ran)
}
