package identity

import (
	"net/netip"
	"sync"
	"time"
)

// Limiter bounds wrong passwords per user and per address. Its memory is bounded: when it
// is full, the entries that are nearest to forgotten go first.
//
// An address from which a user logged in before is not held up by wrong passwords for that
// user from elsewhere, so nobody can lock a service out by guessing at its name.
type Limiter struct {
	mu    sync.Mutex
	now   func() time.Time
	users map[string]*bucket
	addrs map[netip.Prefix]*bucket
	good  map[pair]time.Time
}

type pair struct {
	user string
	addr netip.Prefix
}

// bucket holds wrong passwords that leak away with time.
type bucket struct {
	level float64
	at    time.Time
}

// Bounds of the Limiter.
const (
	userBurst   = 10
	addrBurst   = 30
	userLeak    = 10 * time.Second // one wrong password is forgotten in
	addrLeak    = 3 * time.Second
	goodFor     = 24 * time.Hour
	maxTracked  = 16384
	maxSweepOff = 64
)

// NewLimiter returns a limiter. now nil means time.Now.
func NewLimiter(now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now, users: map[string]*bucket{}, addrs: map[netip.Prefix]*bucket{}, good: map[pair]time.Time{}}
}

// block is the unit an address is counted in: one IPv4 address, or an IPv6 /64.
func block(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	bits := 64
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits)
	return p
}

// Wait returns how long user at addr has to wait before another password is looked at; 0
// means not at all. It is the same for users that exist and users that do not.
func (l *Limiter) Wait(user string, addr netip.Addr) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, b := l.now(), block(addr)
	wait := over(l.addrs[b], now, addrBurst, addrLeak)
	if since, ok := l.good[pair{user, b}]; !ok || now.Sub(since) > goodFor {
		wait = max(wait, over(l.users[user], now, userBurst, userLeak))
	}
	return wait
}

// Failed counts a wrong password.
func (l *Limiter) Failed(user string, addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	fill(l.users, user, now, userLeak, userBurst)
	fill(l.addrs, block(addr), now, addrLeak, addrBurst)
}

// Succeeded remembers that user logged in from addr.
func (l *Limiter) Succeeded(user string, addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.good) >= maxTracked {
		dropSome(l.good, func(a, b time.Time) bool { return a.Before(b) })
	}
	l.good[pair{user, block(addr)}] = l.now()
}

// over returns how long until a bucket has room for one more.
func over(b *bucket, now time.Time, burst int, leak time.Duration) time.Duration {
	if b == nil {
		return 0
	}
	excess := b.drain(now, leak) - float64(burst-1)
	if excess <= 0 {
		return 0
	}
	return time.Duration(excess * float64(leak))
}

// drain returns the level at now.
func (b *bucket) drain(now time.Time, leak time.Duration) float64 {
	gone := max(0, now.Sub(b.at).Seconds()/leak.Seconds())
	return max(0, b.level-gone)
}

// fill counts one more, up to a level from which nobody is shut out for long.
func fill[K comparable](m map[K]*bucket, k K, now time.Time, leak time.Duration, burst int) {
	b := m[k]
	if b == nil {
		if len(m) >= maxTracked {
			dropSome(m, func(a, b *bucket) bool { return a.drain(now, leak) < b.drain(now, leak) })
		}
		b = &bucket{}
		m[k] = b
	}
	b.level, b.at = min(b.drain(now, leak)+1, float64(4*burst)), now
}

// dropSome removes the least of a random handful: bounded work, and what is worst stays.
func dropSome[K comparable, V any](m map[K]V, less func(a, b V) bool) {
	var least K
	n := 0
	for k, v := range m {
		if n == 0 || less(v, m[least]) {
			least = k
		}
		if n++; n == maxSweepOff {
			break
		}
	}
	delete(m, least)
}
