package flow

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// plan says how long, how often the schema changes, and how often something is killed.
type plan struct {
	seed               uint64
	long               time.Duration
	ddlEvery, killEach time.Duration
	bin                string // of the servers
}

func planned(t *testing.T) plan {
	p := plan{seed: uint64(time.Now().UnixNano()), long: 5 * time.Second, ddlEvery: 700 * time.Millisecond, killEach: 800 * time.Millisecond}
	if text := os.Getenv("TREFOIL_CHAOS_FLOW"); text != "" {
		minutes, err := strconv.ParseFloat(text, 64)
		if err != nil || minutes <= 0 {
			t.Fatalf("TREFOIL_CHAOS_FLOW=%q is no number of minutes", text)
		}
		p.long, p.ddlEvery, p.killEach = time.Duration(minutes*float64(time.Minute)), 3*time.Second, 6*time.Second
	}
	if text := os.Getenv("TREFOIL_CHAOS_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatalf("TREFOIL_CHAOS_SEED=%q is no number", text)
		}
		p.seed = seed
	}
	version := servers(t, p.seed)
	p.bin = version.Bin
	t.Logf("seed %d, PostgreSQL %d: TREFOIL_CHAOS_SEED=%d TREFOIL_CHAOS_PG=%d draws the same statements and kills", p.seed, version.Major, p.seed, version.Major)
	return p
}

// long says that the random work goes on for minutes: make chaos-flow.
func long() bool { return os.Getenv("TREFOIL_CHAOS_FLOW") != "" }

// servers are those of PostgreSQL 15, or the first that there is; in the long form versions take
// turns by the seed. TREFOIL_CHAOS_PG=18 asks for one.
func servers(t *testing.T, seed uint64) pgtest.Version {
	t.Helper()
	all := pgtest.Versions(t)
	text := os.Getenv("TREFOIL_CHAOS_PG")
	switch {
	case text != "":
		for _, v := range all {
			if strconv.Itoa(v.Major) == text {
				return v
			}
		}
		t.Fatalf("PostgreSQL %s is not there", text)
	case long():
		return all[seed%uint64(len(all))]
	}
	return all[0]
}

// TestFollowingUnderAttack lets several sessions and an administrator work at the source while
// the follower and the servers are killed; then every dataset must be what a fresh build gives.
func TestFollowingUnderAttack(t *testing.T) {
	p := planned(t)
	w := begin(t, schema, p.bin)
	ctx := within(t, p.long+10*time.Minute)
	conn := w.source.Connect(t, w.admin())
	w.start()
	w.caughtUp(ctx, conn)
	began := time.Now()
	told := func(what string) {
		t.Logf("%s: %.1f s", what, time.Since(began).Seconds())
		began = time.Now()
	}
	w.faults(ctx, conn)
	told("faults")
	k := w.work(p.seed, p.ddlEvery)
	kills := w.havoc(ctx, p)
	if err := k.end(ctx); err != nil {
		t.Fatal(err)
	}
	conn = w.source.Connect(t, w.admin())
	k.mend(ctx, conn)
	t.Logf("%d statements in %d transactions (%d prepared), %d changes of the schema, %d refusals %v, kills %v; the last came to the datasets after %s", k.done.Load(),
		k.transactions.Load(), k.prepared.Load(), k.ddl.Load(), k.refused.Load(), k.strange, kills, w.caughtUp(ctx, conn))
	if k.done.Load() < 50 || k.ddl.Load() == 0 {
		t.Error("hardly anything was done at the source")
	}
	told("random work")
	w.lag(ctx, conn)
	w.stop()
	told("lag")
	w.compared(ctx)
	told("fresh builds and comparison")
	w.leaks(ctx)
	told("search")
	w.leftovers(ctx)
	told("drop")
	t.Logf("the follower had at most %d MiB", w.memory>>20)
	if w.memory > 400<<20 {
		t.Errorf("the follower had %d MiB in memory", w.memory>>20)
	}
}

// lag is how late one change is at every dataset, once all is quiet: at best of a few.
func (w *world) lag(ctx context.Context, conn *pgx.Conn) {
	w.t.Helper()
	best := time.Hour
	for try := 0; try < 5 && best > 2*time.Second; try++ {
		if _, err := conn.Exec(ctx, "UPDATE app.profile SET visits = visits + 1"); err != nil {
			w.t.Fatal(err)
		}
		best = min(best, w.caughtUp(ctx, conn))
	}
	w.t.Logf("once all is quiet a change is at every dataset after %s", best)
	if best > 2*time.Second && long() { // the short form runs on machines of which nothing is known
		w.t.Errorf("a change takes %s to come to every dataset", best)
	}
}

// havoc kills one part after the other, and starts it again.
func (w *world) havoc(ctx context.Context, p plan) map[string]int {
	w.t.Helper()
	r := rand.New(rand.NewPCG(p.seed, 200))
	kills := map[string]int{}
	parts := []string{"follower", "outside", "source", "sessions at the source", "sessions at a dataset", "inside", "follower", "failpoint"}
	for i, end := 0, time.Now().Add(p.long); time.Now().Before(end); i++ {
		rest(ctx, time.Duration(r.Int64N(int64(2*p.killEach))))
		part := parts[i%len(parts)]
		kills[part]++
		switch part {
		case "follower":
			w.kill()
			rest(ctx, time.Duration(r.IntN(300))*time.Millisecond)
			w.start()
		case "failpoint":
			w.failpoint(r)
		case "source", "outside", "inside":
			w.crash(ctx, map[string]*pgtest.Cluster{"source": w.source, "outside": w.outside, "inside": w.inside}[part], r)
		case "sessions at the source":
			w.source.Exec(w.t, w.admin(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'trefoil_reader'")
		default:
			w.inside.Exec(w.t, w.inside.SuperuserDSN("postgres"), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname IS NOT NULL AND pid <> pg_backend_pid()")
		}
		if gone, how := w.died(); gone {
			w.t.Errorf("the follower ended by itself: %v\n%s", how, w.lastWords(20))
			w.start()
		}
	}
	return kills
}

// crash kills a server, or stops it at once, and starts it again.
func (w *world) crash(ctx context.Context, c *pgtest.Cluster, r *rand.Rand) {
	w.t.Helper()
	var err error
	if r.IntN(2) == 0 {
		err = c.Kill(ctx)
	} else {
		err = c.Stop(ctx, postgres.StopImmediate)
	}
	if err == nil {
		rest(ctx, time.Duration(r.IntN(500))*time.Millisecond)
		err = c.Start(ctx)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// points are steps of a batch and of a build at which a follower that has failpoints can be killed.
var points = []string{"flow-taken", "flow-applied", "flow-committed", "flow-slot", "flow-built", "flow-shared", "flow-moved"}

// failpoint kills the follower at a step that it comes to within a while; without failpoints, or
// where it does not come to it, anywhere.
func (w *world) failpoint(r *rand.Rand) {
	w.t.Helper()
	if err := os.WriteFile(w.orders, []byte("crash "+points[r.IntN(len(points))]), 0o600); err != nil {
		w.t.Fatal(err)
	}
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if gone, _ := w.died(); gone {
			w.start()
			return
		}
	}
	_ = os.Remove(w.orders) // it may be carried out at this moment: then it is gone
	w.kill()
	w.start()
}
