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
			c.drainTexts()
			c.write(ctx, j)
		case <-c.stop:
			select {
			case j := <-c.queue:
				c.drainTexts()
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

// write records one job, and tries again until it is recorded: the queue fills up behind
// it, and then new service sessions are refused.
func (c *clerk) write(ctx context.Context, j job) {
	b := j.body
	if j.make != nil {
		b = j.make()
	}
	if b == nil {
		return
	}
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := c.g.c.Recorder.Record(ctx, b)
		if err == nil {
			return
		}
		c.g.c.Logger.Error("record not written, trying again", "kind", b.Kind, "error", err)
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
