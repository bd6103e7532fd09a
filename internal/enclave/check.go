package enclave

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/door/identity"
	"github.com/trefoil-eu/trefoil/internal/home/intake"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/rules/catalog"
	"github.com/trefoil-eu/trefoil/internal/rules/policy"
	"github.com/trefoil-eu/trefoil/internal/strict"
)

// CheckReport is what trefoil check found.
type CheckReport struct {
	Config      string           `json:"config"`
	Holds       bool             `json:"holds"`
	Findings    []intake.Finding `json:"findings"`
	PolicyCases int              `json:"policy_cases"`
	Columns     int              `json:"columns"`
	Reviewed    int              `json:"reviewed"`
}

// checkTimeout bounds each connection that a check makes.
const checkTimeout = 60 * time.Second

// Check validates every file of an enclave, all at once, and holds them against the live
// databases and dataset clusters unless offline is set. It changes nothing.
func Check(ctx context.Context, path string, offline bool) *CheckReport {
	k := &checking{report: &CheckReport{Config: path}}
	c, found, err := LoadLenient(path)
	k.note(path, found.Err())
	if err != nil {
		k.note(path, err)
		c = &Config{} // the other files are looked for where they stand by default
		c.resolve(filepath.Dir(path))
	}
	k.files(c)
	k.people(c)
	k.policies(c)
	if err == nil {
		k.missing(c)
		k.exposed(c)
		k.identities(c)
		if !offline {
			k.sourceAuth(ctx, c)
			k.sources(ctx, c)
			k.clusters(ctx, c)
			k.control(ctx, c)
		}
	}
	r := k.report
	r.Holds = true
	for _, f := range r.Findings {
		if f.Severity == intake.Error || f.Severity == intake.Review {
			r.Holds = false
		}
	}
	order := map[intake.Severity]int{intake.Error: 0, intake.Review: 1, intake.Lacks: 2, intake.Drift: 3, intake.Warning: 4}
	sort.SliceStable(r.Findings, func(i, j int) bool {
		a, b := r.Findings[i], r.Findings[j]
		if a.Severity != b.Severity {
			return order[a.Severity] < order[b.Severity]
		}
		if a.File != b.File {
			return a.File < b.File
		}
		return a.Line < b.Line
	})
	return r
}

// LoadLenient is Load for checks: a file that decodes and does not hold comes back together
// with what is wrong with it, so that everything else can be checked too.
func LoadLenient(path string) (*Config, strict.Errors, error) {
	src, err := readBounded(path)
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	var c Config
	pos, err := strict.DecodeWithPositions(path, src, &c)
	if err != nil {
		return nil, nil, err
	}
	found := c.validate(pos)
	c.resolve(filepath.Dir(path))
	return &c, found, nil
}

// checking is the state of one check.
type checking struct {
	report *CheckReport
	f      catalog.Files
}

func (k *checking) add(s intake.Severity, sql, format string, args ...any) {
	k.report.Findings = append(k.report.Findings, intake.Finding{Severity: s, SQL: sql, Text: fmt.Sprintf(format, args...)})
}

// note turns an error into findings: those of strict decoding each with its place.
func (k *checking) note(file string, err error) {
	for _, e := range strict.All(file, err) {
		k.report.Findings = append(k.report.Findings, intake.Finding{Severity: intake.Error, File: e.File, Line: e.Line, Column: e.Column, Text: e.Message})
	}
}

// files decodes catalogs, datasets and purposes and validates them together.
func (k *checking) files(c *Config) {
	before := len(k.report.Findings)
	read := func(path string, parse func([]byte) error) {
		src, err := readBounded(path)
		if err == nil {
			err = parse(src)
		}
		k.note(path, err)
	}
	for _, path := range c.Catalogs {
		read(path, func(src []byte) error {
			cat, pos, err := catalog.ParseCatalog(path, src)
			k.f.Catalogs, k.f.CatalogPositions = append(k.f.Catalogs, cat), append(k.f.CatalogPositions, pos)
			return err
		})
	}
	read(c.Datasets, func(src []byte) (err error) {
		k.f.Datasets, k.f.DatasetsPositions, err = catalog.ParseDatasets(c.Datasets, src)
		return err
	})
	read(c.Purposes, func(src []byte) (err error) {
		k.f.Purposes, k.f.PurposesPositions, err = catalog.ParsePurposes(c.Purposes, src)
		return err
	})
	for _, cat := range k.f.Catalogs {
		for _, t := range cat.Tables {
			for _, col := range t.Columns {
				k.report.Columns++
				if col.Reviewed {
					k.report.Reviewed++
				}
			}
		}
	}
	if len(k.report.Findings) > before {
		return // what does not decode cannot be compared
	}
	k.report.Findings = append(k.report.Findings, intake.Unreviewed(&k.f)...)
	waiting := k.waiting()
	still := map[strict.Error]bool{}
	for _, e := range catalog.Validate(intake.AsReviewed(&k.f)) {
		still[e] = true
	}
	for _, e := range catalog.Validate(&k.f) {
		switch {
		case still[e]:
			k.note(e.File, e)
		case !waiting[[2]int{e.Line, e.Column}] || e.File != c.Datasets: // review settles it, and no column says so yet
			k.report.Findings = append(k.report.Findings, intake.Finding{Severity: intake.Review, File: e.File, Line: e.Line, Column: e.Column,
				Text: e.Message + " (it holds once the columns it names are reviewed)"})
		}
	}
}

// waiting are the places in datasets.yaml that Unreviewed has said already.
func (k *checking) waiting() map[[2]int]bool {
	out := map[[2]int]bool{}
	for i, ds := range k.f.Datasets.Datasets {
		cat := k.f.Catalog(ds.Source)
		for j, dt := range ds.Tables {
			for n, dc := range dt.Columns {
				if col := cat.TableOf(dt.Table).Column(dc.Name); col != nil && !col.Reviewed {
					line, column := k.f.DatasetsPositions.At(fmt.Sprintf("datasets[%d].tables[%d].columns[%d].form", i, j, n))
					out[[2]int{line, column}] = true
				}
			}
		}
	}
	return out
}

func (k *checking) people(c *Config) {
	src, err := readBounded(c.People)
	if err == nil {
		_, err = identity.Decode(c.People, src)
	}
	k.note(c.People, err)
}

// policies compiles the policies and decides their corpus of cases.
func (k *checking) policies(c *Config) {
	dir := os.DirFS(c.Policy)
	engine, err := policy.Load(dir)
	if err != nil {
		k.note(c.Policy, err)
		return
	}
	cases, failures, err := policy.RunCorpus(engine, dir)
	k.report.PolicyCases = cases
	k.note(c.Policy, err)
	for _, f := range failures {
		k.report.Findings = append(k.report.Findings, intake.Finding{Severity: intake.Error,
			File: filepath.Join(c.Policy, f.File), Line: f.Line, Column: 1, Text: f.Case + ": " + f.Why})
	}
	if err == nil && cases == 0 {
		k.add(intake.Warning, "", "%s has no corpus: nothing shows that its policies decide as you mean", c.Policy)
	}
}

// missing finds what a gateway would not start without.
func (k *checking) missing(c *Config) {
	for _, f := range []struct{ what, path string }{
		{"pseudonym key", c.Keys.Pseudonyms}, {"staff key", c.Keys.Staff}, {"statements key", c.Keys.Statements}, {"log key", c.Log.Key},
		{"monitor's token", c.Monitor.Token}, {"gateway's certificate", c.Gateway.Certificate}, {"gateway's key", c.Gateway.Key},
	} {
		if f.path == "" {
			k.add(intake.Lacks, "", "no file is named for the %s", f.what)
		} else if _, err := os.Stat(f.path); err != nil {
			k.add(intake.Lacks, "", "the %s is not at %s", f.what, f.path)
		}
	}
	if c.Monitor.Witness == "" || c.Monitor.Permit == "" {
		k.add(intake.Lacks, "", "the monitor's keys are not set (monitor.witness, monitor.permit): its operator runs trefoil monitor init and sends them")
	}
}

// sources holds each catalog against its database.
func (k *checking) sources(ctx context.Context, c *Config) {
	for i, cat := range k.f.Catalogs {
		db, ok := c.Databases[cat.Database]
		if !ok {
			pos := k.f.CatalogPositions[i]
			k.note(pos.File(), pos.Errorf("database", "database %q is not listed under databases in enclave.yaml", cat.Database))
			continue
		}
		dsn := db.Reader
		if dsn == "" {
			k.add(intake.Error, "", "database %s has no reader: nothing can be read from it", cat.Database)
			continue
		}
		s := intake.Source{Catalog: cat, Positions: k.f.CatalogPositions[i]}
		if k.f.Datasets != nil {
			for j := range k.f.Datasets.Datasets {
				if ds := &k.f.Datasets.Datasets[j]; ds.Source == cat.Database {
					s.Datasets = append(s.Datasets, ds)
				}
			}
		}
		found, err := withConn(ctx, dsn, func(ctx context.Context, conn *pgx.Conn) ([]intake.Finding, error) {
			return intake.CheckSource(ctx, conn, s)
		})
		if err != nil {
			k.add(intake.Error, "", "database %s cannot be read: %v", cat.Database, err)
		}
		k.report.Findings = append(k.report.Findings, found...)
	}
}

func withConn(ctx context.Context, dsn string, f func(context.Context, *pgx.Conn) ([]intake.Finding, error)) ([]intake.Finding, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("its DSN does not parse")
	}
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	return f(ctx, conn)
}

// clusters looks at the dataset clusters: the operator's for what must not be there, the
// embedded ones for programs to run.
func (k *checking) clusters(ctx context.Context, c *Config) {
	for name, cl := range c.Clusters {
		if cl.Embedded != nil {
			if _, err := postgres.FindPrograms(ctx, cl.Embedded.Bin); err != nil {
				k.add(intake.Error, "", "dataset cluster %s: %v", name, err)
			}
			continue
		}
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		found, err := postgres.CheckDatasetCluster(ctx, cl.Steward)
		cancel()
		if err != nil {
			k.add(intake.Error, "", "dataset cluster %s cannot be checked: %v", name, err)
		}
		for _, f := range found {
			severity, where := intake.Error, ""
			if f.Warning {
				severity = intake.Warning
			}
			if f.Database != "" {
				where = ", database " + f.Database
			}
			k.add(severity, f.Mend, "dataset cluster %s%s: %s", name, where, f.Text)
		}
	}
	for _, want := range []string{"inside", "outside"} {
		if _, ok := c.Clusters[want]; !ok && k.uses(want) {
			k.add(intake.Error, "", "a dataset is for the cluster %s, which is not configured", want)
		}
	}
}

func (k *checking) uses(cluster string) bool {
	if k.f.Datasets == nil {
		return false
	}
	for _, ds := range k.f.Datasets.Datasets {
		if ds.Cluster == cluster {
			return true
		}
	}
	return false
}

// control looks whether the control store is there.
func (k *checking) control(ctx context.Context, c *Config) {
	if c.Control == "" {
		k.add(intake.Lacks, "", "no control store is configured (control): grants and jobs have no place")
		return
	}
	_, err := withConn(ctx, c.Control, func(context.Context, *pgx.Conn) ([]intake.Finding, error) { return nil, nil })
	if err == nil {
		return
	}
	cfg, perr := pgx.ParseConfig(c.Control)
	if perr != nil {
		k.add(intake.Error, "", "the control store's DSN does not parse")
		return
	}
	k.add(intake.Lacks, fmt.Sprintf("CREATE ROLE %[1]s LOGIN PASSWORD '…'; CREATE DATABASE %[2]s OWNER %[1]s; -- and a line *:*:*:%[3]s:PASSWORD in keys/pgpass",
		postgres.Quote(cfg.User), postgres.Quote(cfg.Database), strings.ReplaceAll(cfg.User, ":", `\:`)), "the control store cannot be reached (SQLSTATE %s)", state(err))
}

func state(err error) string {
	if s := postgres.SQLState(err); s != "" {
		return s
	}
	return "none: no connection"
}
