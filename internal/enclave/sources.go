package enclave

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/rules/law"
)

// SourceAuthSQL is what a superuser of a source runs once, in each database that names a
// role under auth. The role may then ask for one user's SCRAM verifier at a time, as
// PgBouncer's auth_query does; it never sees those of superusers, of replication, of roles
// that cannot log in or whose password has run out, nor any MD5 hash.
const SourceAuthSQL = `CREATE SCHEMA trefoil_auth;
CREATE FUNCTION trefoil_auth.verifier(name text) RETURNS text
  LANGUAGE sql STABLE STRICT SECURITY DEFINER SET search_path = '' AS $$
    SELECT CASE WHEN r.rolpassword LIKE 'SCRAM-SHA-256$%%' THEN r.rolpassword ELSE 'not scram' END
    FROM pg_catalog.pg_authid r
    WHERE r.rolname = name AND r.rolcanlogin AND NOT r.rolsuper AND NOT r.rolreplication
      AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil > pg_catalog.now()) $$;
REVOKE ALL ON FUNCTION trefoil_auth.verifier(text) FROM PUBLIC;
GRANT USAGE ON SCHEMA trefoil_auth TO %[1]s;
GRANT EXECUTE ON FUNCTION trefoil_auth.verifier(text) TO %[1]s;`

// How long answers of a source are used, and how many are kept.
const (
	verifierFor   = 30 * time.Second
	nobodyFor     = 5 * time.Second
	sourceTimeout = 5 * time.Second
	maxVerifiers  = 4096
	notScram      = "not scram"
)

// sources asks source databases for their users' verifiers. It implements gateway.Sources.
type sources struct {
	now    *inForce
	routes *routes
	logger *slog.Logger
	clock  func() time.Time

	mu    sync.Mutex
	pools map[string]*pgxpool.Pool
	known map[sourceUser]verifier
}

type sourceUser struct{ database, user string }

type verifier struct {
	text string
	at   time.Time
}

func newSources(now *inForce, r *routes, logger *slog.Logger) *sources {
	return &sources{now: now, routes: r, logger: logger, clock: time.Now, pools: map[string]*pgxpool.Pool{}, known: map[sourceUser]verifier{}}
}

// close releases the connections.
func (s *sources) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.pools {
		p.Close()
	}
}

// name is the database behind a name that a client gave.
func (s *sources) name(given string) string {
	name, _ := s.routes.database(gateway.Request{Database: given})
	return name
}

// Verifier implements gateway.Sources.
func (s *sources) Verifier(ctx context.Context, c gateway.Caller) (gateway.SourceUser, bool, error) {
	r, name := s.now.get(), s.name(c.Database)
	db, isSource := r.Config.Databases[name]
	if !isSource || db.Auth == "" {
		return gateway.SourceUser{}, false, nil
	}
	who, listed := r.People.Directory.Lookup(c.User)
	switch {
	case listed && who.Service && who.Accepts(identity.BySource):
	case listed:
		return gateway.SourceUser{}, false, nil
	case r.Config.Mode == ModeObserve && near(r, c.Local, []trefoil.Place{c.Network}):
		who = identity.Principal{ID: c.User, Service: true, Role: c.User, Databases: []string{name}, Login: []string{identity.BySource},
			AttestedBy: "database " + name, AttestedAt: s.clock().UTC(), Evidence: identity.EvidenceDeclared}
	default:
		return gateway.SourceUser{}, false, nil
	}
	text, err := s.verifier(ctx, r, sourceUser{name, c.User}, db.Auth)
	return gateway.SourceUser{Verifier: text, Principal: who}, true, err
}

// Forget implements gateway.Sources. What was read a moment ago is kept: guesses must not
// become questions.
func (s *sources) Forget(c gateway.Caller) {
	key := sourceUser{s.name(c.Database), c.User}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.clock().Sub(s.known[key].at) > 2*time.Second {
		delete(s.known, key)
	}
}

// Hint implements gateway.Sources: the same for everybody, whether they exist or not.
func (s *sources) Hint(database string) string {
	if s.now.get().Config.Databases[s.name(database)].Auth == "" {
		return ""
	}
	return "If the password is right: the database must hold it as SCRAM-SHA-256. One that it holds as MD5 has to be set again; trefoil check says which."
}

// verifier asks the source, or the memory.
func (s *sources) verifier(ctx context.Context, r *Rules, key sourceUser, dsn string) (string, error) {
	s.mu.Lock()
	v, found := s.known[key]
	s.mu.Unlock()
	keep := verifierFor
	if v.text == "" {
		keep = nobodyFor
	}
	if age := s.clock().Sub(v.at); found && age >= 0 && age < keep {
		return v.text, nil
	}
	pool, err := s.pool(ctx, key.database, dsn)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, sourceTimeout)
	defer cancel()
	text, err := askVerifier(ctx, pool, key.user)
	if err != nil {
		return "", fmt.Errorf("ask database %s for a verifier: %w", key.database, err)
	}
	if text == notScram {
		s.logger.Warn("login refused: the database holds the user's password as MD5 or not at all; trefoil check says whose", "database", key.database)
		text = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.known { // any: the next login asks again
		if len(s.known) < maxVerifiers {
			break
		}
		delete(s.known, k)
	}
	s.known[key] = verifier{text, s.clock()}
	return text, nil
}

// queryer is a pool or a connection.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// askVerifier returns "" for a user that the source does not know or does not tell of.
func askVerifier(ctx context.Context, q queryer, user string) (string, error) {
	var text *string
	err := q.QueryRow(ctx, "SELECT trefoil_auth.verifier($1)", user).Scan(&text)
	if errors.Is(err, pgx.ErrNoRows) || text == nil {
		return "", ignoreNoRows(err)
	}
	return *text, err
}

func ignoreNoRows(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	return err
}

func (s *sources) pool(ctx context.Context, name, dsn string) (*pgxpool.Pool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.pools[name]; p != nil {
		return p, nil
	}
	cfg, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("databases.%s.auth: the DSN does not parse", name)
	}
	cfg.MaxConns, cfg.MaxConnIdleTime = 2, time.Minute
	p, err := pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
	if err != nil {
		return nil, fmt.Errorf("databases.%s.auth: %w", name, err)
	}
	s.pools[name] = p
	return p, nil
}

// near reports whether mode observe may let somebody in from here: from this machine, or
// from a network that enclave.yaml says is in the region, with no place known to be outside
// it. A hint from an address file is not enough.
func near(r *Rules, local bool, places []trefoil.Place) bool {
	configured := local
	for _, p := range places {
		if p.Country != "" && !r.Region.Contains(p.Country) {
			return false
		}
		if p.Source == law.Network && p.Country != "" && p.Evidence == identity.EvidenceNetwork && p.By == "enclave.yaml" {
			configured = true
		}
	}
	return configured
}

// observes reports whether mode observe lets a session through that policy would refuse:
// of a user of the source itself, on the service path, and from near by alone.
func (a *Authoriser) observes(q gateway.Request) bool {
	p := q.Principal
	return a.rules.Config.Mode == ModeObserve && q.BySource && p.Service && !p.ServesHumans && near(a.rules, q.Local, q.Places)
}

// observeNotice is what every session hears that mode observe let through.
const observeNotice = "Trefoil: mode observe. This session is recorded and nothing about it is decided: nobody is protected by it yet."

// withUser names a role in a DSN, so that its password is looked up as that role's.
func withUser(dsn, user string) string {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return dsn + " user='" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(user) + "'"
	}
	return withURLUser(dsn, user)
}
