package accesslog

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// precedenceGrace is how long the other witnesses' answers wait for the first one's. It is
// what a checkpoint costs while the first witness hangs; one that refuses costs nothing.
const precedenceGrace = time.Second

// precedenceLead is how much earlier the first witness's answer reaches the driver. If it
// completes the quorum, the driver gives up the other requests and nobody waits so long.
const precedenceLead = 25 * time.Millisecond

// precedence keeps the other witnesses' answers back until the first witness has answered.
// The driver publishes as soon as the quorum is there: without this, a quorum below all of
// them would leave out whoever is slower, and the monitor permits nothing under a checkpoint
// that it has not cosigned.
type precedence struct {
	prefix string // URL of the first witness; "" lets every answer pass at once

	mu       sync.Mutex
	answered time.Time
	changed  chan struct{}
}

func newPrecedence(c *Config) *precedence {
	p := &precedence{changed: make(chan struct{})}
	if c.Quorum > 0 && c.Quorum < len(c.Witnesses) {
		p.prefix = strings.TrimRight(c.Witnesses[0].URL, "/") + "/"
	}
	return p
}

// isFirst reports whether req is for the first witness.
func (p *precedence) isFirst(req *http.Request) bool {
	return p.prefix != "" && strings.HasPrefix(req.URL.String(), p.prefix)
}

// arrived notes that the driver has the first witness's answer, or that none will come.
func (p *precedence) arrived() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answered = time.Now()
	close(p.changed)
	p.changed = make(chan struct{})
}

// hold returns when the answer to a request that was sent at since may reach the driver.
func (p *precedence) hold(ctx context.Context, since time.Time) {
	grace := time.NewTimer(precedenceGrace)
	defer grace.Stop()
	for {
		p.mu.Lock()
		answered, changed := p.answered, p.changed
		p.mu.Unlock()
		if answered.After(since) {
			break
		}
		select {
		case <-changed:
		case <-grace.C:
			return
		case <-ctx.Done():
			return
		}
	}
	lead := time.NewTimer(precedenceLead)
	defer lead.Stop()
	select {
	case <-lead.C:
	case <-ctx.Done():
	}
}

// firstBody tells precedence when the driver has read the first witness's answer.
type firstBody struct {
	io.ReadCloser
	p *precedence
}

// Close implements io.Closer.
func (b firstBody) Close() error {
	defer b.p.arrived()
	return b.ReadCloser.Close()
}
