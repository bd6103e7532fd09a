package gateway

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// halfOpen bounds connections that are not authenticated yet, in all and per address.
type halfOpen struct {
	mu    sync.Mutex
	conns map[net.Conn]struct{}
	per   map[netip.Addr]int
	most  int
	each  int
}

func newHalfOpen(l Limits) *halfOpen {
	return &halfOpen{conns: map[net.Conn]struct{}{}, per: map[netip.Addr]int{}, most: l.HalfOpen, each: l.HalfOpenPer}
}

// enter counts a connection in, unless there are too many.
func (h *halfOpen) enter(c net.Conn, a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.conns) >= h.most || h.per[a] >= h.each {
		return false
	}
	h.conns[c] = struct{}{}
	h.per[a]++
	return true
}

func (h *halfOpen) leave(c net.Conn, a netip.Addr) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.conns, c)
	if h.per[a]--; h.per[a] <= 0 {
		delete(h.per, a)
	}
}

func (h *halfOpen) closeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.conns {
		_ = c.Close()
	}
}

// guesses bounds cancel requests that match no session, per address and minute.
type guesses struct {
	mu     sync.Mutex
	most   int
	minute int64
	failed map[netip.Addr]int
}

func newGuesses(most int) *guesses { return &guesses{most: most, failed: map[netip.Addr]int{}} }

// exhausted reports whether an address has guessed too often this minute.
func (x *guesses) exhausted(a netip.Addr, now time.Time) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turn(now)
	return x.failed[a] >= x.most
}

func (x *guesses) fail(a netip.Addr, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.turn(now)
	if len(x.failed) < 10000 { // bounded; more addresses than this in a minute are not one guesser
		x.failed[a]++
	}
}

func (x *guesses) turn(now time.Time) {
	if m := now.Unix() / 60; m != x.minute {
		x.minute = m
		clear(x.failed)
	}
}
