package compat

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/demo/platform"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// people of the platform: enough for cells of ten.
const people = 1000

// world is one enclave with a source and a dataset on each major version of PostgreSQL.
type world struct {
	dir    string
	binary string
	env    map[string]string
	demo   *demo.World
	bin18  string // "": there is no PostgreSQL 18 here
	new    []*postgres.Cluster
}

// temporaryBytes is what temporary tables of one session may take here.
const temporaryBytes = 256 << 20

// shared is set once by TestMain.
var shared *world

// password of every principal that these tests add.
const password = "compatibility-compatibility"

func TestMain(m *testing.M) { os.Exit(demotest.Main(m, start)) }

func start(ctx context.Context, dir string) (func(context.Context) error, error) {
	w := &world{bin18: pgtest.Bin18()}
	d, err := demotest.Start(ctx, dir, demo.Options{People: people, Prepare: w.prepare})
	if err != nil {
		return w.close, err
	}
	w.dir, w.binary, w.env, w.demo = d.Dir, d.Binary, d.Env, d.World
	shared = w
	if w.bin18 == "" {
		return w.close, nil
	}
	cmd := exec.CommandContext(ctx, w.binary, "dataset", "build", "analytics18", "-c", w.env["CONFIG"])
	if out, err := cmd.CombinedOutput(); err != nil {
		return w.close, fmt.Errorf("build analytics18: %w\n%s", err, out)
	}
	return w.close, nil
}

func (w *world) close(ctx context.Context) error {
	var errs []error
	if w.demo != nil {
		errs = append(errs, w.demo.Close(ctx))
	}
	for _, c := range w.new {
		errs = append(errs, c.Stop(ctx, postgres.StopFast))
	}
	return errors.Join(errs...)
}

// prepare adds principals, and the same platform with its dataset on PostgreSQL 18.
func (w *world) prepare(ctx context.Context, dir, admin string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, mayDump)
	if err = errors.Join(err, conn.Close(ctx)); err != nil {
		return err
	}
	verifier, err := identity.NewVerifier(password, identity.MinIterations)
	if err != nil {
		return err
	}
	add := addition{people: strings.ReplaceAll(addedPeople, "VERIFIER", fmt.Sprintf("%q", verifier)), principals: addedPrincipals}
	if w.bin18 != "" {
		if err := w.addEighteen(ctx, dir, &add); err != nil {
			return fmt.Errorf("PostgreSQL 18: %w", err)
		}
		add.services = strings.ReplaceAll(addedServices, "VERIFIER", fmt.Sprintf("%q", verifier))
	}
	return add.write(filepath.Join(dir, "enclave"), filepath.Join(dir, "monitor"))
}

// addEighteen starts a source and a dataset cluster of PostgreSQL 18.
func (w *world) addEighteen(ctx context.Context, dir string, add *addition) error {
	ca, err := postgres.NewAuthority(filepath.Join(dir, "enclave", "tls18"), "databases-ca", nil)
	if err != nil {
		return err
	}
	client, err := ca.Client(filepath.Join(dir, "enclave", "tls18"), "gateway")
	if err != nil {
		return err
	}
	launch := func(name string, access postgres.Access, settings map[string]string) (*postgres.Cluster, error) {
		server, err := ca.Server(filepath.Join(dir, "enclave", "tls18"), name, "127.0.0.1", "localhost")
		if err != nil {
			return nil, err
		}
		c, err := postgres.Create(ctx, postgres.Options{Directory: filepath.Join(dir, "new", name), Name: name, Bin: w.bin18, NoSync: true,
			DieWithParent: true, Access: access, Settings: settings, TLS: &postgres.ServerTLS{Authority: ca.File, Server: server}})
		if err != nil {
			return nil, err
		}
		w.new = append(w.new, c)
		return c, c.Start(ctx)
	}
	source, err := launch("source18", postgres.Access{GatewayName: "gateway", GatewayUsers: []string{"platform_app"}},
		map[string]string{"wal_level": "logical"})
	if err != nil {
		return err
	}
	target, err := launch("inside18", postgres.DatasetAccess(), postgres.DatasetSettings())
	if err != nil {
		return err
	}
	if err := postgres.PrepareDatasetCluster(ctx, target, password); err != nil {
		return err
	}
	if err := fill(ctx, source); err != nil {
		return err
	}
	add.database = fmt.Sprintf("  platform18:\n    site: dublin-1\n    dsn: %q\n    reader: %q\n",
		source.TLSDSN("platform_app", "platform18", ca.File, client), source.SocketDSN("trefoil_reader", password, "platform18"))
	add.cluster = fmt.Sprintf("  inside:\n    dsn: %q\n    steward: %q\n",
		target.TLSDSN("gateway", "postgres", ca.File, client), target.SocketDSN(postgres.StewardRole, password, "postgres"))
	return nil
}

// fill loads the demonstration's platform into another cluster, with its two roles.
func fill(ctx context.Context, c *postgres.Cluster) error {
	run := func(database string, list ...string) error {
		return c.AsSuperuser(ctx, database, func(conn *pgx.Conn) error {
			for _, sql := range list {
				if _, err := conn.Exec(ctx, sql); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := run("postgres", "CREATE ROLE platform_app LOGIN", "CREATE ROLE trefoil_reader LOGIN PASSWORD '"+password+"'", "CREATE DATABASE platform18"); err != nil {
		return err
	}
	p := platform.Platform{Seed: demo.Seed, People: people}
	if err := p.Load(ctx, c.SuperuserDSN("platform18"), runtime.NumCPU()); err != nil {
		return err
	}
	return run("platform18", "GRANT USAGE ON SCHEMA app, billing TO platform_app, trefoil_reader",
		"GRANT SELECT ON ALL TABLES IN SCHEMA app, billing TO trefoil_reader",
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA app, billing TO platform_app",
		"GRANT USAGE ON ALL SEQUENCES IN SCHEMA app, billing TO platform_app", mayDump)
}

// mayDump is what pg_dump needs besides what the service itself needs.
const mayDump = "GRANT SELECT ON ALL SEQUENCES IN SCHEMA app, billing TO platform_app"

const addedServices = `  - {id: app18, verifier: VERIFIER, databases: [platform18], role: platform_app, site: dublin-1, groups: [services], purposes: [service]}
`

const addedPeople = `  - {id: compat-cn, verifier: VERIFIER, groups: [analysts], employer: clover-cn, workplace: CN, purposes: [analytics]}
  - {id: compat-ie, verifier: VERIFIER, groups: [analysts], employer: clover-ie, workplace: IE, purposes: [analytics]}
`

const addedPrincipals = `  - {id: compat-cn, employer: clover-cn, workplace: CN, groups: [analysts]}
  - {id: compat-ie, employer: clover-ie, workplace: IE, groups: [analysts]}
`

const addedRule = `  - name: analytics18
    purpose: analytics
    cluster: inside
    regimes: [CH, EU, UK]
    open:
      - {groups: [analysts], where: region, class: pseudonymised}
`

// addition is what goes into the files of the demonstration.
type addition struct{ services, people, principals, database, cluster string }

func (a *addition) write(enclave, monitor string) error {
	edit := demotest.Edit
	after := func(mark, more string) func(string) string {
		return func(s string) string { return strings.Replace(s, mark, mark+more, 1) }
	}
	end := func(more string) func(string) string {
		return func(s string) string { return strings.TrimRight(s, "\n") + "\n" + more }
	}
	err := errors.Join(
		edit(filepath.Join(enclave, "people.yaml"), after("services:\n", a.services)),
		edit(filepath.Join(enclave, "people.yaml"), end(a.people)),
		edit(filepath.Join(enclave, "enclave.yaml"), after("gateway:\n", fmt.Sprintf("  temporary_bytes: %d\n", temporaryBytes))),
		edit(filepath.Join(monitor, "rules.yaml"), func(s string) string { return strings.Replace(s, "instruments:\n", a.principals+"instruments:\n", 1) }))
	if err != nil || a.database == "" {
		return err
	}
	catalog, err := os.ReadFile(filepath.Join(enclave, "catalog.yaml"))
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(enclave, "catalog18.yaml"), []byte(strings.Replace(string(catalog), "database: platform", "database: platform18", 1)), 0o600),
		edit(filepath.Join(enclave, "enclave.yaml"), func(s string) string {
			before, rest, _ := strings.Cut(s, "  inside:\n") // the demonstration's own stays unused
			_, rest, _ = strings.Cut(rest, "  outside:\n")
			return "catalogs: [catalog.yaml, catalog18.yaml]\n" + after("databases:\n", a.database)(before) + a.cluster + "  outside:\n" + rest
		}),
		edit(filepath.Join(enclave, "datasets.yaml"), func(s string) string {
			_, analytics, _ := strings.Cut(s, "  - name: analytics\n")
			analytics, _, _ = strings.Cut(analytics, "  # For the abuse desk")
			analytics = strings.NewReplacer("cluster: outside", "cluster: inside", "source: platform", "source: platform18").Replace(analytics)
			return end("  - name: analytics18\n" + analytics)(s)
		}),
		edit(filepath.Join(monitor, "rules.yaml"), end(addedRule)))
}

// dsn is that of a principal these tests added, through the gateway, with TLS verified.
func (w *world) dsn(principal, database string) string {
	u, err := url.Parse(w.env["ANALYST_CN_DSN"])
	if err != nil {
		panic("the demonstration's DSN is no URI") // written by this project
	}
	u.User, u.Path = url.UserPassword(principal, password), "/"+database
	return u.String()
}

// direct is the server behind the gateway, with the gateway's certificate and the same role.
func (w *world) direct(t testing.TB, way way) string {
	t.Helper()
	config, err := enclave.Load(w.env["CONFIG"])
	if err != nil {
		t.Fatal(err)
	}
	var dsn string
	switch way.String() {
	case "service 15":
		dsn = config.Databases["platform"].DSN
	case "service 18":
		dsn = config.Databases["platform18"].DSN
	case "release 15":
		dsn = config.Clusters["outside"].DSN
	case "release 18":
		dsn = config.Clusters["inside"].DSN
	}
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User, u.Path = url.User(way.role(t)), "/"+way.database()
	return u.String()
}
