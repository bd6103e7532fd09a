package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// StopMode is how a server is asked to stop.
type StopMode syscall.Signal

// Stop modes, as in pg_ctl.
const (
	StopFast      = StopMode(syscall.SIGINT)  // sessions are ended, a checkpoint is written
	StopImmediate = StopMode(syscall.SIGQUIT) // as after a crash: recovery at the next start
)

// startTimeout bounds a start, recovery included, where the context sets no earlier end.
const startTimeout = 2 * time.Minute

// pollInterval is how often the pid file is read while a server starts or stops.
const pollInterval = 15 * time.Millisecond

// process is a running postmaster: our child, or adopted from an earlier process of ours.
type process struct {
	pid  int
	done chan struct{} // closed when a child has ended; nil when adopted
}

// Start starts the server and waits until it takes connections. A server of this directory
// that already runs is adopted; a pid file that a crash left behind does not stop it.
func (c *Cluster) Start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil && c.proc.alive() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.makeDirectories(); err != nil {
		return err
	}
	adopted, err := c.adopt(ctx)
	if err != nil || adopted {
		return err
	}
	if err := c.choosePort(); err != nil {
		return err
	}
	if err := c.writeConfiguration(); err != nil {
		return err
	}
	from := fileSize(c.LogPath())
	if err := c.spawn(ctx); err != nil {
		return err
	}
	if err := c.waitReady(ctx); err != nil {
		c.proc.kill()
		c.proc = nil
		return fmt.Errorf("start PostgreSQL in %s: %w%s", c.o.Directory, err, c.logTail(from))
	}
	c.o.Logger.Info("PostgreSQL started", "cluster", c.o.Name, "port", c.port, "version", c.prog.Full, "pid", c.proc.pid)
	return nil
}

// adopt takes over a server that runs on this data directory. Otherwise it makes sure that
// nothing of an earlier server is left: orphaned backends are waited for, and a pid file
// whose number now belongs to another program is removed, as PostgreSQL itself would not.
func (c *Cluster) adopt(ctx context.Context) (bool, error) {
	for {
		pf, err := c.readPidFile()
		if err != nil {
			return false, err
		}
		left := processesIn(c.DataDir())
		if pf != nil && contains(left, pf.pid) {
			c.port = pf.port
			c.proc = &process{pid: pf.pid}
			return true, c.waitReady(ctx)
		}
		if len(left) == 0 {
			if pf == nil {
				return false, nil
			}
			c.o.Logger.Warn("removing a stale pid file", "cluster", c.o.Name, "pid", pf.pid)
			return false, os.Remove(c.pidPath())
		}
		if err := sleep(ctx, pollInterval); err != nil {
			return false, fmt.Errorf("start PostgreSQL in %s: %d processes of an earlier server do not end: %w", c.o.Directory, len(left), err)
		}
	}
}

// choosePort finds a free port, or tells that the configured one is taken. A server that is
// started again keeps its port: others know it.
func (c *Cluster) choosePort() error {
	if c.port != 0 && c.o.Port == 0 {
		c.o.Port = c.port
	}
	if c.o.NoTCP && c.o.Port != 0 {
		c.port = c.o.Port
		return nil
	}
	if c.o.Port == 0 {
		port, err := FreePort(c.o.Host)
		c.port = port
		return err
	}
	l, err := net.Listen("tcp", net.JoinHostPort(c.o.Host, strconv.Itoa(c.o.Port)))
	if err != nil {
		return fmt.Errorf("start PostgreSQL in %s: port %d of %s cannot be used (another server?): %w", c.o.Directory, c.o.Port, c.o.Host, err)
	}
	c.port = c.o.Port
	return l.Close()
}

// spawn starts the postmaster. A goroutine on a thread of its own owns it: the parent-death
// signal is bound to the thread that forked, not to the process.
func (c *Cluster) spawn(ctx context.Context) error {
	log, err := os.OpenFile(c.LogPath(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open server log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(c.prog.Path("postgres"), "-D", c.DataDir())
	cmd.Env = c.prog.environment()
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = c.account.attributes(c.o.DieWithParent)
	started := make(chan error, 1)
	p := &process{done: make(chan struct{})}
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the server
		defer close(p.done)
		err := cmd.Start()
		if err == nil {
			p.pid = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log; that it ended is in done
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	c.proc = p
	return ctx.Err()
}

// waitReady waits until the pid file says that the server takes connections.
func (c *Cluster) waitReady(ctx context.Context) error {
	for {
		pf, err := c.readPidFile()
		if err == nil && pf != nil && pf.pid == c.proc.pid && (pf.status == "ready" || pf.status == "standby") {
			return nil
		}
		if !c.proc.alive() {
			return errors.New("the server ended while it started")
		}
		if err := sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("the server is not ready in time: %w", err)
		}
	}
}

// Stop stops the server and waits for its end. When ctx ends first the server is killed and
// the error says so; nothing acknowledged is lost by that.
func (c *Cluster) Stop(ctx context.Context, mode StopMode) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return nil
	}
	p := c.proc
	c.proc = nil
	if err := syscall.Kill(p.pid, syscall.Signal(mode)); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop PostgreSQL: %w", err)
	}
	for p.alive() {
		if err := sleep(ctx, pollInterval); err != nil {
			p.kill()
			return fmt.Errorf("stop PostgreSQL in %s: killed, it did not end in time: %w", c.o.Directory, err)
		}
	}
	return nil
}

// Kill ends the server as a power cut would (SIGKILL to the postmaster) and waits until its
// children have noticed. The next Start recovers.
func (c *Cluster) Kill(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return nil
	}
	c.proc.kill()
	c.proc = nil
	for len(processesIn(c.DataDir())) > 0 {
		if err := sleep(ctx, pollInterval); err != nil {
			return fmt.Errorf("kill PostgreSQL: its children do not end: %w", err)
		}
	}
	return nil
}

// Running reports whether a server runs on the data directory, whoever started it.
func (c *Cluster) Running() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc != nil {
		return c.proc.alive()
	}
	pf, err := c.readPidFile()
	return err == nil && pf != nil && contains(processesIn(c.DataDir()), pf.pid)
}

// PID is the postmaster's process number, 0 when it is stopped.
func (c *Cluster) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.proc == nil {
		return 0
	}
	return c.proc.pid
}

// Reload writes the configuration again and tells the server to read it.
func (c *Cluster) Reload(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.writeConfiguration(); err != nil {
		return err
	}
	if c.proc == nil {
		return ctx.Err()
	}
	if err := syscall.Kill(c.proc.pid, syscall.SIGHUP); err != nil {
		return fmt.Errorf("reload PostgreSQL: %w", err)
	}
	return ctx.Err()
}

func (p *process) alive() bool {
	if p.done != nil {
		select {
		case <-p.done:
			return false
		default:
			return true
		}
	}
	return syscall.Kill(p.pid, 0) == nil
}

// kill ends the postmaster at once and waits for our child; an adopted one is reaped elsewhere.
func (p *process) kill() {
	_ = syscall.Kill(p.pid, syscall.SIGKILL) // gone already is as good
	if p.done != nil {
		<-p.done
	}
}

// pidFile is what postmaster.pid says (PostgreSQL, miscadmin.h, LOCK_FILE_LINE_*).
type pidFile struct {
	pid, port int
	status    string // starting, stopping, ready, standby
}

func (c *Cluster) pidPath() string { return filepath.Join(c.DataDir(), "postmaster.pid") }

// readPidFile is nil when there is none. A file that is still being written has no status.
func (c *Cluster) readPidFile() (*pidFile, error) {
	b, err := os.ReadFile(c.pidPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read pid file: %w", err)
	}
	lines := strings.Split(string(b), "\n")
	field := func(i int) string {
		if i < len(lines) {
			return strings.TrimSpace(lines[i])
		}
		return ""
	}
	pid, _ := strconv.Atoi(field(0)) // 0: not written yet
	port, _ := strconv.Atoi(field(3))
	return &pidFile{pid: pid, port: port, status: field(7)}, nil
}

// processesIn lists processes whose working directory is dir: a postmaster and its children
// stand in their data directory, and nothing else does.
func processesIn(dir string) []int {
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if cwd, err := os.Readlink("/proc/" + e.Name() + "/cwd"); err == nil && cwd == real {
			pids = append(pids, pid)
		}
	}
	return pids
}

func contains(pids []int, pid int) bool {
	for _, p := range pids {
		if p == pid {
			return true
		}
	}
	return false
}

// sleep waits for d or the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
