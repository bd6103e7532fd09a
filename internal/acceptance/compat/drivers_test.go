package compat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// python is Debian's interpreter: Debian's modules belong to it.
const python = "/usr/bin/python3"

// jdbc is where Debian puts the driver.
const jdbc = "/usr/share/java/postgresql.jar"

func pythonClient(module, name string) client {
	return client{name: name, about: "Debian's python3-" + strings.TrimSuffix(module, "3") + ".",
		missing: func() error { return runnable(python, "-c", "import "+module) },
		run: func(t *testing.T, w way) []cell {
			return lines(t, script(t, python, "testdata/driver.py", module, w.dsn, w.path))
		}}
}

func nodeClient() client {
	modules, err := filepath.Abs("../../../.cache/drivers/node_modules")
	return client{name: "node-postgres", about: "npm's pg, pinned in scripts/install-drivers.sh.",
		missing: func() error {
			_, there := os.Stat(filepath.Join(modules, "pg"))
			_, node := exec.LookPath("node")
			return errors.Join(err, there, node)
		},
		run: func(t *testing.T, w way) []cell {
			return lines(t, script(t, "node", "testdata/driver.js", modules, w.dsn, w.path))
		}}
}

func perlClient() client {
	return client{name: "DBD::Pg", about: "Debian's libdbd-pg-perl.",
		missing: func() error { return runnable("/usr/bin/perl", "-MDBD::Pg", "-e", "1") },
		run: func(t *testing.T, w way) []cell {
			p := w.parts(t)
			dsn := fmt.Sprintf("dbname=%s;host=%s;port=%s;sslmode=verify-full;sslrootcert=%s", p.database, p.host, p.port, p.authority)
			return lines(t, script(t, "/usr/bin/perl", "testdata/driver.pl", dsn, p.user, p.password, w.path))
		}}
}

// jdbcClient runs all ways in one virtual machine: starting it costs more than the rows.
func jdbcClient() client {
	return client{name: "JDBC", about: "Debian's libpostgresql-jdbc-java, with OpenJDK 17.",
		missing: func() error {
			_, there := os.Stat(jdbc)
			_, compiler := exec.LookPath("javac")
			return errors.Join(there, compiler)
		},
		whole: true, all: func(t *testing.T, ws []way) map[way][]cell {
			args := []string{"-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", jdbc, "testdata/Driver.java"}
			for _, w := range ws {
				p := w.parts(t)
				u := fmt.Sprintf("jdbc:postgresql://%s:%s/%s?sslmode=verify-full&sslrootcert=%s", p.host, p.port, p.database, p.authority)
				args = append(args, w.String(), u, p.user, p.password, w.path)
			}
			said := script(t, "java", args...)
			out := map[way][]cell{}
			for _, w := range ws {
				var own strings.Builder
				for line := range strings.Lines(said) {
					if rest, ok := strings.CutPrefix(line, w.String()+"\t"); ok {
						own.WriteString(strings.TrimSuffix(rest, "end\tend\n"))
						if strings.HasPrefix(rest, "end\t") {
							own.WriteString("end\n")
						}
					}
				}
				out[w] = lines(t, own.String())
			}
			return out
		}}
}

// odbcClient types SQL into unixODBC's isql.
func odbcClient() client {
	driver := "psqlodbcw.so is not there"
	if found, err := filepath.Glob("/usr/lib/*/odbc/psqlodbcw.so"); err == nil && len(found) > 0 {
		driver = found[0]
	}
	return client{name: "ODBC", about: "Debian's odbc-postgresql (psqlODBC), by isql.",
		missing: func() error {
			_, there := os.Stat(driver)
			_, isql := exec.LookPath("isql")
			return errors.Join(there, isql)
		},
		run: func(t *testing.T, w way) []cell { return runODBC(t, w, driver) }}
}

var odbcRows = []struct{ what, sql, want, release string }{
	{"SELECT", "SELECT 40 + 2", "42", ""},
	{"10,000 rows", "SELECT id, watched_ms FROM app.watch_events LIMIT 5000", "5000 rows fetched", ""},
	{"a date, a number, a text, NULL", "SELECT date '2026-01-02', 3.5::numeric, 'text', NULL", "2026-01-02", ""},
	{"SQLTables", "help", "app", ""},
	{"SQLColumns", "help people", "country", ""},
	{"temporary tables", "CREATE TEMP TABLE mine AS SELECT i FROM generate_series(1, 300) i", "SQLRowCount returns", ""},
	{"session settings", "SET application_name = 'driver'", "", ""},
	{"an error", "SELECT no_such_column FROM app.people", "does not exist", ""},
	{"INSERT", "INSERT INTO app.topics SELECT id, label FROM app.topics WHERE false", "SQLRowCount returns 0", "permission denied"},
}

func runODBC(t *testing.T, w way, driver string) (cells []cell) {
	p := w.parts(t)
	home := t.TempDir()
	// psqlODBC gives sslmode to libpq; the authority is where libpq looks for it.
	if err := os.Mkdir(filepath.Join(home, ".postgresql"), 0o700); err != nil {
		t.Fatal(err)
	}
	pem, err := os.ReadFile(p.authority)
	if err == nil {
		err = os.WriteFile(filepath.Join(home, ".postgresql", "root.crt"), pem, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	connection := fmt.Sprintf("DRIVER=%s;SERVER=%s;PORT=%s;DATABASE=%s;UID=%s;PWD=%s;SSLmode=verify-full;UseDeclareFetch=1;Fetch=1000;ConnSettings=set search_path to app", driver, p.host, p.port, p.database, p.user, p.password)
	var input strings.Builder
	for _, r := range odbcRows {
		input.WriteString(r.sql + "\n")
	}
	cmd := exec.CommandContext(bounded(t), "isql", "-v", "-k", connection, "-b")
	cmd.Env = append(os.Environ(), "HOME="+home, "PGSSLROOTCERT="+p.authority)
	for _, r := range odbcRows {
		one := exec.CommandContext(bounded(t), cmd.Path, cmd.Args[1:]...)
		one.Env, one.Stdin = cmd.Env, strings.NewReader(r.sql+"\n")
		out, err := one.CombinedOutput()
		said := string(out)
		outcome := fmt.Sprintf("%v: %s", err, said[max(0, len(said)-1500):])
		switch {
		case w.release() && r.release != "":
			if strings.Contains(said, r.release) {
				outcome = "refused, 42501"
			}
		case strings.Contains(said, r.want) && !strings.Contains(said, "Could not SQLConnect") && !strings.Contains(said, "permission denied"):
			outcome = works
		}
		cells = append(cells, cell{r.what, outcome})
	}
	return cells
}

// parts of a way's DSN, for drivers that take no URI.
type parts struct{ host, port, database, user, password, authority string }

func (w way) parts(t *testing.T) parts {
	t.Helper()
	u, err := url.Parse(w.dsn)
	if err != nil {
		t.Fatal("the DSN is no URI")
	}
	secret, _ := u.User.Password()
	return parts{u.Hostname(), u.Port(), w.database(), u.User.Username(), secret, u.Query().Get("sslrootcert")}
}

func runnable(name string, args ...string) error {
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// script runs a driver's program and returns what it printed.
func script(t *testing.T, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		t.Errorf("%s: %v\n%s\n%s", name, err, out, problems.String())
	}
	return string(out)
}

// lines reads a program's rows: what, tab, outcome; the last line says "end".
func lines(t *testing.T, said string) (cells []cell) {
	t.Helper()
	ended := false
	for line := range strings.SplitSeq(strings.TrimSpace(said), "\n") {
		if line == "end" {
			ended = true
			continue
		}
		what, outcome, ok := strings.Cut(line, "\t")
		if !ok {
			t.Errorf("not a row: %q", line)
			continue
		}
		cells = append(cells, cell{what, outcome})
	}
	if !ended {
		t.Error("the program did not come to its end")
	}
	return cells
}
