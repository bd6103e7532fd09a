package dataset

import (
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

// steppedClock is a library that a server is started with: its clock is off by the seconds that a
// file holds.
const steppedClock = `#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long step(void) {
	static volatile long *at;
	if (!at) {
		int fd = open(getenv("STEPPED_CLOCK"), O_RDONLY);
		if (fd < 0) return 0;
		at = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
		close(fd);
	}
	return *at;
}
int clock_gettime(clockid_t id, struct timespec *ts) {
	int r = syscall(SYS_clock_gettime, id, ts);
	if (r == 0 && id == CLOCK_REALTIME) ts->tv_sec += step();
	return r;
}
int gettimeofday(struct timeval *tv, void *tz) {
	struct timespec ts;
	int r = clock_gettime(CLOCK_REALTIME, &ts);
	tv->tv_sec = ts.tv_sec; tv->tv_usec = ts.tv_nsec / 1000;
	return r;
}
time_t time(time_t *t) {
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	if (t) *t = ts.tv_sec;
	return ts.tv_sec;
}
`

// stepped starts a source whose clock the returned function puts forward or back.
func stepped(t *testing.T) (*pgtest.Cluster, func(time.Duration)) {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Skip("a C compiler is needed for a clock that can be put forward")
	}
	dir, err := os.MkdirTemp("", "trefoil-clock-") // the server's user must be let in
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	at := func(name string) string { return filepath.Join(dir, name) }
	prog, err := postgres.FindPrograms(testContext(t), "")
	if err != nil {
		t.Fatal(err)
	}
	real, err := os.ReadDir(prog.Dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range real {
		if f.Name() != "postgres" {
			_ = os.Symlink(filepath.Join(prog.Dir, f.Name()), at(f.Name())) // what is missing will be missed
		}
	}
	script := "#!/bin/sh\nexport STEPPED_CLOCK=" + at("clock") + " LD_PRELOAD=" + at("clock.so") + "\nexec " + prog.Path("postgres") + " \"$@\"\n"
	for name, text := range map[string]string{"clock.c": steppedClock, "postgres": script, "clock": strings.Repeat("\x00", 8)} {
		if err := os.WriteFile(at(name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-o", at("clock.so"), at("clock.c")).CombinedOutput(); err != nil {
		t.Skipf("the clock cannot be compiled: %v\n%s", err, out)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	clock, err := os.OpenFile(at("clock"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = clock.Close() })
	return pgtest.Private(t, pgtest.WithBin(dir)), func(d time.Duration) {
		if _, err := clock.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(int64(d/time.Second))), 0); err != nil {
			t.Fatal(err)
		}
	}
}

// The source's clock jumps two months ahead, and back: what depends on the time follows it both
// ways, what changes meanwhile comes, and nobody is told that the rows are fresher than they are.
func TestClockStepsAtTheSource(t *testing.T) {
	t.Parallel()
	source, step := stepped(t)
	f := setupOn(t, source, source.SuperuserDSN("postgres"), datasetCluster(t), web, webCatalog, webDataset("residence: [EEA]", "person: id plan"))
	conn := source.Connect(t, f.dsn)
	sourceDo(t, conn, "SET synchronous_commit = on", "CREATE PUBLICATION trefoil FOR ALL TABLES")
	f.follow()
	f.caughtUp(conn)
	watch := f.connect("")
	there := func() string { return strings.Join(rows(t, watch, "SELECT id FROM app.person ORDER BY id"), " ") }
	plan := func() string { return rows(t, watch, "SELECT plan FROM app.person WHERE id = 1")[0] }
	all := there()
	if !strings.Contains(all, "4") { // left 700 days ago
		t.Fatalf("the dataset begins with %s", all)
	}
	step(60 * 24 * time.Hour)
	f.until(func() bool { return !strings.Contains(there(), "4") })
	sourceDo(t, conn, "UPDATE app.person SET plan = 'ahead' WHERE id = 1")
	f.until(func() bool { return plan() == "ahead" })
	step(0)
	f.until(func() bool { return there() == all })
	sourceDo(t, conn, "UPDATE app.person SET plan = 'back' WHERE id = 1")
	f.until(func() bool { return plan() == "back" })
	if got := f.one("SELECT snapshot_at < now() + interval '1 minute' FROM trefoil_info.dataset"); got != "t" {
		t.Error("it calls itself fresher than now")
	}
	step(-400 * 24 * time.Hour)
	sourceDo(t, conn, "UPDATE app.person SET plan = 'long ago' WHERE id = 1")
	f.until(func() bool { return plan() == "long ago" })
	step(0)
	f.caughtUp(conn)
	f.verified()
}
