package pool

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// Messages of a frontend.
func q(sql string) []byte { return wire.AppendMessage(nil, 'Q', []byte(sql+"\x00")) }
func pp(name, sql string) []byte {
	return wire.AppendMessage(nil, 'P', []byte(name+"\x00"+sql+"\x00\x00\x00"))
}
func bb(portal, name string) []byte {
	return wire.AppendMessage(nil, 'B', []byte(portal+"\x00"+name+"\x00\x00\x00\x00\x00\x00\x00"))
}
func ee(portal string) []byte {
	return wire.AppendMessage(nil, 'E', []byte(portal+"\x00\x00\x00\x00\x00"))
}
func dd(kind, name string) []byte {
	return wire.AppendMessage(nil, 'D', []byte(kind+name+"\x00"))
}
func cc(kind, name string) []byte {
	return wire.AppendMessage(nil, 'C', []byte(kind+name+"\x00"))
}
func msg(typ byte) []byte    { return wire.AppendMessage(nil, typ, nil) }
func cat(l ...[]byte) []byte { return bytes.Join(l, nil) }

// sim is a pool without I/O: servers that are models, and clients with their scripts.
type sim struct {
	t       testing.TB
	shared  *Shared
	vars    varTable
	outs    Outs
	servers []*simServer
	free    []*simServer
	clients []*simClient
	waiting []*simClient
	moved   int // times a server went to another client than before
}

type simServer struct {
	Session
	model *model
	last  *simClient
}

type simClient struct {
	mux    *Mux
	srv    *simServer
	steps  [][]byte // still to be said
	eager  bool     // without waiting for answers
	script []byte   // of the step under way
	got    []byte
	waits  bool
	full   bool
	ended  bool
}

func newSim(t testing.TB, servers, statements int) *sim {
	s := &sim{t: t}
	limits := Limits{Statements: statements, Look: 256, Owed: 64}
	limits.defaults()
	s.shared = &Shared{Statements: NewStatements(), Limits: limits, vars: &s.vars}
	for range servers {
		s.addServer()
	}
	return s
}

func (s *sim) addServer() {
	m := newModel()
	x := &simServer{model: m}
	x.vars = s.vars.make(m.opened())
	x.prepared.table = s.shared.Statements
	s.servers, s.free = append(s.servers, x), append(s.free, x)
}

func (s *sim) addClient(steps [][]byte, eager bool) *simClient {
	c := &simClient{mux: newMux(s.shared, s.vars.make(newModel().opened()), false), steps: steps, eager: eager}
	s.clients = append(s.clients, c)
	return c
}

// send gives a client's mux up to n bytes of its script.
func (s *sim) send(c *simClient, n int) {
	b := c.script[:min(n, len(c.script))]
	taken := 0
	for again := true; again || taken < len(b); {
		again = false
		used, act, err := c.mux.FromClient(b[taken:], &s.outs)
		if err != nil {
			s.t.Fatalf("client: %v", err)
		}
		taken += used
		s.deliver(c)
		if act&NeedServer != 0 {
			if len(s.free) == 0 {
				c.waits = true
				s.waiting = append(s.waiting, c)
				break
			}
			s.attach(c)
			again = true
			continue
		}
		if act&Release != 0 {
			s.release(c)
		}
		if act&Full != 0 {
			c.full = true
			break
		}
	}
	c.script = c.script[taken:]
}

func (s *sim) deliver(c *simClient) {
	if b := s.outs.Server.Bytes(); len(b) > 0 {
		if c.srv == nil {
			s.t.Fatal("bytes for no server")
		}
		c.srv.model.feed(b)
	}
	c.got = append(c.got, s.outs.Client.Bytes()...)
}

func (s *sim) attach(c *simClient) {
	x := s.free[0]
	s.free = s.free[1:]
	if x.last != c && x.last != nil {
		s.moved++
	}
	c.srv, x.last = x, c
	c.mux.Attach(&x.Session, &s.outs)
	s.deliver(c)
}

func (s *sim) release(c *simClient) {
	x := c.srv
	if x == nil {
		return
	}
	c.srv = nil
	clean, reset := c.mux.Detach()
	switch {
	case !clean:
		x.prepared.clear()
		s.servers = slices.DeleteFunc(s.servers, func(o *simServer) bool { return o == x })
		s.addServer()
	case x.model.tx != 'I' || len(x.model.out) > 0 || len(x.model.in) > 0 || x.model.skip || x.model.copying:
		s.t.Fatal("a server was released that is not at rest")
	default:
		if reset {
			x.model.discard()
			x.model.out = nil
			x.vars, x.unnamed = s.vars.make(x.model.opened()), nil
			x.prepared.clear()
		}
		if x.model.secret != "" || len(x.model.listens) > 0 {
			s.t.Fatal("a server was released that keeps something")
		}
		s.free = append(s.free, x)
	}
	for len(s.waiting) > 0 && len(s.free) > 0 {
		next := s.waiting[0]
		s.waiting = s.waiting[1:]
		next.waits = false
		s.attach(next)
		s.send(next, 0)
	}
}

// answer gives a client's mux up to n bytes of what its server said.
func (s *sim) answer(c *simClient, n int) {
	m := c.srv.model
	n = min(n, len(m.out))
	b := bytes.Clone(m.out[:n])
	m.out = m.out[n:]
	act, err := c.mux.FromServer(b, &s.outs)
	if err != nil {
		s.t.Fatalf("server: %v", err)
	}
	s.deliver(c)
	if act&Release != 0 {
		s.release(c)
	}
}

// quiet reports whether nothing is under way for a client.
func (c *simClient) quiet() bool {
	return !c.waits && len(c.mux.client.part) == 0 && c.mux.Owed() == 0 && (c.srv == nil || len(c.srv.model.out) == 0)
}

// run plays all scripts in a random order of random pieces.
func (s *sim) run(r *rand.Rand) {
	for idle := 0; idle < 1000; {
		c := s.clients[r.IntN(len(s.clients))]
		progress := false
		if len(c.script) == 0 && len(c.steps) > 0 && (c.eager || c.quiet()) {
			c.script, c.steps = c.steps[0], c.steps[1:]
		}
		c.full = c.full && c.mux.full()
		if (len(c.script) > 0 || len(c.mux.client.part) > 0) && !c.waits && !c.full && r.IntN(2) == 0 {
			before := len(c.script)
			s.send(c, 1+r.IntN(120))
			progress = len(c.script) < before || before == 0
		}
		if c.srv != nil && len(c.srv.model.out) > 0 {
			s.answer(c, 1+r.IntN(200))
			progress = true
		}
		if len(c.script) == 0 && len(c.steps) == 0 && !c.ended && c.quiet() {
			c.ended, progress = true, true
			s.release(c)
			c.mux.End()
		}
		if idle++; progress {
			idle = 0
		}
	}
}

// script draws what a client says, in steps. A client that pipelines sends a step before it
// heard the answer to the last one; it reuses no name, because what a name means would then
// depend on answers that it did not wait for.
func script(r *rand.Rand, tag string, pipelines bool) (steps [][]byte) {
	say := func(l ...[]byte) { steps = append(steps, cat(l...)) }
	names := []string{"a", "b", "_pg3_0"}
	if pipelines {
		names[0] = tag
	}
	text := func(n int) string {
		switch r.IntN(12) {
		case 0:
			return "select error"
		case 1:
			return "bad"
		case 2:
			return "set timezone Europe/Dublin"
		case 3:
			return "begin"
		case 4:
			return "commit"
		case 5, 6, 7:
			return fmt.Sprintf("select shared-%d", r.IntN(6))
		}
		return fmt.Sprintf("select %s-%d", tag, n)
	}
	data := wire.AppendMessage(nil, 'd', []byte("row"))
	for n := range 30 {
		switch r.IntN(14) {
		case 0, 1, 2:
			say(q(text(n)))
		case 3:
			say(q("begin"), q(text(n)), q(fmt.Sprintf("select %s-%d", tag, n)), q([]string{"commit", "rollback"}[r.IntN(2)]))
		case 4:
			say(q(text(n) + ";" + text(n)))
		case 5:
			say(q("copy x"), data, msg([]byte("cf")[r.IntN(2)]))
		case 6:
			say(pp("", "copy x"), bb("", ""), ee(""), msg('S'), data, msg('c'), msg('S'))
		case 7:
			if r.IntN(3) == 0 {
				say(q("rollback"), q([]string{"set secret " + tag, "listen " + tag, "notify " + tag, "discard all", "deallocate all"}[r.IntN(5)]))
			}
		case 8:
			if !pipelines {
				say(q([]string{"select 1", "rollback"}[r.IntN(2)]))
				say(q("deallocate " + names[r.IntN(3)]))
			}
		default:
			say(extended(r, n, names, text, pipelines))
			if pipelines {
				names = append(names, fmt.Sprintf("n%d", n))
			}
		}
	}
	say(q("rollback"))
	return steps
}

// extended draws a sequence that ends with Sync.
func extended(r *rand.Rand, n int, names []string, text func(int) string, pipelines bool) []byte {
	var out [][]byte
	say := func(l ...[]byte) { out = append(out, l...) }
	for i := range 1 + r.IntN(3) {
		name := names[r.IntN(len(names))]
		switch {
		case r.IntN(3) == 0:
			name = ""
			say(pp(name, text(n)))
		case pipelines && i == 0:
			// A text that no server has: in a failed transaction it is refused, and then the name
			// means nothing. One that a server has would be given its name all the same.
			name = fmt.Sprintf("n%d", n)
			say(pp(name, []string{"bad", "select error ", "select own "}[r.IntN(3)]+names[0]+fmt.Sprint(n)))
		case !pipelines && r.IntN(3) > 0:
			say(pp(name, text(n)))
		}
		if r.IntN(6) == 0 {
			say(dd("S", name))
		}
		say(bb("", name), ee(""))
		if r.IntN(6) == 0 {
			say(msg('H'))
		}
		if r.IntN(6) == 0 && !pipelines {
			say(cc("S", name))
		}
		if r.IntN(4) == 0 && pipelines {
			say(msg('S'))
		}
	}
	return cat(append(out, msg('S'))...)
}

// rendered makes a stream of a server readable, one message a line, without what depends on
// where a statement ran.
func rendered(b []byte) string {
	var s strings.Builder
	for len(b) >= 5 {
		n := int(b[1])<<24 | int(b[2])<<16 | int(b[3])<<8 | int(b[4]) + 1
		fmt.Fprintf(&s, "%c %q\n", b[0], b[5:n])
		b = b[n:]
	}
	if len(b) > 0 {
		fmt.Fprintf(&s, "cut off: %q\n", b)
	}
	// A statement that a server has is not parsed there again: in a failed transaction the
	// client hears so one message later.
	return inFailed.ReplaceAllString(parsedInFailed.ReplaceAllString(s.String(), "$1"), "refused\n$1")
}

// inFailed is an error in a transaction that has failed: which one depends on what the server
// has prepared.
var inFailed = regexp.MustCompile(`E .*C(?:25P02|42P05|26000).*\n(Z "E")`)

var parsedInFailed = regexp.MustCompile(`1 ""\n(?:t .*\nT .*\n)?(E .*C25P02)`)

// TestClientsOfAPoolHearWhatTheyWouldHearAlone plays random scripts on fewer servers than
// clients, in random order and pieces, and compares with each client on a server of its own.
func TestClientsOfAPoolHearWhatTheyWouldHearAlone(t *testing.T) {
	rounds, moved := 600, 0
	if n, err := strconv.Atoi(os.Getenv("TREFOIL_POOL_ROUNDS")); err == nil {
		rounds = n
	}
	for seed := range rounds {
		r := rand.New(rand.NewPCG(uint64(seed), 1))
		s := newSim(t, 1+r.IntN(3), 2+r.IntN(4))
		var scripts [][]byte
		for i := range 2 + r.IntN(4) {
			eager := r.IntN(2) == 0
			steps := script(r, fmt.Sprintf("client%d", i), eager)
			scripts = append(scripts, cat(steps...))
			s.addClient(steps, eager)
		}
		s.run(r)
		for i, c := range s.clients {
			alone := newModel()
			alone.feed(scripts[i])
			if want, got := rendered(alone.out), rendered(c.got); want != got {
				t.Fatalf("seed %d, client %d of %d hears something else:\n%s\nit said:\n%s", seed, i, len(s.clients), difference(want, got), rendered(scripts[i]))
			}
		}
		for _, x := range s.servers {
			x.prepared.clear()
		}
		if n := s.shared.Statements.Len(); n != 0 {
			t.Fatalf("seed %d: %d statements are still known when everybody is gone", seed, n)
		}
		moved += s.moved
	}
	if moved < rounds {
		t.Errorf("servers went to other clients %d times in %d rounds: nothing was shared", moved, rounds)
	}
}

func difference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range a {
		if i >= len(b) || a[i] != b[i] {
			lo := max(0, i-6)
			return "alone:\n" + strings.Join(a[lo:min(len(a), i+4)], "\n") + "\npooled:\n" + strings.Join(b[min(lo, len(b)):min(len(b), i+4)], "\n")
		}
	}
	return "pooled has more: " + strings.Join(b[len(a)-1:], "\n")
}
