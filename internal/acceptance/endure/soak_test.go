package endure

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// sample is what the gateway's process holds at one time.
type sample struct{ resident, goroutines, files float64 }

func (w *world) sample(t testing.TB) sample {
	return sample{w.gauge(t, "process_resident_memory_bytes"), w.gauge(t, "go_goroutines"), w.gauge(t, "process_open_fds")}
}

// TestSoak: clients of all kinds come, work, fail and vanish, on both paths, and the gateway
// afterwards holds what it held before. The long form is make soak.
func TestSoak(t *testing.T) {
	length := 20 * time.Second
	if text := os.Getenv("TREFOIL_SOAK"); text != "" {
		minutes, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("TREFOIL_SOAK: %v", err)
		}
		length = time.Duration(minutes) * time.Minute
	}
	ctx, cancel := context.WithTimeout(context.Background(), length)
	defer cancel()
	before := shared.sample(t)
	var done atomic.Int64
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() { serviceClient(ctx, t, i, &done) })
	}
	for i := range 4 {
		all.Go(func() { analyst(ctx, t, i, &done) })
	}
	all.Go(func() { strangers(ctx) })
	samples := watch(ctx, t, length/20)
	all.Wait()
	t.Logf("%d sessions in %s; before %+v, during %+v", done.Load(), length, before, samples)
	if done.Load() < int64(length/time.Second) {
		t.Errorf("only %d sessions", done.Load())
	}
	flat(t, samples)
	settles(t, before)
	shared.verifyLog(t)
}

// watch samples while the load runs.
func watch(ctx context.Context, t *testing.T, every time.Duration) (samples []sample) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return samples
		case <-tick.C:
			samples = append(samples, shared.sample(t))
		}
	}
}

// flat compares the last quarter with the second: the first is warming up.
func flat(t *testing.T, samples []sample) {
	t.Helper()
	if len(samples) < 8 {
		t.Fatalf("%d samples", len(samples))
	}
	highest := func(part []sample) (h sample) {
		for _, s := range part {
			h = sample{max(h.resident, s.resident), max(h.goroutines, s.goroutines), max(h.files, s.files)}
		}
		return h
	}
	n := len(samples) / 4
	early, late := highest(samples[n:2*n]), highest(samples[len(samples)-n:])
	if late.resident > 1.2*early.resident+32<<20 {
		t.Errorf("memory grows: %.0f MiB, then %.0f MiB", early.resident/(1<<20), late.resident/(1<<20))
	}
	if late.goroutines > 1.3*early.goroutines+50 || late.files > 1.3*early.files+50 {
		t.Errorf("goroutines or files grow: %+v, then %+v", early, late)
	}
}

// settles: without clients nothing of them is left, at the gateway and at the databases.
func settles(t *testing.T, before sample) {
	t.Helper()
	eventually(t, 30*time.Second, func() error {
		now, servers := shared.sample(t), shared.backends(t)
		// What the three pools keep open for the next client: two files' worth and two goroutines' each, at most.
		if kept := float64(servers); now.goroutines > before.goroutines+2*kept+8 || now.files > before.files+2*kept+8 || servers > 8+2+2 {
			return fmt.Errorf("left over: %+v, before %+v, database sessions %d", now, before, servers)
		}
		return nil
	})
	sessions := connect(t, shared.env["OUTSIDE_ADMIN_DSN"])
	eventually(t, 30*time.Second, func() error {
		var n int
		err := sessions.QueryRow(context.Background(), "SELECT count(*) FROM pg_stat_activity WHERE datname = 'analytics' AND pid <> pg_backend_pid() AND usename NOT IN ('postgres', 'trefoil_steward')").Scan(&n)
		if err == nil && n > 0 {
			err = fmt.Errorf("%d sessions of analysts are left", n)
		}
		return err
	})
}

// serviceClient works in short sessions; one in eight vanishes, one in eight is cancelled.
func serviceClient(ctx context.Context, t *testing.T, id int, done *atomic.Int64) {
	random := rand.New(rand.NewPCG(uint64(id), 1))
	dsn := shared.dsn("load", []string{"pooled", "platform"}[id%2])
	for ctx.Err() == nil {
		conn, err := pgconn.Connect(ctx, dsn)
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("service client: %v", err)
			}
			return
		}
		for range 5 + random.IntN(50) {
			_, err = conn.Exec(ctx, "SELECT id, label FROM app.topics; SELECT 1").ReadAll()
			if err == nil {
				err = conn.ExecParams(ctx, "SELECT count(*) FROM app.videos WHERE topic_id = $1", [][]byte{[]byte("3")}, nil, nil, nil).Read().Err
			}
		}
		switch {
		case err != nil && ctx.Err() == nil:
			t.Errorf("service client: %v", err)
		case random.IntN(8) == 0: // vanishes with an answer on its way
			if h, err := conn.Hijack(); err == nil {
				h.Frontend.SendQuery(query("SELECT repeat('x', 1000) FROM generate_series(1, 20000)"))
				_ = h.Frontend.Flush() // whether it arrives is not the point
				h.Conn.Close()
			}
		case random.IntN(8) == 0:
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			_, _ = conn.Exec(short, "SELECT pg_sleep(5)").ReadAll() // it is cancelled
			cancel()
		}
		_ = conn.Close(context.WithoutCancel(ctx)) // it may be gone
		done.Add(1)
	}
}

// analyst reads on the release path.
func analyst(ctx context.Context, t *testing.T, id int, done *atomic.Int64) {
	random := rand.New(rand.NewPCG(uint64(id), 2))
	for ctx.Err() == nil {
		conn, err := pgconn.Connect(ctx, shared.dsn("endure-cn", "analytics"))
		if err != nil {
			if ctx.Err() == nil {
				t.Errorf("analyst: %v", err)
			}
			return
		}
		for _, sql := range []string{"SELECT country, count(*) FROM app.people GROUP BY 1", "SELECT * FROM app.watch_events",
			"BEGIN; CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT * FROM app.videos; SELECT count(*) FROM mine; COMMIT", "SELECT 1/0"} {
			if _, err := conn.Exec(ctx, sql).ReadAll(); err != nil && stateOf(err) != "22012" && ctx.Err() == nil {
				t.Errorf("analyst: %v", err)
			}
			if random.IntN(10) == 0 {
				if h, err := conn.Hijack(); err == nil {
					h.Conn.Close()
				}
				break
			}
		}
		_ = conn.Close(context.WithoutCancel(ctx)) // it may be gone
		done.Add(1)
		select {
		case <-ctx.Done():
		case <-time.After(300 * time.Millisecond): // the monitor bounds how often a person may come
		}
	}
}

// strangers connect and say nothing, half a message, or something else.
func strangers(ctx context.Context) {
	u, err := url.Parse(shared.env["SERVICE_DSN"])
	if err != nil {
		return
	}
	for i := 0; ctx.Err() == nil; i++ {
		if conn, err := net.Dial("tcp", u.Host); err == nil {
			_, _ = conn.Write([][]byte{nil, {0, 0}, []byte("GET / HTTP/1.1\r\n\r\n"), {0, 0, 0, 8, 4, 210, 22, 47}}[i%4]) // it may be closed
			conn.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}
