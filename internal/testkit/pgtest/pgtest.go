// Package pgtest gives tests a real PostgreSQL: one shared cluster a test binary and option
// set, a database of its own for each test.
//
// The invariant it keeps: no server outlives its test binary, however that ends (the kernel
// stops the server when its parent dies), and no test sees another test's database. It is
// imported by tests only. Durability is off: nothing here shows what survives a power cut.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// timeout bounds each step that a test waits for.
const timeout = 90 * time.Second

// Cluster is a running PostgreSQL for tests. The embedded methods are those of home/postgres.
type Cluster struct {
	*postgres.Cluster
	TLS *TLS // set by WithTLS
}

// TLS holds the files of a cluster with TLS.
type TLS struct {
	Authority *postgres.Authority
	Client    postgres.KeyPair // common name "gateway"
}

// Option changes the cluster that Start gives.
type Option func(*Options)

// Options is what an Option changes.
type Options struct {
	bin      string
	tls      bool
	settings map[string]string
	access   postgres.Access
	sync     bool
	encoding string
}

// WithBin runs the programs in dir, e.g. one of Versions.
func WithBin(dir string) Option { return func(o *Options) { o.bin = dir } }

// WithSetting sets one line of postgresql.conf.
func WithSetting(name, value string) Option {
	return func(o *Options) { o.settings[name] = value }
}

// WithTLS makes an authority, a server certificate and a client certificate "gateway".
func WithTLS() Option { return func(o *Options) { o.tls = true } }

// WithAccess sets who may log in besides the superuser.
func WithAccess(a postgres.Access) Option { return func(o *Options) { o.access = a } }

// WithEncoding makes the cluster in another encoding than UTF8, e.g. LATIN1.
func WithEncoding(e string) Option { return func(o *Options) { o.encoding = e } }

// WithSync leaves fsync on, for measurements.
func WithSync() Option { return func(o *Options) { o.sync = true } }

var shared struct {
	mu       sync.Mutex
	clusters map[string]*Cluster
	swept    bool
}

// Start gives the test binary's shared cluster for these options, starting it at first use.
// wal_level is logical unless set otherwise. A test that stops or kills its server uses Private.
func Start(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	o := apply(opts)
	key := fmt.Sprintf("%+v", o)
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if c := shared.clusters[key]; c != nil && c.Running() {
		return c
	}
	c := start(t, o, makeDir(t))
	if shared.clusters == nil {
		shared.clusters = map[string]*Cluster{}
	}
	shared.clusters[key] = c
	return c
}

// Private gives a cluster that only this test uses. It is stopped and removed at its end.
func Private(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	shared.mu.Lock()
	dir := makeDir(t)
	shared.mu.Unlock()
	c := start(t, apply(opts), dir)
	t.Cleanup(func() { c.remove() })
	return c
}

// Main runs a test binary and then stops its clusters and removes their directories. It is
// optional: func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }.
func Main(m *testing.M) int {
	code := m.Run()
	shared.mu.Lock()
	defer shared.mu.Unlock()
	for _, c := range shared.clusters {
		c.remove()
	}
	return code
}

func apply(opts []Option) *Options {
	o := &Options{settings: map[string]string{"wal_level": "logical", "max_wal_senders": "10", "max_replication_slots": "10"}}
	for _, f := range opts {
		f(o)
	}
	if o.bin == "" {
		o.bin = os.Getenv("TREFOIL_PG_BIN")
	}
	return o
}

const dirPrefix = "trefoil-pgtest-"

// makeDir makes this binary's next directory, and removes those of binaries that are gone.
func makeDir(t testing.TB) string {
	t.Helper()
	if !shared.swept {
		shared.swept = true
		sweep()
	}
	dir, err := os.MkdirTemp("", dirPrefix+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatalf("make directory for PostgreSQL: %v", err)
	}
	return dir
}

func sweep() {
	old, err := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*"))
	if err != nil {
		return
	}
	for _, dir := range old {
		rest := strings.TrimPrefix(filepath.Base(dir), dirPrefix)
		pid, err := strconv.Atoi(strings.SplitN(rest, "-", 2)[0])
		if err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			_ = os.RemoveAll(dir) // somebody else's, or being removed by another binary
		}
	}
}

func start(t testing.TB, o *Options, dir string) *Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	po := postgres.Options{
		Directory: dir, Bin: o.bin, Name: "test", Settings: o.settings, Access: o.access,
		NoSync: !o.sync, Encoding: o.encoding, DieWithParent: true,
	}
	c := &Cluster{}
	if o.tls {
		var err error
		if c.TLS, po.TLS, err = makeTLS(filepath.Join(dir, "certs")); err != nil {
			t.Fatalf("make certificates: %v", err)
		}
	}
	var err error
	if c.Cluster, err = postgres.Create(ctx, po); err != nil {
		t.Fatalf("create PostgreSQL: %v", err)
	}
	if err := c.Start(ctx); err != nil {
		t.Fatalf("start PostgreSQL: %v", err)
	}
	return c
}

func makeTLS(dir string) (*TLS, *postgres.ServerTLS, error) {
	ca, err := postgres.NewAuthority(dir, "authority", nil)
	if err != nil {
		return nil, nil, err
	}
	server, err := ca.Server(dir, "server", "127.0.0.1", "localhost")
	if err != nil {
		return nil, nil, err
	}
	client, err := ca.Client(dir, "gateway")
	if err != nil {
		return nil, nil, err
	}
	return &TLS{Authority: ca, Client: client}, &postgres.ServerTLS{Authority: ca.File, Server: server}, nil
}

func (c *Cluster) remove() {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_ = c.Stop(ctx, postgres.StopImmediate) // it is killed when it does not stop
	_ = os.RemoveAll(c.Directory())         // the next binary sweeps what stays
}

var serial atomic.Int64

// Database makes a database for this test and returns its DSN for the superuser (a URI over
// the Unix socket). It is dropped at the test's end, sessions included.
func (c *Cluster) Database(t testing.TB) string { return c.DatabaseWith(t, "") }

// DatabaseWith is Database with options for CREATE DATABASE, e.g. "TEMPLATE template0
// ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'".
func (c *Cluster) DatabaseWith(t testing.TB, with string) string {
	t.Helper()
	name := fmt.Sprintf("t%d", serial.Add(1))
	c.Exec(t, c.SuperuserDSN("postgres"), "CREATE DATABASE "+name+" "+with)
	t.Cleanup(func() {
		if c.Running() {
			c.Exec(t, c.SuperuserDSN("postgres"), "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
		}
	})
	return c.SuperuserDSN(name)
}

// Connect opens a connection that is closed at the test's end.
func (c *Cluster) Connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = conn.Close(ctx) // the server may be gone by intent
	})
	return conn
}

// Exec runs statements (several, separated by semicolons, in the simple protocol) on a
// connection of their own.
func (c *Cluster) Exec(t testing.TB, dsn string, statements ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	defer conn.Close(ctx)
	for _, s := range statements {
		if _, err := conn.PgConn().Exec(ctx, s).ReadAll(); err != nil {
			t.Fatalf("run %.80q: %v", s, err)
		}
	}
}

// Version is one installation to test on.
type Version struct {
	Major int
	Bin   string
}

// Versions lists the installations to test on: the default one, and PostgreSQL 18 from
// TREFOIL_PG18_BIN or where scripts/install-pg18.sh puts it. With TREFOIL_PG18_REQUIRED set,
// a missing 18 fails the test instead of being left out.
func Versions(t testing.TB) []Version {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	p, err := postgres.FindPrograms(ctx, os.Getenv("TREFOIL_PG_BIN"))
	if err != nil {
		t.Fatalf("find PostgreSQL: %v", err)
	}
	found := map[int]string{p.Major: p.Dir}
	if dir := Bin18(); dir != "" {
		p, err := postgres.FindPrograms(ctx, dir)
		if err != nil {
			t.Fatalf("find PostgreSQL 18: %v", err)
		}
		found[p.Major] = p.Dir
	}
	if _, ok := found[18]; !ok && os.Getenv("TREFOIL_PG18_REQUIRED") != "" {
		t.Fatal("PostgreSQL 18 is required and not there: run scripts/install-pg18.sh")
	}
	var vs []Version
	for major, dir := range found {
		vs = append(vs, Version{Major: major, Bin: dir})
	}
	sort.Slice(vs, func(i, j int) bool { return vs[i].Major < vs[j].Major })
	return vs
}

// Each runs a test once a version, as subtests pg15, pg18, each with the shared cluster of it.
func Each(t *testing.T, f func(t *testing.T, c *Cluster), opts ...Option) {
	t.Helper()
	for _, v := range Versions(t) {
		t.Run(fmt.Sprintf("pg%d", v.Major), func(t *testing.T) {
			f(t, Start(t, append([]Option{WithBin(v.Bin)}, opts...)...))
		})
	}
}

// Bin18 is the directory of PostgreSQL 18's programs, or "".
func Bin18() string {
	if dir := os.Getenv("TREFOIL_PG18_BIN"); dir != "" {
		return dir
	}
	wd, err := os.Getwd()
	if err != nil {
		return ""
	}
	for d := wd; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "go.mod")); err == nil {
			tree := filepath.Join(d, ".cache", "pg18")
			if _, err := os.Stat(filepath.Join(tree, "bin", "postgres")); err == nil {
				return filepath.Join(reachable(tree), "bin")
			}
			return ""
		}
		if d == filepath.Dir(d) {
			return ""
		}
	}
}

// reachable is dir, or, when we are root and the servers' own user could not enter it (a
// checkout in root's home), a copy of it under the temporary directory.
func reachable(dir string) string {
	if os.Geteuid() != 0 {
		return dir
	}
	open := true
	for p := dir; p != filepath.Dir(p); p = filepath.Dir(p) {
		st, err := os.Stat(p)
		open = open && err == nil && st.Mode()&0o001 != 0
	}
	if open {
		return dir
	}
	dest := filepath.Join(os.TempDir(), "trefoil-pg18")
	if _, err := os.Stat(filepath.Join(dest, "bin", "postgres")); err == nil {
		return dest
	}
	part, err := os.MkdirTemp("", "trefoil-pg18-")
	if err != nil {
		return dir
	}
	err = errors.Join(os.CopyFS(part, os.DirFS(dir)), os.Chmod(part, 0o755))
	if err == nil {
		err = os.Rename(part, dest) // another test binary may have been faster
	}
	if err != nil {
		_ = os.RemoveAll(part) // what stays is swept with the temporary directory
	}
	return dest
}
