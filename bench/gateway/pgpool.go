package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// pgpoolClients is the most clients it is compared with: it has a process for each.
const pgpoolClients = 64

// startPgpool starts Pgpool-II before the bench's PostgreSQL, as a plain proxy: no load
// balancing, no cache, one server session a client, as the others.
func (b *bench) startPgpool(ctx context.Context) (err error) {
	if b.quick {
		return nil
	}
	p := &proxy{name: "pgpool", processes: true}
	if p.port, err = postgres.FreePort("127.0.0.1"); err != nil {
		return err
	}
	admin, err := postgres.FreePort("127.0.0.1")
	if err != nil {
		return err
	}
	dir := filepath.Join(b.dir, "pgpool")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	files := map[string]string{
		"hba":         "host all all 127.0.0.1/32 scram-sha-256\n",
		"pool_passwd": role + ":TEXT" + password + "\n",
		"pcp":         "",
		"conf": fmt.Sprintf(`backend_clustering_mode = 'raw'
listen_addresses = '127.0.0.1'
port = %d
socket_dir = '%s'
pcp_socket_dir = '%s'
pcp_port = %d
wd_ipc_socket_dir = '%s'
backend_hostname0 = '127.0.0.1'
backend_port0 = %d
backend_weight0 = 1
backend_data_directory0 = '%s'
backend_flag0 = 'DISALLOW_TO_FAILOVER'
enable_pool_hba = on
pool_passwd = '%s/pool_passwd'
num_init_children = %d
reserved_connections = 0
max_pool = 1
child_life_time = 0
child_max_connections = 0
connection_life_time = 0
health_check_period = 0
sr_check_period = 0
pid_file_name = '%s/pid'
logdir = '%s'
`, p.port, dir, dir, admin, dir, b.pg.Port(), dir, dir, pgpoolClients+4, dir, dir)}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	if p.cmd, err = asPostgres(dir, "pgpool", "-n", "-f", dir+"/conf", "-F", dir+"/pcp", "-a", dir+"/hba"); err != nil {
		return err
	}
	said, err := os.Create(filepath.Join(b.dir, "pgpool.log"))
	if err != nil {
		return err
	}
	defer said.Close()
	p.cmd.Stderr = said
	if err := p.cmd.Start(); err != nil {
		return fmt.Errorf("start Pgpool-II: %w", err)
	}
	p.pid = p.cmd.Process.Pid
	b.pgpool, b.proxies = p, append(b.proxies, p)
	return answers(ctx, p.port)
}

// asPostgres is a command that runs as the user postgres where this is root, in a directory
// that is made that user's.
func asPostgres(dir, name string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if os.Getuid() != 0 {
		return cmd, nil
	}
	uid, gid, err := give(dir, "postgres")
	cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return cmd, err
}

// cpu is what the proxy has used so far, with its processes where it has several.
func (p *proxy) cpu() (time.Duration, error) {
	all, err := cpuTime(p.pid)
	if err != nil || !p.processes {
		return all, err
	}
	for _, pid := range children(p.pid) {
		if t, err := cpuTime(pid); err == nil {
			all += t
		}
	}
	return all, nil
}

// children returns the processes that a process has begun.
func children(pid int) []int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
	var list []int
	for _, f := range strings.Fields(string(text)) {
		if n, err := strconv.Atoi(f); err == nil {
			list = append(list, n)
		}
	}
	return list
}
