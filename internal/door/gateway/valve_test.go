package gateway_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/preamble"
	"github.com/trefoil-eu/trefoil/internal/testkit/wiretest"
)

var valveKey = bytes.Repeat([]byte{3}, 32)

// valveDoor starts a gateway with a listener for the valve.
func valveDoor(t *testing.T, keeper ...gateway.SecretKeeper) (*fixture, string, *tls.Config) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, client := certificate(t)
	f := start(t, func(c *gateway.Config, _ *authoriser) {
		c.TLS = server
		c.Listeners = []net.Listener{gateway.ValveListener(l, valveKey)}
		for _, k := range keeper {
			c.Secrets = k
		}
	})
	return f, l.Addr().String(), client
}

// dialValve connects as the valve would.
func dialValve(t *testing.T, address string, p *preamble.Preamble, key []byte) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if p != nil {
		if _, err := c.Write(p.Append(nil, key)); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

func valvePreamble(id byte) *preamble.Preamble {
	p := &preamble.Preamble{Client: netip.MustParseAddrPort("203.0.113.9:4711"), Valve: netip.MustParseAddrPort("198.51.100.1:5432"), At: time.Now()}
	p.ID[15] = id
	return p
}

// forward relays one connection as the valve would, and returns where it waits for it.
func forward(t *testing.T, address string, p *preamble.Preamble) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	up := dialValve(t, address, p, valveKey)
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
		wg.Go(func() { _, _ = io.Copy(up, c) })
		_, _ = io.Copy(c, up)
		c.Close()
	})
	t.Cleanup(func() { l.Close(); up.Close(); wg.Wait() })
	return l.Addr().String()
}

// closedWithoutAWord checks that the gateway closes c and says nothing.
func closedWithoutAWord(t *testing.T, what string, c net.Conn) {
	t.Helper()
	var timeout net.Error
	if n, err := c.Read(make([]byte, 64)); n != 0 || err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("%s: read %d bytes and %v, want the end and no byte", what, n, err)
	}
}

// TestClientThatSpeaksToTheValvesListener: without the valve's preamble nobody is heard there.
func TestClientThatSpeaksToTheValvesListener(t *testing.T) {
	_, address, client := valveDoor(t)
	c := dialValve(t, address, nil, nil)
	if err := tls.Client(c, client).Handshake(); err == nil {
		t.Error("a TLS handshake without a preamble succeeds")
	}
	c = dialValve(t, address, nil, nil)
	if _, err := c.Write(append(wire.AppendSSLRequest(nil), make([]byte, 200)...)); err != nil {
		t.Fatal(err)
	}
	closedWithoutAWord(t, "an SSLRequest", c)
}

func TestForgedPreambleIsClosed(t *testing.T) {
	_, address, _ := valveDoor(t)
	closedWithoutAWord(t, "another key", dialValve(t, address, valvePreamble(1), bytes.Repeat([]byte{4}, 32)))
	old := valvePreamble(2)
	old.At = old.At.Add(-time.Hour)
	closedWithoutAWord(t, "an old one", dialValve(t, address, old, valveKey))
	once := valvePreamble(3)
	first := dialValve(t, address, once, valveKey)
	if _, err := first.Write(wire.AppendSSLRequest(nil)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(first, make([]byte, 1)); err != nil { // now the first has been read
		t.Fatal(err)
	}
	closedWithoutAWord(t, "one used before", dialValve(t, address, once, valveKey))
}

// TestThroughTheValve: the session knows the client's true address and its connection.
func TestThroughTheValve(t *testing.T) {
	f, address, client := valveDoor(t)
	open := func(user string, id byte, change func(*tls.Config)) (*wiretest.Opened, error) {
		secure := client.Clone()
		if change != nil {
			change(secure)
		}
		target := f.through(user)
		target.TLS = secure
		target.Address = forward(t, address, valvePreamble(id))
		_, o, err := wiretest.Open(target)
		return o, err
	}
	if _, err := open("aoife", 7, nil); err != nil {
		t.Fatal(err)
	}
	f.runner.mu.Lock()
	got := f.runner.last.Valve
	f.runner.mu.Unlock()
	if want := strings.Repeat("0", 30) + "07"; got != want {
		t.Errorf("the session's connection is %q, want %q", got, want)
	}
	f.auth.mu.Lock()
	asked := f.auth.asked[len(f.auth.asked)-1]
	f.auth.mu.Unlock()
	if asked.Local || asked.Places[2].Country != "" {
		t.Errorf("asked for %+v: want the client's network, which is not IE, and not this machine", asked)
	}
	if _, err := open("app", 8, nil); err == nil || !strings.Contains(err.Error(), "valve") {
		t.Errorf("a service through the valve: %v, want a refusal", err)
	}
	if _, err := open("aoife", 9, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }); err == nil {
		t.Error("TLS 1.2 through the valve succeeds")
	}
}

// keeper keeps the secrets of sessions, or cannot.
type keeper struct {
	err  error
	done chan struct{}

	mu    sync.Mutex
	lines map[string]string // by connection
}

func (k *keeper) Keep(_, connection string, lines []byte) (func(), error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lines[connection] = string(lines)
	return func() { close(k.done) }, k.err
}

// TestSecretsOfASessionAreKept before it begins; what cannot be audited is not opened.
func TestSecretsOfASessionAreKept(t *testing.T) {
	for _, fails := range []error{nil, errors.New("disk full")} {
		k := &keeper{err: fails, done: make(chan struct{}), lines: map[string]string{}}
		f, address, client := valveDoor(t, k)
		target := f.through("aoife")
		target.TLS, target.Address = client, forward(t, address, valvePreamble(7))
		conn, _, err := wiretest.Open(target)
		k.mu.Lock()
		lines := k.lines[strings.Repeat("0", 30)+"07"]
		k.mu.Unlock()
		if !strings.Contains(lines, "SERVER_TRAFFIC_SECRET_0") || !strings.Contains(lines, "SERVER_HANDSHAKE_TRAFFIC_SECRET") {
			t.Errorf("kept %d bytes of secrets", len(lines))
		}
		if fails != nil {
			if err == nil || !strings.Contains(err.Error(), "57P03") {
				t.Errorf("a session whose secrets are not kept: %v, want 57P03", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		select {
		case <-k.done:
		case <-time.After(time.Minute):
			t.Error("the keeper is not told of the session's end")
		}
	}
}
