package identity

import (
	"sync"
	"time"
)

// Rates bounds how often each of many principals may do something: a bucket of Burst that
// empties at one in Leak. Its memory is bounded like the Limiter's.
type Rates struct {
	now func() time.Time

	mu      sync.Mutex
	buckets map[string]*bucket
}

// NewRates returns empty buckets. now nil means time.Now.
func NewRates(now func() time.Time) *Rates {
	if now == nil {
		now = time.Now
	}
	return &Rates{now: now, buckets: map[string]*bucket{}}
}

// Take counts one, unless the bucket is full: then it returns how long to wait. Burst ≤ 0 or
// leak ≤ 0 means no bound.
func (r *Rates) Take(id string, burst int, leak time.Duration) time.Duration {
	return r.take(id, burst, leak, true)
}

// Full is Take without counting.
func (r *Rates) Full(id string, burst int, leak time.Duration) time.Duration {
	return r.take(id, burst, leak, false)
}

func (r *Rates) take(id string, burst int, leak time.Duration, count bool) time.Duration {
	if burst <= 0 || leak <= 0 {
		return 0
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	wait := over(r.buckets[id], now, burst, leak)
	if wait == 0 && count {
		fill(r.buckets, id, now, leak, burst)
	}
	return wait
}
