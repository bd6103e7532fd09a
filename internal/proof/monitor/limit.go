package monitor

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds of the HTTP side.
const (
	maxAddCheckpoint = 64 << 10 // bytes
	maxPermitRequest = 2 << 20  // bytes
	maxJudging       = 64       // requests with the token that are worked on at a time
	maxAddresses     = 10_000
)

// Rates of one address without the token. A log asks for about ten cosignatures a second;
// a verifier reads a whole mirror.
const (
	asksPerSecond, askBurst   = 50, 200
	readsPerSecond, readBurst = 5_000, 20_000
)

// limiter bounds how often one address may ask without the token.
type limiter struct {
	perSecond, burst float64

	mu     sync.Mutex
	bucket map[string]*bucket
}

type bucket struct {
	left float64
	at   time.Time
}

func newLimiter(perSecond, burst float64) *limiter {
	return &limiter{perSecond: perSecond, burst: burst, bucket: map[string]*bucket{}}
}

// allow takes one from the address's bucket.
func (l *limiter) allow(addr string, now time.Time) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		host = addr
	}
	if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
		host = ip.Mask(net.CIDRMask(64, 128)).String() // whoever has one IPv6 address has 2^64
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.bucket[host]
	if b == nil {
		if len(l.bucket) >= maxAddresses {
			l.forget(now)
		}
		b = &bucket{left: l.burst, at: now}
		l.bucket[host] = b
	}
	b.left = min(l.burst, b.left+now.Sub(b.at).Seconds()*l.perSecond)
	b.at = now
	if b.left < 1 {
		return false
	}
	b.left--
	return true
}

// forget drops full buckets; if all are in use, it drops all of them.
func (l *limiter) forget(now time.Time) {
	for k, b := range l.bucket {
		if now.Sub(b.at).Seconds()*l.perSecond >= l.burst {
			delete(l.bucket, k)
		}
	}
	if len(l.bucket) >= maxAddresses {
		clear(l.bucket)
	}
}

// NewServer returns an HTTP server with the timeouts that bound slow clients.
func NewServer(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       15 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    16 << 10,
	}
}
