package acceptance

import (
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

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/demo"
	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/enclave"
	"github.com/trefoil-eu/trefoil/internal/testkit/demotest"
)

// people of the platform. Enough for cells of ten, few enough to start in seconds.
const people = 2000

// world is the enclave that all tests share.
type world struct {
	dir    string
	binary string
	env    map[string]string // the lines of demo.env
	config *enclave.Config
	demo   *demo.World
}

// shared is set once by TestMain.
var shared *world

// password of every principal that these tests add.
const password = "acceptance-acceptance-acceptance"

func TestMain(m *testing.M) { os.Exit(demotest.Main(m, start)) }

func start(ctx context.Context, dir string) (func(context.Context) error, error) {
	d, err := demotest.Start(ctx, dir, demo.Options{People: people, Prepare: prepare})
	if err != nil {
		return nil, err
	}
	w := &world{dir: d.Dir, binary: d.Binary, env: d.Env, demo: d.World}
	if w.config, err = enclave.Load(w.env["CONFIG"]); err == nil {
		_, err = w.trefoil(ctx, "dataset", "build", "twinset")
	}
	shared = w
	return d.Close, err
}

// prepare adds to the platform and its enclave, before anything reads them: a table of many
// types, values planted everywhere, a second source that differs in withheld values alone, and people.
func prepare(ctx context.Context, dir, admin string) error {
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, sql := range []string{kindsSchema(), plantedRows} {
		if _, err := conn.PgConn().Exec(ctx, sql).ReadAll(); err != nil {
			return fmt.Errorf("plant: %w", err)
		}
	}
	if err := conn.Close(ctx); err != nil {
		return err
	}
	if err := makeTwin(ctx, admin); err != nil {
		return fmt.Errorf("make the twin: %w", err)
	}
	verifier, err := identity.NewVerifier(password, identity.MinIterations)
	if err != nil {
		return err
	}
	return configure(filepath.Join(dir, "enclave"), filepath.Join(dir, "monitor"), verifier)
}

// configure adds people, services, tables and a dataset to the files of the demonstration.
func configure(enclave, monitor, verifier string) error {
	edit := demotest.Edit
	replace := func(old, with string) func(string) string {
		return func(s string) string { return strings.Replace(s, old, with, 1) }
	}
	catalog, dataset := kindsCatalog(), kindsDataset()
	var twin, twinset string
	err := errors.Join(
		edit(filepath.Join(enclave, "catalog.yaml"), func(s string) string {
			s = strings.TrimRight(s, "\n") + "\n" + catalog
			twin = strings.Replace(s, "database: platform", "database: twin", 1)
			return s
		}),
		edit(filepath.Join(enclave, "datasets.yaml"), func(s string) string {
			s = strings.Replace(s, "\n  # For the abuse desk", dataset+"\n  # For the abuse desk", 1)
			_, twinset, _ = strings.Cut(s, "  - name: analytics\n")
			twinset, _, _ = strings.Cut(twinset, "  # For the abuse desk")
			return strings.TrimRight(s, "\n") + "\n  - name: twinset\n" + strings.Replace(twinset, "source: platform", "source: twin", 1)
		}),
		os.WriteFile(filepath.Join(enclave, "twin.yaml"), []byte(twin), 0o600),
		edit(filepath.Join(enclave, "enclave.yaml"), func(s string) string {
			// These tests are one person in a hurry; how hurry is refused is tested at the gateway.
			s = strings.Replace(s, "gateway:\n", "gateway:\n  limits: {person_per_second: 1000}\n", 1)
			_, platform, _ := strings.Cut(s, "databases:\n  platform:\n")
			platform, rest, _ := strings.Cut(platform, "clusters:\n")
			return "catalogs: [catalog.yaml, twin.yaml]\n" + strings.Replace(s, "clusters:\n"+rest, "  twin:\n"+strings.ReplaceAll(platform, "/platform?", "/twin?")+"clusters:\n"+rest, 1)
		}),
		edit(filepath.Join(enclave, "people.yaml"), func(s string) string {
			s = strings.Replace(s, "services:\n", "services:\n"+addedServices, 1)
			return strings.ReplaceAll(strings.TrimRight(s, "\n")+"\n"+addedPeople, "VERIFIER", fmt.Sprintf("%q", verifier))
		}),
		edit(filepath.Join(monitor, "rules.yaml"), replace("instruments:\n", addedPrincipals+"instruments:\n")),
		edit(filepath.Join(monitor, "rules.yaml"), func(s string) string { return strings.TrimRight(s, "\n") + "\n" + addedDataset }),
	)
	return err
}

const addedServices = `  - {id: app-us, verifier: VERIFIER, databases: [platform], role: platform_app, country: US, groups: [services], purposes: [service]}
  - {id: dashboard, verifier: VERIFIER, databases: [platform], site: dublin-1, serves_humans: true, groups: [services]}
  - {id: dashboard-us, verifier: VERIFIER, databases: [platform], country: US, serves_humans: true, groups: [services]}
`

const addedPeople = `  - {id: hostile-cn, verifier: VERIFIER, groups: [analysts], employer: clover-cn, workplace: CN, purposes: [analytics]}
  - {id: visitor-jp, verifier: VERIFIER, groups: [abuse], employer: clover-jp, workplace: JP, purposes: [abuse]}
`

const addedPrincipals = `  - {id: hostile-cn, employer: clover-cn, workplace: CN, groups: [analysts]}
  - {id: visitor-jp, employer: clover-jp, workplace: JP, groups: [abuse]}
`

const addedDataset = `  - name: twinset
    purpose: analytics
    cluster: outside
    regimes: [CH, EU, UK]
    open:
      - {groups: [analysts], where: elsewhere, class: pseudonymised}
`

// dsn is that of a principal these tests added, through the gateway, with TLS verified.
func (w *world) dsn(principal, database string) string {
	u, _ := url.Parse(w.env["ANALYST_CN_DSN"]) // written by this project
	u.User, u.Path = url.UserPassword(principal, password), "/"+database
	return u.String()
}

// trefoil runs a command with the enclave's configuration.
func (w *world) trefoil(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.binary, append(args, "-c", filepath.Join(w.dir, "enclave", "enclave.yaml"))...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("trefoil %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

func (w *world) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := w.trefoil(bounded(t), args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// bounded ends every wait of a test.
func bounded(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// connect opens a session that is closed with the test.
func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it may have been ended by intent
	})
	return conn
}

// admin runs statements as a superuser, at the source or at the outside cluster.
func admin(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	conn := connect(t, dsn)
	for _, sql := range statements {
		if _, err := conn.PgConn().Exec(bounded(t), sql).ReadAll(); err != nil {
			t.Fatalf("%.200s: %v", sql, err)
		}
	}
}

// refused returns the server's error, and fails the test when there is none.
func refused(t testing.TB, err error) *pgconn.PgError {
	t.Helper()
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		t.Fatalf("not refused by the server: %v", err)
	}
	return e
}
