package gateway_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/door/pool"
)

// TestPooledResultsAreOnesOwn has many clients at few database sessions ask for results that
// carry their own tag: by simple queries, prepared statements, pipelines, transactions, COPY and
// settings, with errors, cancels and reconnects in between. TREFOIL_TAGGED sets how many
// statements; 100,000 without.
func TestPooledResultsAreOnesOwn(t *testing.T) {
	total := int64(100_000)
	if n, err := strconv.ParseInt(os.Getenv("TREFOIL_TAGGED"), 10, 64); err == nil {
		total = n
	}
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 4, Statements: 20})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var asked atomic.Int64
	var wg sync.WaitGroup
	for i := range 24 {
		wg.Go(func() {
			c := &tagged{t: t, f: f, r: rand.New(rand.NewPCG(uint64(i), uint64(total))), tag: fmt.Sprintf("client-%d", i), asked: &asked}
			defer c.close()
			for asked.Load() < total && !t.Failed() {
				c.step(ctx)
			}
		})
	}
	wg.Wait()
	p := f.pool(t)
	if len(p.Servers) > 4 || p.Stats.Attached < asked.Load()/100 {
		t.Errorf("%d servers, given %d times", len(p.Servers), p.Stats.Attached)
	}
	t.Logf("%d statements, servers given %d times, %d waits, %d logins", asked.Load(), p.Stats.Attached, p.Stats.Waits, p.Stats.Logins)
}

// tagged is a client that knows what it may see.
type tagged struct {
	t     *testing.T
	f     *fixture
	r     *rand.Rand
	tag   string
	conn  *pgx.Conn
	asked *atomic.Int64
	n     int
}

func (c *tagged) close() {
	if c.conn != nil {
		c.conn.Close(context.Background())
		c.conn = nil
	}
}

// step asks something.
func (c *tagged) step(ctx context.Context) {
	if c.conn == nil {
		conn, err := pgx.Connect(ctx, c.f.url("app", "sslmode=disable&application_name="+c.tag))
		if err != nil {
			c.t.Errorf("%s connects: %v", c.tag, err)
			return
		}
		c.conn = conn
	}
	c.n++
	var err error
	switch c.r.IntN(12) {
	case 0:
		err = c.simple(ctx)
	case 1, 2:
		err = c.prepared(ctx, c.conn)
	case 3:
		err = c.transaction(ctx)
	case 4:
		err = c.failing(ctx)
	case 5:
		err = c.copy(ctx)
	case 6:
		c.cancelled(ctx)
		return
	case 7:
		if c.r.IntN(20) == 0 {
			c.close() // and comes back
		}
		return
	default:
		err = c.pipeline(ctx)
	}
	if err != nil {
		c.t.Errorf("%s: %v", c.tag, err)
	}
}

// want is the tag of one statement; own checks an answer.
func (c *tagged) want(i int) string { return fmt.Sprintf("%s/%d/%d", c.tag, c.n, i) }

func (c *tagged) own(got, want string) error {
	c.asked.Add(1)
	if got != want {
		return fmt.Errorf("got %q for %q", got, want)
	}
	return nil
}

// text is a statement of which all clients prepare the same few.
func (c *tagged) text() string {
	return fmt.Sprintf("select $1::text || coalesce(nullif(current_setting('application_name'), '%s'), '') /* %d */", c.tag, c.r.IntN(40))
}

func (c *tagged) simple(ctx context.Context) error {
	want := c.want(0)
	results, err := c.conn.PgConn().Exec(ctx, "select '"+want+"'; select '"+want+"'").ReadAll()
	if err != nil {
		return err
	}
	for _, r := range results {
		if err := c.own(string(r.Rows[0][0]), want); err != nil {
			return err
		}
	}
	return nil
}

type asker interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func (c *tagged) prepared(ctx context.Context, to asker) error {
	var got string
	want := c.want(0)
	if err := to.QueryRow(ctx, c.text(), want).Scan(&got); err != nil {
		return err
	}
	return c.own(got, want)
}

func (c *tagged) transaction(ctx context.Context) error {
	return pgx.BeginFunc(ctx, c.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "set local work_mem = '"+strconv.Itoa(64+c.n%100)+"kB'"); err != nil {
			return err
		}
		for range 3 {
			if err := c.prepared(ctx, tx); err != nil {
				return err
			}
		}
		var got string
		if err := tx.QueryRow(ctx, "select current_setting('work_mem')").Scan(&got); err != nil {
			return err
		}
		return c.own(got, strconv.Itoa(64+c.n%100)+"kB")
	})
}

func (c *tagged) failing(ctx context.Context) error {
	want := c.want(0)
	_, err := c.conn.Exec(ctx, "select ($1::text)::int", want)
	c.asked.Add(1)
	if sqlState(err) != "22P02" || !strings.Contains(err.Error(), want) {
		return fmt.Errorf("got error %v for %q", err, want)
	}
	return nil
}

func (c *tagged) copy(ctx context.Context) error {
	var got strings.Builder
	want := c.want(0)
	if _, err := c.conn.PgConn().CopyTo(ctx, &got, "copy (select '"+want+"' from generate_series(1, 50)) to stdout"); err != nil {
		return err
	}
	return c.own(got.String(), strings.Repeat(want+"\n", 50))
}

// pipeline sends many statements at once; one of them may fail.
func (c *tagged) pipeline(ctx context.Context) error {
	b := &pgx.Batch{}
	bad := c.r.IntN(60)
	for i := range 40 {
		if i == bad {
			b.Queue("select 1 / $1::int", 0)
			continue
		}
		b.Queue(c.text(), c.want(i))
	}
	results := c.conn.SendBatch(ctx, b)
	defer results.Close()
	for i := range 40 {
		var got string
		err := results.QueryRow().Scan(&got)
		if i >= bad {
			c.asked.Add(1)
			if sqlState(err) != "22012" {
				return fmt.Errorf("got error %v where division by zero was due", err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		if err := c.own(got, c.want(i)); err != nil {
			return err
		}
	}
	return nil
}

// cancelled has a statement cancelled, or not quite.
func (c *tagged) cancelled(ctx context.Context) {
	if c.r.IntN(20) > 0 {
		return
	}
	conn := c.conn.PgConn()
	done := make(chan struct{})
	wait := time.Duration(c.r.IntN(4)) * time.Millisecond
	go func() {
		defer close(done)
		time.Sleep(wait)
		_ = conn.CancelRequest(ctx)
	}()
	want := c.want(0)
	results, err := conn.Exec(ctx, "select '"+want+"' from pg_sleep(0.002)").ReadAll()
	<-done
	switch {
	case err == nil && len(results) == 1:
		err = c.own(string(results[0].Rows[0][0]), want)
	case sqlState(err) == "57014":
		c.asked.Add(1)
		err = nil
	}
	if err != nil {
		c.t.Errorf("%s: %v", c.tag, err)
	}
}
