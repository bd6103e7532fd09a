package gateway_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/trefoil-eu/trefoil/internal/door/pool"
)

// need skips a test whose program is not there, and fails it where everything must be.
func need(t *testing.T, what string, ok bool) {
	t.Helper()
	switch {
	case ok:
	case os.Getenv("CI") != "":
		t.Fatalf("%s is required and not there: run make deps", what)
	default:
		t.Skipf("%s is not there: run make deps", what)
	}
}

func say(t *testing.T, want string, name string, args ...string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != want {
		t.Errorf("%s: %v\n%s", name, err, out)
	}
}

const psycopg2Script = `
import sys, psycopg2
cs = [psycopg2.connect(sys.argv[1] + "&application_name=py%d" % i) for i in range(4)]
for n in range(20):
    for i, c in enumerate(cs):
        with c, c.cursor() as cur:
            cur.execute("select %s || '/' || current_setting('application_name')", ("v%d" % n,))
            assert cur.fetchone()[0] == "v%d/py%d" % (n, i)
            cur.execute("savepoint s")
            try:
                cur.execute("select 1/0")
            except psycopg2.errors.DivisionByZero:
                cur.execute("rollback to s")
            cur.execute("select %s", (i,))
            assert cur.fetchone()[0] == i
with cs[0], cs[0].cursor("named") as cur:
    cur.execute("select generate_series(1, 3000)")
    assert sum(r[0] for r in cur) == 4501500
cs[1].set_client_encoding("LATIN1")
with cs[1], cs[1].cursor() as cur:
    cur.execute("select 'caf\u00e9', current_setting('client_encoding')")
    assert cur.fetchone() == ("caf\u00e9", "LATIN1")
with cs[2], cs[2].cursor() as cur:
    cur.execute("select 'caf\u00e9', current_setting('client_encoding')")
    assert cur.fetchone() == ("caf\u00e9", "UTF8")
print("holds")
`

const nodeScript = `
const { Client } = require(process.argv[1] + "/pg");
(async () => {
  const cs = await Promise.all([0, 1, 2, 3].map(async i => {
    const c = new Client({ connectionString: process.argv[2], application_name: "node" + i });
    await c.connect();
    return c;
  }));
  for (let n = 0; n < 20; n++) {
    await Promise.all(cs.map(async (c, i) => {
      const r = await c.query({ name: "shared" + n % 3, text: "select $1::text || '/' || current_setting('application_name') as v -- " + n % 3, values: ["v" + n] });
      if (r.rows[0].v !== "v" + n + "/node" + i) throw new Error(r.rows[0].v);
      const own = await c.query({ name: "own", text: "select $1::int + " + i + " as v", values: [n] });
      if (own.rows[0].v !== n + i) throw new Error("own " + own.rows[0].v);
      const no = await c.query({ name: "bad", text: "select 1 / $1::int", values: [0] }).catch(e => e.code);
      if (no !== "22012") throw new Error("no error: " + no);
      await c.query("begin");
      const t = await c.query({ name: "shared" + n % 3, text: "select $1::text || '/' || current_setting('application_name') as v -- " + n % 3, values: ["t"] });
      await c.query("commit");
      if (t.rows[0].v !== "t/node" + i) throw new Error(t.rows[0].v);
    }));
  }
  await Promise.all(cs.map(c => c.end()));
  console.log("holds");
})().catch(e => { console.error(e); process.exit(1); });
`

// TestPooledDrivers has drivers share two database sessions by transaction.
func TestPooledDrivers(t *testing.T) {
	f := startPool(t, pool.Settings{Mode: pool.ByTransaction, Servers: 2, Statements: 3})
	dsn := f.url("app", "sslmode=disable")
	t.Run("psycopg2", func(t *testing.T) {
		const python = "/usr/bin/python3" // Debian's module belongs to Debian's interpreter
		need(t, "python3-psycopg2", exec.Command(python, "-c", "import psycopg2").Run() == nil)
		say(t, "holds", python, "-c", psycopg2Script, dsn)
	})
	t.Run("node-postgres", func(t *testing.T) {
		modules, err := filepath.Abs("../../../.cache/drivers/node_modules")
		if err == nil {
			_, err = os.Stat(filepath.Join(modules, "pg"))
		}
		_, none := exec.LookPath("node")
		need(t, "node's pg", err == nil && none == nil)
		say(t, "holds", "node", "-e", nodeScript, modules, dsn)
	})
	t.Run("psql", func(t *testing.T) {
		_, none := exec.LookPath("psql")
		need(t, "psql", none == nil)
		say(t, "1\n2\nt", "psql", "-XAtq", dsn, "-c", "prepare p as select $1::int", "-c", "execute p (1)", "-c", "execute p (2)",
			"-c", "select count(*) = 1 from pg_prepared_statements where not name like 'trefoil%'")
	})
	if p := f.pool(t); len(p.Servers) > 2 {
		t.Errorf("%d servers", len(p.Servers))
	}
}
