package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/xdg-go/scram"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/splice"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// errUnreachable is wrapped when a database cannot be spoken to; the client may try again.
var errUnreachable = errors.New("database cannot be reached")

// refusedLogin is a database's own refusal of the gateway's login.
type refusedLogin struct{ wire.ErrorFields }

// Error leaves the server's text out: it may name what a client should not learn.
func (e *refusedLogin) Error() string { return "database refused the login: SQLSTATE " + e.SQLState }

// server is a logged-in session at a database, idle, with nothing read beyond its
// ReadyForQuery.
type server struct {
	*conn
	params   map[string]string
	order    []string
	pid      uint32
	secret   []byte
	notices  []byte // whole NoticeResponse messages of the start-up
	txStatus byte
	provers  *provers
}

// provers keeps one SCRAM client a password, with the keys that the server's salt gives: to
// derive them costs thousands of hashes, for each login anew otherwise.
type provers struct {
	mu    sync.Mutex
	known map[[sha256.Size]byte]*scram.Client
}

// maxProvers bounds provers: passwords are the operator's, one a role.
const maxProvers = 256

func (p *provers) of(password string) (*scram.Client, error) {
	h := sha256.Sum256([]byte(password))
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.known[h]; c != nil {
		return c, nil
	}
	c, err := scram.SHA256.NewClient("", password, "")
	if err != nil {
		return nil, err
	}
	if p.known == nil || len(p.known) >= maxProvers {
		p.known = map[[sha256.Size]byte]*scram.Client{}
	}
	p.known[h] = c
	return c, nil
}

// login connects and logs in. It speaks protocol 3.0, which every PostgreSQL does.
func (g *Gateway) login(ctx context.Context, t Target, params map[string]string) (*server, error) {
	deadline := time.Now().Add(g.c.Limits.Login)
	raw, err := g.dial(t, g.c.Limits.Login)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreachable, err)
	}
	_ = raw.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = raw.SetDeadline(time.Now()) })
	defer stop()
	s := &server{conn: newConn(raw), params: map[string]string{}, provers: &g.provers}
	if err := s.start(t, params); err != nil {
		_ = raw.Close()
		return nil, err
	}
	s.settle(g.c.Limits.Write)
	return s, nil
}

// dial connects to a target, with TLS where it asks for it.
func (g *Gateway) dial(t Target, bound time.Duration) (net.Conn, error) {
	raw, err := g.c.Dial(t.Network, t.Address, bound)
	if err != nil || t.TLS == nil {
		return raw, err
	}
	_ = raw.SetDeadline(time.Now().Add(bound))
	var answer [1]byte
	if _, err = raw.Write(wire.AppendSSLRequest(nil)); err == nil {
		_, err = io.ReadFull(raw, answer[:])
	}
	if err == nil && answer[0] != 'S' {
		err = errors.New("server does not speak TLS")
	}
	secured := splice.Client(raw, t.TLS)
	if err == nil {
		err = secured.Handshake()
	}
	if err != nil {
		_ = raw.Close()
		return nil, fmt.Errorf("start TLS: %w", err)
	}
	_ = raw.SetDeadline(time.Time{})
	return secured, nil
}

// start sends the start-up packet and reads up to ReadyForQuery.
func (s *server) start(t Target, params map[string]string) error {
	if _, err := s.Write(wire.AppendStartup(nil, params)); err != nil {
		return fmt.Errorf("%w: send start-up: %w", errUnreachable, err)
	}
	authenticated := false
	for {
		typ, p, err := readMessage(s, wire.DefaultSmall)
		if err != nil {
			return fmt.Errorf("%w: read start-up answer: %w", errUnreachable, err)
		}
		switch typ {
		case wire.Authentication:
			authenticated, err = s.authenticate(p, t)
		case wire.ParameterStatus:
			err = s.parameter(p)
		case wire.BackendKeyData:
			s.pid, s.secret, err = wire.ParseBackendKeyData(p)
		case wire.NoticeResponse:
			if len(s.notices) < 16<<10 {
				s.notices = wire.AppendMessage(s.notices, typ, p)
			}
		case wire.ErrorResponse:
			f, err := wire.ParseFields(p)
			return errors.Join(&refusedLogin{f}, err)
		case wire.NegotiateProtocolVersion:
		case wire.ReadyForQuery:
			if !authenticated || len(p) != 1 {
				return errors.New("log in to database: ready before it authenticated the gateway")
			}
			s.txStatus = p[0]
			return nil
		default:
			err = errors.New("unexpected message")
		}
		if err != nil {
			return fmt.Errorf("log in to database: %w", err)
		}
	}
}

func (s *server) parameter(p []byte) error {
	name, value, err := wire.ParseParameterStatus(p)
	if err != nil {
		return err
	}
	if !slices.Contains(s.order, name) {
		s.order = append(s.order, name)
	}
	s.params[name] = value
	return nil
}

// authenticate answers the server. Nothing weaker than SCRAM is: the gateway's password
// never crosses the line.
func (s *server) authenticate(p []byte, t Target) (done bool, err error) {
	code, data, err := wire.ParseAuthentication(p)
	if err != nil {
		return false, err
	}
	switch code {
	case 0:
		return true, nil
	case wire.AuthSASL:
		offered, err := wire.ParseMechanisms(data)
		if err != nil {
			return false, err
		}
		switch {
		case !slices.Contains(offered, identity.Mechanism):
			return false, errors.New("server asks for a password by a mechanism that the gateway does not use")
		case t.Keys != nil:
			return false, s.relogin(t.Keys)
		case t.Password == "":
			return false, errors.New("server asks for a password and there is none")
		}
		return s.scram(t.Password)
	}
	return false, fmt.Errorf("server asks for authentication method %d: only SCRAM-SHA-256 and certificates are used", code)
}

// scram proves the password, and that the server knows its verifier.
func (s *server) scram(password string) (bool, error) {
	client, err := s.provers.of(password)
	if err != nil {
		return false, err
	}
	conv := client.NewConversation()
	out, err := conv.Step("")
	if err != nil {
		return false, err
	}
	if _, err := s.Write(wire.AppendSASLInitial(nil, identity.Mechanism, out)); err != nil {
		return false, err
	}
	for _, want := range []uint32{wire.AuthSASLContinue, wire.AuthSASLFinal} {
		typ, p, err := readMessage(s, wire.DefaultSmall)
		if err != nil {
			return false, err
		}
		if typ == wire.ErrorResponse {
			f, err := wire.ParseFields(p)
			return false, errors.Join(&refusedLogin{f}, err)
		}
		code, data, err := wire.ParseAuthentication(p)
		if err != nil || typ != wire.Authentication || code != want {
			return false, errors.New("unexpected message during SCRAM")
		}
		if out, err = conv.Step(string(data)); err != nil {
			return false, errors.New("SCRAM exchange failed")
		}
		if want == wire.AuthSASLContinue {
			if _, err := s.Write(wire.AppendMessage(nil, wire.Password, []byte(out))); err != nil {
				return false, err
			}
		}
	}
	if !conv.Valid() {
		return false, errors.New("server did not prove that it knows the password")
	}
	return false, nil // AuthenticationOk is still to come
}
