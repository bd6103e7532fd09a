package enclave

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// freshSession logs in as a role and hands over the connection, idle.
func freshSession(t *testing.T, dsn string) net.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pc, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	h, err := pc.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Conn.Close() })
	return h.Conn
}

// A principal stores values in its role's settings, to read them in a session whose catalog
// reads are covered: that session is ended, and the settings are gone.
func TestSettingsStoredWithARoleEndTheNextSession(t *testing.T) {
	c := pgtest.Start(t)
	admin := c.Database(t)
	cfg, err := pgx.ParseConfig(admin)
	if err != nil {
		t.Fatal(err)
	}
	role := "reader_" + cfg.Database
	c.Exec(t, admin, "CREATE ROLE "+role+" LOGIN PASSWORD 'reader'")
	dsn := c.SocketDSN(role, "reader", cfg.Database)
	if reason, empty := look(freshSession(t, dsn)); reason != nil || !empty {
		t.Fatalf("a plain session: %v, empty %v", reason, empty)
	}
	for _, sql := range []string{
		"ALTER ROLE " + role + " SET application_name = 'secret-1'",
		"ALTER ROLE " + role + " SET search_path = 'secret-1', 'secret-2'",
		"ALTER ROLE " + role + " IN DATABASE " + cfg.Database + " SET timezone = '<SECRET>+3'",
		"ALTER ROLE " + role + " SET default_transaction_read_only = on",
	} {
		c.Exec(t, dsn, sql)
		if reason, _ := look(freshSession(t, dsn)); reason == nil || reason.SQLState != "55000" || strings.Contains(reason.Message, "secret") {
			t.Errorf("%s: the session goes on: %v", sql, reason)
		}
		if reason, _ := look(freshSession(t, dsn)); reason != nil {
			t.Errorf("%s: the settings are still there: %v", sql, reason.Message)
		}
	}
}

// Temporary objects of any session are seen, whatever they are.
func TestTemporaryObjectsOfOthersAreSeen(t *testing.T) {
	c := pgtest.Start(t)
	dsn := c.Database(t)
	for _, sql := range []string{"CREATE TEMP TABLE x ()", "CREATE TYPE pg_temp.x AS ENUM ('a')", "CREATE DOMAIN pg_temp.x AS int",
		"CREATE FUNCTION pg_temp.x() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE TEMP SEQUENCE x", "CREATE TEMP VIEW x AS SELECT 1"} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Exec(ctx, sql); err != nil {
			t.Fatal(err)
		}
		if reason, empty := look(freshSession(t, dsn)); reason != nil || empty {
			t.Errorf("%s: %v, empty %v", sql, reason, empty)
		}
		if _, err := conn.Exec(ctx, "DISCARD TEMP"); err != nil {
			t.Fatal(err)
		}
		conn.Close(ctx)
	}
}
