package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// done is one transaction of pgbench's own log.
type done struct {
	end time.Time
	us  float64
}

// pgbench runs a case against a proxy and returns what it gave, and pgbench's own total.
func (b *bench) pgbench(ctx context.Context, c workload, p *proxy) (sample, int64, error) {
	dir, err := os.MkdirTemp(b.dir, "pgbench-")
	if err != nil {
		return sample{}, 0, err
	}
	defer os.RemoveAll(dir)
	args := []string{"-n", "-M", c.mode, "-c", strconv.Itoa(c.clients), "-j", strconv.Itoa(min(c.clients, 2)),
		"-T", strconv.Itoa(b.seconds(c)), "--log", "--log-prefix", filepath.Join(dir, "log")}
	if !c.tpcb {
		args = append(args, "-S")
	}
	if c.connect {
		args = append(args, "-C")
	}
	cmd := exec.CommandContext(ctx, filepath.Join(b.pg.Programs().Dir, "pgbench"), args...)
	cmd.Env = append(os.Environ(), p.env(c.tls)...)
	stop := meter(p)
	out, err := cmd.CombinedOutput()
	points := stop()
	if err != nil {
		return sample{}, 0, fmt.Errorf("pgbench through %s: %w: %s", p.name, err, lastLines(out))
	}
	total, err := processed(out)
	if err != nil {
		return sample{}, 0, err
	}
	list, err := readLog(dir)
	if err != nil {
		return sample{}, 0, err
	}
	if int64(len(list)) != total {
		return sample{}, 0, fmt.Errorf("pgbench says %d transactions and logs %d", total, len(list))
	}
	s, err := within(list, points)
	return s, total, err
}

// seconds is how long pgbench is to run: its clients connect on that time.
func (b *bench) seconds(c workload) int {
	n := int((b.run+time.Second-1)/time.Second) + c.clients/100 + b.longer
	if c.tls {
		n += c.clients / 60
	}
	return n
}

// errShort: the clients needed the whole time to connect.
var errShort = errors.New("the run was too short to be measured")

// within looks at the steady part: after every client is connected, before the first leaves.
func within(list []done, points []meterPoint) (sample, error) {
	slices.SortFunc(list, func(a, b done) int { return a.end.Compare(b.end) })
	from, to := list[0].end.Add(50*time.Millisecond), list[len(list)-1].end.Add(-50*time.Millisecond)
	points = slices.DeleteFunc(points, func(p meterPoint) bool { return p.at.Before(from) || p.at.After(to) })
	if len(points) < 10 {
		return sample{}, errShort
	}
	first, last := points[0], points[len(points)-1]
	var us []float64
	for _, d := range list {
		if d.end.After(first.at) && !d.end.After(last.at) {
			us = append(us, d.us)
		}
	}
	if len(us) == 0 {
		return sample{}, errShort
	}
	slices.Sort(us)
	n := float64(len(us))
	return sample{tps: n / last.at.Sub(first.at).Seconds(), p50: us[len(us)/2] / 1e3, p99: us[len(us)*99/100] / 1e3,
		cpu: float64((last.cpu - first.cpu).Microseconds()) / n}, nil
}

// processed finds pgbench's own total.
func processed(out []byte) (int64, error) {
	const label = "number of transactions actually processed: "
	_, rest, ok := strings.Cut(string(out), label)
	if !ok {
		return 0, fmt.Errorf("pgbench gave no total: %s", lastLines(out))
	}
	if strings.Contains(string(out), "number of failed transactions: ") && !strings.Contains(string(out), "number of failed transactions: 0 ") {
		return 0, fmt.Errorf("transactions failed: %s", lastLines(out))
	}
	number := rest[:strings.IndexAny(rest+"\n", "/\n")]
	return strconv.ParseInt(strings.TrimSpace(number), 10, 64)
}

// readLog reads pgbench's log of each transaction: client, number, microseconds, script, and
// the second and microsecond at which it ended.
func readLog(dir string) ([]done, error) {
	files, err := filepath.Glob(filepath.Join(dir, "log*"))
	if err != nil {
		return nil, err
	}
	var list []done
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
			f := strings.Fields(lines.Text())
			if len(f) < 6 {
				return nil, errors.New("pgbench's log has an unknown form")
			}
			us, err1 := strconv.ParseFloat(f[2], 64)
			sec, err2 := strconv.ParseInt(f[4], 10, 64)
			micro, err3 := strconv.ParseInt(f[5], 10, 64)
			if err := errors.Join(err1, err2, err3); err != nil {
				return nil, err
			}
			list = append(list, done{time.Unix(sec, micro*1000), us})
		}
	}
	if len(list) == 0 {
		return nil, errShort
	}
	return list, nil
}

func lastLines(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return strings.Join(lines[max(0, len(lines)-8):], " | ")
}
