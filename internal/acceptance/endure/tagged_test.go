package endure

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// tagger is one client: everything it asks for carries a tag that no other request has, and
// it looks for tags in everything it is told.
type tagger struct {
	id         int
	dsn        string
	random     *rand.Rand
	conn       *pgconn.PgConn
	serial     int
	cancelled  bool // a cancel request of ours may still reach the session
	statements int64
	prepared   map[string]bool
}

// errMixed is what must never happen.
var errMixed = errors.New("an answer that is not this client's")

// tag is new for each request.
func (c *tagger) tag() string {
	c.serial++
	return fmt.Sprintf("<%d.%d>", c.id, c.serial)
}

// TestTaggedResults: many clients share few database sessions, in transactions, pipelines,
// named statements of equal names, errors, cancels and broken connections. What each gets is
// what it asked for. The long form is make chaos-tagged.
func TestTaggedResults(t *testing.T) {
	want, limit := int64(100_000), 4*time.Minute
	if text := os.Getenv("TREFOIL_TAGGED"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("TREFOIL_TAGGED: %v", err)
		}
		want, limit = n, time.Duration(n/100)*time.Millisecond+limit
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	began := time.Now()
	var done atomic.Int64
	var all sync.WaitGroup
	for i := range 48 {
		c := &tagger{id: i, dsn: shared.dsn("load", []string{"pooled", "pooled", "pooled", "platform"}[i%4]), random: rand.New(rand.NewPCG(seed, uint64(i)))}
		all.Go(func() {
			defer c.drop(ctx)
			for done.Load() < want && ctx.Err() == nil {
				before := c.statements
				if err := c.step(ctx); err != nil {
					t.Errorf("client %d (%s): %v", c.id, c.dsn[strings.LastIndexByte(c.dsn, '/'):][:8], err)
					cancel()
					return
				}
				done.Add(c.statements - before)
			}
		})
	}
	all.Wait()
	if n := done.Load(); n < want {
		t.Errorf("%d of %d statements", n, want)
	}
	t.Logf("%d statements in %.1f s", done.Load(), time.Since(began).Seconds())
}

// step does one thing of those that applications and accidents do.
func (c *tagger) step(ctx context.Context) error {
	if c.conn == nil || c.conn.IsClosed() {
		conn, err := pgconn.Connect(ctx, c.dsn)
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("connect: %w", err)
		}
		c.conn, c.cancelled, c.prepared = conn, false, map[string]bool{}
	}
	var err error
	switch n := c.random.IntN(1000); {
	case n < 350:
		err = c.pipeline(ctx)
	case n < 550:
		err = c.simple(ctx)
	case n < 700:
		err = c.named(ctx)
	case n < 850:
		err = c.transaction(ctx)
	case n < 940:
		err = c.fails(ctx)
	case n < 965:
		err = c.copies(ctx)
	case n < 985:
		err = c.cancels(ctx)
	case n < 993:
		c.vanishes()
	default:
		c.drop(ctx)
	}
	if err != nil && ctx.Err() != nil {
		return nil // the test is over
	}
	return err
}

// own checks a value: the tag that was asked for, and nothing else.
func own(got []byte, want string) error {
	if string(got) != want {
		return fmt.Errorf("%w: %.100q for %q", errMixed, got, want)
	}
	return nil
}

// tolerated turns a late cancel of our own into nothing.
func (c *tagger) tolerated(err error) error {
	if stateOf(err) == "57014" && c.cancelled {
		return nil
	}
	return err
}

func (c *tagger) simple(ctx context.Context) error {
	tag, n := c.tag(), 1+c.random.IntN(30)
	results, err := c.conn.Exec(ctx, fmt.Sprintf("SELECT '%s' FROM generate_series(1, %d); SELECT '%s'", tag, n, tag+"b")).ReadAll()
	if err != nil {
		return c.tolerated(err)
	}
	c.statements += 2
	if len(results) != 2 || len(results[0].Rows) != n || len(results[1].Rows) != 1 {
		return fmt.Errorf("%w: %d results", errMixed, len(results))
	}
	for _, row := range results[0].Rows {
		if err := own(row[0], tag); err != nil {
			return err
		}
	}
	return own(results[1].Rows[0][0], tag+"b")
}

// pipeline sends many statements before it reads, with a Sync here and there.
func (c *tagger) pipeline(ctx context.Context) error {
	n := 1 + c.random.IntN(60)
	p := c.conn.StartPipeline(ctx)
	tags := make([]string, n)
	for i := range n {
		tags[i] = c.tag()
		p.SendQueryParams("SELECT $1::text", [][]byte{[]byte(tags[i])}, nil, nil, nil)
		if i == n-1 || c.random.IntN(10) == 0 {
			if err := p.Sync(); err != nil {
				return errors.Join(err, p.Close())
			}
		}
	}
	for i := 0; i < n; {
		result, err := p.GetResults()
		if err != nil {
			return c.tolerated(errors.Join(err, p.Close()))
		}
		reader, ok := result.(*pgconn.ResultReader)
		if !ok {
			continue // a Sync
		}
		read := reader.Read()
		if read.Err != nil {
			return c.tolerated(errors.Join(read.Err, p.Close()))
		}
		if len(read.Rows) != 1 {
			return fmt.Errorf("%w: %d rows", errMixed, len(read.Rows))
		}
		if err := own(read.Rows[0][0], tags[i]); err != nil {
			return err
		}
		i++
	}
	c.statements += int64(n)
	return p.Close()
}

// named uses statement names that every client uses, each for another text.
func (c *tagger) named(ctx context.Context) error {
	name := "s" + strconv.Itoa(c.random.IntN(5))
	if !c.prepared[name] {
		if _, err := c.conn.Prepare(ctx, name, fmt.Sprintf("SELECT $1::text || '%s of client %d'", name, c.id), nil); err != nil {
			return c.tolerated(err)
		}
		c.prepared[name] = true
	}
	for range 1 + c.random.IntN(5) {
		tag := c.tag()
		read := c.conn.ExecPrepared(ctx, name, [][]byte{[]byte(tag)}, nil, nil).Read()
		if read.Err != nil {
			return c.tolerated(read.Err)
		}
		c.statements++
		if len(read.Rows) != 1 {
			return fmt.Errorf("%w: %d rows", errMixed, len(read.Rows))
		}
		if err := own(read.Rows[0][0], fmt.Sprintf("%s%s of client %d", tag, name, c.id)); err != nil {
			return err
		}
	}
	return nil
}

// transaction leaves something in its database session and finds it again.
func (c *tagger) transaction(ctx context.Context) error {
	tag := c.tag()
	end := []string{"COMMIT", "ROLLBACK"}[c.random.IntN(2)]
	for i, sql := range []string{"BEGIN", fmt.Sprintf("SELECT set_config('tag.mine', '%s', true)", tag), "SELECT current_setting('tag.mine')", end} {
		results, err := c.conn.Exec(ctx, sql).ReadAll()
		if err != nil {
			if c.tolerated(err) != nil {
				return err
			}
			_, err = c.conn.Exec(ctx, "ROLLBACK").ReadAll()
			return c.tolerated(err)
		}
		c.statements++
		if i == 1 || i == 2 {
			if err := own(results[0].Rows[0][0], tag); err != nil {
				return err
			}
		}
	}
	return nil
}

// fails asks for errors that carry the tag.
func (c *tagger) fails(ctx context.Context) error {
	tag := c.tag()
	var err error
	if c.random.IntN(2) == 0 {
		err = c.conn.ExecParams(ctx, "SELECT $1::text::int", [][]byte{[]byte(tag)}, nil, nil, nil).Read().Err
	} else {
		_, err = c.conn.Exec(ctx, fmt.Sprintf("SELECT 1; SELECT '%s'::text::int; SELECT 2", tag)).ReadAll()
	}
	c.statements++
	if c.tolerated(err) == nil && err != nil {
		return nil
	}
	if stateOf(err) != "22P02" || !strings.Contains(err.Error(), tag) {
		return fmt.Errorf("%w: %w for %s", errMixed, err, tag)
	}
	return nil
}

// lines counts the lines of a COPY, and checks each.
type lines struct {
	want string
	n    int
	err  error
}

func (l *lines) Write(p []byte) (int, error) {
	for line := range strings.Lines(string(p)) {
		if l.n++; l.err == nil {
			l.err = own([]byte(strings.TrimSuffix(line, "\n")), l.want)
		}
	}
	return len(p), nil
}

func (c *tagger) copies(ctx context.Context) error {
	tag, n := c.tag(), 1+c.random.IntN(500)
	l := &lines{want: tag}
	_, err := c.conn.CopyTo(ctx, l, fmt.Sprintf("COPY (SELECT '%s' FROM generate_series(1, %d)) TO STDOUT", tag, n))
	if err != nil {
		return c.tolerated(err)
	}
	c.statements++
	if l.err == nil && l.n != n {
		l.err = fmt.Errorf("%w: %d lines of %d", errMixed, l.n, n)
	}
	return l.err
}

// cancels asks for the end of its own statement, sometimes too late.
func (c *tagger) cancels(ctx context.Context) error {
	tag := c.tag()
	sent := make(chan error, 1)
	delay := time.Duration(c.random.IntN(30)) * time.Millisecond
	conn := c.conn
	c.cancelled = true
	go func() {
		time.Sleep(delay)
		sent <- conn.CancelRequest(ctx)
	}()
	results, err := conn.Exec(ctx, fmt.Sprintf("SELECT '%s', pg_sleep(0.015)", tag)).ReadAll()
	if cancelled := <-sent; cancelled != nil && ctx.Err() == nil {
		return fmt.Errorf("cancel: %w", cancelled)
	}
	if err != nil {
		return c.tolerated(err)
	}
	c.statements++
	return own(results[0].Rows[0][0], tag)
}

// vanishes goes away in the middle of an answer.
func (c *tagger) vanishes() {
	h, err := c.conn.Hijack()
	c.conn = nil
	if err != nil {
		return
	}
	sql := fmt.Sprintf("SELECT '%s', pg_sleep(0.01) FROM generate_series(1, 5)\x00", c.tag())
	message := append([]byte{'Q', 0, 0, 0, byte(4 + len(sql))}, sql...)
	_, _ = h.Conn.Write(message) // whether it arrives is not the point
	h.Conn.Close()
}

func (c *tagger) drop(ctx context.Context) {
	if c.conn != nil {
		_ = c.conn.Close(ctx) // it may be gone
		c.conn = nil
	}
}
