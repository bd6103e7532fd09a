package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

func logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// followHere is the process that only follows.
func followHere(ctx context.Context, dir string) error {
	text, err := os.ReadFile(filepath.Join(dir, "dsn"))
	if err != nil {
		return err
	}
	source, steward, _ := strings.Cut(string(text), "\n")
	b, err := builder(dir, source, steward)
	if err != nil {
		return err
	}
	if profile != "" {
		f, err := os.Create(profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	return b.Follow(ctx, name)
}

// flowing is a process that follows.
type flowing struct {
	b     *bench
	cmd   *exec.Cmd
	begun time.Time
}

func (b *bench) follow(ctx context.Context) (*flowing, error) {
	args := []string{"-follow", b.dir}
	if profile != "" {
		b.runs++
		args = append(args, "-profile", fmt.Sprintf("%s.%d", profile, b.runs))
	}
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	f := &flowing{b: b, cmd: cmd, begun: time.Now()}
	return f, cmd.Start()
}

// standing builds the dataset to follow, and waits until it does.
func (b *bench) standing(ctx context.Context) error {
	f, err := b.follow(ctx)
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if s, err := b.b.Flow(ctx, name); err == nil && s != nil && s.State == "following" && s.Batches > 0 {
			break
		}
		if time.Now().After(deadline) {
			return errors.Join(errors.New("the dataset does not follow"), f.stop())
		}
	}
	i, err := b.b.Info(ctx, name)
	if err == nil {
		b.built = i.BuiltAt
	}
	err = errors.Join(err, f.stop())
	b.memory = 0 // what a build takes is bounded by itself
	return err
}

// stop ends it and takes note of the most memory it held.
func (f *flowing) stop() error {
	peak, err := peakOf(f.cmd.Process.Pid)
	f.b.memory = max(f.b.memory, peak)
	err = errors.Join(err, f.cmd.Process.Signal(syscall.SIGTERM), f.cmd.Wait())
	if s := f.cmd.ProcessState; s != nil {
		fmt.Printf("# the flow used %.1f s of processor in %.1f s, %d MiB\n", (s.UserTime() + s.SystemTime()).Seconds(), time.Since(f.begun).Seconds(), peak>>20)
	}
	return err
}

// peakOf reads the most resident memory of a process, in bytes.
func peakOf(pid int) (int64, error) {
	file, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if kb, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(kb, "kB")), 10, 64)
			return n << 10, err
		}
	}
	return 0, errors.New("the kernel does not tell a process's memory")
}

// mark writes a row and waits until it is at the other side; settled means that all before is too.
func (b *bench) settled(ctx context.Context, dsn string) error {
	b.marked++
	if err := do(ctx, b.source.SuperuserDSN("postgres"), fmt.Sprintf("INSERT INTO mark VALUES (%d)", b.marked)); err != nil {
		return err
	}
	return b.arrived(ctx, dsn)
}

// arrived waits until the newest mark is at the other side.
func (b *bench) arrived(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		if there, err := newest(ctx, dsn); err == nil && there >= b.marked {
			return nil
		}
		select {
		case <-ctx.Done():
			return errors.New("what was written at the source does not arrive")
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// newest fails while a dataset is being built.
func newest(ctx context.Context, dsn string) (n int64, err error) {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer conn.Close(ctx)
	err = conn.QueryRow(ctx, "SELECT coalesce(max(id), 0) FROM mark").Scan(&n)
	return n, err
}
