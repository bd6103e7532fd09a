package enclave

import (
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/release"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

type stopped struct{ why []release.StopReason }

func (s *stopped) Stop(r release.StopReason) { s.why = append(s.why, r) }

// TestTheLargestTemporaryTablesGoFirst: each session has its bound, and all together have
// theirs; a session of another gateway is counted and not stopped here.
func TestTheLargestTemporaryTablesGoFirst(t *testing.T) {
	q := newQuota(100, 250)
	sessions := make([]*stopped, 4)
	var leave func()
	for i := range sessions {
		sessions[i] = &stopped{}
		leave = q.enter("d", i, sessions[i])
	}
	use := func(bytes ...int64) (uses []postgres.TemporaryUse) {
		for i, b := range bytes {
			uses = append(uses, postgres.TemporaryUse{Database: "d", Backend: i, Bytes: b})
		}
		return uses
	}
	if n := q.enforce(use(100, 50, 50, 50)); n != 0 {
		t.Errorf("%d stopped at the bounds", n)
	}
	if n := q.enforce(use(101, 50, 50, 0)); n != 1 || len(sessions[0].why) != 1 || sessions[0].why[0].SQLState != "53100" {
		t.Errorf("%d stopped over the bound of one: %v", n, sessions[0].why)
	}
	if n := q.enforce(use(60, 90, 80, 70)); n != 1 || len(sessions[1].why) != 1 {
		t.Errorf("%d stopped over the bound of all: %v", n, sessions)
	}
	if n := q.enforce(append(use(10), postgres.TemporaryUse{Database: "elsewhere", Backend: 0, Bytes: 1000})); n != 0 {
		t.Errorf("%d stopped while another gateway's session takes it all", n)
	}
	leave()
	if n := q.enforce(use(0, 0, 0, 500)); n != 0 || len(sessions[3].why) != 0 {
		t.Error("a session that left was stopped")
	}
	if len(q.open()) != 1 {
		t.Error("open datasets")
	}
}

// TestASessionKnowsItsNumber: what PostgreSQL calls it in its temporary files.
func TestASessionKnowsItsNumber(t *testing.T) {
	pgtest.Each(t, func(t *testing.T, c *pgtest.Cluster) {
		dsn := c.Database(t)
		first, err := number(freshSession(t, dsn))
		if err != nil {
			t.Fatal(err)
		}
		second, err := number(freshSession(t, dsn))
		if err != nil || first == second {
			t.Errorf("two sessions are number %d and %d: %v", first, second, err)
		}
	})
}
