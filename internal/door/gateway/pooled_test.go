package gateway_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/door/gateway"
	"github.com/trefoil-eu/trefoil/internal/door/pool"
)

// startPool brings up a gateway whose service sessions share database sessions.
func startPool(t *testing.T, s pool.Settings) *fixture {
	t.Helper()
	return start(t, func(c *gateway.Config, a *authoriser) {
		decide := a.decide
		a.decide = func(r gateway.Request) gateway.Decision {
			d := decide(r)
			if d.Path == gateway.Service {
				d.Target.Pool = &s
			}
			return d
		}
	})
}

func (f *fixture) pgx(t *testing.T, options string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, f.url("app", "sslmode=disable&"+options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

func TestPooledPreparedStatements(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2})
	var wg sync.WaitGroup
	for i := range 10 {
		wg.Go(func() {
			c := f.pgx(t, fmt.Sprintf("application_name=client-%d", i%3))
			for n := range 100 {
				var a, b int
				var name string
				if err := c.QueryRow(t.Context(), "select $1::int, $2::int, current_setting('application_name')", i, n).Scan(&a, &b, &name); err != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				if a != i || b != n || name != fmt.Sprintf("client-%d", i%3) {
					t.Errorf("client %d got %d %d %q", i, a, b, name)
				}
			}
		})
	}
	wg.Wait()
	for _, p := range f.gw.Pools() {
		t.Logf("%+v", p)
	}
}
