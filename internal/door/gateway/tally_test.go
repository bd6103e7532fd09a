package gateway

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// talk is a conversation with a tally; each line is one message, F from the client, B from
// the server.
type talk struct {
	t     *testing.T
	tally *tally
	up    wire.Framer
	down  wire.Framer
	cut   int // bytes a piece
}

func newTalk(t *testing.T, cut int, l Limits) *talk {
	l.defaults()
	return &talk{t: t, tally: newTally(newTexts(l), l, time.Unix(0, 0)), cut: cut,
		up: wire.NewFramer(wire.FromFrontend, wire.Limits{}), down: wire.NewFramer(wire.FromBackend, wire.Limits{})}
}

func (k *talk) feed(f *wire.Framer, see func(wire.Piece), b []byte) {
	k.t.Helper()
	k.tally.mu.Lock()
	defer k.tally.mu.Unlock()
	for len(b) > 0 {
		n := min(k.cut, len(b))
		if _, err := watch(f, b[:n], see); err != nil {
			k.t.Fatal(err)
		}
		b = b[n:]
	}
}

func (k *talk) F(typ byte, parts ...string) { k.feed(&k.up, k.tally.frontend, message(typ, parts)) }
func (k *talk) B(typ byte, parts ...string) { k.feed(&k.down, k.tally.backend, message(typ, parts)) }

func message(typ byte, parts []string) []byte {
	var b []byte
	for _, p := range parts {
		b = append(append(b, p...), 0)
	}
	if typ == wire.ReadyForQuery {
		b = []byte(parts[0])
	}
	return wire.AppendMessage(nil, typ, b)
}

// of returns calls and rows of a statement.
func (k *talk) of(sql string) string {
	c := k.tally.counts.calls[k.tally.texts.handle([]byte(sql))]
	if c == nil {
		return "none"
	}
	return fmt.Sprintf("%d calls, %d rows", c.calls, c.rows)
}

func (k *talk) want(sql, want string) {
	k.t.Helper()
	if got := k.of(sql); got != want {
		k.t.Errorf("%s: %s, want %s", sql, got, want)
	}
}

func TestTallyAttributes(t *testing.T) {
	for _, cut := range []int{1, 3, 1 << 20} {
		k := newTalk(t, cut, Limits{})
		// Two simple queries at once; the first has two statements.
		k.F(wire.Query, "select 1; select 2")
		k.F(wire.Query, "select 3")
		k.B(wire.DataRow)
		k.B(wire.CommandComplete, "SELECT 1")
		k.B(wire.DataRow)
		k.B(wire.CommandComplete, "SELECT 1")
		k.B(wire.ReadyForQuery, "I")
		k.B(wire.DataRow)
		k.B(wire.DataRow)
		k.B(wire.CommandComplete, "SELECT 2")
		k.B(wire.ReadyForQuery, "I")
		k.want("select 1; select 2", "1 calls, 2 rows")
		k.want("select 3", "1 calls, 2 rows")
		// Prepared once, run three times in a pipeline; the second fails and skips the third.
		k.F(wire.Parse, "s", "select $1")
		for range 3 {
			k.F(wire.Bind, "p", "s")
			k.F(wire.Execute, "p", "\x00\x00\x00")
		}
		k.F(wire.Sync)
		k.F(wire.Bind, "", "s")
		k.F(wire.Execute, "", "\x00\x00\x00")
		k.F(wire.Sync)
		k.B(wire.ParseComplete)
		k.B(wire.BindComplete)
		k.B(wire.DataRow)
		k.B(wire.CommandComplete, "SELECT 1")
		k.B(wire.BindComplete)
		k.B(wire.ErrorResponse)
		k.B(wire.ReadyForQuery, "I")
		k.B(wire.BindComplete)
		k.B(wire.DataRow)
		k.B(wire.PortalSuspended)
		if k.tally.idle() {
			t.Error("idle before the last ReadyForQuery")
		}
		k.B(wire.ReadyForQuery, "T")
		k.want("select $1", "2 calls, 2 rows") // the first, the failed one; a suspended portal is not a whole call
		if k.tally.idle() {
			t.Error("idle in a transaction")
		}
		k.F(wire.Query, "commit")
		k.B(wire.CommandComplete, "COMMIT")
		k.B(wire.ReadyForQuery, "I")
		if !k.tally.idle() || k.tally.queue.len() != 0 {
			t.Errorf("cut %d: not idle at the end: owed %d, queue %d", cut, k.tally.owed, k.tally.queue.len())
		}
		if c, _ := k.tally.take(time.Unix(1, 0)); c.rows != 6 || c.unparsed != 0 {
			t.Errorf("%d rows, %d unparsed", c.rows, c.unparsed)
		}
	}
}

// TestTallyKeepsItsPlaceInCopy: the server ignores a Sync inside COPY data, so it owes no
// ReadyForQuery for it.
func TestTallyKeepsItsPlaceInCopy(t *testing.T) {
	for name, late := range map[string]bool{"the server's answer first": false, "all sent at once": true} {
		k := newTalk(t, 1<<20, Limits{})
		k.F(wire.Parse, "", "copy t from stdin")
		k.F(wire.Bind, "", "")
		k.F(wire.Execute, "", "\x00\x00\x00")
		if !late {
			k.B(wire.CopyInResponse)
			k.F(wire.Sync) // ignored by the server
		}
		k.F(wire.CopyData, "1\n")
		k.F(wire.CopyDone)
		k.F(wire.Sync)
		if late {
			k.B(wire.CopyInResponse)
		}
		k.B(wire.CommandComplete, "COPY 1")
		k.B(wire.ReadyForQuery, "I")
		k.want("copy t from stdin", "1 calls, 0 rows")
		if !k.tally.idle() {
			t.Errorf("%s: not idle: owed %d", name, k.tally.owed)
		}
	}
}

// TestTallyIsBounded: a client that pipelines without end, or names without end, costs a
// bounded amount, and is counted as unparsed rather than wrongly.
func TestTallyIsBounded(t *testing.T) {
	k := newTalk(t, 1<<20, Limits{Statements: 5, StatementText: 100})
	for i := range 3 * maxAwaited {
		k.F(wire.Parse, fmt.Sprint("s", i), "select 1")
		k.F(wire.Bind, fmt.Sprint("p", i), fmt.Sprint("s", i))
		k.F(wire.Execute, fmt.Sprint("p", i), "\x00\x00\x00")
	}
	k.F(wire.Sync)
	if k.tally.queue.len() > maxAwaited || len(k.tally.names) > maxNames || len(k.tally.portals) > maxNames {
		t.Fatalf("queue %d, names %d, portals %d", k.tally.queue.len(), len(k.tally.names), len(k.tally.portals))
	}
	for range 3 * maxAwaited {
		k.B(wire.DataRow)
		k.B(wire.CommandComplete, "SELECT 1")
	}
	k.B(wire.ReadyForQuery, "I")
	if k.tally.counts.rows != 3*maxAwaited || k.tally.counts.unparsed == 0 || !k.tally.idle() {
		t.Fatalf("%d rows, %d unparsed, idle %v", k.tally.counts.rows, k.tally.counts.unparsed, k.tally.idle())
	}
	k.tally.take(time.Unix(1, 0))
	for i := range 8 { // more distinct statements than an interval may name
		k.F(wire.Query, fmt.Sprint("select a", i))
		k.B(wire.CommandComplete, "SELECT 0")
		k.B(wire.ReadyForQuery, "I")
	}
	long := make([]byte, 1000)
	k.F(wire.Query, string(long[:0])+fmt.Sprintf("select '%0500d'", 1))
	k.B(wire.CommandComplete, "SELECT 0")
	k.B(wire.ReadyForQuery, "I")
	if len(k.tally.counts.calls) != 5 || k.tally.counts.unparsed != 4 {
		t.Fatalf("%d statements, %d unparsed", len(k.tally.counts.calls), k.tally.counts.unparsed)
	}
}

func TestTextsAreBounded(t *testing.T) {
	var l Limits
	l.defaults()
	x := newTexts(l)
	for i := range 3 * textsWaiting { // nobody accounts for them
		x.handle(binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	if len(x.queue) != textsWaiting || len(x.known) != textsWaiting {
		t.Fatalf("%d wait, %d known", len(x.queue), len(x.known))
	}
	for i := range maxTexts + 2000 {
		x.handle(binary.BigEndian.AppendUint32(nil, uint32(i)))
		select {
		case w := <-x.queue:
			x.account(nil, w)
		default:
		}
	}
	if len(x.known) > maxTexts+1 {
		t.Fatalf("%d known", len(x.known))
	}
}

func TestMeterAndGuesses(t *testing.T) {
	m := meter{most: 2}
	now := time.Unix(100, 0)
	first, second := m.allow(now), m.allow(now)
	if !first || !second || m.allow(now) || !m.allow(now.Add(time.Second)) {
		t.Error("the meter does not hold two a second")
	}
	said := 0
	for i := range 1000 { // a flood: one line a second
		m.over++
		if _, say := m.skipped(now.Add(time.Duration(i) * 3 * time.Millisecond)); say {
			said++
		}
	}
	if n, _ := m.skipped(now); n != 1001 || said != 3 {
		t.Errorf("%d skipped, said %d times in three seconds; want 1001 and 3", n, said)
	}
	g := newGuesses(2)
	a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	g.fail(a, now)
	g.fail(a, now)
	if !g.exhausted(a, now) || g.exhausted(b, now) || g.exhausted(a, now.Add(time.Minute)) {
		t.Error("guesses are not bounded by address and minute")
	}
}

func FuzzOptions(f *testing.F) {
	f.Add("-c search_path=a -cDateStyle=ISO --timezone=UTC")
	f.Add(`-c search_path=a\ b\\`)
	f.Add("--a-b=c -c")
	f.Fuzz(func(t *testing.T, s string) {
		set, ok := splitOptions(s)
		if !ok {
			return
		}
		for name := range set {
			if name == "" {
				t.Fatal("an option without a name")
			}
		}
		// What the release path passes on is on its list, whatever the string.
		out, r := upstream(Release, map[string]string{"options": s}, Target{Role: "r", Database: "d"})
		for name := range out {
			if r == nil && !releaseParams[name] && name != "user" && name != "database" {
				t.Fatalf("%q is passed on", name)
			}
		}
	})
}

func TestUpstreamParameters(t *testing.T) {
	target := Target{Role: "r", Database: "d", Startup: map[string]string{"client_encoding": "UTF8", "default_transaction_read_only": "on"}}
	out, r := upstream(Release, map[string]string{"user": "postgres", "database": "x", "Client_Encoding": "LATIN1",
		"options": "-c default_transaction_read_only=off", "TimeZone": "UTC"}, target)
	if r != nil {
		t.Fatal(r)
	}
	want := map[string]string{"user": "r", "database": "d", "client_encoding": "UTF8", "default_transaction_read_only": "on", "timezone": "UTC"}
	if fmt.Sprint(out) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", out, want)
	}
	out, _ = upstream(Service, map[string]string{"user": "postgres", "replication": "false", "work_mem": "1MB", "options": "-c a.b=c"}, target)
	if out["user"] != "r" || out["work_mem"] != "1MB" || out["options"] != "-c a.b=c" || out["replication"] != "" {
		t.Errorf("service: %v", out)
	}
}

// TestNothingEscapesTheAccountByItsMessageType: bytes by type add up to the totals, however
// the stream is cut, rows in floods included; and what no statement stands for is seen.
func TestNothingEscapesTheAccountByItsMessageType(t *testing.T) {
	up := message(wire.Query, []string{"copy t from stdin"})
	for range 50 {
		up = append(up, message(wire.CopyData, []string{strings.Repeat("x", 700)})...)
	}
	up = append(up, message(wire.CopyDone, nil)...)
	up = append(up, message(wire.FunctionCall, []string{"large object"})...)
	var down []byte
	for i := range 300 {
		down = append(down, message(wire.DataRow, []string{strings.Repeat("y", i)})...)
	}
	down = append(down, message(wire.NoticeResponse, []string{"SNOTICE", "Mcarried out"})...)
	down = append(down, message(wire.NotificationResponse, []string{"pid", "channel", "payload"})...)
	for _, cut := range []int{1, 4, 5, 4096, 1 << 20} {
		k := newTalk(t, cut, Limits{})
		k.feed(&k.up, k.tally.frontend, up)
		for at := 0; at < len(down); at += cut {
			if _, err := watchRows(&k.down, down[at:min(at+cut, len(down))], k.tally.backend, k.tally.flood); err != nil {
				t.Fatal(err)
			}
		}
		c, _ := k.tally.take(time.Unix(1, 0))
		in, out := figures(frontendTypes, c.types.in[:]), figures(backendTypes, c.types.out[:])
		if sum(in) != int64(len(up)) || sum(out) != int64(len(down)) {
			t.Errorf("cut %d: %d and %d bytes by type, %d and %d in all", cut, sum(in), sum(out), len(up), len(down))
		}
		if in["d"] != 50*706 || in["F"] != 18 || out["N"] != 26 || out["A"] != 25 || out["D"] != 46650 || len(in) != 4 || len(out) != 3 {
			t.Errorf("cut %d: %v %v", cut, in, out)
		}
		if k.tally.counts.types != nil {
			t.Error("a session in which nothing happens holds figures")
		}
	}
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// TestEveryTypeThatIsLetThroughHasItsPlace: no two types share a figure.
func TestEveryTypeThatIsLetThroughHasItsPlace(t *testing.T) {
	for d, types := range map[wire.Direction]string{wire.FromFrontend: frontendTypes, wire.FromBackend: backendTypes} {
		for typ := range 256 {
			_, known := wire.Limits{}.Bound(d, byte(typ))
			if known != strings.ContainsRune(types, rune(typ)) {
				t.Errorf("direction %d, type %q: known %v", d, rune(typ), known)
			}
		}
	}
}
