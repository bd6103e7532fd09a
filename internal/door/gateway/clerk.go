package gateway

import (
	"context"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil"
)

// clerk is the one goroutine that accounts for statements and writes records, so that no
// session waits for either. Texts come before records: a summary names what it can.
type clerk struct {
	g     *Gateway
	texts *texts
	queue chan job
	stop  chan struct{}
	done  chan struct{}
	once  sync.Once
}

// job is a record to write: given, or made when its turn comes.
type job struct {
	body *trefoil.Body
	make func() *trefoil.Body
}

func newClerk(g *Gateway) *clerk {
	return &clerk{g: g, texts: newTexts(g.c.Limits), queue: make(chan job, g.c.Limits.RecordQueue),
		stop: make(chan struct{}), done: make(chan struct{})}
}

// offer queues a record if there is room.
func (c *clerk) offer(b *trefoil.Body) bool { return c.offerJob(job{body: b}) }

func (c *clerk) offerJob(j job) bool {
	select {
	case c.queue <- j:
		return true
	default:
		return false
	}
}

// put queues a record and waits for room: for the end of sessions, whose number is bounded.
func (c *clerk) put(ctx context.Context, j job) bool {
	select {
	case c.queue <- j:
		return true
	case <-ctx.Done():
		return false
	}
}

// run works until finish is called and the queue is empty, or ctx ends.
func (c *clerk) run(ctx context.Context) {
	defer close(c.done)
	for {
		select {
		case t := <-c.texts.queue:
			c.texts.account(c.g.c.Accountant, t)
			continue
		default:
		}
		select {
		case t := <-c.texts.queue:
			c.texts.account(c.g.c.Accountant, t)
		case j := <-c.queue:
			c.write(ctx, j)
		case <-c.stop:
			select {
			case j := <-c.queue:
				c.write(ctx, j)
			default:
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *clerk) drainTexts() {
	for {
		select {
		case t := <-c.texts.queue:
			c.texts.account(c.g.c.Accountant, t)
		default:
			return
		}
	}
}

// maxAtOnce bounds what is recorded with one sync: a rush of clients costs few.
const maxAtOnce = 256

// gather makes the bodies of a job and of those that wait behind it.
func (c *clerk) gather(j job) (bodies []*trefoil.Body) {
	for n := 1; ; n++ {
		c.drainTexts()
		b := j.body
		if j.make != nil {
			b = j.make()
		}
		if b != nil {
			bodies = append(bodies, b)
		}
		if n == maxAtOnce {
			return bodies
		}
		select {
		case j = <-c.queue:
		default:
			return bodies
		}
	}
}

// write records a job and what waits behind it, and tries again until all is recorded: the
// queue fills up, and then new service sessions are refused.
func (c *clerk) write(ctx context.Context, j job) {
	bodies := c.gather(j)
	if len(bodies) == 0 {
		return
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := c.g.c.Recorder.Record(ctx, bodies...)
		if err == nil {
			return
		}
		c.g.c.Logger.Error("record not written, trying again", "records", len(bodies), "kind", bodies[0].Kind, "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

// finish lets the clerk write what is queued, and waits for it until ctx ends.
func (c *clerk) finish(ctx context.Context) {
	c.once.Do(func() { close(c.stop) })
	select {
	case <-c.done:
	case <-ctx.Done():
	}
}
