package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// load is what goes on while parts are killed: analysts who read, and a service that writes.
type load struct {
	e        *enclave
	ctx      context.Context
	stop     context.CancelFunc
	wg       sync.WaitGroup
	inFlight atomic.Int64                // statements that were sent and not answered to the end
	answered [len(datasets)]atomic.Int64 // to the end, by dataset
	written  atomic.Int64                // rows that the service was told of
	kinds    [len(habits)]atomic.Int64   // what analysts did
	mu       sync.Mutex
	visits   []*visit
	rows     []int64 // their ids
}

// firstRow is above every id of the generated platform.
const firstRow = 1 << 40

// errAway is why an analyst who closes a socket without a word is gone.
var errAway = errors.New("the client vanished")

func (e *enclave) load() *load {
	l := &load{e: e}
	l.ctx, l.stop = context.WithCancel(context.Background())
	for d, dataset := range datasets {
		for i := range analysts {
			l.wg.Go(func() { l.analyst(d, analyst(dataset, i), uint64(d*analysts+i)) })
		}
	}
	for i := range int64(2) {
		l.wg.Go(func() { l.service(firstRow + i<<32) })
	}
	return l
}

// end lets everyone finish what they do, and waits for them.
func (l *load) end() []*visit {
	l.stop()
	l.wg.Wait()
	return l.visits
}

// analyst comes and goes until the load ends.
func (l *load) analyst(d int, who string, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for l.ctx.Err() == nil {
		c := l.e.dial(context.Background(), who, datasets[d])
		if c.open {
			l.stay(c, d, r)
		}
		l.mu.Lock()
		l.visits = append(l.visits, c.visit)
		l.mu.Unlock()
		if c.err != nil && l.ctx.Err() == nil {
			time.Sleep(time.Duration(50+r.IntN(200)) * time.Millisecond) // as a pool does before it dials again
		}
	}
}

// habits of analysts, by how often they do so in a hundred statements.
var habits = [...]struct {
	name  string
	share int
}{{"small result", 50}, {"several chunks", 32}, {"catalog", 6}, {"cancel", 5}, {"disconnect", 4}, {"error", 3}}

func habit(r *rand.Rand) int {
	n := r.IntN(100)
	for i, h := range habits {
		if n -= h.share; n < 0 {
			return i
		}
	}
	return 0
}

// large is a result of several chunks in either dataset, small one of a few rows.
var large, small = [...]string{
	"SELECT p.*, d.* FROM app.people p, app.devices d WHERE d.id % 8 = 0 LIMIT 9000",
	"SELECT * FROM app.watch_events ORDER BY id LIMIT 12000",
}, [...]string{"SELECT * FROM app.people ORDER BY id LIMIT 5", "SELECT * FROM app.topics"}

// stay runs statements until the visit ends, one way or another.
func (l *load) stay(c *client, d int, r *rand.Rand) {
	for n := 2 + r.IntN(12); n > 0 && l.ctx.Err() == nil; n-- {
		h := habit(r)
		l.kinds[h].Add(1)
		release := int64(1)
		if habits[h].name == "catalog" {
			release = 0 // it goes out under the session's own permit
		}
		l.inFlight.Add(release)
		err := l.run(c, d, habits[h].name, r)
		l.inFlight.Add(-release)
		var server *pgconn.PgError
		switch {
		case err == nil:
			l.answered[d].Add(1)
			continue
		case errors.As(err, &server) && server.Severity == "ERROR": // the session lives
			continue
		case !errors.Is(err, errAway):
			c.drain()
		}
		c.vanish(err)
		return
	}
	c.close()
}

func (l *load) run(c *client, d int, what string, r *rand.Rand) error {
	ctx := context.Background()
	switch what {
	case "several chunks":
		return c.query(ctx, large[d], nil)
	case "catalog":
		c.covered = true
		return c.query(ctx, "SELECT relname FROM pg_catalog.pg_class ORDER BY 1 LIMIT 20", nil)
	case "cancel":
		cancelled := make(chan struct{})
		timer := time.AfterFunc(time.Duration(r.IntN(300))*time.Millisecond, func() {
			defer close(cancelled)
			short, stop := context.WithTimeout(ctx, 5*time.Second)
			defer stop()
			_ = c.conn.CancelRequest(short) // the gateway may be gone
		})
		err := c.query(ctx, "SELECT pg_sleep(2), t.* FROM app.topics t LIMIT 1", nil)
		if !timer.Stop() {
			<-cancelled
		}
		return err
	case "disconnect":
		after := 1 + r.Int64N(2000)
		return c.query(ctx, large[d], func(n int64) error {
			if n == after {
				return errAway
			}
			return nil
		})
	case "error":
		return c.query(ctx, "SELECT 1 / (country = '--')::int FROM app.people", nil)
	}
	return c.query(ctx, small[d], nil)
}

// service writes one row after the other, each in a transaction of its own, and remembers
// those that it was told are committed.
func (l *load) service(id int64) {
	ctx := context.Background()
	for l.ctx.Err() == nil {
		conn, err := pgx.Connect(ctx, l.e.DSN("app", "platform"))
		if err != nil {
			time.Sleep(100 * time.Millisecond)
			continue
		}
		for err == nil && l.ctx.Err() == nil {
			id++
			once, cancel := context.WithTimeout(ctx, patience)
			_, err = conn.Exec(once, "INSERT INTO app.messages VALUES ($1, 1, 2, 'kept', now())", id)
			cancel()
			if err == nil {
				l.written.Add(1)
				l.mu.Lock()
				l.rows = append(l.rows, id)
				l.mu.Unlock()
			}
			time.Sleep(20 * time.Millisecond)
		}
		_ = conn.Close(ctx) // an error has been seen already
	}
}

// busy waits until at least 20 releases are in flight, and says how many.
func (l *load) busy(t *testing.T) int64 {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if n := l.inFlight.Load(); n >= 20 {
			return n
		}
	}
	t.Fatalf("only %d releases are in flight", l.inFlight.Load())
	return 0
}

// progress waits until each dataset answers and the service writes again.
func (l *load) progress(t *testing.T) {
	t.Helper()
	var before [len(datasets)]int64
	for d := range datasets {
		before[d] = l.answered[d].Load()
	}
	written := l.written.Load()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		going := l.written.Load() > written
		for d := range datasets {
			going = going && l.answered[d].Load() >= before[d]+2
		}
		if going {
			return
		}
	}
	var at []string
	for d, dataset := range datasets {
		at = append(at, fmt.Sprintf("%s %d", dataset, l.answered[d].Load()-before[d]))
	}
	t.Fatalf("not everything goes on %s after the restart: answers %v, writes %d", patience, at, l.written.Load()-written)
}

// kept compares what the service was told with what a cluster holds.
func (l *load) kept(ctx context.Context, t *testing.T, site string) {
	t.Helper()
	there := map[int64]bool{}
	missing := 0
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		err := l.e.Clusters()[site].AsSuperuser(ctx, "platform", func(conn *pgx.Conn) error {
			rows, err := conn.Query(ctx, "SELECT id FROM app.messages WHERE id >= $1", int64(firstRow))
			if err != nil {
				return err
			}
			ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
			for _, id := range ids {
				there[id] = true
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		missing = 0
		for _, id := range l.rows {
			if !there[id] {
				missing++
			}
		}
		if missing == 0 || time.Now().After(deadline) {
			break
		}
	}
	if missing > 0 || len(l.rows) == 0 {
		t.Errorf("%d of %d acknowledged writes are not at %s", missing, len(l.rows), site)
	}
}
