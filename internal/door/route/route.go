package route

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Role is what a member is.
type Role string

// Roles. The zero value is a member of which nothing is known.
const (
	Unknown Role = ""
	Primary Role = "primary"
	Replica Role = "replica"
)

// Answer is what a member says of itself.
type Answer struct {
	Role     Role
	Timeline int64 // of a primary
	Position int64 // bytes of WAL: written by a primary, replayed by a replica
}

// Asker asks one member. Its errors hold no password.
type Asker interface {
	Ask(ctx context.Context) (Answer, error)
}

// Member is one server of the cluster.
type Member struct {
	Address string // host:port, where sessions go
	Asker   Asker
}

// Config is all a router needs.
type Config struct {
	Name     string        // of the database, for the log
	Members  []Member      // the nearest first
	Interval time.Duration // between two questions; default 1 s
	Timeout  time.Duration // of one question; default the interval, at least 1 s
	MaxLag   int64         // bytes that a replica may be behind; default 16 MiB
	// Changed is called after the primary is another one (from one goroutine). To is "" when
	// there is none any more.
	Changed func(from, to string)
	Now     func() time.Time
	Logger  *slog.Logger
}

// State is what is known of a member.
type State struct {
	Address string    `json:"address"`
	Role    Role      `json:"role"`
	Lag     int64     `json:"lag_bytes"` // of a replica
	Asked   time.Time `json:"asked"`     // when it last answered; zero: never
	Error   string    `json:"error,omitempty"`
}

// Errors of Primary.
var (
	ErrNoPrimary  = errors.New("no server of the cluster takes writes now")
	ErrTwoPrimary = errors.New("two servers of the cluster take writes")
)

// Router follows one cluster. Make it with New; Run keeps it up to date.
type Router struct {
	c Config

	mu       sync.Mutex
	answers  []Answer
	asked    []time.Time
	errs     []error
	primary  int   // index into Members, -1: none
	newest   int64 // the highest timeline seen
	conflict bool
}

// New checks the configuration.
func New(c Config) (*Router, error) {
	if len(c.Members) == 0 {
		return nil, fmt.Errorf("route of %s: no members", c.Name)
	}
	for _, m := range c.Members {
		if m.Address == "" || m.Asker == nil {
			return nil, fmt.Errorf("route of %s: a member without an address", c.Name)
		}
	}
	if c.Interval <= 0 {
		c.Interval = time.Second
	}
	if c.Timeout <= 0 {
		c.Timeout = max(c.Interval, time.Second)
	}
	if c.MaxLag <= 0 {
		c.MaxLag = 16 << 20
	}
	if c.Changed == nil {
		c.Changed = func(string, string) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	n := len(c.Members)
	return &Router{c: c, answers: make([]Answer, n), asked: make([]time.Time, n), errs: make([]error, n), primary: -1}, nil
}

// Run asks all members now and at every interval until ctx ends.
func (r *Router) Run(ctx context.Context) {
	tick := time.NewTicker(r.c.Interval)
	defer tick.Stop()
	for {
		r.Ask(ctx)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// Ask asks every member once, at the same time, and decides who the primary is.
func (r *Router) Ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, r.c.Timeout)
	defer cancel()
	var all sync.WaitGroup
	for i, m := range r.c.Members {
		all.Go(func() {
			a, err := m.Asker.Ask(ctx)
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.errs[i] = err; err == nil {
				r.answers[i], r.asked[i] = a, r.c.Now()
			}
		})
	}
	all.Wait()
	if from, to, changed := r.decide(); changed {
		r.c.Logger.Warn("the primary is another server", "database", r.c.Name, "from", from, "to", to)
		r.c.Changed(from, to)
	}
}

// decide picks the primary from the answers of this turn. One that does not answer keeps its
// place until another one on a newer timeline takes writes: a slow answer is no failover.
func (r *Router) decide() (from, to string, changed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	next, tied := -1, false
	for i, a := range r.answers {
		if r.errs[i] != nil || a.Role != Primary || a.Timeline < r.newest {
			continue
		}
		if next >= 0 && r.answers[next].Timeline == a.Timeline {
			tied = true
			continue
		}
		if next < 0 || a.Timeline > r.answers[next].Timeline {
			next, tied = i, false
		}
	}
	before := r.primary
	if before >= 0 && r.errs[before] != nil && next >= 0 && next != before && r.answers[next].Timeline == r.newest {
		tied = true // a promotion would have begun a new timeline: this is a copy of the one that is silent
	}
	r.conflict = tied
	switch {
	case tied: // which of them holds the newest writes, nobody can tell from here
	case next >= 0:
		r.primary, r.newest = next, r.answers[next].Timeline
	case before >= 0 && r.errs[before] == nil:
		r.primary = -1 // it answers, and takes no writes any more
	}
	return r.address(before), r.address(r.primary), before != r.primary
}

func (r *Router) address(i int) string {
	if i < 0 {
		return ""
	}
	return r.c.Members[i].Address
}

// Primary is where sessions that may write go. Errors: ErrNoPrimary, ErrTwoPrimary.
func (r *Router) Primary() (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.conflict:
		return "", ErrTwoPrimary
	case r.primary < 0:
		return "", ErrNoPrimary
	}
	return r.address(r.primary), nil
}

// ReadOnly is where read-only sessions go: the nearest replica that is fresh enough, else the
// primary.
func (r *Router) ReadOnly() (string, error) {
	r.mu.Lock()
	oldest := r.c.Now().Add(-3 * max(r.c.Interval, r.c.Timeout))
	for i, a := range r.answers {
		// How far a replica is behind is known against a primary alone.
		if a.Role == Replica && r.errs[i] == nil && r.asked[i].After(oldest) && r.primary >= 0 && r.lag(i) <= r.c.MaxLag {
			defer r.mu.Unlock()
			return r.address(i), nil
		}
	}
	r.mu.Unlock()
	return r.Primary()
}

// lag is how many bytes member i is behind the primary. The caller holds mu.
func (r *Router) lag(i int) int64 {
	if r.primary < 0 || i == r.primary {
		return 0
	}
	return max(0, r.answers[r.primary].Position-r.answers[i].Position)
}

// States tells of every member, in the order of the configuration.
func (r *Router) States() []State {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]State, len(r.c.Members))
	for i := range out {
		out[i] = State{Address: r.address(i), Role: r.answers[i].Role, Asked: r.asked[i]}
		if r.answers[i].Role == Replica {
			out[i].Lag = r.lag(i)
		}
		if r.errs[i] != nil {
			out[i].Role, out[i].Error = Unknown, r.errs[i].Error()
		}
	}
	return out
}
