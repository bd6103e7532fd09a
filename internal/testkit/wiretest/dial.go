package wiretest

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/xdg-go/scram"
)

// Target is where a script's connections go.
type Target struct {
	Network, Address string
	TLS              *tls.Config // nil: none
	User, Password   string
	Database         string
	Params           map[string]string
}

// Dial returns a Dialer that logs in at the target with SCRAM-SHA-256, or without a password
// where the server asks for none.
func Dial(target Target) Dialer {
	return func(t testing.TB) net.Conn {
		t.Helper()
		c, _, err := Open(target)
		if err != nil {
			t.Fatalf("wiretest: %v", err)
		}
		return c
	}
}

// Opened is what the server said at start-up.
type Opened struct {
	PID     uint32
	Secret  []byte
	Params  map[string]string
	Notices []string // rendered
}

// Fields are an error's, as far as tests ask for them.
type Fields struct{ Severity, SQLState, Message, Detail, Hint string }

// Refused is an ErrorResponse instead of a session.
type Refused struct{ Fields }

// Error implements error.
func (r *Refused) Error() string { return r.SQLState + ": " + r.Message }

// Open connects and logs in. A refusal is a *Refused.
func Open(target Target) (net.Conn, *Opened, error) {
	c, err := net.DialTimeout(target.Network, target.Address, patience)
	if err != nil {
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if target.TLS != nil {
		var answer [1]byte
		if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
			return nil, nil, err
		}
		if _, err := c.Read(answer[:]); err != nil || answer[0] != 'S' {
			return nil, nil, fmt.Errorf("no TLS: %q %w", answer, err)
		}
		c = tls.Client(c, target.TLS)
	}
	params := map[string]string{"user": target.User, "database": target.Database}
	for k, v := range target.Params {
		params[k] = v
	}
	if _, err := c.Write(startup(params)); err != nil {
		return nil, nil, err
	}
	o, err := login(c, target.Password)
	if err != nil {
		c.Close()
		return nil, nil, err
	}
	_ = c.SetDeadline(time.Time{})
	return c, o, nil
}

// login goes on from the start-up packet to ReadyForQuery.
func login(c net.Conn, password string) (*Opened, error) {
	o := &Opened{Params: map[string]string{}}
	client, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return nil, err
	}
	conv := client.NewConversation()
	for {
		typ, p, err := ReadMessage(c)
		if err != nil {
			return nil, err
		}
		switch typ {
		case 'E':
			return nil, &Refused{ParseFields(p)}
		case 'N':
			o.Notices = append(o.Notices, render(typ, p))
		case 'S':
			b := cursor{b: p}
			name := b.cstr()
			o.Params[name] = b.cstr()
		case 'K':
			b := cursor{b: p}
			o.PID, o.Secret = b.u32(), b.b
		case 'R':
			if err := answer(c, conv, p); err != nil {
				return nil, err
			}
		case 'Z':
			return o, nil
		}
	}
}

// answer goes one step on in authentication.
func answer(c net.Conn, conv *scram.ClientConversation, p []byte) error {
	b := cursor{b: p}
	switch code := b.u32(); code {
	case 0:
		return nil
	case 10:
		var offered []string
		for m := b.cstr(); m != ""; m = b.cstr() {
			offered = append(offered, m)
		}
		if !slices.Contains(offered, "SCRAM-SHA-256") {
			return fmt.Errorf("SCRAM-SHA-256 is not offered: %v", offered)
		}
		first, err := conv.Step("")
		if err != nil {
			return err
		}
		body := binary.BigEndian.AppendUint32([]byte("SCRAM-SHA-256\x00"), uint32(len(first)))
		_, err = c.Write(message('p', append(body, first...)))
		return err
	case 11:
		final, err := conv.Step(string(b.b))
		if err != nil {
			return err
		}
		_, err = c.Write(message('p', []byte(final)))
		return err
	case 12:
		_, err := conv.Step(string(b.b))
		return err
	default:
		return fmt.Errorf("authentication method %d", code)
	}
}

// startup builds a start-up packet of protocol 3.0.
func startup(params map[string]string) []byte {
	b := []byte{0, 3, 0, 0}
	for name, value := range params {
		b = append(append(append(append(b, name...), 0), value...), 0)
	}
	b = append(b, 0)
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(b)+4)), b...)
}

// message puts a header before a payload.
func message(typ byte, payload []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{typ}, uint32(len(payload)+4)), payload...)
}

// ParseFields reads an ErrorResponse's payload.
func ParseFields(p []byte) Fields {
	var f Fields
	b := cursor{b: p}
	for len(b.b) > 1 && !b.bad {
		code, value := b.take(1)[0], b.cstr()
		switch code {
		case 'V':
			f.Severity = value
		case 'C':
			f.SQLState = value
		case 'M':
			f.Message = value
		case 'D':
			f.Detail = value
		case 'H':
			f.Hint = value
		}
	}
	return f
}
