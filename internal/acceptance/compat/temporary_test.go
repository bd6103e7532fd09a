package compat

import (
	"testing"

	"github.com/jackc/pgx/v5"
)

// TestTemporaryTablesCannotFillTheDisk: a session whose temporary tables pass the bound ends
// with 53100 while it writes, before anything is committed; its neighbour's stay.
func TestTemporaryTablesCannotFillTheDisk(t *testing.T) {
	for _, w := range ways() {
		if !w.release() {
			continue
		}
		t.Run(label(w.String()), func(t *testing.T) {
			ctx := bounded(t)
			open := func() *pgx.Conn {
				conn, err := pgx.Connect(ctx, w.dsn)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { conn.Close(bounded(t)) })
				return conn
			}
			neighbour, greedy := open(), open()
			if _, err := neighbour.Exec(ctx, "CREATE TEMP TABLE small AS SELECT * FROM app.topics"); err != nil {
				t.Fatal(err)
			}
			_, err := greedy.Exec(ctx, "CREATE TEMP TABLE big AS SELECT repeat('x', 1000) AS t FROM generate_series(1, 30000) a, generate_series(1, 30000) b")
			if err := refusedWith(err, "53100"); err != nil {
				t.Errorf("900 GB: %v", err)
			}
			var n int
			if err := neighbour.QueryRow(ctx, "SELECT count(*) FROM small").Scan(&n); err != nil || n != 16 {
				t.Errorf("the neighbour: %d, %v", n, err)
			}
			again := open()
			if _, err := again.Exec(ctx, "CREATE TEMP TABLE mine AS SELECT repeat('x', 1000) AS t FROM generate_series(1, 20000)"); err != nil {
				t.Errorf("a new session: %v", err)
			}
		})
	}
}
