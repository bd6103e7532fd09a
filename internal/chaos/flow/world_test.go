package flow

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/trefoil-eu/trefoil/internal/home/dataset"
	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/faults"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

const (
	readerPassword  = "reader-of-tests"
	stewardPassword = "steward-of-tests"
	patience        = 3 * time.Minute
)

// world is a source, two dataset clusters, and a process that keeps datasets between them.
type world struct {
	t               *testing.T
	source          *pgtest.Cluster
	inside, outside *pgtest.Cluster
	dir, bin        string
	settings        settings
	followed        *dataset.Builder // looks at what the process keeps
	orders          string           // the file of the failpoints' order
	disk            string           // the file system under the cluster outside, where one could be mounted

	toSource, toOutside *faults.Relay // between the follower and the servers

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan error
	log    *os.File
	memory int64 // the most that a follower had in memory, in bytes
}

// within bounds what a test waits for.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// begin starts the servers, fills the source, and makes the settings of the follower.
func begin(t *testing.T, statements, bin string) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), bin: bin}
	if err := os.MkdirAll(filepath.Join(w.dir, "spill"), 0o700); err != nil {
		t.Fatal(err)
	}
	w.orders = filepath.Join(w.dir, "order")
	w.source = pgtest.Private(t, pgtest.WithBin(bin), pgtest.WithSetting("wal_level", "logical"), pgtest.WithSetting("synchronous_commit", "on"),
		pgtest.WithSetting("max_prepared_transactions", "20"), pgtest.WithSetting("max_wal_senders", "20"), pgtest.WithSetting("max_replication_slots", "20"),
		pgtest.WithSetting("max_slot_wal_keep_size", "4GB"), pgtest.WithSetting("shared_buffers", "64MB"), pgtest.WithSetting("log_min_messages", "fatal"))
	w.inside = w.datasets()
	w.small(func() { w.outside = w.datasets() })
	w.source.Exec(t, w.source.SuperuserDSN("postgres"), "CREATE DATABASE app",
		"CREATE ROLE trefoil_reader LOGIN REPLICATION PASSWORD '"+readerPassword+"'", "GRANT pg_read_all_data TO trefoil_reader")
	w.source.Exec(t, w.admin(), statements)
	w.settings = settings{Dir: w.dir, Source: w.source.SocketDSN("trefoil_reader", readerPassword, "app"), Catalog: catalogText(), Datasets: datasetsText(""),
		Inside:  w.inside.SocketDSN(postgres.StewardRole, stewardPassword, "postgres"),
		Outside: w.outside.SocketDSN(postgres.StewardRole, stewardPassword, "postgres"), Memory: 64 << 20}
	w.toSource, w.toOutside = faults.NewRelay(t, w.settings.Source), faults.NewRelay(t, w.settings.Outside)
	w.settings.Source, w.settings.Outside = w.toSource.DSN(w.settings.Source), w.toOutside.DSN(w.settings.Outside)
	for _, s := range specs {
		w.settings.Names = append(w.settings.Names, s.name)
	}
	var err error
	if w.followed, err = w.settings.open(nil); err != nil {
		t.Fatal(err)
	}
	if w.log, err = os.Create(filepath.Join(w.dir, "follower.log")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.kill()
		if t.Failed() {
			t.Logf("last words of the follower:\n%s", w.lastWords(60))
		}
		_ = w.log.Close()
	})
	return w
}

// datasets starts a dataset cluster, smaller than a real one.
func (w *world) datasets() *pgtest.Cluster {
	opts := []pgtest.Option{pgtest.WithBin(w.bin), pgtest.WithAccess(postgres.DatasetAccess())}
	for k, v := range postgres.DatasetSettings() {
		opts = append(opts, pgtest.WithSetting(k, v))
	}
	opts = append(opts, pgtest.WithSetting("shared_buffers", "64MB"))
	c := pgtest.Private(w.t, opts...)
	if err := postgres.PrepareDatasetCluster(within(w.t, patience), c.Cluster, stewardPassword); err != nil {
		w.t.Fatal(err)
	}
	return c
}

// admin is the DSN of the source's superuser.
func (w *world) admin() string { return w.source.SuperuserDSN("app") }

func (w *world) cluster(s spec) *pgtest.Cluster {
	if s.cluster == "inside" {
		return w.inside
	}
	return w.outside
}

// start runs the process that follows.
func (w *world) start() {
	w.t.Helper()
	text, err := json.Marshal(w.settings)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "settings.json"), text, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+w.dir, "TREFOIL_FAULT="+w.orders)
	cmd.Stderr = w.log
	stdin, err := cmd.StdinPipe() // the child ends when this end is closed, however that happens
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		_ = stdin.Close()
	}()
	w.mu.Lock()
	w.cmd, w.ended = cmd, ended
	w.mu.Unlock()
}

// kill ends the follower as a power cut would.
func (w *world) kill() {
	w.mu.Lock()
	cmd, ended := w.cmd, w.ended
	w.cmd = nil
	w.mu.Unlock()
	if cmd == nil {
		return
	}
	w.measure(cmd.Process.Pid)
	_ = cmd.Process.Kill() // it may have met a failpoint
	<-ended
}

// stop ends the follower as an operator does.
func (w *world) stop() {
	w.t.Helper()
	w.mu.Lock()
	cmd, ended := w.cmd, w.ended
	w.cmd = nil
	w.mu.Unlock()
	w.measure(cmd.Process.Pid)
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		w.t.Error(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			w.t.Errorf("the follower ended with %v:\n%s", err, w.lastWords(10))
		}
	case <-time.After(patience):
		w.t.Error("the follower does not end")
		_ = cmd.Process.Kill()
		<-ended
	}
}

// died says whether the follower ended by itself, and how.
func (w *world) died() (bool, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	select {
	case err := <-w.ended:
		w.cmd = nil
		return true, err
	default:
		return false, nil
	}
}

// measure remembers the most memory that a follower had.
func (w *world) measure(pid int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return // it is gone
	}
	for _, line := range strings.Split(string(text), "\n") {
		var kb int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kb); n == 1 {
			w.memory = max(w.memory, kb<<10)
		}
	}
}

func (w *world) lastWords(n int) string {
	f, err := os.Open(w.log.Name())
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// clock is the source's.
func (w *world) clock(ctx context.Context, conn *pgx.Conn) time.Time {
	w.t.Helper()
	var now time.Time
	if err := conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
		w.t.Fatal(err)
	}
	return now
}

// caughtUp waits until the datasets are as fresh as the source is now, and says how long that
// took.
func (w *world) caughtUp(ctx context.Context, conn *pgx.Conn, names ...string) time.Duration {
	w.t.Helper()
	if len(names) == 0 {
		names = w.settings.Names
	}
	began, now := time.Now(), w.clock(ctx, conn)
	for _, name := range names {
		w.until(ctx, name, func(s *dataset.FlowState) bool { return s.State == "following" && s.FreshAsOf.After(now) })
	}
	return time.Since(began)
}

// until waits for a state of a dataset's flow.
func (w *world) until(ctx context.Context, name string, ok func(*dataset.FlowState) bool) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		s, err := w.followed.Flow(ctx, name)
		if err == nil && s != nil && ok(s) {
			return
		}
		if gone, how := w.died(); gone {
			w.t.Fatalf("the follower ended by itself: %v\n%s", how, w.lastWords(20))
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("dataset %s does not come to that: %+v, %v\n%s", name, s, err, w.lastWords(40))
		}
	}
}
