package valve

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/preamble"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
)

var testKey = bytes.Repeat([]byte{5}, 32)

// teller is a monitor as the valve hears it.
type teller struct {
	server *httptest.Server

	mu      sync.Mutex
	streams map[chan credit.Line]bool
	stopped bool
	away    bool
	known   map[string]credit.Line
	reports []credit.Report
}

func newTeller(t testing.TB) *teller {
	m := &teller{streams: map[chan credit.Line]bool{}, known: map[string]credit.Line{}}
	m.server = httptest.NewServer(m)
	t.Cleanup(func() { m.gone(true); m.server.CloseClientConnections(); m.server.Close() })
	return m
}

func (m *teller) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	away := m.away
	m.mu.Unlock()
	if away || r.Header.Get("Authorization") != "Bearer secret" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	if r.Method == http.MethodPost {
		var rep credit.Report
		if json.NewDecoder(r.Body).Decode(&rep) == nil {
			m.mu.Lock()
			m.reports = append(m.reports, rep)
			m.mu.Unlock()
		}
		w.WriteHeader(http.StatusNoContent)
		return
	}
	lines := make(chan credit.Line, 100)
	m.mu.Lock()
	lines <- credit.Line{Kind: credit.State, Stopped: m.stopped}
	for _, l := range m.known {
		lines <- l
	}
	m.streams[lines] = true
	m.mu.Unlock()
	beat := time.NewTicker(credit.Beat)
	defer beat.Stop()
	for seq := uint64(1); ; seq++ {
		var l credit.Line
		select {
		case l = <-lines:
		case <-beat.C:
			l = credit.Line{Kind: credit.Quiet}
		case <-r.Context().Done():
			return
		}
		if l.Kind == "" {
			return
		}
		l.Seq = seq
		if err := json.NewEncoder(w).Encode(l); err != nil {
			return
		}
		w.(http.Flusher).Flush()
	}
}

func (m *teller) tell(l credit.Line) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l.Kind == credit.State {
		m.stopped = l.Stopped
	} else {
		m.known[l.Valve] = l
	}
	for s := range m.streams {
		s <- l
	}
}

func (m *teller) credit(id string, allowance, bytes, releases int64) {
	m.tell(credit.Line{Kind: credit.Credit, Valve: id, Allowance: allowance, Bytes: bytes, Releases: releases})
}

// gone ends all streams and takes no new ones while on.
func (m *teller) gone(on bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.away = on
	for s := range m.streams {
		s <- credit.Line{}
		delete(m.streams, s)
	}
}

func (m *teller) reported() []credit.Report {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]credit.Report(nil), m.reports...)
}

// place is a valve between a test's clients and a test's gateway.
type place struct {
	t       testing.TB
	monitor *teller
	valve   *Valve
	address string
	gateway net.Listener
	guard   *preamble.Guard
}

func newPlace(t testing.TB, limits Limits, keep ...*kept.Store) *place {
	t.Helper()
	p := &place{t: t, monitor: newTeller(t), guard: preamble.NewGuard(testKey, time.Now)}
	var err error
	if p.gateway, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = l.Addr().String()
	c := Config{Listener: l, Gateway: p.gateway.Addr().String(), Key: testKey,
		Monitor: p.monitor.server.URL, Token: "secret", Handshake: 4096, Limits: limits}
	for _, s := range keep {
		c.Keep = s
	}
	p.valve, err = New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- p.valve.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-ran:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the valve does not end")
		}
		p.gateway.Close()
	})
	p.until("the monitor is heard", func() bool { return !p.valve.Status().Held })
	return p
}

func (p *place) until(what string, f func() bool) {
	p.t.Helper()
	for end := time.Now().Add(time.Minute); !f(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("not within a minute: %s", what)
		}
	}
}

// heldBy reports whether a connection is held.
func (v *Valve) heldBy(id string) bool {
	v.book.mu.Lock()
	a := v.book.open[id]
	v.book.mu.Unlock()
	_, _, _, held := a.figures()
	return held
}

// pair is one connection: its client, and the gateway's end of it.
type pair struct {
	t       testing.TB
	client  net.Conn
	gateway net.Conn
	said    *preamble.Preamble

	mu  sync.Mutex
	got int64
	err error // how the client's stream ended
}

func (p *place) connect() *pair {
	p.t.Helper()
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		p.t.Fatal(err)
	}
	_ = p.gateway.(*net.TCPListener).SetDeadline(time.Now().Add(time.Minute))
	g, err := p.gateway.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	said, err := p.guard.Read(g)
	if err != nil {
		p.t.Fatalf("preamble: %v", err)
	}
	x := &pair{t: p.t, client: c, gateway: g, said: said}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 32<<10)
		for {
			n, err := c.Read(buf)
			x.mu.Lock()
			x.got += int64(n)
			x.err = err
			x.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	p.t.Cleanup(func() { c.Close(); g.Close(); <-done })
	return x
}

func (x *pair) received() int64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.got
}

func (x *pair) ended() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.err != nil
}

// send has the gateway send n bytes, without waiting for them to be taken.
func (x *pair) send(n int64) {
	go func() { _, _ = io.CopyN(x.gateway, zeros{}, n) }()
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { return len(b), nil }

// stays checks that exactly n bytes have come and no more come for a while.
func (p *place) stays(x *pair, n int64) {
	p.t.Helper()
	p.until(fmt.Sprintf("%d bytes at the client (has %d)", n, x.received()), func() bool { return x.received() >= n })
	time.Sleep(50 * time.Millisecond)
	if got := x.received(); got != n {
		p.t.Fatalf("client has %d bytes, want %d", got, n)
	}
}
