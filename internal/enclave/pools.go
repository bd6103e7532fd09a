package enclave

import (
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/pool"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// Pool says how the service sessions of a database share database sessions: one pool a role.
// Without it each client has a database session of its own for as long as it is connected.
// Zero fields mean the defaults.
type Pool struct {
	Mode         string `yaml:"mode,omitempty"`          // transaction or session; none: no pool, for a role
	Servers      int    `yaml:"servers,omitempty"`       // most database sessions of a role; default 20
	Warm         int    `yaml:"warm,omitempty"`          // kept open though nobody needs them
	PerPrincipal int    `yaml:"per_principal,omitempty"` // most that one principal may hold at once
	PerDatabase  int    `yaml:"per_database,omitempty"`  // most of all roles together
	Wait         string `yaml:"wait,omitempty"`          // for a database session; default 30s
	Idle         string `yaml:"idle,omitempty"`          // then a database session that nobody needs is closed; default 10m
	Lifetime     string `yaml:"lifetime,omitempty"`      // then a database session is closed when it is free; default 1h
	Reset        string `yaml:"reset,omitempty"`         // run where a client leaves something; default DISCARD ALL
	Statements   int    `yaml:"statements,omitempty"`    // prepared on one database session; default 200

	Roles map[string]PoolSettings `yaml:"roles,omitempty"` // what is different for a role
}

// PoolSettings are what a role's pool has of its own, in place of the database's.
type PoolSettings struct {
	Mode         string `yaml:"mode,omitempty"`
	Servers      int    `yaml:"servers,omitempty"`
	Warm         int    `yaml:"warm,omitempty"`
	PerPrincipal int    `yaml:"per_principal,omitempty"`
	PerDatabase  int    `yaml:"per_database,omitempty"`
	Wait         string `yaml:"wait,omitempty"`
	Idle         string `yaml:"idle,omitempty"`
	Lifetime     string `yaml:"lifetime,omitempty"`
	Reset        string `yaml:"reset,omitempty"`
	Statements   int    `yaml:"statements,omitempty"`
}

// own returns the database's settings.
func (p *Pool) own() PoolSettings {
	return PoolSettings{Mode: p.Mode, Servers: p.Servers, Warm: p.Warm, PerPrincipal: p.PerPrincipal, PerDatabase: p.PerDatabase,
		Wait: p.Wait, Idle: p.Idle, Lifetime: p.Lifetime, Reset: p.Reset, Statements: p.Statements}
}

// poolModes are the modes by their names.
var poolModes = map[string]pool.Mode{"session": pool.BySession, "transaction": pool.ByTransaction}

// settings returns the pool of a role; nil for none.
func (p *Pool) settings(role string) *pool.Settings {
	if p == nil {
		return nil
	}
	s := p.own().over(p.Roles[role])
	mode, ok := poolModes[s.Mode]
	if !ok {
		return nil
	}
	d := func(text string) time.Duration {
		d, _ := time.ParseDuration(text) // validated when the file was read
		return d
	}
	return &pool.Settings{Mode: mode, Servers: s.Servers, Warm: s.Warm, PerPrincipal: s.PerPrincipal, PerDatabase: s.PerDatabase,
		Wait: d(s.Wait), Idle: d(s.Idle), Lifetime: d(s.Lifetime), Reset: s.Reset, Statements: s.Statements}
}

// over returns s with what r says in place of its own.
func (s PoolSettings) over(r PoolSettings) PoolSettings {
	text := func(to *string, v string) {
		if v != "" {
			*to = v
		}
	}
	number := func(to *int, v int) {
		if v != 0 {
			*to = v
		}
	}
	text(&s.Mode, r.Mode)
	text(&s.Wait, r.Wait)
	text(&s.Idle, r.Idle)
	text(&s.Lifetime, r.Lifetime)
	text(&s.Reset, r.Reset)
	number(&s.Servers, r.Servers)
	number(&s.Warm, r.Warm)
	number(&s.PerPrincipal, r.PerPrincipal)
	number(&s.PerDatabase, r.PerDatabase)
	number(&s.Statements, r.Statements)
	return s
}

// validatePools checks the pools of all databases.
func (c *Config) validatePools(bad func(string, string, ...any)) {
	for name, db := range c.Databases {
		if db.Pool == nil {
			continue
		}
		at := strict.Join(strict.Join("databases", name), "pool")
		if db.Pool.Mode == "" {
			bad(at, "give the pool a mode: transaction or session")
		}
		db.Pool.own().validate(at, bad)
		for role, s := range db.Pool.Roles {
			s.validate(strict.Join(at+".roles", role), bad)
			db.Pool.own().over(s).fits(strict.Join(at+".roles", role), bad)
		}
		db.Pool.own().fits(at, bad)
	}
}

func (s PoolSettings) validate(at string, bad func(string, string, ...any)) {
	if _, known := poolModes[s.Mode]; !known && s.Mode != "" && s.Mode != "none" {
		bad(at+".mode", "mode is transaction or session, or none for a role without a pool, not %q", s.Mode)
	}
	for _, n := range []struct {
		key string
		v   int
	}{{"servers", s.Servers}, {"warm", s.Warm}, {"per_principal", s.PerPrincipal}, {"per_database", s.PerDatabase}, {"statements", s.Statements}} {
		if n.v < 0 {
			bad(at+"."+n.key, "%s cannot be negative", n.key)
		}
	}
	for _, d := range []struct{ key, v string }{{"wait", s.Wait}, {"idle", s.Idle}, {"lifetime", s.Lifetime}} {
		if v, err := time.ParseDuration(d.v); d.v != "" && (err != nil || v <= 0) {
			bad(at+"."+d.key, "%q is not a duration such as 30s", d.v)
		}
	}
	if s.Reset != "" && (strings.TrimSpace(s.Reset) == "" || strings.ContainsRune(s.Reset, 0)) {
		bad(at+".reset", "reset is a statement such as DISCARD ALL")
	}
}

// fits checks what must hold between settings.
func (s PoolSettings) fits(at string, bad func(string, string, ...any)) {
	most := s.Servers
	if most == 0 {
		most = 20
	}
	if s.Warm > most {
		bad(at+".warm", "%d database sessions cannot be kept warm where %d may be open", s.Warm, most)
	}
	if s.PerDatabase > 0 && s.PerDatabase < s.Warm {
		bad(at+".per_database", "the database's bound is below what is kept warm")
	}
}
