package wiretest

import (
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/xdg-go/scram"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
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

// Refused is an ErrorResponse instead of a session.
type Refused struct{ wire.ErrorFields }

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
		if _, err := c.Write(wire.AppendSSLRequest(nil)); err != nil {
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
	if _, err := c.Write(wire.AppendStartup(nil, params)); err != nil {
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
		case wire.ErrorResponse:
			f, err := wire.ParseFields(p)
			if err != nil {
				return nil, err
			}
			return nil, &Refused{f}
		case wire.NoticeResponse:
			o.Notices = append(o.Notices, render(typ, p))
		case wire.ParameterStatus:
			name, value, err := wire.ParseParameterStatus(p)
			if err != nil {
				return nil, err
			}
			o.Params[name] = value
		case wire.BackendKeyData:
			if o.PID, o.Secret, err = wire.ParseBackendKeyData(p); err != nil {
				return nil, err
			}
		case wire.Authentication:
			if err := answer(c, conv, p); err != nil {
				return nil, err
			}
		case wire.ReadyForQuery:
			return o, nil
		}
	}
}

func answer(c net.Conn, conv *scram.ClientConversation, p []byte) error {
	code, data, err := wire.ParseAuthentication(p)
	if err != nil {
		return err
	}
	step := ""
	switch code {
	case wire.AuthSASL:
		offered, err := wire.ParseMechanisms(data)
		if err != nil || !slices.Contains(offered, "SCRAM-SHA-256") {
			return fmt.Errorf("SCRAM-SHA-256 is not offered: %v", offered)
		}
		if step, err = conv.Step(""); err != nil {
			return err
		}
		_, err = c.Write(wire.AppendSASLInitial(nil, "SCRAM-SHA-256", step))
		return err
	case wire.AuthSASLContinue:
		if step, err = conv.Step(string(data)); err != nil {
			return err
		}
		_, err = c.Write(wire.AppendMessage(nil, wire.Password, []byte(step)))
		return err
	case wire.AuthSASLFinal:
		_, err = conv.Step(string(data))
	}
	return err
}
