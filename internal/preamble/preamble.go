// Package preamble is the short text with which a valve begins each connection to a gateway:
// who the client is, and the connection's id.
//
// The invariant it keeps: nothing is believed that was not made with the key that valve and
// gateway share, within Fresh of now, and a preamble opens one connection, not two.
//
// The format is the PROXY protocol, version 2 (haproxy.org, proxy-protocol.txt), with the
// TLVs UNIQUE_ID (the id), 0xE1 (Unix milliseconds) and, last, 0xE0 (HMAC-SHA256 over
// everything before its value). It hides nothing: it is not encrypted.
package preamble

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"
)

// Fresh is how far a preamble's time may be from the reader's clock.
const Fresh = 30 * time.Second

// mostSeen bounds the ids that a Guard remembers; more connections than this within twice
// Fresh are refused.
const mostSeen = 100_000

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	label     = "trefoil.eu/valve-preamble/v1\x00"

	proxyV2         = 0x21
	tcp4, tcp6      = 0x11, 0x21
	tlvID, tlvTime  = 0x05, 0xE1
	tlvMAC          = 0xE0
	idSize, macSize = 16, sha256.Size
	leastKey        = 32
	head            = len(signature) + 4
	tlvs            = 3 + idSize + 3 + 8 + 3 + macSize
	size4, size6    = 12 + tlvs, 36 + tlvs
)

// ErrInvalid means that bytes are no preamble, or one that is forged, old or used before.
// Close the connection and say nothing.
var ErrInvalid = errors.New("no valid preamble")

// Preamble is what a valve says of one connection.
type Preamble struct {
	ID     [idSize]byte
	Client netip.AddrPort // as the valve sees it
	Valve  netip.AddrPort // where the client came to
	At     time.Time      // milliseconds
}

// Name is the connection's id as permit requests name it: 32 hex digits.
func (p *Preamble) Name() string { return hex.EncodeToString(p.ID[:]) }

// ReadKey reads the key that valve and gateway share: a file of at least 32 bytes, without the
// white space around them.
func ReadKey(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the valve's key: %w", err)
	}
	key := []byte(strings.TrimSpace(string(raw)))
	if len(key) < leastKey {
		return nil, fmt.Errorf("read the valve's key: %s has %d bytes, it needs %d", path, len(key), leastKey)
	}
	return key, nil
}

// Append appends p's bytes, authenticated with key, to b.
func (p *Preamble) Append(b, key []byte) []byte {
	start := len(b)
	client, valve := p.Client.Addr().Unmap(), p.Valve.Addr().Unmap()
	family, size := byte(tcp4), size4
	if !client.Is4() || !valve.Is4() {
		family, size = tcp6, size6
	}
	b = append(b, signature...)
	b = append(b, proxyV2, family)
	b = binary.BigEndian.AppendUint16(b, uint16(size))
	for _, a := range []netip.Addr{client, valve} {
		if family == tcp4 {
			b = append(b, a.AsSlice()...)
		} else {
			x := a.As16()
			b = append(b, x[:]...)
		}
	}
	b = binary.BigEndian.AppendUint16(b, p.Client.Port())
	b = binary.BigEndian.AppendUint16(b, p.Valve.Port())
	b = append(b, tlvID, 0, idSize)
	b = append(b, p.ID[:]...)
	b = append(b, tlvTime, 0, 8)
	b = binary.BigEndian.AppendUint64(b, uint64(p.At.UnixMilli()))
	b = append(b, tlvMAC, 0, macSize)
	return append(b, sum(key, b[start:])...)
}

func sum(key, text []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(label))
	mac.Write(text)
	return mac.Sum(nil)
}

// Guard reads preambles, and takes none twice. It is safe for concurrent use.
type Guard struct {
	key []byte
	now func() time.Time

	mu        sync.Mutex
	seen, old map[[idSize]byte]bool
	turned    time.Time
}

// NewGuard returns a guard for preambles made with key.
func NewGuard(key []byte, now func() time.Time) *Guard {
	return &Guard{key: key, now: now, seen: map[[idSize]byte]bool{}, old: map[[idSize]byte]bool{}, turned: now()}
}

// Read reads exactly one preamble from r, and not a byte more. Errors wrap ErrInvalid or are
// r's.
func (g *Guard) Read(r io.Reader) (*Preamble, error) {
	var buf [head + size6]byte
	if _, err := io.ReadFull(r, buf[:head]); err != nil {
		return nil, fmt.Errorf("read preamble: %w", err)
	}
	size := 0
	switch family, n := buf[13], int(binary.BigEndian.Uint16(buf[14:])); {
	case string(buf[:12]) != signature || buf[12] != proxyV2:
		return nil, ErrInvalid
	case family == tcp4 && n == size4, family == tcp6 && n == size6:
		size = n
	default:
		return nil, ErrInvalid
	}
	if _, err := io.ReadFull(r, buf[head:head+size]); err != nil {
		return nil, fmt.Errorf("read preamble: %w", err)
	}
	p, err := parse(buf[:head+size], g.key)
	if err != nil {
		return nil, err
	}
	if !g.first(p) {
		return nil, ErrInvalid
	}
	return p, nil
}

// parse reads a whole preamble whose family and length belong together.
func parse(b, key []byte) (*Preamble, error) {
	text := b[:len(b)-macSize]
	if len(key) < leastKey || !hmac.Equal(sum(key, text), b[len(text):]) {
		return nil, ErrInvalid
	}
	var p Preamble
	rest := b[head:]
	addr := func(n int) netip.Addr {
		a, _ := netip.AddrFromSlice(rest[:n])
		rest = rest[n:]
		return a.Unmap()
	}
	n := 4
	if b[13] == tcp6 {
		n = 16
	}
	client, valve := addr(n), addr(n)
	p.Client = netip.AddrPortFrom(client, binary.BigEndian.Uint16(rest))
	p.Valve = netip.AddrPortFrom(valve, binary.BigEndian.Uint16(rest[2:]))
	rest = rest[4:]
	if rest[0] != tlvID || rest[1] != 0 || rest[2] != idSize {
		return nil, ErrInvalid
	}
	copy(p.ID[:], rest[3:])
	rest = rest[3+idSize:]
	if rest[0] != tlvTime || rest[1] != 0 || rest[2] != 8 {
		return nil, ErrInvalid
	}
	p.At = time.UnixMilli(int64(binary.BigEndian.Uint64(rest[3:])))
	if rest = rest[11:]; rest[0] != tlvMAC || rest[1] != 0 || rest[2] != macSize {
		return nil, ErrInvalid
	}
	return &p, nil
}

// first reports whether p is fresh and its id was not used before.
func (g *Guard) first(p *Preamble) bool {
	now := g.now()
	if d := now.Sub(p.At); d > Fresh || d < -Fresh {
		return false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	// An id must be remembered for twice Fresh: its time may lie that far ahead.
	if now.Sub(g.turned) > 2*Fresh {
		g.old, g.seen, g.turned = g.seen, map[[idSize]byte]bool{}, now
	}
	if g.seen[p.ID] || g.old[p.ID] || len(g.seen) >= mostSeen {
		return false
	}
	g.seen[p.ID] = true
	return true
}
