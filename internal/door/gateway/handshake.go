package gateway

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// hello is a client whose start-up packet has been read.
type hello struct {
	conn    *conn
	startup *wire.Startup
	live    *live  // what was in force when the client came
	binding []byte // tls-server-end-point, nil without TLS
	chain   []*x509.Certificate
	secure  bool
	addr    netip.Addr
	local   bool          // from this machine
	secrets *bytes.Buffer // of TLS through the valve, until they are kept
}

// greet reads start-up packets until one asks for a session or a cancel. It reads not one
// byte more, so nothing sent in clear before TLS can be taken for something sent inside.
func (g *Gateway) greet(raw net.Conn) (*hello, *refused) {
	h := &hello{conn: newConn(raw), addr: address(raw), live: g.live.Load()}
	h.local = (h.addr.IsLoopback() || isUnix(raw)) && valveOf(raw) == "" // the valve's machine is not this one
	for range 3 {                                                        // a GSS request, a TLS request, and the start-up itself
		var head [4]byte
		if _, err := io.ReadFull(h.conn, head[:]); err != nil {
			return h, gone()
		}
		if head[0] == 0x16 && !h.secure && h.live.TLS != nil { // a TLS ClientHello at once
			if r := g.secure(h, &prefixed{raw, head[:]}, true); r != nil {
				return h, r
			}
			continue
		}
		n, err := wire.StartupLength(head)
		if err != nil {
			return h, refusal(stageStartup, "08P01", reasonMalformed, err.Error())
		}
		packet := make([]byte, n)
		if _, err := io.ReadFull(h.conn, packet); err != nil {
			return h, gone()
		}
		s, err := wire.ParseStartup(packet)
		switch {
		case errors.Is(err, wire.ErrVersion):
			return h, refusal(stageStartup, "0A000", reasonVersion, err.Error())
		case err != nil:
			return h, refusal(stageStartup, "08P01", reasonMalformed, err.Error())
		}
		if s.Ask == wire.AskSession || s.Ask == wire.AskCancel {
			h.startup = s
			return h, nil
		}
		if r := g.encrypt(h, raw, s.Ask); r != nil {
			return h, r
		}
	}
	return h, refusal(stageStartup, "08P01", reasonMalformed, "too many encryption requests")
}

// encrypt answers an encryption request.
func (g *Gateway) encrypt(h *hello, raw net.Conn, ask wire.Ask) *refused {
	if h.secure {
		return refusal(stageStartup, "08P01", reasonMalformed, "TLS is on already")
	}
	yes := ask == wire.AskTLS && h.live.TLS != nil
	answer := byte('N')
	if yes {
		answer = 'S'
	}
	// Written past the counter: the answer is no message of the session's.
	if _, err := raw.Write([]byte{answer}); err != nil {
		return gone()
	}
	if yes {
		return g.secure(h, raw, false)
	}
	return nil
}

// secure starts TLS. The count of bytes to the client starts behind it.
func (g *Gateway) secure(h *hello, raw net.Conn, direct bool) *refused {
	cfg := g.overValve(h, raw, h.live.TLS)
	if direct {
		cfg = cfg.Clone()
		cfg.NextProtos = []string{"postgresql"}
	}
	t := splice.Server(raw, cfg)
	if err := t.Handshake(); err != nil {
		return gone()
	}
	if direct && t.ConnectionState().NegotiatedProtocol != "postgresql" {
		return gone() // what speaks without ALPN is not PostgreSQL
	}
	h.conn, h.secure = newConn(t), true
	h.binding, h.chain = h.live.binding, t.ConnectionState().PeerCertificates
	return nil
}

// endPoint computes the channel binding of the certificate in use. With several
// certificates there is no telling which one a client saw: none then.
func endPoint(c *tls.Config) []byte {
	if c == nil || len(c.Certificates) != 1 || len(c.Certificates[0].Certificate) == 0 ||
		c.GetCertificate != nil || c.GetConfigForClient != nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(c.Certificates[0].Certificate[0])
	if err != nil {
		return nil
	}
	return identity.EndPoint(leaf)
}

// negotiate answers a newer minor version or unknown protocol options, and returns the
// length of the cancel key of the version that is spoken.
func (h *hello) negotiate() (secret int, r *refused) {
	minor := h.startup.Minor
	spoken := uint16(0)
	if minor >= wire.NewestMinor {
		spoken = wire.NewestMinor
	}
	if minor != spoken || len(h.startup.Options) > 0 {
		if _, err := h.conn.Write(wire.AppendNegotiateProtocolVersion(nil, spoken, h.startup.Options)); err != nil {
			return 0, gone()
		}
	}
	if spoken >= 2 {
		return 32, nil
	}
	return 4, nil
}

// address is where a connection comes from; the zero Addr for anything but TCP.
func address(c net.Conn) netip.Addr {
	if t, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap()
	}
	if v, ok := c.RemoteAddr().(*valveAddr); ok {
		return v.client.Addr()
	}
	if _, local := c.RemoteAddr().(*net.UnixAddr); local {
		return netip.AddrFrom4([4]byte{127, 0, 0, 1}) // who opens a file of this machine is on this machine
	}
	return netip.Addr{}
}

func isUnix(c net.Conn) bool {
	a := c.RemoteAddr()
	return a != nil && a.Network() == "unix"
}
