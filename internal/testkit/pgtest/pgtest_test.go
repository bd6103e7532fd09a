package pgtest_test

import (
	"context"
	"os"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

func TestEachTestHasADatabaseOfItsOwn(t *testing.T) {
	c := pgtest.Start(t)
	a, b := c.Database(t), c.Database(t)
	c.Exec(t, a, "CREATE TABLE only_here (n int)")
	conn := c.Connect(t, b)
	var n int
	err := conn.QueryRow(context.Background(), "SELECT count(*) FROM pg_class WHERE relname = 'only_here'").Scan(&n)
	if err != nil || n != 0 {
		t.Fatalf("the other database holds %d such tables, err %v", n, err)
	}
	if again := pgtest.Start(t); again != c {
		t.Fatal("a second Start made a second cluster")
	}
}
