"""Drives sessions as an application would, with psycopg2 or psycopg 3.
argv: module, DSN, path (service or release). Prints one line a row: what, tab, outcome."""
import os
import sys
import threading
import time

module, dsn, path = sys.argv[1:]
if module == "psycopg2":
    import psycopg2 as driver
    import psycopg2.extras
else:
    import psycopg as driver


def state(e):
    return getattr(e, "sqlstate", None) or getattr(e, "pgcode", None)


def row(what, f, release=None):
    """Runs one row. release: the SQLSTATE with which the release path must refuse it."""
    try:
        problem = f()
        outcome = "works" if not problem else "does not hold: %s" % (problem,)
        if release and path == "release":
            outcome = "was not refused"
    except driver.Error as e:
        outcome = "error %s: %s" % (state(e), str(e).splitlines()[0] if str(e) else type(e))
        if release and path == "release" and state(e) == release:
            outcome = "refused, " + release
    try:
        conn.rollback()
    except driver.Error:
        pass
    print("%s\t%s" % (what, outcome), flush=True)


conn = driver.connect(dsn, connect_timeout=20)


def query(sql, args=None):
    cur = conn.cursor()
    cur.execute(sql, args)
    return cur.fetchall()


def types():
    got = query("SELECT 1, 'two', NULL, 3.5::numeric, ARRAY[1,2], '{\"a\": 1}'::jsonb, date '2026-01-02', true, interval '1 hour'")[0]
    return not (got[:3] == (1, "two", None) and got[4] == [1, 2] and got[5] == {"a": 1} and got[7] is True) and got


def parameters():
    return query("SELECT count(*) FROM app.videos WHERE topic_id = %s AND id <> %s", (3, 0))[0][0] < 1


def many_rows():
    return len(query("SELECT id, person_id, at FROM app.watch_events")) < 5000


def prepared():
    if module == "psycopg2":
        query("PREPARE p (int) AS SELECT $1 + 1; EXECUTE p (4)")
        return query("EXECUTE p (5)") != [(6,)]
    return [conn.execute("SELECT %s + 1", (i,), prepare=True).fetchone()[0] for i in range(10)] != list(range(1, 11))


def transaction():
    try:
        query("SELECT no_such_column FROM app.people")
        return "no error"
    except driver.Error as e:
        if state(e) != "42703":
            return state(e)
    try:
        query("SELECT 1")
        return "no failed transaction"
    except driver.Error as e:
        return state(e) != "25P02" and state(e)


def savepoint():
    cur = conn.cursor()
    cur.execute("SAVEPOINT s")
    try:
        cur.execute("SELECT 1/0")
    except driver.Error:
        cur.execute("ROLLBACK TO s")
    cur.execute("SELECT 7")
    return cur.fetchone() != (7,)


def temporary():
    cur = conn.cursor()
    cur.execute("CREATE TEMP TABLE mine (id bigint, note text)")
    cur.executemany("INSERT INTO mine VALUES (%s, %s)", [(i, "n%d" % i) for i in range(20)])
    cur.execute("SELECT count(*), max(note) FROM mine")
    got = cur.fetchone()
    cur.execute("CREATE TEMP TABLE joined AS SELECT t.label, count(*) FROM app.videos v JOIN app.topics t ON t.id = v.topic_id GROUP BY 1")
    conn.commit()
    return got != (20, "n9") or query("SELECT count(*) FROM joined")[0][0] < 5


def server_cursor():
    with conn.cursor(name="server_side") as named:
        named.itersize = 400
        named.execute("SELECT id FROM app.watch_events ORDER BY id LIMIT 2000")
        return len(list(named)) != 2000


def hold():
    cur = conn.cursor()
    cur.execute("DECLARE held CURSOR WITH HOLD FOR SELECT id, label FROM app.topics ORDER BY id")
    conn.commit()
    cur.execute("FETCH 3 FROM held")
    first = cur.fetchall()
    cur.execute("FETCH ALL FROM held")
    rest = cur.fetchall()
    cur.execute("CLOSE held")
    return (len(first), len(rest)) != (3, 13)


def scroll():
    cur = conn.cursor()
    cur.execute("DECLARE s SCROLL CURSOR FOR SELECT id FROM app.topics ORDER BY id")
    cur.execute("FETCH LAST FROM s")
    last = cur.fetchone()
    cur.execute("FETCH BACKWARD 2 FROM s")
    back = cur.fetchall()
    cur.execute("MOVE ABSOLUTE 0 FROM s")
    cur.execute("FETCH NEXT FROM s")
    return last is None or len(back) != 2 or cur.fetchone()[0] >= back[0][0]


def settings():
    cur = conn.cursor()
    cur.execute("SET application_name = 'driver'")
    cur.execute("SET work_mem = '8MB'")
    cur.execute("SET statement_timeout = '30s'")
    conn.commit()
    got = [query("SHOW " + s)[0][0] for s in ("application_name", "work_mem", "statement_timeout")]
    cur.execute("RESET ALL")
    conn.commit()
    return got != ["driver", "8MB", "30s"] and got


def several():
    cur = conn.cursor()
    cur.execute("SELECT 1; SELECT 2 AS two")
    if module == "psycopg":
        cur.nextset()
    return cur.fetchone() != (2,)


class Sink:
    def __init__(self):
        self.n = 0

    def write(self, s):
        self.n += len(s)


def copy_out():
    cur = conn.cursor()
    if module == "psycopg2":
        sink = Sink()
        cur.copy_expert("COPY (SELECT * FROM app.watch_events) TO STDOUT", sink)
        return sink.n < 100000
    with cur.copy("COPY (SELECT * FROM app.watch_events) TO STDOUT (FORMAT binary)") as copy:
        return sum(len(d) for d in copy) < 100000


def copy_in():
    cur = conn.cursor()
    cur.execute("CREATE TEMP TABLE copied (n int, t text)")
    if module == "psycopg2":
        import io
        cur.copy_expert("COPY copied FROM STDIN", io.StringIO("".join("%d\ttext %d\n" % (i, i) for i in range(20000))))
    else:
        with cur.copy("COPY copied FROM STDIN") as copy:
            for i in range(20000):
                copy.write_row((i, "text %d" % i))
    cur.execute("SELECT count(*), max(n) FROM copied")
    return cur.fetchone() != (20000, 19999)


def notify():
    other = driver.connect(dsn, connect_timeout=20)
    other.autocommit = True
    o = other.cursor()
    o.execute("LISTEN compat_" + module)
    conn.cursor().execute("NOTIFY compat_" + module + ", 'hello'")
    conn.commit()
    until = time.time() + 10
    got = []
    while not got and time.time() < until:
        if module == "psycopg2":
            other.poll()
            got = [n.payload for n in other.notifies]
            time.sleep(0.02)
        else:
            for n in other.notifies():
                got.append(n.payload)
                break
    other.close()
    return got != ["hello"] and got


def cancel():
    timer = threading.Timer(0.5, conn.cancel)
    timer.start()
    try:
        query("SELECT pg_sleep(20)")
        return "not cancelled"
    except driver.Error as e:
        return state(e) != "57014" and state(e)
    finally:
        timer.join()


def pipeline():
    if module == "psycopg2":
        cur = conn.cursor()
        psycopg2.extras.execute_batch(cur, "SELECT %s", [(i,) for i in range(100)])
        return cur.fetchone() != (99,)
    with conn.pipeline():
        curs = [conn.execute("SELECT %s::int", (i,)) for i in range(100)]
    return [c.fetchone()[0] for c in curs] != list(range(100))


def binary():
    cur = conn.cursor(binary=True)
    cur.execute("SELECT id, at, watched_ms FROM app.watch_events LIMIT 50")
    return len(cur.fetchall()) != 50


def read_only():
    if module == "psycopg2":
        conn.set_session(isolation_level="REPEATABLE READ", readonly=True)
    else:
        conn.read_only, conn.isolation_level = True, driver.IsolationLevel.REPEATABLE_READ
    got = query("SHOW transaction_isolation")[0][0], query("SHOW transaction_read_only")[0][0]
    conn.rollback()
    if module == "psycopg2":
        conn.set_session(isolation_level="DEFAULT", readonly=False)
    else:
        conn.read_only = conn.isolation_level = None
    return got != ("repeatable read", "on") and got


def write():
    return query("INSERT INTO app.topics VALUES (%s, 'x') RETURNING id", (900,)) != [(900,)]


row("types", types)
row("parameters", parameters)
row("10,000 rows", many_rows)
row("prepared statement", prepared)
row("an error, a failed transaction", transaction)
row("savepoint", savepoint)
row("temporary tables", temporary)
row("server-side cursor", server_cursor)
row("cursor WITH HOLD", hold)
row("SCROLL cursor, FETCH, MOVE", scroll)
row("session settings", settings)
row("two statements in one text", several)
row("COPY TO", copy_out)
row("COPY FROM into a temporary table", copy_in)
row("LISTEN, NOTIFY between sessions", notify)
row("cancel", cancel)
row("batch" if module == "psycopg2" else "pipeline", pipeline)
if module == "psycopg":
    row("binary results", binary)
row("read only, repeatable read", read_only)
row("INSERT … RETURNING", write, "42501")
conn.close()
print("end")
