package gateway

import (
	"bytes"
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/trefoil-eu/trefoil/internal/preamble"
)

// preambleTime is how long a connection on the valve's listener may take to say who it is.
const preambleTime = 5 * time.Second

// mostPreambles bounds connections on the valve's listener that have not said who they are.
const mostPreambles = 256

// valveListener is a listener on which every connection begins with a valve's preamble.
type valveListener struct {
	net.Listener
	guard *preamble.Guard
	slots chan struct{}
}

// ValveListener returns l as a listener for Config.Listeners to which only the valve with
// this key can connect. The gateway believes it the client's address and the connection's id.
func ValveListener(l net.Listener, key []byte) net.Listener {
	return &valveListener{Listener: l, guard: preamble.NewGuard(key, time.Now), slots: make(chan struct{}, mostPreambles)}
}

// valved is a connection through the valve: its remote address is the client's.
type valved struct {
	net.Conn
	addr *valveAddr
}

// RemoteAddr implements net.Conn.
func (v *valved) RemoteAddr() net.Addr { return v.addr }

// CloseWrite ends this side's stream.
func (v *valved) CloseWrite() error {
	if w, ok := v.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return v.Conn.Close()
}

// valveAddr is a client's address as the valve gave it, and which of its connections it is.
type valveAddr struct {
	client netip.AddrPort
	id     string
}

// Network implements net.Addr.
func (*valveAddr) Network() string { return "tcp" }

// String implements net.Addr.
func (a *valveAddr) String() string { return a.client.String() }

// valveOf is the id of the valve's connection below c, "" for others.
func valveOf(c net.Conn) string {
	if a, ok := c.RemoteAddr().(*valveAddr); ok {
		return a.id
	}
	return ""
}

// fromValve serves c if l is the valve's listener. Without a valid preamble it is closed, with
// not a word.
func (g *Gateway) fromValve(ctx context.Context, l net.Listener, c net.Conn) bool {
	v, ok := l.(*valveListener)
	if !ok {
		return false
	}
	select {
	case v.slots <- struct{}{}:
	default:
		_ = c.Close()
		return true
	}
	g.wg.Go(func() {
		_ = c.SetReadDeadline(time.Now().Add(preambleTime))
		p, err := v.guard.Read(c)
		<-v.slots
		if err != nil {
			g.c.Logger.Debug("connection closed on the valve's listener", "from", c.RemoteAddr().String(), "error", err)
			_ = c.Close()
			return
		}
		through := &valved{Conn: c, addr: &valveAddr{client: p.Client, id: p.Name()}}
		if addr := p.Client.Addr(); g.half.enter(through, addr) {
			g.serve(ctx, through, addr)
		} else {
			_ = c.Close()
		}
	})
	return true
}

// SecretKeeper keeps the TLS secrets of release sessions that came through the valve, for
// audits in the region. lines are of a key log (SSLKEYLOGFILE), valid during the call. done is
// called at the session's end. After an error the session does not begin.
type SecretKeeper interface {
	Keep(session, connection string, lines []byte) (done func(), err error)
}

// overValve is what TLS is spoken through the valve: 1.3, whose overhead is known and which
// an audit can open. Its secrets go into h.secrets if somebody keeps them.
func (g *Gateway) overValve(h *hello, raw net.Conn, c *tls.Config) *tls.Config {
	if valveOf(raw) == "" {
		return c
	}
	c = c.Clone()
	c.MinVersion = max(c.MinVersion, tls.VersionTLS13)
	if g.c.Secrets != nil {
		h.secrets = new(bytes.Buffer)
		c.KeyLogWriter = h.secrets
	}
	return c
}

// keepSecrets makes the secrets of a session through the valve durable before it begins.
func (g *Gateway) keepSecrets(h *hello, session string) (done func(), r *refused) {
	if h.secrets == nil {
		return func() {}, nil
	}
	lines := h.secrets.Bytes()
	done, err := g.c.Secrets.Keep(session, valveOf(h.conn), lines)
	clear(lines)
	h.secrets = nil
	if err != nil {
		g.c.Logger.Error("session refused: its secrets are not kept", "session", session, "error", err)
		return nil, refusal(stageOpen, "57P03", reasonUnrecorded, "what an audit of this session needs cannot be kept")
	}
	return done, nil
}

// judgeValve refuses what cannot go through a valve.
func judgeValve(d *Decision, h *hello) *refused {
	if valveOf(h.conn) == "" || d.Path != Service {
		return nil
	}
	r := refusal(stageOpen, "28000", reasonPolicy, "services do not connect through the valve")
	r.Detail = "The valve lets through what is permitted chunk by chunk; a source is not read that way."
	r.Hint = "Connect to the gateway in the region."
	return r
}
