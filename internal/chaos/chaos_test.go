package chaos

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// victim is a part to kill, at random or at a failpoint.
type victim struct{ part, point string }

func (v victim) String() string {
	if v.point == "" {
		return v.part
	}
	return v.part + " at " + v.point
}

// victims are every part, and every step of a release.
var victims = []victim{
	{"gateway", "letting-out"}, {"monitor", "permit-kept"}, {"dublin-1", ""}, {"outside", ""}, // the short form ends here
	{"gateway", ""}, {"monitor", ""}, {"dublin-2", ""}, {"hamar", ""}, {"inside", ""},
	{"gateway", "append"}, {"gateway", "bodies-kept"}, {"gateway", "appended"}, {"gateway", "witnessed"},
	{"gateway", "permitted"}, {"gateway", "cleared"}, {"monitor", "checkpoint-kept"},
}

const shortRounds = 4

// rounds says how many, and in which order: every victim comes before one comes again.
func rounds(t *testing.T) []victim {
	text := os.Getenv("TREFOIL_CHAOS")
	if text == "" {
		return victims[:shortRounds]
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("TREFOIL_CHAOS=%q is no number of rounds", text)
	}
	var list []victim
	for len(list) < n {
		again := slices.Clone(victims)
		rand.Shuffle(len(again), func(i, j int) { again[i], again[j] = again[j], again[i] })
		list = append(list, again...)
	}
	return list[:n]
}

// figures are what the report says.
type figures struct {
	kills    map[string]int
	restart  map[string][]time.Duration // until it answers
	recovery map[string][]time.Duration // from the kill until everything goes on
	least    int64                      // releases in flight when a part was killed
}

// TestChaos kills one part a round with at least 20 releases in flight, starts it again and
// goes on; then everything that the project promises must hold of what is left.
func TestChaos(t *testing.T) {
	plan, short := rounds(t), os.Getenv("TREFOIL_CHAOS") == ""
	e := start(t, 1500, short)
	t.Run("kills", func(t *testing.T) { kills(t, e, plan) })
	if short { // the same enclave: starting one takes long
		hurt(t, e, short)
	}
}

// TestChaosFaults is the rest of the long form: every step of a release, and full disks.
func TestChaosFaults(t *testing.T) {
	if os.Getenv("TREFOIL_CHAOS") == "" {
		t.Skip("TestChaos runs it in short")
	}
	hurt(t, start(t, 1500, true), false)
}

func hurt(t *testing.T, e *enclave, short bool) {
	t.Run("faults", func(t *testing.T) { faults(t, e, short) })
	t.Run("disks", func(t *testing.T) { disks(t, e, short) })
}

func kills(t *testing.T, e *enclave, plan []victim) {
	ctx, cancel := context.WithTimeout(t.Context(), 40*time.Minute)
	defer cancel()
	f := figures{kills: map[string]int{}, restart: map[string][]time.Duration{}, recovery: map[string][]time.Duration{}, least: 1 << 30}
	l := e.load()
	ended := false
	defer func() {
		if !ended {
			l.end()
		}
	}()
	l.progress(t)
	var seen [][]byte
	for i, v := range plan {
		began := time.Now()
		f.round(ctx, t, e, l, v)
		raw, head := e.checkpoint(ctx)
		seen = append(seen, raw)
		t.Logf("round %d: %s; %.1f s, log of %d leaves, %d writes", i+1, v, time.Since(began).Seconds(), head.Size, l.written.Load())
	}
	visits := l.end()
	ended = true
	e.nothingHeld(t)
	for _, site := range []string{"dublin-1", "dublin-2", "hamar"} {
		l.kept(ctx, t, site)
	}
	sum := e.settled(ctx, t, visits)
	e.verify(ctx, t, seen)
	f.report(t, l, sum, len(plan))
	if sum.equal == 0 || sum.partial == 0 {
		t.Errorf("nothing was compared: %+v", sum)
	}
}

// round kills, starts again, and waits until everything goes on.
func (f *figures) round(ctx context.Context, t *testing.T, e *enclave, l *load, v victim) {
	l.busy(t)
	time.Sleep(time.Duration(rand.IntN(300)) * time.Millisecond)
	f.least = min(f.least, l.busy(t))
	began := time.Now()
	e.kill(ctx, v.part, v.point)
	f.kills[v.String()]++
	f.restart[v.part] = append(f.restart[v.part], e.revive(ctx, v.part))
	l.progress(t)
	f.recovery[v.part] = append(f.recovery[v.part], time.Since(began))
	replicated(ctx, t, e)
}

// replicated waits until both other sites follow again: the next round may take one.
func replicated(ctx context.Context, t *testing.T, e *enclave) {
	t.Helper()
	err := e.Clusters()["dublin-1"].AsSuperuser(ctx, "postgres", func(conn *pgx.Conn) error {
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			var n int
			if err := conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'").Scan(&n); err != nil || n == 2 {
				return err
			}
		}
		return fmt.Errorf("a replica does not follow after %s", patience)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (f *figures) report(t *testing.T, l *load, sum books, rounds int) {
	var lines []string
	for _, v := range slices.Sorted(maps.Keys(f.kills)) {
		lines = append(lines, fmt.Sprintf("  killed %2d × %s", f.kills[v], v))
	}
	for _, part := range slices.Sorted(maps.Keys(f.restart)) {
		lines = append(lines, fmt.Sprintf("  %-9s answers again after %s, all goes on after %s", part, span(f.restart[part]), span(f.recovery[part])))
	}
	for h, habit := range habits {
		lines = append(lines, fmt.Sprintf("  %6d statements: %s", l.kinds[h].Load(), habit.name))
	}
	t.Logf("%d rounds, at least %d releases in flight at every kill\n%s\n  %d visits, %d let in: %d ended cleanly and equal to the byte, %d cut off and bounded\n"+
		"  %d bytes at the clients' sockets, %d release bytes permitted in the mirror; %d answers; %d acknowledged writes, all at three sites",
		rounds, f.least, strings.Join(lines, "\n"), sum.visits, sum.open, sum.equal, sum.partial,
		sum.socket, sum.permitted, l.answered[0].Load()+l.answered[1].Load(), len(l.rows))
}

func span(d []time.Duration) string {
	slices.Sort(d)
	return fmt.Sprintf("%.1f s (median; at most %.1f s)", d[len(d)/2].Seconds(), d[len(d)-1].Seconds())
}
