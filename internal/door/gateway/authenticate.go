package gateway

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// Bounds of a client's messages during authentication, in bytes.
const (
	maxAuthMessage  = 8 << 10
	maxTokenMessage = 20 << 10 // ID tokens that list many groups are long
)

// Sources knows users who log in with the password that they have at a source database.
// Its methods are called for clients that nobody knows yet, before anything is decided.
type Sources interface {
	// Verifier returns what the source of this name holds for user. ask is false for a user
	// who does not log in this way; an empty verifier is one whom the source does not know.
	// An error means that the source cannot be asked now.
	Verifier(ctx context.Context, c Caller) (found SourceUser, ask bool, err error)
	// Forget drops what is remembered of a user whose login has failed.
	Forget(c Caller)
	// Hint is said to everybody whose login at a database fails; "" for none.
	Hint(database string) string
}

// Caller is a client before it has said who it is in a way that can be believed.
type Caller struct {
	User     string
	Database string
	Network  trefoil.Place
	Local    bool // from this machine
}

// SourceUser is what a source says of a user, and who that would be here.
type SourceUser struct {
	Verifier  string // "SCRAM-SHA-256$…"; "" opens for nobody
	Principal identity.Principal
}

// login is how a client has shown who it is.
type login struct {
	proof
	who   identity.Principal
	until time.Time // the login's own end; zero = none
	ended string    // what to tell the client then
	keys  *identity.Keys
}

// proof is what stays of a login as long as the session: enough to look at it again.
type proof struct {
	way    string              // identity.ByPassword and the others
	listed bool                // the principal was in people.yaml
	entry  *identity.Principal // an ID token's: what people.yaml said
	token  *identity.Token
	chain  []*x509.Certificate // a certificate's, to look at again
}

func (l *proof) tokenID() string {
	if l.token == nil {
		return ""
	}
	return l.token.ID
}

// authenticate finds out who the client is: by its certificate, else by an ID token where
// its name asks for one, else by SCRAM.
func (g *Gateway) authenticate(ctx context.Context, h *hello) (login, *refused) {
	user, now := h.startup.Params["user"], g.c.Now()
	who, until, ok, err := h.live.Certificates.Identify(h.live.Directory, h.chain, user, now)
	switch {
	case err != nil:
		return login{}, refusal(stageAuthentication, "28000", reasonPassword, err.Error())
	case ok:
		return g.known(h, login{who: who, proof: proof{way: identity.ByCertificate}, until: until, ended: "the client certificate has expired"}), nil
	}
	if h.live.OIDC.Asks(user) && !h.secure {
		r := refusal(stageAuthentication, "28000", reasonTLS, "ID tokens are taken over TLS only")
		r.Hint = "Connect with sslmode=verify-full."
		return login{}, r
	}
	ctx, cancel := context.WithTimeout(ctx, max(0, g.c.Limits.Startup))
	defer cancel()
	done, wait := g.limiter.Reserve(ctx, user, h.addr)
	if wait > 0 {
		r := refusal(stageAuthentication, "53300", reasonRate, "too many wrong passwords")
		r.Hint = "Try again in " + max(time.Second, wait.Round(time.Second)).String() + "."
		return login{}, r
	}
	var in login
	var r *refused
	if h.live.OIDC.Asks(user) {
		in, r = g.byIDToken(ctx, h, user)
	} else {
		in, r = g.bySCRAM(ctx, h, user)
	}
	done(r == nil, r != nil && r.SQLState == "28P01")
	if r != nil {
		return login{}, r
	}
	if in.token != nil {
		end, why := in.token.End()
		if !now.Before(end) { // whoever holds it may know
			return login{}, refusal(stageAuthentication, "28000", reasonPassword, why)
		}
		in.until, in.ended = end, "the access token has expired"
	}
	return g.known(h, in), nil
}

// known completes a login with the principal's entry.
func (g *Gateway) known(h *hello, in login) login {
	entry, listed := h.live.Directory.Lookup(in.who.ID)
	if in.listed = listed; in.way == identity.ByOIDC {
		in.entry = &entry
	}
	if in.way == identity.ByCertificate {
		in.chain = h.chain
	}
	return in
}

// byIDToken asks for a password in clear, inside TLS. It takes an ID token or an access
// token, never the password of people.yaml: nobody shall get used to giving that away.
func (g *Gateway) byIDToken(ctx context.Context, h *hello, user string) (login, *refused) {
	if _, err := h.conn.Write(wire.AppendAuthenticationCleartext(nil)); err != nil {
		return login{}, gone()
	}
	p, r := h.readPassword(maxTokenMessage)
	if r != nil {
		return login{}, r
	}
	text, rest, ok := bytes.Cut(p, []byte{0})
	if !ok || len(rest) > 0 {
		return login{}, refusal(stageAuthentication, "08P01", reasonMalformed, "malformed password message")
	}
	if strings.HasPrefix(string(text), identity.TokenPrefix) {
		who, token, err := h.live.Directory.CheckToken(user, string(text))
		if err != nil {
			return login{}, refusal(stageAuthentication, "28P01", reasonPassword, err.Error())
		}
		return login{who: who, proof: proof{way: identity.ByToken, token: token}}, nil
	}
	who, until, err := h.live.OIDC.Verify(ctx, h.live.Directory, user, string(text), g.c.Now())
	if err != nil {
		g.c.Logger.Info("login refused", "way", identity.ByOIDC, "error", err) // holds no claim
		r := refusal(stageAuthentication, "28P01", reasonPassword, identity.ErrPassword.Error())
		r.Hint = "For this user name the password is an ID token of your identity provider, or an access token."
		return login{}, r
	}
	return login{who: who, proof: proof{way: identity.ByOIDC}, until: until, ended: "the ID token behind this session has expired"}, nil
}

// bySCRAM runs SCRAM-SHA-256 with the client, against the verifier of people.yaml and the
// principal's access tokens, or against the source's own.
func (g *Gateway) bySCRAM(ctx context.Context, h *hello, user string) (login, *refused) {
	caller := Caller{User: user, Database: h.startup.Params["database"], Network: h.live.Locator.Network(h.addr, g.c.Now()), Local: h.local}
	if caller.Database == "" {
		caller.Database = user
	}
	source, atSource, r := g.atSource(ctx, caller)
	if r != nil {
		return login{}, r
	}
	mechanisms := []string{identity.Mechanism}
	if len(h.binding) > 0 {
		mechanisms = []string{identity.MechanismPlus, identity.Mechanism}
	}
	if _, err := h.conn.Write(wire.AppendAuthenticationSASL(nil, mechanisms...)); err != nil {
		return login{}, gone()
	}
	p, r := h.readPassword(maxAuthMessage)
	if r != nil {
		return login{}, r
	}
	mechanism, first, err := wire.ParseSASLInitial(p)
	if err != nil {
		return login{}, refusal(stageAuthentication, "08P01", reasonMalformed, "malformed SASL message")
	}
	var exchange *identity.Login
	var answer string
	if atSource {
		exchange, answer, err = h.live.Directory.BeginSource(user, source.Verifier, source.Principal, mechanism, first, h.binding)
	} else {
		exchange, answer, err = h.live.Directory.Begin(user, mechanism, first, h.binding)
	}
	if err != nil {
		return login{}, refusal(stageAuthentication, "08P01", reasonMalformed, err.Error())
	}
	who, final, r := h.exchange(exchange, answer)
	if r != nil {
		if r.SQLState == "28P01" && g.c.Sources != nil {
			r.Hint = g.c.Sources.Hint(caller.Database)
			if atSource {
				g.c.Sources.Forget(caller)
			}
		}
		return login{}, r
	}
	if _, err := h.conn.Write(wire.AppendSASLFinal(nil, final)); err != nil {
		return login{}, gone()
	}
	in := login{who: who, proof: proof{way: identity.ByPassword, token: exchange.Token()}}
	switch {
	case atSource:
		in.way, in.keys = identity.BySource, exchange.Keys()
	case in.token != nil:
		in.way = identity.ByToken
	}
	return in, nil
}

// atSource asks the source for a user who logs in with its password there.
func (g *Gateway) atSource(ctx context.Context, c Caller) (SourceUser, bool, *refused) {
	if g.c.Sources == nil {
		return SourceUser{}, false, nil
	}
	found, ask, err := g.c.Sources.Verifier(ctx, c)
	if err != nil {
		g.c.Logger.Warn("source not asked for a login", "database", c.Database, "error", err)
		r := refusal(stageAuthentication, "57P03", reasonDatabase, "the database cannot be reached now")
		r.Hint = "Try again; if it lasts, tell the operator."
		return SourceUser{}, false, r
	}
	return found, ask, nil
}

// exchange sends the server's first message and checks the client's final one.
func (h *hello) exchange(l *identity.Login, answer string) (identity.Principal, string, *refused) {
	if _, err := h.conn.Write(wire.AppendSASLContinue(nil, answer)); err != nil {
		return identity.Principal{}, "", gone()
	}
	p, r := h.readPassword(maxAuthMessage)
	if r != nil {
		return identity.Principal{}, "", r
	}
	who, final, err := l.Finish(string(p))
	if err != nil {
		return identity.Principal{}, "", refusal(stageAuthentication, "28P01", reasonPassword, err.Error())
	}
	return who, final, nil
}

func (h *hello) readPassword(most int) ([]byte, *refused) {
	typ, p, err := readMessage(h.conn, most)
	switch {
	case errors.Is(err, errStartupLength):
		return nil, refusal(stageAuthentication, "08P01", reasonMalformed, err.Error())
	case err != nil:
		return nil, gone()
	case typ != wire.Password:
		return nil, refusal(stageAuthentication, "08P01", reasonMalformed, "expected a password message")
	}
	return p, nil
}

// relogin answers a server with the keys of the client's own exchange.
func (s *server) relogin(k *identity.Keys) error {
	r, first, err := k.Begin()
	if err != nil {
		return err
	}
	if _, err := s.Write(wire.AppendSASLInitial(nil, identity.Mechanism, first)); err != nil {
		return err
	}
	answer, err := s.saslAnswer(wire.AuthSASLContinue)
	if err != nil {
		return err
	}
	final, err := r.Prove(answer)
	if err != nil {
		return err
	}
	if _, err := s.Write(wire.AppendMessage(nil, wire.Password, []byte(final))); err != nil {
		return err
	}
	if answer, err = s.saslAnswer(wire.AuthSASLFinal); err != nil {
		return err
	}
	return r.Check(answer) // AuthenticationOk is still to come
}

// saslAnswer reads one message of the server's side of SCRAM.
func (s *server) saslAnswer(want uint32) (string, error) {
	typ, p, err := readMessage(s, wire.DefaultSmall)
	if err != nil {
		return "", err
	}
	if typ == wire.ErrorResponse {
		f, err := wire.ParseFields(p)
		return "", errors.Join(&refusedLogin{f}, err)
	}
	code, data, err := wire.ParseAuthentication(p)
	if err != nil || typ != wire.Authentication || code != want {
		return "", errors.New("unexpected message during SCRAM")
	}
	return string(data), nil
}
