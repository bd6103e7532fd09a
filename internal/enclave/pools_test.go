package enclave

import (
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/pool"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

func TestPoolSettings(t *testing.T) {
	const src = `
pool:
  mode: transaction
  servers: 30
  wait: 5s
  roles:
    reporting: {mode: session, servers: 4, reset: DISCARD ALL}
    batch: {mode: none}
`
	var db struct {
		Pool *Pool `yaml:"pool"`
	}
	if err := strict.Decode("enclave.yaml", []byte(src), &db); err != nil {
		t.Fatal(err)
	}
	if got := db.Pool.settings("app"); got == nil || got.Mode != pool.ByTransaction || got.Servers != 30 || got.Wait != 5*time.Second {
		t.Errorf("app: %+v", got)
	}
	if got := db.Pool.settings("reporting"); got == nil || got.Mode != pool.BySession || got.Servers != 4 || got.Wait != 5*time.Second {
		t.Errorf("reporting: %+v", got)
	}
	if got := db.Pool.settings("batch"); got != nil {
		t.Errorf("batch: %+v", got)
	}
	if got := (*Pool)(nil).settings("app"); got != nil {
		t.Errorf("no pool: %+v", got)
	}
}

func TestPoolsThatDoNotHold(t *testing.T) {
	for name, tc := range map[string]struct {
		pool Pool
		want string
	}{
		"no mode":            {Pool{Servers: 3}, "give the pool a mode"},
		"unknown mode":       {Pool{Mode: "statement"}, "mode is transaction or session"},
		"wait":               {Pool{Mode: "session", Wait: "soon"}, "not a duration"},
		"negative":           {Pool{Mode: "session", Servers: -1}, "cannot be negative"},
		"warm":               {Pool{Mode: "session", Servers: 2, Warm: 3}, "cannot be kept warm"},
		"role":               {Pool{Mode: "session", Roles: map[string]PoolSettings{"r": {Mode: "x"}}}, "mode is transaction or session"},
		"role's warm":        {Pool{Mode: "session", Warm: 5, Roles: map[string]PoolSettings{"r": {Servers: 2}}}, "cannot be kept warm"},
		"bound of database":  {Pool{Mode: "session", Warm: 5, PerDatabase: 2}, "below what is kept warm"},
		"nothing to reset":   {Pool{Mode: "session", Reset: " "}, "reset is a statement"},
		"lifetime of no use": {Pool{Mode: "session", Lifetime: "-1s"}, "not a duration"},
	} {
		t.Run(name, func(t *testing.T) {
			c := Config{Databases: map[string]Database{"shop": {Pool: &tc.pool}}}
			var said []string
			c.validatePools(func(_, format string, args ...any) { said = append(said, strings.ReplaceAll(format, "%q", "")) })
			if !strings.Contains(strings.Join(said, "\n"), tc.want) {
				t.Errorf("said %q, want %q", said, tc.want)
			}
		})
	}
}
