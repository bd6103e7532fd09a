package release

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgproto3"
	"golang.org/x/sys/unix"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// raw is a client's socket after login.
func (d *door) raw() net.Conn {
	d.t.Helper()
	h, err := d.must(pgx.QueryExecModeExec).PgConn().Hijack()
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { h.Conn.Close() })
	if err := h.Conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		d.t.Fatal(err)
	}
	return h.Conn
}

// TestStatementOfAHundredMegabytesIsNotHeld: it is passed on and recorded as unparsed.
func TestStatementOfAHundredMegabytesIsNotHeld(t *testing.T) {
	d := openDoor(t, nil)
	conn := d.raw()
	const size = 100 << 20
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	sent := make(chan error, 1)
	go func() { sent <- sendLong(conn, "SELECT length('", size, "') FROM person WHERE id = 1") }()
	all, err := until(t, pgproto3.NewFrontend(conn, conn), 1)
	if err != nil || !strings.Contains(all, fmt.Sprintf("row:%d ", size)) {
		t.Fatalf("%v %.200s", err, all)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.TotalAlloc) - int64(before.TotalAlloc); grown > 32<<20 {
		t.Errorf("%d MiB allocated for a statement that is only passed on", grown>>20)
	}
	if _, err := conn.Write(wire.AppendMessage(nil, wire.Terminate, nil)); err != nil {
		t.Fatal(err)
	}
	if end := d.balance(); end.Outcome != "closed" {
		t.Errorf("outcome %s", end.Outcome)
	}
	releases := d.log.releases()
	if len(releases) != 1 || len(releases[0].Statements) != 1 || releases[0].Statements[0].Kind != "unparsed" {
		t.Errorf("recorded as %+v", releases)
	}
}

// sendLong writes a Query of head, n times 'x', and tail.
func sendLong(w io.Writer, head string, n int, tail string) error {
	msg := binary.BigEndian.AppendUint32([]byte{wire.Query}, uint32(4+len(head)+n+len(tail)+1))
	if _, err := w.Write(append(msg, head...)); err != nil {
		return err
	}
	block := []byte(strings.Repeat("x", 1<<20))
	for range n >> 20 {
		if _, err := w.Write(block); err != nil {
			return err
		}
	}
	_, err := w.Write(append([]byte(tail), 0))
	return err
}

// TestBytesThatAreNoText: what the server says of a NUL, of invalid UTF-8 and of 70,000
// parameters is held and recorded as an error, reads nothing, and the session goes on.
func TestBytesThatAreNoText(t *testing.T) {
	for name, c := range map[string]struct {
		msg     []pgproto3.FrontendMessage
		state   string
		covered bool // what a Parse says reads no row: the session's own permit covers it
	}{
		"a NUL in a statement": {[]pgproto3.FrontendMessage{&pgproto3.Query{String: "SELECT secret\x00 FROM person"}}, "08P01", false},
		"invalid UTF-8":        {[]pgproto3.FrontendMessage{&pgproto3.Query{String: "SELECT secret FROM person WHERE plan = '\xc3\x28'"}}, "22021", false},
		"a NUL in a parameter": {[]pgproto3.FrontendMessage{&pgproto3.Parse{Query: "SELECT secret FROM person WHERE plan <> $1"},
			&pgproto3.Bind{Parameters: [][]byte{[]byte("a\x00b")}}, &pgproto3.Execute{}, &pgproto3.Sync{}}, "22021", false},
		"70,000 parameters": {[]pgproto3.FrontendMessage{&pgproto3.Parse{Query: "SELECT secret FROM person WHERE $70000::int = 1"},
			&pgproto3.Bind{Parameters: make([][]byte, 70000%65536)}, &pgproto3.Execute{}, &pgproto3.Sync{}}, "42P18", true}, // as a client that counts in 16 bits
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := openDoor(t, nil)
			f := d.frontend()
			send(t, f, c.msg...)
			all, err := until(t, f, 1)
			if err != nil || strings.Contains(all, "row:") || !strings.Contains(all, c.state) {
				t.Fatalf("%v %.300s", err, all)
			}
			send(t, f, &pgproto3.Query{String: "SELECT plan FROM person WHERE id = 1"})
			if all, err := until(t, f, 1); err != nil || !strings.Contains(all, "row:plan1") {
				t.Errorf("the session does not go on: %v %.300s", err, all)
			}
			send(t, f, &pgproto3.Terminate{})
			if end := d.balance(); end.Outcome != "closed" {
				t.Errorf("outcome %s", end.Outcome)
			}
			r := d.log.releases()
			if c.covered {
				if len(r) != 1 || r[0].Outcome != "complete" {
					t.Errorf("%d releases, the last one %+v", len(r), r[len(r)-1])
				}
			} else if len(r) != 2 || r[0].Outcome != "error" || r[0].SQLState != c.state || r[0].Rows != 0 {
				t.Errorf("%d releases, the first one %+v", len(r), r[0])
			}
		})
	}
}

// TestClientThatNeverReadsHoldsNoMoreThanItsWindow: a result of a gigabyte stays at the server,
// and all is given back when the client goes.
func TestClientThatNeverReadsHoldsNoMoreThanItsWindow(t *testing.T) {
	limits := Limits{ChunkBytes: 1 << 20, MemoryBytes: 2 << 20, Window: 4}
	d := openDoor(t, func(c *Config) { c.Limits = limits })
	conn := d.raw()
	query := wire.AppendMessage(nil, wire.Query, []byte("SELECT repeat('x', 1000) FROM generate_series(1, 1000000), person WHERE id = 1\x00"))
	if _, err := conn.Write(query); err != nil {
		t.Fatal(err)
	}
	s, socket := d.last()
	var full int64
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		now := socket.written.Load()
		if now > 0 && now == full && len(s.window) == limits.Window {
			break
		}
		full = now
	}
	if len(s.window) != limits.Window || s.mem.used.Load() > limits.MemoryBytes {
		t.Errorf("%d chunks wait, %d bytes in memory", len(s.window), s.mem.used.Load())
	}
	recorded := int64(0)
	for _, r := range d.log.releases() {
		recorded += r.Bytes
	}
	if recorded > full+int64(limits.Window+1)*(limits.ChunkBytes+64<<10) {
		t.Errorf("%d bytes recorded for a client that took %d", recorded, full)
	}
	if err := conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if end := d.balance(); end.Outcome != "disconnected" || s.mem.used.Load() != 0 {
		t.Errorf("outcome %s, %d bytes held", end.Outcome, s.mem.used.Load())
	}
}

// TestSpillFilesNeverHaveAName: a gateway that is killed leaves nothing behind.
func TestSpillFilesNeverHaveAName(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_TMPFILE|unix.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		t.Skipf("this file system has no files without names: %v", err)
	}
	_ = unix.Close(fd)
	watch, err := unix.InotifyInit1(unix.IN_NONBLOCK | unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(watch)
	if _, err := unix.InotifyAddWatch(watch, dir, unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	h := newHeld(&budget{}, new(segmentPool), dir, nil)
	if err := h.add([]byte("rows")); err != nil || h.file == nil {
		t.Fatalf("nothing was spilled: %v", err)
	}
	var out strings.Builder
	if _, err := h.writeTo(&out); err != nil || out.String() != "rows" {
		t.Errorf("read back %q: %v", out.String(), err)
	}
	h.drop()
	if n, err := unix.Read(watch, make([]byte, 4096)); n > 0 || err != unix.EAGAIN {
		t.Errorf("a name was made: %d bytes of events, %v", n, err)
	}
}
