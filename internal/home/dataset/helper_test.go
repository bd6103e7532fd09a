package dataset

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(followEnv); dir != "" {
		os.Exit(followAsChild(dir))
	}
	flag.Parse()
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given { // they wait for servers more than they work
		_ = flag.Set("test.parallel", "6")
	}
	os.Exit(pgtest.Main(m))
}

const stewardPassword = "steward-of-tests"

// targetOptions are those of a dataset cluster, smaller.
func targetOptions() []pgtest.Option {
	opts := []pgtest.Option{pgtest.WithAccess(postgres.DatasetAccess())}
	settings := postgres.DatasetSettings()
	settings["shared_buffers"] = "64MB"
	for k, v := range settings {
		opts = append(opts, pgtest.WithSetting(k, v))
	}
	return opts
}

// fixture is a source database, a dataset cluster and a builder between them.
type fixture struct {
	t      *testing.T
	source *pgtest.Cluster
	target *pgtest.Cluster
	dsn    string // of the source database, as its superuser
	dir    string
	name   string
	b      *Builder

	kept   *pgx.Conn // asks the dataset called keptOf, as superuser
	keptOf string
}

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// patience bounds what a test waits for. It says nothing of how long that takes: the machine may be slow and busy.
const patience = 3 * time.Minute

// datasetCluster is the dataset cluster that the tests share.
func datasetCluster(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c := pgtest.Start(t, append(targetOptions(), pgtest.WithSetting("max_connections", "300"))...)
	prepared.mu.Lock()
	defer prepared.mu.Unlock()
	if prepared.c == c {
		return c
	}
	if err := postgres.PrepareDatasetCluster(testContext(t), c.Cluster, stewardPassword); err != nil {
		t.Fatal(err)
	}
	prepared.c = c
	return c
}

// ownCluster is a dataset cluster of this test's own, for what looks at all of a cluster's datasets.
func ownCluster(t *testing.T) *pgtest.Cluster {
	t.Helper()
	c := pgtest.Private(t, targetOptions()...)
	if err := postgres.PrepareDatasetCluster(testContext(t), c.Cluster, stewardPassword); err != nil {
		t.Fatal(err)
	}
	return c
}

// prepared is the shared dataset cluster once its roles are made.
var prepared struct {
	mu sync.Mutex
	c  *pgtest.Cluster
}

// sourceCluster is the source that the tests share, each with a database of its own: all of them
// write to its log, and wait for each other's transactions when they make a slot.
func sourceCluster(t *testing.T, more ...pgtest.Option) *pgtest.Cluster {
	t.Helper()
	return pgtest.Start(t, append(more, pgtest.WithSetting("max_connections", "300"), pgtest.WithSetting("max_wal_senders", "40"),
		pgtest.WithSetting("max_replication_slots", "40"))...)
}

// setup runs the statements at a new source and makes a builder from the texts of its
// files. NAME in datasets stands for a name of this test's own.
func setup(t *testing.T, statements, cat, datasets string) *fixture {
	t.Helper()
	source := sourceCluster(t)
	return setupOn(t, source, source.Database(t), datasetCluster(t), statements, cat, datasets)
}

func setupOn(t *testing.T, source *pgtest.Cluster, dsn string, target *pgtest.Cluster, statements, cat, datasets string) *fixture {
	t.Helper()
	name := strings.ToLower(strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, t.Name()))
	if len(name) > 40 {
		name = name[len(name)-40:]
	}
	f := &fixture{t: t, source: source, target: target, dsn: dsn, dir: t.TempDir(), name: "d" + name}
	named := f.name // a case takes its place
	source.Exec(t, dsn, statements)
	f.b = f.open(cat, datasets, nil)
	t.Cleanup(func() {
		if target.Running() {
			target.Exec(t, target.SuperuserDSN("postgres"), "DROP DATABASE IF EXISTS "+postgres.Quote(named)+" WITH (FORCE)",
				"DROP ROLE IF EXISTS "+postgres.Quote(group(named)))
		}
	})
	return f
}

func (f *fixture) open(cat, datasets string, change func(*Config)) *Builder {
	f.t.Helper()
	c, _, err := catalog.ParseCatalog("catalog.yaml", []byte(cat))
	if err != nil {
		f.t.Fatal(err)
	}
	ds, _, err := catalog.ParseDatasets("datasets.yaml", []byte(strings.ReplaceAll(datasets, "NAME", f.name)))
	if err != nil {
		f.t.Fatal(err)
	}
	purposes := &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: 1}}}
	steward := f.target.SocketDSN(postgres.StewardRole, stewardPassword, "postgres")
	cfg := Config{Catalogs: []*catalog.Catalog{c}, Datasets: ds, Purposes: purposes, Sources: map[string]string{"app": f.dsn},
		Clusters: map[string]string{"inside": steward, "outside": steward}, Exporter: "IE",
		PseudonymKey: filepath.Join(f.dir, "pseudonyms.key"), DigestKey: filepath.Join(f.dir, "digests.key"), SubjectDir: f.dir, SpillDir: f.dir,
		SweepWait: 200 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	b, err := Open(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	b.pace.idle, b.pace.retry, b.pace.lists = 100*time.Millisecond, 50*time.Millisecond, 50*time.Millisecond
	return b
}

func (f *fixture) build() *Report {
	f.t.Helper()
	r, err := f.b.BuildReport(testContext(f.t), f.name)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func (f *fixture) verified() {
	f.t.Helper()
	v, err := f.b.Verify(testContext(f.t), f.name)
	if err != nil {
		f.t.Fatal(err)
	}
	if !v.Equal {
		f.t.Fatalf("a fresh dataset differs from itself: %+v", v)
	}
}

func (f *fixture) connect(role string) *pgx.Conn {
	f.t.Helper()
	conn := f.target.Connect(f.t, f.target.SuperuserDSN(f.name))
	if role != "" {
		if _, err := conn.Exec(testContext(f.t), "SET SESSION AUTHORIZATION "+role); err != nil {
			f.t.Fatal(err)
		}
	}
	return conn
}

// rows runs a query and prints each row as its values joined by |, NULL as ∅.
func rows(t *testing.T, conn *pgx.Conn, sql string) []string {
	t.Helper()
	var buf bytes.Buffer
	if _, err := conn.PgConn().CopyTo(testContext(t), &buf, "COPY ("+sql+") TO STDOUT (NULL '∅')"); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	text := strings.TrimSuffix(buf.String(), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(strings.ReplaceAll(text, "\t", "|"), "\n")
}

// rows asks on a connection that is kept: who waits asks often.
func (f *fixture) rows(sql string) []string {
	f.t.Helper()
	if f.kept == nil || f.keptOf != f.name || f.kept.IsClosed() || f.kept.Ping(testContext(f.t)) != nil {
		f.kept, f.keptOf = f.connect(""), f.name
	}
	return rows(f.t, f.kept, sql)
}

// built says when what stands was built.
func (f *fixture) builtAt() string { return f.one("SELECT built_at FROM trefoil_info.dataset") }

func (f *fixture) one(sql string) string {
	f.t.Helper()
	r := f.rows(sql)
	if len(r) != 1 {
		f.t.Fatalf("%s: %d rows", sql, len(r))
	}
	return r[0]
}

// wholeCatalog makes the text of a catalog in which everything is reviewed.
func wholeCatalog(body string) string {
	return "version: 1\ndatabase: app\n" + strings.ReplaceAll(body, "REVIEWED", "reviewed: true")
}

func column(name, typ, category, more string) string {
	return fmt.Sprintf("      - {name: %s, type: %q, category: %s, reviewed: true%s}\n", name, typ, category, more)
}
