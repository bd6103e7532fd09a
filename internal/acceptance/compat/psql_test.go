package compat

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
)

const psql = "/usr/lib/postgresql/15/bin/psql"

// part is one row of psql's section: what is typed, and a pattern for what is printed.
type part struct {
	what, input, want string
	release           string // SQLSTATE with which the release path refuses it; "": it works there too
}

// catalogs are psql's commands that read catalogs and print a table, whatever is in it.
var catalogs = strings.Fields(`\d \d+ \dS \da \dA \dAc \dAf \dAo \dAp \db \db+ \dc \dC \dconfig \dd \ddp \dD \dE \des \det \deu \dew
	\df \dfS \dF \dFd \dFp \dFt \dg \di \di+ \dl \dL \dm \dn \dn+ \dO \dp \dP \drds \dRp \dRs \ds \dt \dt+ \dT \dT+ \du \du+ \dv \dx \dX \dy \l \l+ \z`)

// typed are the other commands, and SQL as people type it.
func typed() []part {
	return []part{
		{`\d TABLE`, `\d app.people`, `(?s)Column.*country.*Indexes:.*people_pkey`, ""},
		{`\d+ TABLE`, `\d+ app.people`, `(?s)Column.*Storage.*country`, ""},
		{`\d PATTERN`, `\d app.v*`, `(?s)app.videos.*creator_id`, ""},
		{`\d INDEX`, `\d app.people_pkey`, `primary key, btree, for table "app.people"`, ""},
		{`\dt PATTERN`, `\dt app.*`, `(?m)^ app +\| people +\| table`, ""},
		{`\di PATTERN`, `\di app.*`, `people_pkey`, ""},
		{`\df PATTERN`, `\df pg_catalog.lower`, `pg_catalog +\| lower`, ""},
		{`\do PATTERN`, `\do pg_catalog.||`, `concatenate`, ""},
		{`\dp TABLE`, `\dp app.people`, `Access privileges`, ""},
		{`\sf`, `\sf pg_catalog.pg_relation_size(regclass)`, `CREATE OR REPLACE FUNCTION`, ""},
		{`\sv`, `\sv pg_catalog.pg_tables`, `CREATE OR REPLACE VIEW`, ""},
		{`\encoding`, `\encoding`, `UTF8`, ""},
		{`\conninfo`, `\conninfo`, `You are connected to database`, ""},
		{`\timing`, "\\timing on\nSELECT 1;\n\\timing off", `Time: `, ""},
		{`\x`, "\\x on\nSELECT count(*) AS number_of_people FROM app.people;\n\\x off", `number_of_people \| [0-9]{3}`, ""},
		{`\g FILE`, "SELECT 'to a file' \\g /dev/stdout", `to a file`, ""},
		{`\gx`, `SELECT 1 AS answer \gx`, `answer \| 1`, ""},
		{`\gset`, "SELECT 'a' || i AS c FROM generate_series(3, 3) i \\gset last_\n\\echo :last_c", `(?m)^a3$`, ""},
		{`\gdesc`, `SELECT country, count(*) FROM app.people GROUP BY 1 \gdesc`, `country +\| (character|app.country)`, ""},
		{`\gexec`, `SELECT 'SELECT ' || i || ' * 11 AS r' FROM generate_series(2, 3) i \gexec`, `(?s) 22\n.* 33\n`, ""},
		{`\watch`, "CREATE TEMP SEQUENCE seen;\nSELECT 'seen ' || nextval('seen'), 1 / (3 - currval('seen')) \\watch 0.1", `(?s)seen 1.*seen 2.*22012`, ""},
		{`\crosstabview`, `SELECT topic_id, seconds > 300 AS long, count(*) FROM app.videos GROUP BY 1, 2 \crosstabview`, `(?m)^ topic_id +\|`, ""},
		{`\errverbose`, "SELECT no_such_column FROM app.people;\n\\errverbose", `(?s)42703.*LOCATION:`, ""},
		{`\copy to`, `\copy (SELECT 'copied', country FROM app.people ORDER BY id LIMIT 2) TO STDOUT`, `(?m)^copied\t`, ""},
		{`\copy from, a temporary table`, "CREATE TEMP TABLE lines (n int, t text);\n\\copy lines FROM STDIN\n1\tone\n2\ttwo\n\\.\nSELECT 'lines ' || count(*) FROM lines;", `lines 2`, ""},
		{`\copy from, a table`, "BEGIN;\n\\copy app.topics FROM STDIN\n777\tx\n\\.\n;\nROLLBACK;", `COPY 1`, "42501"},
		{`\set and :'variables'`, "\\set topic 3\nSELECT 'in ' || :'topic' || ': ' || (count(*) > 0) AS r FROM app.videos WHERE topic_id = :topic;", `in 3: true`, ""},
		{`\if`, "SELECT count(*) > 0 AS any FROM app.people \\gset\n\\if :any\nSELECT 'there are some';\n\\endif", `there are some`, ""},
		{`\lo_list`, `\lo_list`, `Large objects`, ""},
		{`PREPARE, EXECUTE`, `PREPARE p AS SELECT 'prepared ' || $1::int; EXECUTE p (5);`, `prepared 5`, ""},
		{`BEGIN, temporary table ON COMMIT DROP`, "BEGIN;\nCREATE TEMP TABLE mine ON COMMIT DROP AS SELECT * FROM app.topics;\nSELECT 'topics ' || count(*) FROM mine;\nCOMMIT;", `topics 16`, ""},
		{`ON_ERROR_ROLLBACK`, "\\set ON_ERROR_ROLLBACK on\nBEGIN;\nSELECT 1 / 0;\nSELECT 'still ' || 'here';\nCOMMIT;\n\\set ON_ERROR_ROLLBACK off", `(?s)22012.*still here`, ""},
		{`FETCH_COUNT`, "\\set FETCH_COUNT 100\nSELECT 'row', id FROM app.watch_events WHERE watched_ms > 0 LIMIT 500;\n\\set FETCH_COUNT 0", `500 rows|(?s)(row.*){500}`, ""},
		{`DECLARE, FETCH`, "BEGIN;\nDECLARE c CURSOR FOR SELECT 'row ' || label FROM app.topics ORDER BY id;\nFETCH 2 FROM c;\nCOMMIT;", `row music`, ""},
		{`an error, then on`, "SELECT nothing_like_it FROM app.people;\nSELECT 'went on';", `(?s)42703: column "nothing_like_it" does not exist.*went on`, ""},
		{`EXPLAIN ANALYZE`, `EXPLAIN (ANALYZE, TIMING off) SELECT count(*) FROM app.people;`, `Execution Time`, ""},
		{`LISTEN, NOTIFY`, "LISTEN compat;\nNOTIFY compat, 'hello';\nUNLISTEN compat;", `Asynchronous notification "compat" with payload "hello" received`, ""},
		{`DO`, `DO $$ BEGIN RAISE NOTICE 'done %', 1; END $$;`, `done 1`, ""},
		{`UPDATE`, "BEGIN;\nUPDATE app.topics SET label = label;\nROLLBACK;", `UPDATE 16`, "42501"},
		{`CREATE TABLE`, "CREATE TABLE app.mine (id int);", ``, ""},
	}
}

func psqlClient() client {
	return client{name: "psql", about: "psql 15, interactive commands and SQL typed into it.",
		missing: func() error { _, err := exec.LookPath(psql); return err }, run: runPsql}
}

// failure is an error as psql prints it with VERBOSITY verbose.
var failure = regexp.MustCompile(`(?m)^(?:psql:[^ ]* )?(?:ERROR|FATAL|PANIC):  ([0-9A-Z]{5}): (.*)$`)

// runPsql types the rows into psql through the gateway, and into psql on the server behind
// it as the same role: an error that PostgreSQL gives there too is PostgreSQL's.
func runPsql(t *testing.T, w way) []cell {
	listed := make([]part, len(catalogs))
	for i, c := range catalogs {
		listed[i] = part{what: c, input: c}
	}
	var cells [2][]cell
	var both sync.WaitGroup
	for i, parts := range [][]part{listed, typed()} {
		both.Go(func() {
			through, direct := typeInto(t, w.dsn, parts), typeInto(t, shared.direct(t, w), parts)
			for n, p := range parts {
				if n < len(through) && n < len(direct) {
					cells[i] = append(cells[i], cell{p.what, p.outcome(w, through[n], direct[n])})
				}
			}
		})
	}
	both.Wait()
	return append(append(cells[0], cells[1]...), changePassword(t, w))
}

// typeInto gives psql's answer to each part.
func typeInto(t *testing.T, dsn string, parts []part) []string {
	mark := "----part----"
	var input strings.Builder
	input.WriteString("\\set VERBOSITY verbose\n\\echo " + mark + "\n")
	for _, p := range parts {
		input.WriteString(p.input + "\n\\echo " + mark + "\n")
	}
	script, err := os.CreateTemp(t.TempDir(), "typed-*.sql")
	if err == nil {
		_, err = script.WriteString(input.String())
	}
	if err = errors.Join(err, script.Close()); err != nil {
		t.Error(err)
		return nil
	}
	cmd := exec.CommandContext(bounded(t), psql, "-X", "-P", "pager=off", "-f", script.Name(), dsn)
	cmd.Env = append(os.Environ(), "LC_ALL=C.UTF-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("psql: %v\n%s", err, out)
		return nil
	}
	answers := strings.Split(string(out), mark+"\n")
	if len(answers) != len(parts)+2 {
		t.Errorf("%d answers to %d parts:\n%s", len(answers), len(parts), out)
		return nil
	}
	return answers[1:]
}

// outcome judges what psql printed.
func (p part) outcome(w way, answer, direct string) string {
	code := func(text string) string {
		if f := failure.FindStringSubmatch(text); f != nil {
			return f[1]
		}
		return ""
	}
	got, want := code(answer), regexp.MustCompile(p.want)
	switch {
	case w.release() && p.release != "":
		if got != p.release {
			return fmt.Sprintf("should be refused with %s, and psql prints %.300s", p.release, answer)
		}
		return "refused, " + got
	case got != code(direct):
		return fmt.Sprintf("directly %q, and through the gateway %.300s", code(direct), answer)
	case got != "" && (p.want == "" || !want.MatchString(answer)):
		return "as PostgreSQL: " + got
	case !want.MatchString(answer):
		return fmt.Sprintf("should print %s, and prints %.600s", p.want, answer)
	}
	return works
}

// changePassword: psql asks on the terminal, or on its input where there is none.
func changePassword(t *testing.T, w way) cell {
	cmd := exec.CommandContext(bounded(t), psql, "-X", w.dsn, "-v", "VERBOSITY=verbose", "-c", "\\password")
	cmd.Stdin = strings.NewReader("compatibility\ncompatibility\n")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.CombinedOutput()
	switch {
	case err == nil:
		return cell{`\password`, "works; this principal logs in with what the gateway knows"}
	case w.release() && strings.Contains(string(out), "42501"):
		return cell{`\password`, "refused, 42501"}
	}
	return cell{`\password`, fmt.Sprintf("%v: %.300s", err, out)}
}
