package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is what a process has used so far, user and system, of all its threads. It is the
// sum that /proc/PID/stat shows in hundredths of a second, here in nanoseconds.
func cpuTime(pid int) (time.Duration, error) {
	var t unix.Timespec
	clock := int32(^pid)<<3 | 2 // clock_getcpuclockid(3)
	if err := unix.ClockGettime(clock, &t); err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return time.Duration(t.Nano()), nil
}

// resident is a process's memory in bytes.
func resident(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("read memory of process %d: no VmRSS", pid)
}

// meterPoint is a process's CPU time at one moment.
type meterPoint struct {
	at  time.Time
	cpu time.Duration
}

// meter reads a proxy's CPU time again and again until stop is called.
func meter(p *proxy) (stop func() []meterPoint) {
	quit, done := make(chan struct{}), make(chan struct{})
	var points []meterPoint
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			if cpu, err := p.cpu(); err == nil {
				points = append(points, meterPoint{time.Now(), cpu})
			}
			select {
			case <-tick.C:
			case <-quit:
				return
			}
		}
	}()
	return func() []meterPoint {
		close(quit)
		<-done
		return points
	}
}
