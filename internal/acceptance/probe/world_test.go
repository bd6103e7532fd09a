package probe

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/home/flow"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/incident"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe"
	"github.com/trefoil-eu/trefoil/internal/proof/monitor/probe/install"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

const (
	stewardPassword = "steward-of-tests"
	probePassword   = "probe-of-tests"
)

// world is a source, a dataset cluster with one dataset, and a probe of both.
type world struct {
	t       *testing.T
	source  *pgtest.Cluster
	target  *pgtest.Cluster
	app     string // the source's database
	b       *dataset.Builder
	key     note.Signer
	s       *probe.Settings
	store   *incident.Store
	p       *probe.Probe
	dir     string
	now     time.Time
	name    string
	mu      sync.Mutex
	defined monitor.Definitions
}

const platform = `
CREATE TYPE plan AS ENUM ('free', 'pro');
CREATE TABLE person (id bigint PRIMARY KEY, email text NOT NULL, country char(2), born date, plan plan NOT NULL DEFAULT 'free', doc jsonb);
INSERT INTO person SELECT i, 'person' || i || '@example.org', (ARRAY['IE','NO'])[1 + i % 2], date '1980-01-15' + i, 'free', '{"age": 3}' FROM generate_series(1, 100) i;
CREATE TABLE visit (id bigint PRIMARY KEY, person bigint NOT NULL REFERENCES person, at timestamptz NOT NULL DEFAULT now()) ;
INSERT INTO visit SELECT i, 1 + i % 100, now() FROM generate_series(1, 300) i;
CREATE PUBLICATION trefoil FOR ALL TABLES;`

const platformCatalog = `version: 1
database: app
person: {table: public.person, key: id, residence: country}
tables:
  - table: public.person
    subject: {self: true}
    columns:
      - {name: id, type: bigint, category: identifier, reviewed: true, domain: person, trait: key}
      - {name: email, type: text, category: contact, reviewed: true}
      - {name: country, type: character(2), category: location, reviewed: true, trait: residence}
      - {name: born, type: date, category: identifier, reviewed: true, trait: birth}
      - {name: plan, type: public.plan, category: behaviour, reviewed: true}
      - {name: doc, type: jsonb, category: behaviour, reviewed: true}
  - table: public.visit
    subject: {column: person}
    references: [{columns: [person], to: public.person, of: [id]}]
    columns:
      - {name: id, type: bigint, category: identifier, reviewed: true, domain: visit, trait: key}
      - {name: person, type: bigint, category: identifier, reviewed: true, domain: person, trait: key}
      - {name: at, type: timestamp with time zone, category: behaviour, reviewed: true, trait: time}
`

const platformDatasets = `version: 1
datasets:
  - name: research
    cluster: inside
    purpose: research
    source: app
    rows: {residence: [EEA, GB, CH]}
    tables:
      - table: public.person
        columns: [{name: id, form: pseudonymised}, {name: email, form: pseudonymised}, {name: country, form: clear}, {name: born, form: generalised, by: year},
          {name: plan, form: clear}, {name: doc, form: clear, paths: {/age: {form: generalised, by: 'bucket:10'}}}]
      - table: public.visit
        columns: [{name: id, form: pseudonymised}, {name: person, form: pseudonymised}, {name: at, form: generalised, by: month}]
`

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// Record implements the builder's recorder as the log and the mirror would: what is published is
// known before anything is built.
func (w *world) Record(_ context.Context, b trefoil.CatalogBody) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if b.Definition != nil && b.Event == "defined" {
		w.defined[b.Definition.Name] = append(w.defined[b.Definition.Name], b.Definition)
	}
	return nil
}

// serial numbers the tests' databases.
var serial int

func newWorld(t *testing.T) *world {
	t.Helper()
	serial++
	w := &world{t: t, dir: t.TempDir(), name: fmt.Sprintf("research%d", serial), app: fmt.Sprintf("app%d", serial), defined: monitor.Definitions{}, now: time.Date(2026, 11, 22, 8, 0, 0, 0, time.UTC)}
	opts := []pgtest.Option{pgtest.WithAccess(postgres.DatasetAccess()), pgtest.WithSetting("shared_buffers", "64MB")}
	settings := postgres.DatasetSettings()
	settings["shared_buffers"] = "64MB"
	for k, v := range settings {
		opts = append(opts, pgtest.WithSetting(k, v))
	}
	w.source, w.target = pgtest.Start(t, pgtest.WithSetting("archive_mode", "on")), pgtest.Start(t, opts...)
	if serial == 1 { // these tests share two servers, and are not parallel
		if err := postgres.PrepareDatasetCluster(within(t, 2*time.Minute), w.target.Cluster, stewardPassword); err != nil {
			t.Fatal(err)
		}
		w.install(w.target, "postgres")
	}
	w.source.Exec(t, w.source.SuperuserDSN("postgres"), "CREATE DATABASE "+w.app)
	w.source.Exec(t, w.source.SuperuserDSN(w.app), platform)
	w.install(w.source, w.app)
	t.Cleanup(func() {
		w.target.Exec(t, w.target.SuperuserDSN("postgres"), "DROP DATABASE IF EXISTS "+w.name+" WITH (FORCE)", "DROP ROLE IF EXISTS dataset_"+w.name, "DROP ROLE IF EXISTS chen")
		w.source.Exec(t, w.source.SuperuserDSN("postgres"), "DROP DATABASE IF EXISTS "+w.app+" WITH (FORCE)")
	})
	w.builder(platformDatasets)
	w.probe()
	return w
}

func (w *world) install(c *pgtest.Cluster, database string) {
	w.t.Helper()
	for _, s := range install.Statements(database, "") {
		if strings.HasPrefix(s, "CREATE ROLE ") && serial > 1 {
			continue // of the whole server
		}
		w.source.Exec(w.t, c.SuperuserDSN(database), s)
	}
	w.source.Exec(w.t, c.SuperuserDSN(database), "ALTER ROLE "+install.Role+" PASSWORD '"+probePassword+"'")
}

func (w *world) builder(datasets string) {
	w.t.Helper()
	c, _, err := catalog.ParseCatalog("catalog.yaml", []byte(platformCatalog))
	if err != nil {
		w.t.Fatal(err)
	}
	ds, _, err := catalog.ParseDatasets("datasets.yaml", []byte(strings.ReplaceAll(datasets, "name: research\n", "name: "+w.name+"\n")))
	if err != nil {
		w.t.Fatal(err)
	}
	steward := w.target.SocketDSN(postgres.StewardRole, stewardPassword, "postgres")
	w.b, err = dataset.Open(dataset.Config{Catalogs: []*catalog.Catalog{c}, Datasets: ds, Exporter: "IE", Recorder: w,
		Purposes: &catalog.Purposes{Version: 1, Purposes: []catalog.Purpose{{Name: "research", Basis: "GDPR art. 6(1)(f)", Epoch: 1}}},
		Sources:  map[string]string{"app": w.source.SuperuserDSN(w.app)}, Clusters: map[string]string{"inside": steward, "outside": steward},
		PseudonymKey: filepath.Join(w.dir, "pseudonyms.key"), DigestKey: filepath.Join(w.dir, "digests.key"), SubjectDir: w.dir, SpillDir: w.dir,
		SweepWait: 200 * time.Millisecond})
	if err != nil {
		w.t.Fatal(err)
	}
}

// probe makes a probe whose clock and waits are the test's.
func (w *world) probe() {
	w.t.Helper()
	skey, vkey, err := note.GenerateKey(nil, "officer-a")
	if err != nil {
		w.t.Fatal(err)
	}
	if w.key, err = note.NewSigner(skey); err != nil {
		w.t.Fatal(err)
	}
	src, dst := w.source.SocketDSN(install.Role, "", w.app), w.target.SocketDSN(install.Role, "", "postgres")
	text := fmt.Sprintf("version: 1\nsample: 30s\nofficers: [%q]\ntargets:\n  - {name: platform, kind: source, dsn: %q}\n  - {name: inside, kind: datasets, cluster: inside, dsn: %q}\n",
		vkey, src, dst)
	if w.s, err = probe.ParseSettings("probe.yaml", []byte(text)); err != nil {
		w.t.Fatal(err)
	}
	if w.store, err = incident.OpenStore(incident.Config{Dir: filepath.Join(w.dir, "incidents"), Now: func() time.Time { return w.now }}); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		if err := w.store.Close(); err != nil {
			w.t.Error(err)
		}
	})
	w.again()
}

// again starts the probe anew, as after a restart of the monitor.
func (w *world) again() {
	w.t.Helper()
	var err error
	w.p, err = probe.New(probe.Config{Settings: w.s, Passwords: map[string]string{"platform": probePassword, "inside": probePassword},
		Enrolment:   func() (*probe.Enrolment, error) { return probe.LoadEnrolment(w.dir, w.s.Officers) },
		Definitions: w.definitions, Now: func() time.Time { return w.now },
		Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Open: func(f incident.Finding) error {
			_, _, err := w.store.Open(f)
			return err
		}})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) definitions() (map[string][]*trefoil.Definition, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[string][]*trefoil.Definition{}
	for k, v := range w.defined {
		out[k] = v
	}
	return out, nil
}

// enrol has the officer sign what stands now, and further sessions.
func (w *world) enrol(sessions ...string) {
	w.t.Helper()
	states := map[string]*probe.State{}
	for i := range w.s.Targets {
		t := &w.s.Targets[i]
		s, err := probe.Look(within(w.t, time.Minute), t, probePassword)
		if err != nil {
			w.t.Fatal(err)
		}
		states[t.Name] = s
	}
	old, _ := probe.LoadEnrolment(w.dir, w.s.Officers)
	e := probe.Draft(w.s, states, old, w.now)
	for i := range e.Targets {
		for _, s := range sessions {
			name, err := probe.Session(s)
			if err != nil {
				w.t.Fatal(err)
			}
			e.Targets[i].Entries = append(e.Targets[i].Entries, probe.Entry{Topic: "session", Name: name})
		}
	}
	w.sign(e)
}

func (w *world) sign(e *probe.Enrolment) {
	w.t.Helper()
	text, err := probe.Sign(e, w.key)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, probe.EnrolmentFile), []byte(text), 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// round looks once, half a minute later.
func (w *world) round() *probe.Report {
	w.t.Helper()
	w.now = w.now.Add(30 * time.Second)
	r, err := w.p.Round(within(w.t, time.Minute))
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

func show(all []probe.Difference) string {
	var b strings.Builder
	for _, d := range all {
		fmt.Fprintf(&b, "\n%s %s %q %q: enrolled %q, found %q", d.Target, d.Topic, d.Database, d.Name, d.Enrolled, d.Found)
	}
	return b.String()
}

func (w *world) quiet(when string) {
	w.t.Helper()
	if r := w.round(); len(r.Differences) > 0 {
		w.t.Fatalf("%s: %s", when, show(r.Differences))
	}
}

func (w *world) build() {
	w.t.Helper()
	if _, err := w.b.BuildReport(within(w.t, time.Minute), w.name); err != nil {
		w.t.Fatal(err)
	}
}

// follow lets the dataset follow its source until stop.
func (w *world) follow() (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.b.Follow(ctx, w.name) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			<-done
		})
	}
	w.t.Cleanup(func() {
		stop()
		conn := w.source.Connect(w.t, w.source.SuperuserDSN(w.app))
		if err := flow.DropSlot(within(w.t, time.Minute), conn, flow.SlotName(w.name)); err != nil {
			w.t.Error(err)
		}
	})
	return stop
}
