package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a long-running part of the enclave: the gateway or the monitor.
type process struct {
	name string
	pid  int
	done chan struct{} // closed when it has ended
}

// spawn starts `trefoil args…` with its output in logs/NAME.log and its number in
// pids/NAME. It is in a process group of its own, so that Ctrl-C reaches the launcher alone,
// which then stops the parts in order. Attached parts end with the launcher however it ends.
func (w *World) spawn(name string, args ...string) (*process, error) {
	log, err := os.OpenFile(w.path("logs", name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer log.Close()
	cmd := exec.Command(w.o.Binary, args...)
	cmd.Dir = w.o.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if !w.o.Detach {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL // what it would wait for is going too
	}
	p := &process{name: name, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the parent-death signal is bound to this thread, which ends with the part
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // how it ended is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p.pid = cmd.Process.Pid
	if err := os.WriteFile(w.path("pids", name), []byte(strconv.Itoa(p.pid)+"\n"), 0o644); err != nil {
		return p, fmt.Errorf("start %s: %w", name, err)
	}
	return p, nil
}

// ended says whether the process has ended.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// kill ends the process as a power cut would, and waits for its end.
func (p *process) kill() {
	_ = syscall.Kill(p.pid, syscall.SIGKILL) // it may have ended already
	<-p.done
}

// await polls ready until it is nil, the process ends, or the time is over.
func (w *World) await(ctx context.Context, p *process, limit time.Duration, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		if p.ended() {
			return fmt.Errorf("%s ended while it started:\n%s", p.name, w.tail(p.name))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w\n%s", p.name, limit, err, w.tail(p.name))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// tail returns the last lines of a part's log.
func (w *World) tail(name string) string {
	text, err := os.ReadFile(w.path("logs", name+".log"))
	if err != nil {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-8):], "\n  ")
}

// running returns the numbers of the processes that belong to the demonstration in dir: those
// in pids/ and the PostgreSQL instances under pg/, as far as they really are what the file
// says and not another program that got the number later.
func running(dir string) map[string]int {
	found := map[string]int{}
	parts, _ := filepath.Glob(filepath.Join(dir, "pids", "*")) // a constant pattern is never malformed
	for _, file := range parts {
		if pid := firstNumber(file); pid > 0 && lives(filepath.Base(file), pid, dir) {
			found[filepath.Base(file)] = pid
		}
	}
	clusters, _ := filepath.Glob(filepath.Join(dir, "pg", "*", "data", "postmaster.pid"))
	for _, file := range clusters {
		data := filepath.Dir(file)
		if pid := firstNumber(file); pid > 0 && commandHolds(pid, data) {
			found["pg/"+filepath.Base(filepath.Dir(data))] = pid
		}
	}
	return found
}

// lives says whether the process is still the named part of the demonstration in dir. The
// launcher may have been given a relative directory, so only its command is looked at.
func lives(name string, pid int, dir string) bool {
	if name == "launcher" {
		return commandHolds(pid, "demo")
	}
	return commandHolds(pid, dir)
}

func firstNumber(file string) int {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil {
		return 0
	}
	return n
}

// commandHolds says whether the process lives and its command line names dir or a file in it.
func commandHolds(pid int, dir string) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && strings.Contains(string(line), dir)
}

// ErrNothingRuns: there is no demonstration to stop in this directory.
var ErrNothingRuns = errors.New("no demonstration runs there")

// Stop stops everything that a demonstration in dir left running, the door first and the
// databases last. It needs nothing of the process that started it. The files stay.
func Stop(ctx context.Context, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("stop demonstration: %w", err)
	}
	all := running(dir)
	if len(all) == 0 {
		return fmt.Errorf("stop demonstration in %s: %w", dir, ErrNothingRuns)
	}
	for _, stage := range [][]string{{"launcher"}, {"valve"}, {"gateway"}, {"follower"}, {"monitor"}, nil} {
		stopping := map[string]int{}
		for name, pid := range all {
			if stage == nil && strings.HasPrefix(name, "pg/") || len(stage) > 0 && stage[0] == name {
				stopping[name] = pid
			}
		}
		if err := stopAll(ctx, dir, stopping); err != nil {
			return err
		}
	}
	_ = os.Remove(filepath.Join(dir, envFile)) // it tells of what no longer runs
	return nil
}

// stopAll asks the processes to end, and kills those that do not within half a minute.
func stopAll(ctx context.Context, dir string, pids map[string]int) error {
	for name, pid := range pids {
		signal := syscall.SIGTERM
		if strings.HasPrefix(name, "pg/") {
			signal = syscall.SIGINT // PostgreSQL's fast shutdown
		}
		_ = syscall.Kill(pid, signal) // it may have ended meanwhile
	}
	killAt := time.Now().Add(30 * time.Second)
	for name, pid := range pids {
		for lives(name, pid, dir) {
			if time.Now().After(killAt) {
				_ = syscall.Kill(pid, syscall.SIGKILL)
				killAt = time.Now().Add(30 * time.Second)
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("stop %s: %w", name, ctx.Err())
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}
