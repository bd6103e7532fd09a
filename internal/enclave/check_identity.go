package enclave

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/home/intake"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// identities looks at the mode, the ways to log in and the access tokens.
func (k *checking) identities(c *Config) {
	if c.Mode == ModeObserve {
		k.add(intake.Warning, "", "mode is observe: users of the databases with auth are let in from this machine and from configured networks in the region, recorded and not decided: nobody is protected by it")
	}
	if _, _, err := c.logins(slog.New(slog.DiscardHandler)); err != nil {
		k.add(intake.Error, "", "identity: %v", err)
	}
	if _, err := c.readTokens(); err != nil {
		k.note(c.Tokens, err)
	}
	if info, err := os.Stat(c.Tokens); err == nil && info.Mode().Perm()&0o077 != 0 {
		k.add(intake.Error, "", "%s can be read by others (mode %04o): chmod 600 %s", c.Tokens, info.Mode().Perm(), c.Tokens)
	}
	file := k.peopleFile(c)
	if file == nil {
		return
	}
	keys := map[string]int{}
	for i, a := range c.Approvers {
		if first, twice := keys[a.Key]; twice {
			k.add(intake.Error, "", "approvers[%d] has the key of approvers[%d]: two names for one person hide who approved", i, first)
		}
		keys[a.Key] = i
		switch known := slices.ContainsFunc(file.People, func(p identity.Person) bool { return p.ID == a.Principal }); {
		case a.Principal == "":
			k.add(intake.Warning, "", "approvers[%d] names no principal: nothing keeps that person from approving a request of their own under another name; say who it is in people.yaml, if they are there", i)
		case !known:
			k.add(intake.Error, "", "approvers[%d].principal is nobody in people.yaml", i)
		}
	}
	for i, s := range file.Services {
		if !slices.Contains(s.Login, identity.BySource) {
			continue
		}
		for _, name := range s.Databases {
			if db, known := c.Databases[name]; !known || db.Auth == "" {
				k.add(intake.Error, "", "services[%d] logs in with the password of database %s, which names no role under auth", i, name)
			}
		}
	}
}

func (k *checking) peopleFile(c *Config) *identity.File {
	src, err := readBounded(c.People)
	if err != nil {
		return nil
	}
	f, err := identity.Decode(c.People, src)
	if err != nil {
		return nil // said already
	}
	return f
}

// sourceAuth holds each database with auth against what its role must be able to ask.
func (k *checking) sourceAuth(ctx context.Context, c *Config) {
	file := k.peopleFile(c)
	for name, db := range c.Databases {
		if db.Auth == "" {
			continue
		}
		found, err := withConn(ctx, db.Auth, func(ctx context.Context, conn *pgx.Conn) ([]intake.Finding, error) {
			return checkSourceAuth(ctx, conn, name, file)
		})
		if err != nil {
			k.add(intake.Error, "", "database %s: its auth role cannot connect: SQLSTATE %s", name, state(err))
		}
		k.report.Findings = append(k.report.Findings, found...)
	}
}

func checkSourceAuth(ctx context.Context, conn *pgx.Conn, name string, file *identity.File) ([]intake.Finding, error) {
	var out []intake.Finding
	say := func(s intake.Severity, sql, format string, args ...any) {
		out = append(out, intake.Finding{Severity: s, SQL: sql, Text: fmt.Sprintf("database "+name+": "+format, args...)})
	}
	var there, may, public, super bool
	err := conn.QueryRow(ctx, `SELECT f.oid IS NOT NULL,
		coalesce(has_schema_privilege(f.pronamespace, 'USAGE') AND has_function_privilege(f.oid, 'EXECUTE'), false),
		coalesce((SELECT bool_or(grantee = 0 AND privilege_type = 'EXECUTE') FROM aclexplode(coalesce(f.proacl, acldefault('f', f.proowner)))), false),
		(SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
		FROM (SELECT 1) one LEFT JOIN pg_proc f ON f.pronamespace = to_regnamespace('trefoil_auth') AND f.proname = 'verifier'`).Scan(&there, &may, &public, &super)
	if err != nil {
		return nil, err
	}
	if super {
		say(intake.Warning, "", "its auth role is a superuser: one that may ask for verifiers and nothing else is enough")
	}
	if !there || !may {
		say(intake.Error, fmt.Sprintf(SourceAuthSQL, postgres.Quote(conn.Config().User)), "its auth role cannot ask for verifiers; a superuser runs, in this database:")
		return out, nil
	}
	if public {
		say(intake.Error, "REVOKE ALL ON FUNCTION trefoil_auth.verifier(text) FROM PUBLIC;", "everybody may ask for verifiers")
	}
	if file == nil {
		return out, nil
	}
	for _, s := range file.Services {
		if !slices.Contains(s.Login, identity.BySource) || !slices.Contains(s.Databases, name) {
			continue
		}
		text, err := askVerifier(ctx, conn, s.ID)
		switch {
		case err != nil:
			return out, err
		case text == "":
			say(intake.Error, "", "service %s is no role that may log in with a password there (superusers and replication roles may not, by this way)", s.ID)
		case text == notScram:
			say(intake.Error, fmt.Sprintf("SET password_encryption = 'scram-sha-256'; ALTER ROLE %s PASSWORD '…';", postgres.Quote(s.ID)),
				"the password of service %s is held as MD5, or not at all: it has to be set again", s.ID)
		}
	}
	return out, nil
}
