package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/home/watch"
)

// freshLine says how far behind a dataset is, and which of its bounds that exceeds.
func freshLine(f dataset.Freshness) string {
	line := f.Lag.Round(100*time.Millisecond).String() + " behind"
	if f.Bytes >= 0 {
		line = fmt.Sprintf("%s, %d bytes of log", line, f.Bytes)
	}
	switch {
	case f.TooOld():
		line += fmt.Sprintf(", over its bound of %s: sessions are refused", f.Refuse)
	case f.Old():
		line += fmt.Sprintf(", over its bound of %s: sessions are warned", f.Warn)
	}
	return line
}

// careLine says what the source keeps for a dataset, and what happened to it.
func careLine(w io.Writer, s *dataset.Status) {
	if s.Retained >= 0 {
		fmt.Fprintf(w, "%-16s the source keeps %d bytes of its log for it, of at most %d\n", "", s.Retained, s.Bound)
	}
	if s.Rebuilt+s.Resynced > 0 {
		fmt.Fprintf(w, "%-16s built again %d times, brought back by comparison %d times: trefoil dataset drift %s\n", "", s.Rebuilt, s.Resynced, s.Name)
	}
}

// tidySlots removes the slots that nobody follows. What cannot be removed must not keep the
// datasets from following.
func tidySlots(ctx context.Context, w io.Writer, b *dataset.Builder) {
	done, err := b.Tidy(ctx)
	for _, t := range done {
		fmt.Fprintf(w, "%s: nobody follows it any more: its replication slot at %s is removed, which kept %d bytes of log\n", t.Dataset, t.Source, t.Bytes)
	}
	if err != nil {
		fmt.Fprintln(w, "slots that nobody follows could not all be looked for:", err)
	}
}

// serveMetrics answers at an address until stop is called; "" is nowhere.
func serveMetrics(ctx context.Context, w io.Writer, b *dataset.Builder, names []string, address string) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	ready, done := make(chan net.Addr, 1), make(chan error, 1)
	logger := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn}))
	go func() { done <- watch.New(b, names, logger).Serve(ctx, address, func(a net.Addr) { ready <- a }) }()
	select {
	case a := <-ready:
		fmt.Fprintf(w, "metrics at http://%s/metrics\n", a)
	case err := <-done:
		cancel()
		return nil, err
	}
	return func() {
		cancel()
		if err := <-done; err != nil {
			fmt.Fprintln(w, err)
		}
	}, nil
}
