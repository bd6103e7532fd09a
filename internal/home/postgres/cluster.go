// Package postgres runs PostgreSQL clusters that belong to Trefoil and reads the shape of
// those that do not: initdb, start, stop, replicas, TLS, who may log in, introspection.
//
// The invariant it keeps: a cluster it starts accepts only what its Access lists. Superusers
// come by the Unix socket with a SCRAM password and by no other way; over TCP only a
// certificate of the gateway's authority opens anything; all else is rejected. Neither its
// errors nor the clusters' own logs carry statements or values.
//
// It does not decide who may read what (rules), and it does not fill datasets (home/dataset).
package postgres

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// Options says what a cluster is and where. Only Directory is needed.
type Options struct {
	Directory string            // holds data/, tls/, server.log, superuser.password, and sock/ when its path is short
	Bin       string            // directory of initdb and postgres; default the newest found
	Name      string            // cluster_name, e.g. "dublin-1"
	Host      string            // address to listen on; default 127.0.0.1
	Port      int               // 0: a free port is chosen at every start
	NoTCP     bool              // listen on the Unix socket only
	Superuser string            // default "postgres"
	Password  string            // the superuser's; default made and kept in superuser.password (0600)
	Settings  map[string]string // postgresql.conf, over the defaults
	Access    Access            // who may log in besides the superuser
	TLS       *ServerTLS        // nil: no TLS, and then no TCP login at all unless Access says so
	NoSync    bool              // tests only: fsync off
	Encoding  string            // default UTF8
	// DieWithParent stops the server when this process dies, however it dies. For tests and
	// demonstrations; without it a server outlives its starter and is adopted by the next Start.
	DieWithParent bool
	Logger        *slog.Logger // default: discards
}

// Cluster is one PostgreSQL instance. Its methods may be called from several goroutines.
type Cluster struct {
	o       Options
	prog    Programs
	account *account // nil: run as ourselves

	mu   sync.Mutex
	port int
	proc *process // nil when stopped
}

// ErrExists is wrapped by Create when the directory already holds a cluster: use Open.
var ErrExists = errors.New("a cluster is already there")

// ErrNotCluster is wrapped by Open when the directory holds no cluster: use Create.
var ErrNotCluster = errors.New("no cluster there")

// New finds programs and account for a cluster without touching its directory.
func New(ctx context.Context, o Options) (*Cluster, error) {
	if o.Directory == "" {
		return nil, errors.New("cluster: no directory given")
	}
	dir, err := filepath.Abs(o.Directory)
	if err != nil {
		return nil, fmt.Errorf("cluster directory: %w", err)
	}
	o.Directory = dir
	if o.Host == "" {
		o.Host = "127.0.0.1"
	}
	if o.Superuser == "" {
		o.Superuser = "postgres"
	}
	if o.Encoding == "" {
		o.Encoding = "UTF8"
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	prog, err := FindPrograms(ctx, o.Bin)
	if err != nil {
		return nil, err
	}
	acc, err := serverAccount()
	if err != nil {
		return nil, err
	}
	return &Cluster{o: o, prog: prog, account: acc, port: o.Port}, nil
}

// Create makes a new cluster with initdb. It fails with ErrExists when one is there.
func Create(ctx context.Context, o Options) (*Cluster, error) {
	c, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	if c.Exists() {
		return nil, fmt.Errorf("create cluster in %s: %w", c.o.Directory, ErrExists)
	}
	if err := c.makeDirectories(); err != nil {
		return nil, err
	}
	if err := c.initdb(ctx); err != nil {
		return nil, err
	}
	return c, nil
}

// Open takes a cluster that Create made. It does not start it.
func Open(ctx context.Context, o Options) (*Cluster, error) {
	c, err := New(ctx, o)
	if err != nil {
		return nil, err
	}
	if !c.Exists() {
		return nil, fmt.Errorf("open cluster in %s: %w", c.o.Directory, ErrNotCluster)
	}
	version, err := os.ReadFile(filepath.Join(c.DataDir(), "PG_VERSION"))
	if err != nil {
		return nil, fmt.Errorf("open cluster: %w", err)
	}
	if v := strings.TrimSpace(string(version)); v != strconv.Itoa(c.prog.Major) {
		return nil, fmt.Errorf("open cluster in %s: it is of PostgreSQL %s, and %s is %s: name the directory of its own programs (bin)",
			c.o.Directory, v, c.prog.Dir, c.prog.Full)
	}
	if err := c.loadPassword(); err != nil {
		return nil, err
	}
	return c, nil
}

// Ensure opens the cluster in o.Directory, or creates it.
func Ensure(ctx context.Context, o Options) (*Cluster, error) {
	c, err := Open(ctx, o)
	if errors.Is(err, ErrNotCluster) {
		return Create(ctx, o)
	}
	return c, err
}

// Exists reports whether the directory holds a complete cluster.
func (c *Cluster) Exists() bool {
	_, err := os.Stat(filepath.Join(c.DataDir(), "PG_VERSION"))
	return err == nil
}

// DataDir is PostgreSQL's data directory.
func (c *Cluster) DataDir() string { return filepath.Join(c.o.Directory, "data") }

// Directory is the cluster's own directory, above DataDir.
func (c *Cluster) Directory() string { return c.o.Directory }

// LogPath is the server's log.
func (c *Cluster) LogPath() string { return filepath.Join(c.o.Directory, "server.log") }

// Programs are the programs that the cluster runs on.
func (c *Cluster) Programs() Programs { return c.prog }

// Host is the address the server listens on.
func (c *Cluster) Host() string { return c.o.Host }

// Port is the TCP port, also part of the socket's name. 0 before the first Start when none was set.
func (c *Cluster) Port() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.port
}

// Addr is host:port.
func (c *Cluster) Addr() string { return net.JoinHostPort(c.o.Host, strconv.Itoa(c.Port())) }

// SuperuserDSN is a complete URI for the superuser over the Unix socket, password included.
func (c *Cluster) SuperuserDSN(database string) string {
	return c.SocketDSN(c.o.Superuser, c.o.Password, database)
}

// SocketDSN is a complete URI for any role over the Unix socket.
func (c *Cluster) SocketDSN(user, password, database string) string {
	u := url.URL{Scheme: "postgres", User: url.UserPassword(user, password), Path: "/" + database}
	u.RawQuery = url.Values{"host": {c.SocketDir()}, "port": {strconv.Itoa(c.Port())}}.Encode()
	return u.String()
}

// TLSDSN is a complete URI for a role over TCP with a client certificate and no password.
// The server is verified against the authority in ca.
func (c *Cluster) TLSDSN(user, database string, ca string, client KeyPair) string {
	u := url.URL{Scheme: "postgres", User: url.User(user), Host: c.Addr(), Path: "/" + database}
	u.RawQuery = url.Values{
		"sslmode": {"verify-full"}, "sslrootcert": {ca}, "sslcert": {client.Certificate}, "sslkey": {client.Key},
	}.Encode()
	return u.String()
}

// loadPassword takes the superuser's password from the options, the file, or makes one.
func (c *Cluster) loadPassword() error {
	path := filepath.Join(c.o.Directory, "superuser.password")
	if c.o.Password == "" {
		b, err := os.ReadFile(path)
		if err == nil {
			c.o.Password = strings.TrimSpace(string(b))
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("read superuser's password: %w", err)
		}
		var raw [24]byte
		if _, err := rand.Read(raw[:]); err != nil {
			return fmt.Errorf("make superuser's password: %w", err)
		}
		c.o.Password = hex.EncodeToString(raw[:])
	}
	if err := os.WriteFile(path, []byte(c.o.Password+"\n"), 0o600); err != nil {
		return fmt.Errorf("keep superuser's password: %w", err)
	}
	return nil
}
