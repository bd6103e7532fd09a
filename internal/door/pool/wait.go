package pool

import (
	"fmt"
	"slices"
	"time"
)

// Refusal is what a client hears that gets no server.
type Refusal struct {
	SQLState, Message, Detail, Hint string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

var shuttingDown = &Refusal{SQLState: "57P01", Message: "the gateway is shutting down"}

func unreachable(wait time.Duration) *Refusal {
	return &Refusal{SQLState: "57P03", Message: "the database cannot be reached now",
		Detail: "The gateway's logins to it fail; the next is tried in " + max(wait, time.Millisecond).Round(time.Millisecond).String() + ".",
		Hint:   "Try again; if it lasts, tell the operator."}
}

// first is when the client came that waits for longest; those who ask for a greeting come
// before all.
func (l *lane) first() time.Time {
	if len(l.asking) > 0 || len(l.waiting) == 0 {
		return time.Time{}
	}
	return l.waiting[0].since
}

// leave takes the i-th waiting client out.
func (l *lane) leave(i int) {
	if i == 0 {
		l.waiting[0] = nil
		l.waiting = l.waiting[1:]
	} else {
		l.waiting = slices.Delete(l.waiting, i, i+1)
	}
	l.pool.waiting--
}

// allowed is how many of those that wait may be given a server by their principals' bounds.
func (l *lane) allowed() (n int) {
	more := map[string]int{}
	for _, c := range l.waiting {
		if l.pool.held[c.principal]+more[c.principal] < l.pool.settings.PerPrincipal {
			more[c.principal]++
			n++
		}
	}
	return n
}

// leaveQueue takes a client out of those that wait, if it does.
func (p *Pool) leaveQueue(c *Client) bool {
	i := slices.Index(c.lane.waiting, c)
	if i < 0 {
		return false
	}
	c.lane.leave(i)
	c.since = time.Time{}
	return true
}

// watch refuses who waited too long, when the time of the first has come.
func (p *Pool) watch() {
	if p.stopWait != nil || p.waiting == 0 || p.settings.Wait < 0 {
		return
	}
	now := p.m.c.Now()
	left := p.settings.Wait
	for _, l := range p.lanes {
		if len(l.waiting) > 0 {
			left = min(left, p.settings.Wait-now.Sub(l.waiting[0].since))
		}
	}
	p.stopWait = p.m.loop.After(max(left, 0)+time.Millisecond, func() {
		p.stopWait = nil
		p.expire(p.m.c.Now())
		p.watch()
	})
}

// expire refuses those who waited too long.
func (p *Pool) expire(now time.Time) {
	for _, l := range p.lanes {
		for n := len(l.waiting); n > 0 && len(l.waiting) > 0 && now.Sub(l.waiting[0].since) >= p.settings.Wait; n-- {
			c := l.waiting[0]
			r := &Refusal{SQLState: "53300", Message: fmt.Sprintf("no database session was free within %v", p.settings.Wait),
				Detail: fmt.Sprintf("%d of %d sessions are open; position 1 of %d that wait.", len(p.servers), p.settings.Servers, p.waiting),
				Hint:   "Try again later, hold transactions for a shorter time, or ask the operator for a larger pool."}
			if !p.allowed(c) {
				r.Detail = fmt.Sprintf("This principal holds %d of the %d sessions that one may hold.", p.held[c.principal], p.settings.PerPrincipal)
			}
			p.stats.Timeouts++
			l.leave(0)
			c.refuse(r)
		}
	}
}

// refuseAll refuses everybody who waits.
func (p *Pool) refuseAll(r *Refusal) {
	for _, l := range p.lanes {
		p.refuseLane(l, r)
		l.answer(r)
	}
}

// refuseLane refuses those who wait for a lane.
func (p *Pool) refuseLane(l *lane, r *Refusal) {
	list := l.waiting
	l.waiting = nil
	p.waiting -= len(list)
	for _, c := range list {
		c.refuse(r)
	}
}

// answer tells those who asked for a greeting that there is one, or why not.
func (l *lane) answer(err error) {
	list := l.asking
	l.asking = nil
	l.pool.asking -= len(list)
	for _, tell := range list {
		tell(err)
	}
}
