package postgres_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// TestTemporaryTablesAreMeasuredBeforeTheyAreCommitted: what a running transaction writes is
// in no catalog that others see, and yet it is attributed to its session, on every version.
func TestTemporaryTablesAreMeasuredBeforeTheyAreCommitted(t *testing.T) {
	for _, v := range pgtest.Versions(t) {
		t.Run(v.Bin, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c := pgtest.Private(t, pgtest.WithBin(v.Bin))
			if err := postgres.PrepareDatasetCluster(ctx, c.Cluster, "steward"); err != nil {
				t.Fatal(err)
			}
			if err := postgres.PrepareDatasetCluster(ctx, c.Cluster, "steward"); err != nil {
				t.Fatalf("again: %v", err)
			}
			c.Exec(t, c.SuperuserDSN("postgres"), "CREATE ROLE analyst LOGIN PASSWORD 'analyst'", "GRANT CONNECT, TEMP ON DATABASE postgres TO analyst")
			steward := c.Connect(t, c.SocketDSN(postgres.StewardRole, "steward", "postgres"))
			analyst := c.Connect(t, c.SocketDSN("analyst", "analyst", "postgres"))
			if uses, err := postgres.TemporaryUses(ctx, steward); err != nil || len(uses) != 0 {
				t.Fatalf("an idle cluster: %v, %v", uses, err)
			}
			var backend int
			if err := analyst.QueryRow(ctx, "SELECT split_part(virtualtransaction, '/', 1)::int FROM pg_locks WHERE locktype = 'virtualxid' AND pid = pg_backend_pid()").Scan(&backend); err != nil {
				t.Fatal(err)
			}
			if _, err := analyst.PgConn().Exec(ctx, "BEGIN; CREATE TEMP TABLE big AS SELECT repeat('x', 1000) FROM generate_series(1, 30000)").ReadAll(); err != nil {
				t.Fatal(err)
			}
			uses, err := postgres.TemporaryUses(ctx, steward)
			if err != nil || len(uses) != 1 || uses[0].Database != "postgres" || uses[0].Backend != backend || uses[0].Bytes < 20<<20 || uses[0].Bytes > 60<<20 {
				t.Errorf("%v, %v; the session is number %d", uses, err, backend)
			}
			if _, err := analyst.Exec(ctx, "SELECT * FROM trefoil.temporary()"); err == nil || !strings.Contains(err.Error(), "permission denied") {
				t.Errorf("a principal measures others: %v", err)
			}
			if _, err := steward.Exec(ctx, "SELECT pg_ls_dir('base')"); err == nil {
				t.Error("the steward lists directories")
			}
			if err := analyst.Close(ctx); err != nil {
				t.Fatal(err)
			}
			waitForNone(ctx, t, steward)
			warned := func() bool {
				found, err := postgres.CheckDatasetCluster(ctx, c.SocketDSN(postgres.StewardRole, "steward", "postgres"))
				if err != nil {
					t.Fatal(err)
				}
				return slices.ContainsFunc(found, func(f postgres.Finding) bool {
					return f.Code == "temporary-tables" && strings.Contains(f.Mend, "CREATE OR REPLACE FUNCTION")
				})
			}
			if warned() {
				t.Error("a prepared cluster is warned of")
			}
			if c.Exec(t, c.SuperuserDSN("postgres"), "REVOKE EXECUTE ON FUNCTION trefoil.temporary() FROM trefoil_steward"); !warned() {
				t.Error("nobody says that temporary tables cannot be measured")
			}
		})
	}
}

func waitForNone(ctx context.Context, t *testing.T, steward *pgx.Conn) {
	t.Helper()
	for {
		uses, err := postgres.TemporaryUses(ctx, steward)
		if err != nil {
			t.Fatal(err)
		}
		if len(uses) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still there: %v", uses)
		case <-time.After(20 * time.Millisecond):
		}
	}
}
