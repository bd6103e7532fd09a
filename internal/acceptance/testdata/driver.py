"""Drives a session as an application would, with psycopg2. The notice at connect
goes to standard error: libpq prints it before a program can ask for it. argv: DSN, path (service or release)."""
import sys

import psycopg2
import psycopg2.errors
import psycopg2.extras

dsn, path = sys.argv[1:]
done = 0


def ok(what, holds):
    global done
    if not holds:
        sys.exit("does not hold: " + what)
    done += 1


conn = psycopg2.connect(dsn, connect_timeout=20)
ok("parameters", conn.server_version >= 150000 and conn.encoding == "UTF8")
cur = conn.cursor()
cur.execute("SELECT 1, 'two', NULL, 3.5::numeric, ARRAY[1,2], '{\"a\": 1}'::jsonb")
ok("types", cur.fetchone()[:3] == (1, "two", None))
cur.execute("SELECT count(*) FROM app.people WHERE (country = %s OR country IS NULL) AND id <> %s", ("DE", 0))
ok("parameters in a statement", cur.fetchone()[0] > 10)
cur.execute("PREPARE p (text) AS SELECT count(*) FROM app.people WHERE country = $1 OR country IS NULL")
cur.execute("EXECUTE p ('FR')")
ok("prepared statement", cur.fetchone()[0] > 10)
cur.execute("DEALLOCATE p")
conn.rollback()

with conn.cursor(name="server_side") as named:
    named.itersize = 100
    named.execute("SELECT id, email FROM app.people ORDER BY id")
    ok("server-side cursor", len(list(named)) > 1000)
conn.rollback()


class Sink:
    def __init__(self):
        self.text = ""

    def write(self, s):
        self.text += s if isinstance(s, str) else s.decode()


sink = Sink()
cur.copy_expert("COPY (SELECT id, country FROM app.people ORDER BY id) TO STDOUT", sink)
ok("COPY out", sink.text.count("\n") > 1000)

try:
    cur.execute("SELECT no_such_column FROM app.people")
    ok("an error", False)
except psycopg2.errors.UndefinedColumn as e:
    ok("an error", e.pgcode == "42703" and e.diag.severity == "ERROR")
try:
    cur.execute("SELECT 1")
    ok("a failed transaction", False)
except psycopg2.errors.InFailedSqlTransaction:
    ok("a failed transaction", True)
conn.rollback()
cur.execute("SAVEPOINT s")
try:
    cur.execute("SELECT 1/0")
except psycopg2.errors.DivisionByZero:
    cur.execute("ROLLBACK TO s")
cur.execute("SELECT 7")
ok("savepoint", cur.fetchone() == (7,))
conn.commit()

cur.execute("CREATE TEMP TABLE mine (id bigint, note text)")
psycopg2.extras.execute_values(cur, "INSERT INTO mine VALUES %s", [(i, "n%d" % i) for i in range(300)])
cur.execute("SELECT count(*), max(note) FROM mine JOIN (SELECT 1) x ON true")
ok("temporary table", cur.fetchone() == (300, "n99"))
conn.commit()

if path == "release":
    cur.execute("SHOW trefoil.dataset")
    ok("SHOW trefoil.dataset", "people" in cur.fetchone()[0])
    cur.execute("SELECT table_name, column_name, form FROM trefoil_info.columns WHERE table_name = %s", ("people",))
    ok("trefoil_info.columns", len(cur.fetchall()) >= 4)
    try:
        cur.execute("INSERT INTO app.topics VALUES (99, 'x')")
        ok("a write is refused", False)
    except psycopg2.Error as e:
        ok("a write is refused", e.pgcode in ("42501", "25006"))
    conn.rollback()
else:
    cur.execute("INSERT INTO app.topics VALUES (%s, 'x') RETURNING id", (900,))
    ok("a write", cur.fetchone() == (900,))
    conn.rollback()
conn.autocommit = True
cur.execute("SET application_name = 'driver'; SHOW application_name")
ok("SHOW", cur.fetchone() == ("driver",))
conn.close()
print("%d hold" % done)
