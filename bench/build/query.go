package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// sameQueries run on dataset and source alike: a grouped count, and two joins over the
// person's key, whose pseudonym the dataset joins on.
var sameQueries = []struct{ name, sql string }{
	{"count", `SELECT video, count(*), avg(watched_ms) FROM app.event GROUP BY video ORDER BY 2 DESC, 1 LIMIT 20`},
	{"join", `SELECT p.country, count(*), sum(e.watched_ms) FROM app.event e JOIN app.person p ON p.id = e.person_id GROUP BY 1 ORDER BY 1`},
	{"three", `SELECT p.country, count(DISTINCT d.model), sum(y.amount) FROM app.person p JOIN app.device d ON d.person_id = p.id
		JOIN app.payment y ON y.person_id = p.id GROUP BY 1 ORDER BY 1`},
}

const queryRounds = 9

func (b *bench) queries(ctx context.Context) error {
	source, err := pgx.Connect(ctx, b.sourceDSN)
	if err != nil {
		return err
	}
	defer source.Close(ctx)
	target, err := pgx.Connect(ctx, b.target.SuperuserDSN(name))
	if err != nil {
		return err
	}
	defer target.Close(ctx)
	worst := 0.0
	for _, q := range sameQueries {
		var ours, theirs []time.Duration
		for round := range queryRounds + 1 {
			o, err := timed(ctx, target, q.sql)
			if err != nil {
				return err
			}
			s, err := timed(ctx, source, q.sql)
			if err != nil {
				return err
			}
			if round > 0 { // the first fills caches
				ours, theirs = append(ours, o), append(theirs, s)
			}
		}
		o, s := median(ours), median(theirs)
		ratio := o.Seconds() / s.Seconds()
		worst = max(worst, ratio)
		fmt.Printf("figure query_%s_ms %.1f ms peer source %.1f ratio %.2f\n", q.name, o.Seconds()*1000, s.Seconds()*1000, ratio)
	}
	fmt.Printf("figure query_ratio %.2f ratio\n", worst)
	return nil
}

func timed(ctx context.Context, conn *pgx.Conn, sql string) (time.Duration, error) {
	start := time.Now()
	rows, err := conn.Query(ctx, sql)
	if err != nil {
		return 0, err
	}
	for rows.Next() {
	}
	return time.Since(start), rows.Err()
}
