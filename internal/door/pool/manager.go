package pool

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/splice"
)

// ErrClosed is returned by a Manager that is closed.
var ErrClosed = errors.New("pools are closed")

// Manager owns the pools of one loop. All it does happens on the loop, so it has no lock.
type Manager struct {
	c      Config
	loop   splice.Loop
	outs   Outs
	tables struct {
		statements *Statements
		vars       varTable
	}
	pools     map[Key]*Pool
	databases map[string]int // servers, open or being opened, of Server and Database
	closed    bool
	stopTick  func()
	ctx       context.Context
	cancel    context.CancelFunc
	logins    sync.WaitGroup
}

// tick is how often idle servers are looked at.
const tick = time.Second

// NewManager returns the pools of a loop. Close ends them.
func NewManager(loop splice.Loop, c Config) *Manager {
	def(&c.Login, 10*time.Second)
	def(&c.Grace, 5*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	m := &Manager{c: c, loop: loop, pools: map[Key]*Pool{}, databases: map[string]int{}}
	m.tables.statements = NewStatements()
	m.ctx, m.cancel = context.WithCancel(context.Background())
	m.stopTick = func() {}
	loop.Post(m.tick)
	return m
}

// Loop returns the loop that clients of these pools must be adopted by.
func (m *Manager) Loop() splice.Loop { return m.loop }

// Close closes all servers, refuses what waits, and waits for what it started. Clients are
// the gateway's to end, before. The loop must still run.
func (m *Manager) Close() {
	m.cancel()
	done := make(chan struct{})
	if m.loop.Post(func() { m.shut(); close(done) }) {
		<-done
	}
	m.logins.Wait()
}

func (m *Manager) shut() {
	m.closed = true
	m.stopTick()
	for _, p := range m.pools {
		p.refuseAll(shuttingDown)
		for s := range p.servers {
			p.drop(s)
		}
	}
}

// pool returns the pool of a key, made when it is first asked for. Later settings win.
func (m *Manager) pool(spec *Spec) *Pool {
	p := m.pools[spec.Key]
	if p == nil {
		p = &Pool{m: m, key: spec.Key, lanes: map[string]*lane{}, servers: map[*backend]struct{}{}, held: map[string]int{},
			clients: map[*Client]struct{}{}}
		m.pools[spec.Key] = p
	}
	p.settings = spec.Settings
	p.settings.defaults()
	return p
}

// tick does what time brings.
func (m *Manager) tick() {
	if m.closed {
		return
	}
	for _, p := range m.pools {
		p.reap(m.c.Now())
	}
	m.stopTick = m.loop.After(tick, m.tick)
}

// Greeting is what a client is told before its first statement, of its lane's servers.
type Greeting struct {
	Params  map[string]string
	Order   []string
	Notices []byte
}

// Greet returns what servers of a lane report, from a server that is opened for it if none
// was before. The error is a login's, or a *Refusal.
func (m *Manager) Greet(ctx context.Context, spec Spec) (*Greeting, error) {
	type answer struct {
		g   *Greeting
		err error
	}
	got := make(chan answer, 1)
	if !m.loop.Post(func() { m.greet(&spec, func(g *Greeting, err error) { got <- answer{g, err} }) }) {
		return nil, ErrClosed
	}
	select {
	case a := <-got:
		return a.g, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *Manager) greet(spec *Spec, tell func(*Greeting, error)) {
	if m.closed {
		tell(nil, ErrClosed)
		return
	}
	p := m.pool(spec)
	l := p.lane(spec)
	switch {
	case l.greeting != nil:
		tell(l.greet(spec), nil)
	case l.blocked(m.c.Now()) > 0:
		tell(nil, l.failure)
	default:
		l.asking = append(l.asking, func(err error) {
			if err != nil {
				tell(nil, err)
				return
			}
			tell(l.greet(spec), nil)
		})
		p.asking++
		p.dispatch(l)
	}
}

// count counts servers of a database.
func (m *Manager) count(database string, by int) {
	if m.databases[database] += by; m.databases[database] == 0 {
		delete(m.databases, database)
	}
}
