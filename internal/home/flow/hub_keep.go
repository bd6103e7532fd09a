package flow

import (
	"context"
	"sync"
	"time"
)

// This file parts streams from a hub: those that hold the others, and the places of those that
// do not come back.

// keepEvery is how often the keeper looks.
const keepEvery = 100 * time.Millisecond

// keep starts the keeper. Its caller holds the lock.
func (h *Hub) keep() {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		tick := time.NewTicker(keepEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for _, name := range h.burdens(time.Now()) {
				h.part(ctx, name)
			}
		}
	})
	h.keeper = func() { cancel(); running.Wait() }
}

// burdens are the names of those whom the others should not wait for.
func (h *Hub) burdens(now time.Time) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil {
		return nil
	}
	h.least()
	var first LSN
	others, stuck := 0, 0 // streams that read, and those of them that have been full for long
	for _, p := range h.places {
		if p.stream == nil {
			continue
		}
		first = max(first, p.floor)
		others++
		if p.stream.stuck(now, h.cfg.Patience) {
			stuck++
		}
	}
	var out []string
	for name, p := range h.places {
		switch s := p.stream; {
		case s == nil:
			if now.Sub(p.left) > h.cfg.Grace {
				out = append(out, name)
			}
		case s.off.Load():
		case stuck < others && s.stuck(now, h.cfg.Patience), int64(first)-int64(p.floor) > h.cfg.Apart:
			out = append(out, name)
		}
	}
	return out
}

// stuck says that the receiver has waited for the stream's owner to take a batch.
func (s *Stream) stuck(now time.Time, patience time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting && now.Sub(s.since) > patience
}

// part gives up the place of one, which can go on by another slot.
func (h *Hub) part(ctx context.Context, name string) {
	h.mu.Lock()
	p := h.places[name]
	h.mu.Unlock()
	if p == nil {
		return
	}
	if err := h.cfg.Leave(ctx, name); err != nil {
		if ctx.Err() == nil {
			h.cfg.Logger.Warn("one of the streams that share a slot holds the others, and could not be given a slot of its own", "slot", h.cfg.Slot, "stream", name, "error", err)
		}
		select { // the source may be away
		case <-ctx.Done():
		case <-time.After(h.cfg.Patience):
		}
		return
	}
	h.mu.Lock()
	if h.places[name] == p { // else it came back meanwhile
		delete(h.places, name)
	}
	s := p.stream
	h.mu.Unlock()
	if s != nil {
		h.cfg.Logger.Info("one of the streams that share a slot was too slow, and goes on by a slot of its own", "slot", h.cfg.Slot, "stream", name)
		s.fail(ErrParted)
	}
}
