package acceptance

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// ways are the sessions that every driver must work in.
func ways() []struct{ name, dsn, path string } {
	return []struct{ name, dsn, path string }{
		{"service", shared.env["SERVICE_DSN"], "service"},
		{"support", shared.env["ANALYST_IE_DSN"], "release"},
		{"analytics", shared.env["ANALYST_CN_DSN"], "release"},
	}
}

// missing skips the test where a driver is not installed, and fails it in continuous
// integration: make test installs them.
func missing(t *testing.T, what string, err error) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is required and not there: run make deps: %v", what, err)
	}
	t.Skipf("%s is not there: run make deps: %v", what, err)
}

// inEveryWay runs a driver's test in each kind of session at once.
func inEveryWay(t *testing.T, f func(t *testing.T, dsn, path string)) {
	for _, w := range ways() {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			f(t, w.dsn, w.path)
		})
	}
}

// script runs a driver's script and wants it to say how much holds. It returns what went to
// standard error.
func script(t *testing.T, least int, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, problems.String())
	}
	if n, ok := strings.CutSuffix(strings.TrimSpace(string(out)), " hold"); !ok || atoi(n) < least {
		t.Errorf("fewer than %d checks: %s", least, out)
	}
	return problems.String()
}

func atoi(s string) (n int) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return -1
		}
		n = 10*n + int(c-'0')
	}
	return n
}

func TestPsycopg2(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's module belongs to Debian's interpreter
	if out, err := exec.Command(python, "-c", "import psycopg2").CombinedOutput(); err != nil {
		missing(t, "python3-psycopg2", errorsOf(err, out))
	}
	inEveryWay(t, func(t *testing.T, dsn, path string) {
		said := script(t, 12, python, "testdata/driver.py", dsn, path)
		if path == "release" && !strings.Contains(said, "SHOW trefoil.dataset") {
			t.Errorf("no notice at connect: %s", said)
		}
	})
}

func TestNodePostgres(t *testing.T) {
	modules, err := filepath.Abs("../../.cache/drivers/node_modules")
	if err == nil {
		_, err = os.Stat(filepath.Join(modules, "pg"))
	}
	if err != nil {
		missing(t, "node's pg", err)
	}
	if _, err := exec.LookPath("node"); err != nil {
		missing(t, "node", err)
	}
	inEveryWay(t, func(t *testing.T, dsn, path string) { script(t, 14, "node", "testdata/driver.js", modules, dsn, path) })
}

func errorsOf(err error, out []byte) error {
	return &exec.Error{Name: strings.TrimSpace(string(out)), Err: err}
}

// psql's script, with a pattern for what each part must print.
var psqlScript = []struct{ input, want string }{
	{`SELECT 40 + 2 AS answer;`, `(?m)^ +42$`},
	{`\conninfo`, `You are connected to database`},
	{`\l`, `(?m)^ *(platform|support|analytics) `},
	{`\dt app.*`, `(?m)^ app +\| people +\| table`},
	{`\d app.people`, `(?s)Column.*country.*Indexes:.*people_pkey`},
	{`\d+ app.people`, `(?s)Column.*Storage.*country`},
	{`\di app.*`, `people_pkey`},
	{`\df pg_catalog.lower`, `pg_catalog +\| lower`},
	{`\dn`, `(?m)^ +app +\|`},
	{`\du`, `Role name`},
	{`\dp app.people`, `Access privileges`},
	{`\x on
SELECT count(*) AS number_of_people FROM app.people;
\x off`, `number_of_people \| [0-9]{4}`},
	{`\set country DE
SELECT 'in ' || :'country' || ': ' || (count(*) > 10) AS r FROM app.people WHERE country = :'country';`, `in DE: true`},
	{`SELECT country, count(*) FROM app.people GROUP BY 1 HAVING count(*) > 50 ORDER BY 2 DESC LIMIT 3 \gdesc`, `country`},
	{`SELECT 'a' || i AS c FROM generate_series(1, 3) i \gset last_
\echo :last_c`, ``},
	{`BEGIN;
CREATE TEMP TABLE mine ON COMMIT DROP AS SELECT * FROM app.topics;
SELECT 'topics ' || count(*) FROM mine;
ROLLBACK;`, `topics 16`},
	{`\copy (SELECT 'copied', country FROM app.people ORDER BY id LIMIT 2) TO STDOUT`, `(?m)^copied\t`},
	{`SELECT nothing_like_it FROM app.people;`, `ERROR:  column "nothing_like_it" does not exist`},
	{`BEGIN; DECLARE c CURSOR FOR SELECT 'row ' || label FROM app.topics ORDER BY id; FETCH 2 FROM c; COMMIT;`, `row music`},
	{`PREPARE p AS SELECT 'prepared ' || $1::int; EXECUTE p (5);`, `prepared 5`},
	{`\timing on
SELECT 1;
\timing off`, `Time: `},
	{`SHOW server_version;`, `[0-9]+\.[0-9]+`},
}

func TestPsql(t *testing.T) {
	const psql = "/usr/lib/postgresql/15/bin/psql"
	if _, err := exec.LookPath(psql); err != nil {
		missing(t, "psql", err)
	}
	inEveryWay(t, func(t *testing.T, dsn, path string) {
		parts := psqlScript
		if path == "release" {
			parts = append(parts[:len(parts):len(parts)],
				struct{ input, want string }{`SHOW trefoil.dataset;`, `(?s)people.*(generalised|pseudonymised)`},
				struct{ input, want string }{`SELECT * FROM trefoil_info.columns WHERE table_name = 'people' ORDER BY column_name;`, `country`},
				struct{ input, want string }{`UPDATE app.people SET country = 'DE';`, `ERROR: `})
		}
		var input strings.Builder
		for _, p := range parts {
			input.WriteString(p.input + "\n\\echo ----part----\n")
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, psql, "-X", "-P", "pager=off", dsn)
		cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
		cmd.Stdin = strings.NewReader(input.String())
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Run(); err != nil {
			t.Fatalf("%v\n%s", err, out.String())
		}
		if path == "release" && !strings.Contains(out.String(), "NOTICE:  Trefoil: dataset ") {
			t.Error("no notice at connect")
		}
		answers := strings.Split(out.String(), "----part----\n")
		if len(answers) != len(parts)+1 {
			t.Fatalf("%d answers to %d parts:\n%s", len(answers), len(parts), out.String())
		}
		for i, p := range parts {
			if !regexp.MustCompile(p.want).MatchString(answers[i]) {
				t.Errorf("%s\nshould print %s, and prints\n%.600s", p.input, p.want, answers[i])
			}
		}
	})
}

func TestPgx(t *testing.T) {
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	inEveryWay(t, func(t *testing.T, dsn, path string) {
		for _, mode := range modes {
			t.Run(strings.ReplaceAll(mode.String(), " ", "_"), func(t *testing.T) {
				config, err := pgx.ParseConfig(dsn)
				if err != nil {
					t.Fatal("the DSN does not parse")
				}
				config.DefaultQueryExecMode = mode
				conn, err := pgx.ConnectConfig(bounded(t), config)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close(context.Background())
				pgxSession(t, conn, path)
			})
		}
	})
}

// pgxSession does what applications do.
func pgxSession(t *testing.T, conn *pgx.Conn, path string) {
	ctx := bounded(t)
	var n int
	for _, country := range []string{"DE", "FR"} { // twice: the second time from the cache
		if err := conn.QueryRow(ctx, "SELECT count(*) FROM app.people WHERE country = $1 OR country IS NULL", country).Scan(&n); err != nil || n < 10 {
			t.Fatalf("parameters: %d, %v", n, err)
		}
	}
	rows, err := conn.Query(ctx, "SELECT id, email, birth_date FROM app.people ORDER BY id LIMIT $1", 200)
	if err != nil {
		t.Fatal(err)
	}
	type person struct {
		ID    int64
		Email string
		Birth *time.Time
	}
	if people, err := pgx.CollectRows(rows, pgx.RowToStructByPos[person]); err != nil || len(people) != 200 {
		t.Errorf("rows: %d, %v", len(people), err)
	}
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "SELECT 1/0"); refused(t, err).Code != "22012" {
		t.Errorf("error: %v", err)
	}
	if _, err := tx.Exec(ctx, "SELECT 1"); refused(t, err).Code != "25P02" {
		t.Errorf("failed transaction: %v", err)
	}
	if err := tx.Rollback(ctx); err != nil {
		t.Error(err)
	}
	batch := &pgx.Batch{}
	for i := range 5 {
		batch.Queue("SELECT $1::int", i)
	}
	if conn.Config().DefaultQueryExecMode != pgx.QueryExecModeSimpleProtocol {
		results := conn.SendBatch(ctx, batch)
		for i := range 5 {
			if err := results.QueryRow().Scan(&n); err != nil || n != i {
				t.Errorf("batch: %d, %v", n, err)
			}
		}
		if err := results.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := conn.Exec(ctx, "CREATE TEMP TABLE mine (id bigint, note text)"); err != nil {
		t.Fatal(err)
	}
	if n, err := conn.CopyFrom(ctx, pgx.Identifier{"mine"}, []string{"id", "note"}, pgx.CopyFromSlice(100, func(i int) ([]any, error) { return []any{int64(i), "n"}, nil })); err != nil || n != 100 {
		t.Errorf("COPY in: %d, %v", n, err)
	}
	var out bytes.Buffer
	if tag, err := conn.PgConn().CopyTo(ctx, &out, "COPY app.topics TO STDOUT (FORMAT binary)"); err != nil || tag.RowsAffected() != 16 || !bytes.HasPrefix(out.Bytes(), []byte("PGCOPY\n\xff")) {
		t.Errorf("COPY out: %v, %v", tag, err)
	}
	if path != "release" {
		return
	}
	var dataset string
	if err := conn.QueryRow(ctx, "SHOW trefoil.dataset").Scan(&dataset); err != nil || !strings.Contains(dataset, "people") {
		t.Errorf("SHOW trefoil.dataset: %.80q, %v", dataset, err)
	}
	if err := conn.QueryRow(ctx, "SELECT count(*) FROM trefoil_info.columns WHERE form = ANY($1)", []string{"pseudonymised", "generalised", "clear"}).Scan(&n); err != nil || n < 20 {
		t.Errorf("trefoil_info.columns: %d, %v", n, err)
	}
}
