package release

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TestClockThatStepsReleasesNothingTooMuch: the gateway's clock jumps while a session is open.
// Ahead, permits look expired: nothing leaves, and the client is told that it may try again.
// Back, permits hold and the books balance. In neither case does a row leave without one.
func TestClockThatStepsReleasesNothingTooMuch(t *testing.T) {
	for _, step := range []struct {
		name string
		by   time.Duration
		want string // SQLSTATE
	}{{"an hour ahead", time.Hour, "57P03"}, {"an hour back", -time.Hour, ""}, {"a year back", -365 * 24 * time.Hour, ""}, {"to 1970", -time.Since(time.Unix(0, 0)), ""}} {
		t.Run(step.name, func(t *testing.T) {
			var offset atomic.Int64
			d := openDoor(t, func(c *Config) {
				c.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				c.Limits.Wait = 3 * time.Second
			})
			conn := d.must(pgx.QueryExecModeSimpleProtocol)
			ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
			defer cancel()
			var n int
			if err := conn.QueryRow(ctx, "SELECT count(*) FROM person").Scan(&n); err != nil || n != 1000 {
				t.Fatalf("before the step: %d, %v", n, err)
			}
			offset.Store(int64(step.by))
			n = 0
			err := conn.QueryRow(ctx, "SELECT count(*) FROM person").Scan(&n)
			var refused *pgconn.PgError
			switch {
			case step.want == "" && (err != nil || n != 1000):
				t.Errorf("after the step: %d, %v", n, err)
			case step.want != "" && (!errors.As(err, &refused) || refused.Code != step.want || n != 0):
				t.Errorf("after the step: %d, %v", n, err)
			}
			if step.want == "" {
				d.close(conn)
				return
			}
			conn.Close(ctx)
			d.balance()
		})
	}
}
