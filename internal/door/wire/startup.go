package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxStartup is the greatest length in bytes of a start-up packet, as in PostgreSQL.
const MaxStartup = 10000

// Codes that stand where a start-up packet has its protocol version.
const (
	codeCancel = 80877102
	codeSSL    = 80877103
	codeGSSENC = 80877104
)

// NewestMinor is the newest minor version of protocol 3 that is spoken here.
const NewestMinor = 2

// MaxSecret is the greatest length in bytes of a cancel key in protocol 3.2.
const MaxSecret = 256

// ErrStartup is wrapped by every error of a start-up packet (SQLSTATE 08P01).
var ErrStartup = errors.New("malformed start-up packet")

// ErrVersion is wrapped when the start-up packet asks for a major version other than 3
// (SQLSTATE 0A000).
var ErrVersion = errors.New("unsupported frontend protocol")

// Ask is what a start-up packet asks for. The zero value is nothing.
type Ask int

// Asks.
const (
	_ Ask = iota
	AskSession
	AskTLS
	AskGSS
	AskCancel
)

// Startup is a parsed start-up packet.
type Startup struct {
	Ask     Ask
	Minor   uint16            // AskSession: as asked for
	Params  map[string]string // AskSession: without user's protocol options
	Options []string          // AskSession: protocol options (_pq_.…), none of which is known
	PID     uint32            // AskCancel
	Secret  []byte            // AskCancel: aliases the packet
}

// StartupLength reads the first four bytes of a start-up packet and returns how many more
// follow.
func StartupLength(head [4]byte) (int, error) {
	n := binary.BigEndian.Uint32(head[:])
	if n < 8 || n > MaxStartup {
		return 0, fmt.Errorf("%w: length out of range", ErrStartup)
	}
	return int(n) - 4, nil
}

// ParseStartup parses a start-up packet without its length.
func ParseStartup(p []byte) (*Startup, error) {
	if len(p) < 4 {
		return nil, fmt.Errorf("%w: too short", ErrStartup)
	}
	code, rest := binary.BigEndian.Uint32(p), p[4:]
	switch code {
	case codeSSL, codeGSSENC:
		if len(rest) != 0 {
			return nil, fmt.Errorf("%w: bytes after an encryption request", ErrStartup)
		}
		if code == codeSSL {
			return &Startup{Ask: AskTLS}, nil
		}
		return &Startup{Ask: AskGSS}, nil
	case codeCancel:
		if len(rest) < 8 || len(rest) > 4+MaxSecret {
			return nil, fmt.Errorf("%w: cancel key length out of range", ErrStartup)
		}
		return &Startup{Ask: AskCancel, PID: binary.BigEndian.Uint32(rest), Secret: rest[4:]}, nil
	}
	if code>>16 != 3 {
		return nil, fmt.Errorf("%w %d.%d: 3.0 to 3.%d are spoken", ErrVersion, code>>16, code&0xffff, NewestMinor)
	}
	return parseParams(uint16(code), rest)
}

// parseParams reads the pairs of name and value that end with an empty name.
func parseParams(minor uint16, p []byte) (*Startup, error) {
	s := &Startup{Ask: AskSession, Minor: minor, Params: map[string]string{}}
	for {
		name, rest, ok := takeCString(p)
		if !ok {
			return nil, fmt.Errorf("%w: missing terminator", ErrStartup)
		}
		if name == "" {
			if len(rest) != 0 {
				return nil, fmt.Errorf("%w: bytes after the last parameter", ErrStartup)
			}
			break
		}
		value, rest, ok := takeCString(rest)
		if !ok {
			return nil, fmt.Errorf("%w: parameter without value", ErrStartup)
		}
		p = rest
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("%w: parameter is not UTF-8", ErrStartup)
		}
		if strings.HasPrefix(name, "_pq_.") {
			s.Options = append(s.Options, name)
			continue
		}
		if _, twice := s.Params[name]; twice {
			return nil, fmt.Errorf("%w: parameter given twice", ErrStartup)
		}
		s.Params[name] = value
	}
	if s.Params["user"] == "" {
		return nil, fmt.Errorf("%w: no user name", ErrStartup)
	}
	return s, nil
}

// AppendStartup appends a start-up packet of protocol 3.0. Parameters are in byte order.
func AppendStartup(dst []byte, params map[string]string) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, 3<<16)
	for _, name := range slices.Sorted(maps.Keys(params)) {
		dst = cstring(cstring(dst, name), params[name])
	}
	return end(append(dst, 0), at)
}

// AppendSSLRequest appends an SSLRequest.
func AppendSSLRequest(dst []byte) []byte {
	dst = binary.BigEndian.AppendUint32(dst, 8)
	return binary.BigEndian.AppendUint32(dst, codeSSL)
}

// AppendCancelRequest appends a CancelRequest.
func AppendCancelRequest(dst []byte, pid uint32, secret []byte) []byte {
	at := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, codeCancel)
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return end(append(dst, secret...), at)
}

// takeCString takes a NUL-terminated string from the front of p.
func takeCString(p []byte) (s string, rest []byte, ok bool) {
	i := bytes.IndexByte(p, 0)
	if i < 0 {
		return "", nil, false
	}
	return string(p[:i]), p[i+1:], true
}
