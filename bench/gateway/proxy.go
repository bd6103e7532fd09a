package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// proxy is a running proxy.
type proxy struct {
	name      string
	port      int
	pid       int
	cmd       *exec.Cmd
	processes bool           // it works in several processes
	in        io.WriteCloser // of the gateway: commands
	out       *bufio.Reader
}

// env is how libpq's programs reach it.
func (p *proxy) env(tls bool) []string {
	mode := "disable"
	if tls {
		mode = "require"
	}
	return []string{"PGHOST=127.0.0.1", fmt.Sprint("PGPORT=", p.port), "PGUSER=" + role, "PGPASSWORD=" + password,
		"PGDATABASE=" + database, "PGSSLMODE=" + mode, "PGGSSENCMODE=disable"}
}

func (p *proxy) dsn() string {
	return fmt.Sprintf("host=127.0.0.1 port=%d user=%s password=%s dbname=%s sslmode=disable", p.port, role, password, database)
}

func (p *proxy) stop() error {
	if p.in != nil {
		_ = p.in.Close()
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	gone := make(chan error, 1)
	go func() { gone <- p.cmd.Wait() }()
	select {
	case <-gone:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-gone
	}
	return nil
}

// ask has the gateway do something, and waits for its answer.
func (p *proxy) ask(command string) error {
	if _, err := fmt.Fprintln(p.in, command); err != nil {
		return fmt.Errorf("ask the gateway: %w", err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != "ok" {
		return fmt.Errorf("ask the gateway to %s: %q %w", command, line, err)
	}
	return nil
}

// profile has the gateway write a CPU profile into dir, if there is one, until stop.
func (p *proxy) profile(dir, name string) (stop func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	if err := p.ask("profile " + filepath.Join(dir, name+".pprof")); err != nil {
		return nil, err
	}
	return func() { _ = p.ask("end") }, nil
}

// pool has the gateway pool servers by transaction for sessions that begin from now on, or not.
func (p *proxy) pool(yes bool) error { return p.ask(fmt.Sprint("pool ", yes)) }

// poolSize is how many servers both proxies may use in transaction pooling.
const poolSize = 20

func (b *bench) startGateway(ctx context.Context) error {
	return b.gatewayBefore(ctx, b.pg.Addr(), "gateway")
}

// gatewayBefore starts the gateway, as a process of its own, before a server.
func (b *bench) gatewayBefore(_ context.Context, server, name string) (err error) {
	p := &proxy{name: name}
	if p.port, err = postgres.FreePort("127.0.0.1"); err != nil {
		return err
	}
	s := settings{Port: p.port, Server: server, Certificate: b.pair.Certificate, Key: b.pair.Key, Witness: accesslog.Witness{URL: b.witness.url, Key: b.witness.key}, Summary: b.summary}
	dir := filepath.Join(b.dir, name)
	if err := s.write(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.cmd = exec.Command(self, "-serve", dir)
	p.cmd.Stderr = os.Stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.pid = p.cmd.Process.Pid
	b.gateway, b.proxies = p, append(b.proxies, p)
	if err := p.ask("hello"); err != nil {
		return err
	}
	b.log, err = openLedger(dir)
	return err
}

func (b *bench) startBouncer(ctx context.Context) (err error) {
	if b.bouncer, err = b.pgbouncer(ctx, "pgbouncer", "session", b.pg.Port(), 550); err != nil || b.quick {
		return err
	}
	b.pooled, err = b.pgbouncer(ctx, "pgbouncer-transaction", "transaction", b.pg.Port(), poolSize)
	return err
}

// pgbouncer starts a PgBouncer before a server.
func (b *bench) pgbouncer(ctx context.Context, name, mode string, server, size int) (*proxy, error) {
	p := &proxy{name: name}
	var err error
	if p.port, err = postgres.FreePort("127.0.0.1"); err != nil {
		return nil, err
	}
	dir := filepath.Join(b.dir, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	files := map[string]string{"users": fmt.Sprintf("%q %q\n", role, password), "ini": fmt.Sprintf(`[databases]
%s = host=127.0.0.1 port=%d user=%s password=%s
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = %s/users
pool_mode = %s
max_client_conn = 20000
default_pool_size = %d
server_lifetime = 86400
ignore_startup_parameters = extra_float_digits
client_tls_sslmode = allow
client_tls_cert_file = %s/crt
client_tls_key_file = %s/key
`, database, server, role, password, p.port, dir, mode, size, dir, dir)}
	for file, from := range map[string]string{"crt": b.pair.Certificate, "key": b.pair.Key} {
		text, err := os.ReadFile(from)
		if err != nil {
			return nil, err
		}
		files[file] = string(text)
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	if p.cmd, err = asPostgres(dir, "pgbouncer", "-q", filepath.Join(dir, "ini")); err != nil { // it refuses to run as root
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start PgBouncer: %w", err)
	}
	p.pid = p.cmd.Process.Pid
	b.proxies = append(b.proxies, p)
	return p, answers(ctx, p.port)
}

// give makes a directory and what is in it another user's.
func give(dir, name string) (uid, gid int, err error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(u.Uid, &uid); err != nil {
		return 0, 0, err
	}
	if _, err := fmt.Sscan(u.Gid, &gid); err != nil {
		return 0, 0, err
	}
	return uid, gid, filepath.Walk(dir, func(path string, _ os.FileInfo, err error) error {
		return errors.Join(err, os.Chown(path, uid, gid))
	})
}

// answers waits until something listens at a port.
func answers(ctx context.Context, port int) error {
	for range 200 {
		c, err := net.Dial("tcp", fmt.Sprint("127.0.0.1:", port))
		if err == nil {
			return c.Close()
		}
		select {
		case <-time.After(25 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return fmt.Errorf("nothing answers at port %d", port)
}
