package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/trefoil-eu/trefoil/internal/demo/platform"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// Options says what to run and where.
type Options struct {
	Dir    string    // made; must be empty, or left behind by an earlier demonstration
	People int64     // default 100,000
	Binary string    // trefoil itself; default this process's executable
	Detach bool      // parts outlive this process, until Stop
	Out    io.Writer // progress, a line a step

	// Follow keeps the datasets within a second of the platform, by a process of their own.
	// Without it they are built once and stand.
	Follow bool

	// Valve has the analysts outside the region come through the monitor's valve, and the
	// monitor require it.
	Valve bool

	// Prepare, when set, runs once the platform is loaded and the files of the enclave are
	// written, before anything reads them: a test adds tables, people and datasets with it.
	// Admin is a superuser's DSN on the platform's database.
	Prepare func(ctx context.Context, dir, admin string) error
}

// Seed of the generated platform.
const Seed = 20260314

// World is a running enclave with its generated platform.
type World struct {
	Platform platform.Platform

	o         Options
	primary   *postgres.Cluster
	replicas  []*postgres.Cluster
	inside    *postgres.Cluster
	outside   *postgres.Cluster
	authority *postgres.Authority
	client    postgres.KeyPair  // the gateway's certificate towards databases
	public    string            // authority of the certificate that the gateway shows to clients
	passwords map[string]string // of principals and database roles

	gatewayAddr, logAddr, monitorAddr         string
	kept                                      []net.Listener // ports of parts that do not run yet
	logKey, witnessKey, permitKey, approveKey string         // verifier keys
	stopKey                                   string
	officerKeys                               [2]string // two persons of the monitor

	valveAddr, doorAddr string // where clients come to; the gateway's listener for it

	gateway, monitor, follower, valve *process

	gone int64 // people whom the story deleted
}

// Start starts everything and waits until it answers. After an error, what had been started
// is stopped again.
func Start(ctx context.Context, o Options) (*World, error) {
	if o.People == 0 {
		o.People = 100_000
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	if o.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("find own program: %w", err)
		}
		o.Binary = self
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("demonstration's directory: %w", err)
	}
	o.Dir = dir
	w := &World{o: o, Platform: platform.Platform{Seed: Seed, People: o.People}, passwords: map[string]string{}}
	if err := w.claim(); err != nil {
		return nil, err
	}
	if err := w.start(ctx); err != nil {
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(err, w.Close(stop))
	}
	return w, nil
}

// start is Start after the directory is ours. The order: databases before what is in them,
// the monitor before the gateway, so that the first record is witnessed at once.
func (w *World) start(ctx context.Context) error {
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"keys, certificates, passwords", w.makeSecrets},
		{"the first site, and two dataset clusters", w.startDatabases},
		{fmt.Sprintf("a platform of %d people, %d watch events", w.Platform.People, w.Platform.Events()), w.load},
		{"two more sites: synchronous replicas", w.startReplicas},
		{"configuration", w.prepare},
		{"monitor", w.StartMonitor},
		{"gateway and log", w.StartGateway},
		{"the monitor's valve", w.StartValve},
		{"datasets support, analytics, abuse", w.makeDatasets},
		{"a grant for the analyst in Japan", w.grantJapan},
	} {
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
		fmt.Fprintf(w.o.Out, "  %-50s %5.1f s\n", step.what, time.Since(began).Seconds())
	}
	if !w.o.Detach {
		return nil
	}
	if err := os.Remove(w.path("pids", "launcher")); err != nil {
		return fmt.Errorf("hand over: %w", err)
	}
	return w.writeEnv()
}

// prepare writes the configuration, and lets the caller add to it.
func (w *World) prepare(ctx context.Context) error {
	if err := w.configure(ctx); err != nil || w.o.Prepare == nil {
		return err
	}
	return w.o.Prepare(ctx, w.o.Dir, w.primary.SuperuserDSN("platform"))
}

// Close stops everything, the door first.
func (w *World) Close(ctx context.Context) error {
	_ = os.Remove(w.path("pids", "launcher")) // Stop must not stop this very process
	w.freePorts(w.monitorAddr, w.gatewayAddr, w.logAddr, w.valveAddr, w.doorAddr)
	err := Stop(ctx, w.o.Dir)
	if errors.Is(err, ErrNothingRuns) {
		return nil
	}
	return err
}

// Environment returns the addresses and keys of the running enclave: the lines of demo.env.
func (w *World) Environment() [][2]string {
	return [][2]string{
		{"ADMIN_DSN", w.primary.SuperuserDSN("platform")},
		{"INSIDE_ADMIN_DSN", w.inside.SuperuserDSN("support")},
		{"OUTSIDE_ADMIN_DSN", w.outside.SuperuserDSN("analytics")},
		{"SERVICE_DSN", w.DSN("app", "platform")},
		{"ANALYST_IE_DSN", w.DSN("analyst-ie", "support")},
		{"ANALYST_JP_DSN", w.DSN("analyst-jp", "abuse")},
		{"ANALYST_CN_DSN", w.DSN("analyst-cn", "analytics")},
		{"GATEWAY_ADDR", w.gatewayAddr},
		{"VALVE_ADDR", w.valveAddr}, // where analysts from outside come to, if there is a valve,
		{"VALVE_DOOR", w.doorAddr},  // and where it comes to the gateway
		{"LOG_URL", "http://" + w.logAddr},
		{"MONITOR_URL", "http://" + w.monitorAddr},
		{"MONITOR_PID", strconv.Itoa(w.monitor.pid)},
		{"GATEWAY_PID", strconv.Itoa(w.gateway.pid)},
		{"LOG_VKEY", w.logKey},
		{"MONITOR_VKEY", w.witnessKey + "," + w.permitKey},
		{"CONFIG", w.path("enclave", "enclave.yaml")},
	}
}

// outside are those who look from outside the region.
var outside = [...]string{"analyst-jp", "analyst-cn"}

// DSN is a complete URI through the gateway, with TLS verified; from outside the region by way
// of the valve, where there is one.
func (w *World) DSN(principal, database string) string {
	host := w.gatewayAddr
	if w.o.Valve && slices.Contains(outside[:], principal) {
		host = w.valveAddr
	}
	u := url.URL{Scheme: "postgres", User: url.UserPassword(principal, w.passwords[principal]), Host: host, Path: "/" + database}
	u.RawQuery = url.Values{"sslmode": {"verify-full"}, "sslrootcert": {w.public}}.Encode()
	return u.String()
}

// EnvFile is where a detached demonstration writes its addresses.
func (w *World) EnvFile() string { return w.path(envFile) }

// trefoil runs one command of the binary to its end and returns what it printed. An exit
// code above 0 is an *exec.ExitError, with the output beside it.
func (w *World) trefoil(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, w.o.Binary, args...)
	cmd.Dir = w.o.Dir
	out, err := cmd.CombinedOutput()
	text := strings.TrimSpace(string(out))
	if err != nil {
		return text, fmt.Errorf("trefoil %s: %w\n%s", strings.Join(args, " "), err, text)
	}
	return text, nil
}

// enclave runs a command with the enclave's configuration.
func (w *World) enclave(ctx context.Context, args ...string) (string, error) {
	return w.trefoil(ctx, append(args, "-c", w.path("enclave", "enclave.yaml"))...)
}
