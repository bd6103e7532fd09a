package chaos

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"
)

// disks fills the file systems under the gateway, and gives them room again: an answer that
// cannot be held, and a record that cannot be kept, let nothing out and say so.
func disks(t *testing.T, e *enclave, short bool) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var visits []*visit
	t.Run("spill", func(t *testing.T) { visits = append(visits, e.fullSpill(ctx, t)...) })
	t.Run("log", func(t *testing.T) { visits = append(visits, e.fullLog(ctx, t, short)...) })
	if len(visits) > 0 {
		e.settled(ctx, t, visits)
	}
	e.nothingHeld(t)
}

// fullSpill puts a file system of 64 KiB where the gateway spills. It holds 300 kB in memory.
func (e *enclave) fullSpill(ctx context.Context, t *testing.T) []*visit {
	at := e.Path("spill")
	if err := unix.Mount("tmpfs", at, "tmpfs", 0, "size=64k"); err != nil {
		t.Skipf("mounting a small file system takes privileges: %v", err)
	}
	mounted := true
	defer func() {
		if mounted {
			_ = unix.Unmount(at, unix.MNT_DETACH) // the test has failed already
		}
	}()
	c := e.dial(ctx, analyst("analytics", 2), "analytics")
	if !c.open {
		t.Fatal(c.err)
	}
	// One message larger than memory: nothing of it can be released before all of it is held.
	err := c.query(ctx, "SELECT repeat('x', 2000000) FROM app.topics LIMIT 1", nil)
	c.drain()
	c.vanish(err)
	if c.state != "53100" || c.rows > 0 || c.after > slack {
		t.Errorf("with a full spill disk: %v, %d bytes", err, c.after)
	}
	if left, err := os.ReadDir(at); err != nil || len(left) > 0 {
		t.Errorf("left on the spill disk: %v, %v", left, err)
	}
	if err := unix.Unmount(at, 0); err != nil { // busy while a file is open there: none may be
		t.Fatal(err)
	}
	mounted = false
	return []*visit{c.visit, e.recovers(ctx, t)}
}

// fullLog makes the file system under the access log as small as what is on it.
func (e *enclave) fullLog(ctx context.Context, t *testing.T, short bool) []*visit {
	if e.logDisk == "" {
		t.Skip("mounting a file system for the log takes privileges")
	}
	c := e.dial(ctx, analyst("analytics", 3), "analytics")
	if !c.open {
		t.Fatal(c.err)
	}
	e.resizeLog(t, true)
	var err error
	answers := 0
	for deadline := time.Now().Add(patience); err == nil && time.Now().Before(deadline); answers++ {
		err = c.query(ctx, small[1], nil) // what room is left takes some records yet
	}
	c.drain()
	c.vanish(err)
	if c.state != "57P03" {
		t.Errorf("with a full log disk: %v after %d answers", err, answers)
	}
	if !short { // it takes the gateway's whole patience
		if late := e.dial(ctx, analyst("analytics", 4), "analytics"); late.open {
			t.Error("a session was opened that no record tells of")
			late.vanish(nil)
		}
	}
	if err := e.serve(ctx); err != nil {
		t.Errorf("the service does not go on: %v", err)
	}
	e.resizeLog(t, false)
	began := time.Now()
	again := e.recovers(ctx, t)
	t.Logf("full after %d more answers; %.1f s after there was room releases go on", answers, time.Since(began).Seconds())
	return []*visit{again} // the end of the other one could not be recorded: its bound is looked at above
}

// resizeLog leaves the log's disk no room, or plenty.
func (e *enclave) resizeLog(t *testing.T, full bool) {
	t.Helper()
	size := "256m"
	if full {
		var st unix.Statfs_t
		if err := unix.Statfs(e.logDisk, &st); err != nil {
			t.Fatal(err)
		}
		size = fmt.Sprint((st.Blocks - st.Bfree) * uint64(st.Bsize))
	}
	if err := unix.Mount("tmpfs", e.logDisk, "tmpfs", unix.MS_REMOUNT, "size="+size); err != nil {
		t.Fatal(err)
	}
}

// serve reads as the application in the region.
func (e *enclave) serve(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgx.Connect(ctx, e.DSN("app", "platform"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var one int
	return conn.QueryRow(ctx, "SELECT 1").Scan(&one)
}
