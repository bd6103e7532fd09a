package valve

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/monitor/credit"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
)

const mib = 1 << 20

// TestReleaseBeforeThePermitIsStopped: without a credit of the monitor's, a gateway gets the
// handshake out and not a byte more; the monitor hears of it.
func TestReleaseBeforeThePermitIsStopped(t *testing.T) {
	p := newPlace(t, Limits{Hold: 300 * time.Millisecond})
	x := p.connect()
	x.send(mib)
	p.stays(x, 4096)
	p.until("the connection is closed", x.ended)
	p.until("the monitor hears of it", func() bool { return len(p.monitor.reported()) == 1 })
	if r := p.monitor.reported()[0]; r.Valve != x.said.Name() || r.Sent != 4096 || r.Limit != 4096 {
		t.Errorf("reported %+v, want 4096 of 4096 on %s", r, x.said.Name())
	}
	if s := p.valve.Status(); s.Closed != 1 {
		t.Errorf("status %+v, want one closed", s)
	}
}

// TestMoreThanPermittedIsStopped: what was permitted passes whole, what is beyond it waits,
// and passes when its permit comes.
func TestMoreThanPermittedIsStopped(t *testing.T) {
	p := newPlace(t, Limits{Hold: time.Minute})
	x := p.connect()
	first := credit.Line{Allowance: 1000, Bytes: mib, Releases: 2}
	p.monitor.credit(x.said.Name(), first.Allowance, first.Bytes, first.Releases)
	x.send(8 * mib)
	p.stays(x, 4096+limitOf(&first))
	if over := limitOf(&first) - first.Bytes; over > 3*first.Allowance+2*recordOverhead*(moreRecords+1)+mib/300 {
		t.Errorf("%d bytes beyond the payload passed", over)
	}
	p.monitor.credit(x.said.Name(), 1000, mib, 2) // the same again gives nothing
	p.monitor.credit(x.said.Name(), 0, mib/2, 1)  // less takes nothing
	p.stays(x, 4096+limitOf(&first))
	p.monitor.credit(x.said.Name(), 1000, 9*mib, 3)
	p.stays(x, 8*mib)
}

// TestCreditOfAnotherConnection: what is permitted for one connection opens no other.
func TestCreditOfAnotherConnection(t *testing.T) {
	p := newPlace(t, Limits{Hold: 5 * time.Second})
	x, other := p.connect(), p.connect()
	p.monitor.credit(other.said.Name(), 0, 4*mib, 1)
	p.monitor.credit("00000000000000000000000000000000", 0, 4*mib, 1)
	x.send(mib)
	p.stays(x, 4096)
	p.until("the other credit is counted", func() bool { return p.valve.Status().Unknown == 1 })
}

// TestMonitorGoneHoldsEverything, and what was permitted passes once it is back.
func TestMonitorGoneHoldsEverything(t *testing.T) {
	p := newPlace(t, Limits{Hold: time.Minute})
	x := p.connect()
	p.monitor.credit(x.said.Name(), 0, mib, 1)
	x.send(8192)
	p.stays(x, 8192)
	p.monitor.gone(true)
	p.until("the valve holds", func() bool { return p.valve.Status().Held })
	p.monitor.credit(x.said.Name(), 0, 2*mib, 2) // nobody hears it
	x.send(mib)
	p.stays(x, 8192+lastWords)
	late := p.connect() // a stranger may still be refused
	late.send(mib)
	p.stays(late, 4096)
	p.monitor.gone(false)
	p.stays(x, 8192+mib)
	p.stays(late, 4096)
}

// TestStopDuringARelease: at most the last words pass after a stop, in all.
func TestStopDuringARelease(t *testing.T) {
	p := newPlace(t, Limits{Hold: time.Minute})
	x := p.connect()
	p.monitor.credit(x.said.Name(), 0, 64*mib, 1)
	x.send(mib)
	p.stays(x, mib)
	for range 3 { // stopped and resumed again and again
		p.monitor.tell(credit.Line{Kind: credit.State, Stopped: true})
		p.until("the valve holds", func() bool { return p.valve.Status().Held })
	}
	x.send(mib)
	p.stays(x, mib+lastWords)
	p.monitor.credit(x.said.Name(), 0, 128*mib, 2) // permitted before the stop, told after it
	p.stays(x, mib+lastWords)
	p.monitor.tell(credit.Line{Kind: credit.State})
	p.stays(x, 2*mib)
	p.monitor.tell(credit.Line{Kind: credit.State, Stopped: true})
	p.until("the valve holds", func() bool { return p.valve.Status().Held })
	x.send(mib)
	p.stays(x, 2*mib)
}

// TestStoppedForGoodCloses: held bytes do not wait for ever, and the gateway is not blamed.
func TestStoppedForGoodCloses(t *testing.T) {
	p := newPlace(t, Limits{Hold: 3 * time.Second})
	x := p.connect()
	p.monitor.credit(x.said.Name(), 0, 64*mib, 1)
	x.send(8192)
	p.stays(x, 8192)
	p.monitor.tell(credit.Line{Kind: credit.State, Stopped: true})
	p.until("the valve holds", func() bool { return p.valve.Status().Held })
	x.send(mib)
	p.until("the connection is closed", x.ended)
	if r := p.monitor.reported(); len(r) != 0 {
		t.Errorf("reported %+v, want nothing", r)
	}
}

// TestManyConnectionsThatStall: one address gets its share and no more, and nobody stays who
// gets no permit.
func TestManyConnectionsThatStall(t *testing.T) {
	p := newPlace(t, Limits{Connections: 8, PerAddress: 5, Startup: 5 * time.Second})
	var open []*pair
	for range 5 {
		open = append(open, p.connect())
		if len(open) == 1 {
			p.monitor.credit(open[0].said.Name(), 100, 0, 0)
		}
	}
	for range 20 {
		c, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(time.Minute))
		if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Error("a connection beyond the bound is served")
		}
		c.Close()
	}
	for _, x := range open[1:] {
		p.until("a connection without a permit is closed", x.ended)
	}
	p.until("their places are free", func() bool { return p.valve.Status().Open == 1 })
	if open[0].ended() {
		t.Error("a connection with a permit was closed")
	}
	p.connect()
}

// TestClientThatReadsNothing: what the client does not take stays with the gateway.
func TestClientThatReadsNothing(t *testing.T) {
	p := newPlace(t, Limits{Stall: 400 * time.Millisecond})
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g, err := p.gateway.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	said, err := p.guard.Read(g)
	if err != nil {
		t.Fatal(err)
	}
	p.monitor.credit(said.Name(), 0, 1<<40, 1)
	_ = g.SetWriteDeadline(time.Now().Add(20 * time.Second))
	taken := int64(0)
	for block := make([]byte, mib); err == nil; {
		var n int
		n, err = g.Write(block)
		taken += int64(n)
	}
	if taken > 64*mib {
		t.Errorf("%d bytes were taken for a client that reads nothing", taken)
	}
	p.until("the connection is closed", func() bool { return p.valve.Status().Open == 0 })
}

// TestUpstreamIsNotBounded: what a client says passes, also after it has half closed.
func TestUpstreamIsNotBounded(t *testing.T) {
	p := newPlace(t, Limits{})
	x := p.connect()
	if got := x.said.Client.String(); got != x.client.LocalAddr().String() {
		t.Errorf("the preamble names %s, want %s", got, x.client.LocalAddr())
	}
	go func() {
		_, _ = x.client.Write(make([]byte, 4*mib))
		_ = x.client.(*net.TCPConn).CloseWrite()
	}()
	_ = x.gateway.SetReadDeadline(time.Now().Add(20 * time.Second))
	n, buf := 0, make([]byte, mib)
	for {
		k, err := x.gateway.Read(buf)
		n += k
		if err != nil {
			break
		}
	}
	if n != 4*mib {
		t.Fatalf("%d bytes came up, want %d", n, 4*mib)
	}
	x.send(100)
	p.stays(x, 100)
}

// TestOneSessionIsStopped: what was credited to it passes no more, but for the last words; the
// others go on.
func TestOneSessionIsStopped(t *testing.T) {
	p := newPlace(t, Limits{Hold: time.Minute})
	x, other := p.connect(), p.connect()
	p.monitor.credit(x.said.Name(), 0, 64*mib, 1)
	p.monitor.credit(other.said.Name(), 0, 64*mib, 1)
	x.send(mib)
	p.stays(x, mib)
	p.monitor.tell(credit.Line{Kind: credit.Credit, Valve: x.said.Name(), Bytes: 65 * mib, Releases: 2, Held: true})
	p.until("the session is held", func() bool { return p.valve.heldBy(x.said.Name()) })
	x.send(mib)
	p.stays(x, mib+lastWords)
	other.send(mib)
	p.stays(other, mib)
	p.monitor.tell(credit.Line{Kind: credit.State, Stopped: true}) // all, and free again: it stays held
	p.until("the valve holds", func() bool { return p.valve.Status().Held })
	p.monitor.tell(credit.Line{Kind: credit.State})
	p.until("the valve is free", func() bool { return !p.valve.Status().Held })
	p.stays(x, mib+lastWords)
	p.monitor.tell(credit.Line{Kind: credit.Credit, Valve: x.said.Name(), Bytes: 65 * mib, Releases: 2})
	p.stays(x, 2*mib)
}

// TestKeptBeforeItPasses: what the client has is in the connection's file, with the session's
// name as the monitor gave it; what cannot be kept does not pass.
func TestKeptBeforeItPasses(t *testing.T) {
	session := strings.Repeat("5e", 16)
	store, err := kept.Open(t.TempDir(), time.Hour, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, Limits{Hold: time.Minute}, store)
	x := p.connect()
	if _, err := x.client.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	p.monitor.tell(credit.Line{Kind: credit.Credit, Valve: x.said.Name(), Session: session, Bytes: 3 * mib, Releases: 1})
	x.send(3 * mib)
	p.stays(x, 3*mib)
	path, err := kept.Find(store.Directory(), session, "")
	if err != nil {
		t.Fatal(err)
	}
	if c, err := kept.Read(path); err != nil || c.Size != 3*mib || c.Whole || c.ID != x.said.Name() || c.Session != session || string(c.Up) != "hello" {
		t.Errorf("kept %+v, %v", c, err)
	}
	x.client.Close()
	x.gateway.Close()
	p.until("the connection is closed", func() bool { return p.valve.Status().Open == 0 })
	if c, err := kept.Read(path); err != nil || !c.Whole {
		t.Errorf("kept %+v, %v; want it whole", c, err)
	}
	if err := os.RemoveAll(store.Directory()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(store.Directory(), nil, 0o600); err != nil { // no directory can be made there
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that cannot be kept: %d bytes, %v; want it closed", n, err)
	}
}
