package compat

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
)

// biStatement is one of testdata/bi.sql.
type biStatement struct{ name, sql string }

func biStatements(t testing.TB) (all []biStatement) {
	t.Helper()
	text, err := os.ReadFile("testdata/bi.sql")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "--: ")[1:] {
		name, sql, _ := strings.Cut(part, "\n")
		all = append(all, biStatement{name, strings.TrimSuffix(strings.TrimSpace(sql), ";")})
	}
	return all
}

func biClient() client {
	return client{name: "BI tools and ORMs", about: "Statements in their manner (testdata/bi.sql), in the simple and in the extended protocol: the answer through the gateway is the one that the server behind it gives to the same role.",
		run: runBI}
}

func runBI(t *testing.T, w way) []cell {
	through, direct := [2][]string{}, [2][]string{}
	for i, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeDescribeExec} {
		through[i], direct[i] = ask(t, w.dsn, mode), ask(t, shared.direct(t, w), mode)
	}
	var cells []cell
	for n, s := range biStatements(t) {
		outcome := works
		for i := range through {
			if through[i][n] != direct[i][n] {
				outcome = fmt.Sprintf("directly %.300s, and through the gateway %.300s", direct[i][n], through[i][n])
			} else if code, failed := strings.CutPrefix(through[i][n], "error "); failed {
				outcome = "as PostgreSQL: " + code
			}
		}
		cells = append(cells, cell{s.name, outcome})
	}
	return cells
}

// ask runs the statements in one session and gives each answer as text.
func ask(t *testing.T, dsn string, mode pgx.QueryExecMode) (answers []string) {
	ctx := bounded(t)
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal("the DSN does not parse")
	}
	config.DefaultQueryExecMode = mode
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, s := range biStatements(t) {
		found, err := conn.Query(ctx, s.sql)
		if err != nil {
			answers = append(answers, "error "+stateOf(err))
			continue
		}
		var out strings.Builder
		for found.Next() {
			values, err := found.Values()
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			for _, v := range values {
				if p := reflect.ValueOf(v); p.Kind() == reflect.Pointer && !p.IsNil() {
					v = p.Elem().Interface()
				}
				fmt.Fprintf(&out, "%v\t", v)
			}
			out.WriteByte('\n')
		}
		if err := found.Err(); err != nil {
			answers = append(answers, "error "+stateOf(err))
			continue
		}
		answers = append(answers, out.String())
	}
	return answers
}

// TestTheCorpusIsLarge: a file that does not parse must not pass as one without problems.
func TestTheCorpusIsLarge(t *testing.T) {
	if n := len(biStatements(t)); n < 45 {
		t.Errorf("%d statements", n)
	}
}
