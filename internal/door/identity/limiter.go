package identity

import (
	"context"
	"net/netip"
	"sync"
	"time"
)

// Limiter bounds wrong passwords per user and per address. Its memory is bounded: when it
// is full, the entries that are nearest to forgotten go first.
//
// An address from which a user logged in before is not held up by wrong passwords for that
// user from elsewhere, so nobody can lock a service out by guessing at its name.
//
// A guess is counted before it is answered: who asks in parallel waits for the answers to
// those before, as far as the bucket has no room for all of them to be wrong.
type Limiter struct {
	mu    sync.Mutex
	now   func() time.Time
	users map[string]*bucket
	addrs map[netip.Prefix]*bucket
	good  map[pair]time.Time

	userTries map[string]int // under way
	addrTries map[netip.Prefix]int
	pairTries map[pair]int
	ended     chan struct{} // closed, and made anew, when a try ends
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
	fullest     = 4 // a bucket counts up to so many times its burst
)

// NewLimiter returns a limiter. now nil means time.Now.
func NewLimiter(now func() time.Time) *Limiter {
	if now == nil {
		now = time.Now
	}
	return &Limiter{now: now, users: map[string]*bucket{}, addrs: map[netip.Prefix]*bucket{}, good: map[pair]time.Time{},
		userTries: map[string]int{}, addrTries: map[netip.Prefix]int{}, pairTries: map[pair]int{}, ended: make(chan struct{})}
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
	return l.wait(user, block(addr))
}

// wait returns how long until the buckets have room for one more.
func (l *Limiter) wait(user string, b netip.Prefix) time.Duration {
	now := l.now()
	wait := over(l.addrs[b], now, addrBurst, addrLeak)
	if !l.trusted(user, b, now) {
		wait = max(wait, over(l.users[user], now, userBurst, userLeak))
	}
	return wait
}

// room reports whether there would be room if all guesses under way were wrong. An address's
// first for a user may use all that the user's bucket counts, so that a few exchanges left
// half open elsewhere keep nobody out.
func (l *Limiter) room(user string, b netip.Prefix) bool {
	now := l.now()
	most := userBurst
	if l.pairTries[pair{user, b}] == 0 {
		most = fullest * userBurst
	}
	return l.trusted(user, b, now) || over(l.addrs[b], now, addrBurst-l.addrTries[b], addrLeak) == 0 &&
		over(l.users[user], now, most-l.userTries[user], userLeak) == 0
}

func (l *Limiter) trusted(user string, b netip.Prefix, now time.Time) bool {
	since, ok := l.good[pair{user, b}]
	return ok && now.Sub(since) <= goodFor
}

// Reserve takes room for one guess before it is looked at. It waits, until ctx ends, for
// guesses under way whose answers decide whether there is room. A wait > 0 says how long to
// stay away. Otherwise the caller must call done once: right true for a right password,
// wrong true for a wrong one, neither for a client that went away or said nonsense: such a
// one has learned nothing.
//
// Where user logged in from before, nobody waits for others: an address that opens a
// pool of connections at once must not stand behind somebody who leaves theirs half open.
func (l *Limiter) Reserve(ctx context.Context, user string, addr netip.Addr) (done func(right, wrong bool), wait time.Duration) {
	b := block(addr)
	l.mu.Lock()
	for {
		if wait = l.wait(user, b); wait > 0 {
			l.mu.Unlock()
			return nil, wait
		}
		if l.room(user, b) {
			break
		}
		ended := l.ended
		l.mu.Unlock()
		select {
		case <-ended:
		case <-ctx.Done():
			return nil, time.Second
		}
		l.mu.Lock()
	}
	l.userTries[user]++
	l.addrTries[b]++
	l.pairTries[pair{user, b}]++
	l.mu.Unlock()
	return func(right, wrong bool) {
		if right {
			l.Succeeded(user, addr)
		} else if wrong {
			l.Failed(user, addr)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		less(l.userTries, user)
		less(l.addrTries, b)
		less(l.pairTries, pair{user, b})
		close(l.ended)
		l.ended = make(chan struct{})
	}, 0
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

// less counts one down and forgets what is at none.
func less[K comparable](m map[K]int, k K) {
	if m[k]--; m[k] <= 0 {
		delete(m, k)
	}
}

// over returns how long until a bucket has room for one more.
func over(b *bucket, now time.Time, burst int, leak time.Duration) time.Duration {
	level := 0.0
	if b != nil {
		level = b.drain(now, leak)
	}
	excess := level - float64(burst-1)
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
	b.level, b.at = min(b.drain(now, leak)+1, float64(fullest*burst)), now
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
