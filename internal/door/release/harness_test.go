package release

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	trefoil "github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/door/statement"
	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/testkit/pgtest"
)

func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }

// door is a gateway without authentication: it accepts, logs in to a real PostgreSQL as a
// reader, and gives the session to this package.
type door struct {
	t      testing.TB
	log    *fakeLog
	admin  string // superuser's DSN of the database
	dsn    string // the reader's
	listen net.Listener
	config func(*Config)
	wg     sync.WaitGroup

	mu       sync.Mutex
	sessions []*Session
	sockets  []*countedConn
	errs     []error
}

// countedConn counts what the client's socket takes.
type countedConn struct {
	net.Conn
	written atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.written.Add(int64(n))
	return n, err
}

var tables = []string{"public.person", "public.events"}

// openDoor makes a database with a small dataset and a door before it.
func openDoor(t testing.TB, config func(*Config)) *door {
	t.Helper()
	c := pgtest.Start(t)
	d := &door{t: t, log: newFakeLog(t), admin: c.Database(t), config: config}
	cfg, err := pgx.ParseConfig(d.admin)
	if err != nil {
		t.Fatal(err)
	}
	reader := "reader_" + cfg.Database // of its own: hostile statements may change it
	c.Exec(t, d.admin,
		"CREATE TABLE person (id bigint PRIMARY KEY, plan text, secret text)",
		"INSERT INTO person SELECT i, 'plan' || i % 3, 'secret-' || i FROM generate_series(1, 1000) i",
		"CREATE TABLE events (id bigint, at timestamptz, kind text)",
		"CREATE ROLE "+reader+" LOGIN PASSWORD 'reader'",
		"GRANT SELECT ON person, events TO "+reader,
	)
	d.dsn = c.SocketDSN(reader, "reader", cfg.Database)
	d.listen, err = net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.wg.Go(d.accept)
	t.Cleanup(func() {
		d.listen.Close()
		for _, s := range d.all() {
			s.Stop(Drained)
		}
		d.wg.Wait()
	})
	return d
}

func (d *door) all() []*Session {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]*Session(nil), d.sessions...)
}

func (d *door) accept() {
	for {
		conn, err := d.listen.Accept()
		if err != nil {
			return
		}
		d.wg.Go(func() {
			if err := d.session(conn); err != nil {
				d.mu.Lock()
				d.errs = append(d.errs, err)
				d.mu.Unlock()
			}
		})
	}
}

func (d *door) session(conn net.Conn) error {
	if err := startup(conn); err != nil {
		conn.Close()
		return nil
	}
	ctx := context.Background()
	pc, err := pgconn.Connect(ctx, d.dsn)
	if err != nil {
		conn.Close()
		d.t.Errorf("log in to the server: %v", err)
		return err
	}
	h, err := pc.Hijack()
	if err != nil {
		return err
	}
	client := &countedConn{Conn: conn}
	c := Config{
		Client: client, Server: h.Conn, Origin: testOrigin, Access: testAccess(), Parameters: h.ParameterStatuses,
		KeyData:  wire.AppendBackendKeyData(nil, 1, []byte("abcd")),
		Notice:   wire.AppendNoticeResponse(nil, wire.ErrorFields{Severity: wire.Notice, SQLState: "00000", Message: "dataset test"}),
		Recorder: d.log, Permitter: d.log, Trust: d.log.trust, Classifier: statement.NewClassifier(tables),
		Key: func(fp string) string { return fp }, SpillDir: d.t.TempDir(),
		Cancel: func(ctx context.Context) error { return cancelUpstream(ctx, h) },
	}
	if d.config != nil {
		d.config(&c)
	}
	s, err := New(c)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.sessions = append(d.sessions, s)
	d.sockets = append(d.sockets, client)
	d.mu.Unlock()
	return s.Run(ctx)
}

func cancelUpstream(ctx context.Context, h *pgconn.HijackedConn) error {
	addr := h.Conn.RemoteAddr()
	conn, err := (&net.Dialer{}).DialContext(ctx, addr.Network(), addr.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	msg := binary.BigEndian.AppendUint32(nil, uint32(12+len(h.SecretKey)))
	msg = binary.BigEndian.AppendUint32(msg, 80877102)
	msg = append(binary.BigEndian.AppendUint32(msg, h.PID), h.SecretKey...)
	if _, err := conn.Write(msg); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// startup reads the client's start-up and refuses TLS.
func startup(conn net.Conn) error {
	for {
		head := make([]byte, 4)
		if _, err := io.ReadFull(conn, head); err != nil {
			return err
		}
		body := make([]byte, binary.BigEndian.Uint32(head)-4)
		if _, err := io.ReadFull(conn, body); err != nil {
			return err
		}
		switch binary.BigEndian.Uint32(body) {
		case 80877103, 80877104:
			if _, err := conn.Write([]byte("N")); err != nil { // before the count begins
				return err
			}
		case 80877102:
			return io.EOF
		default:
			return nil
		}
	}
}

func testAccess() trefoil.Access {
	return trefoil.Access{
		Dataset: "test", Exporter: trefoil.Party{Country: "IE", Entity: "e", Role: "controller"},
		Importer: trefoil.Party{Country: "CN", Entity: "i", Role: "processor"}, Forms: map[string][]string{},
		Location: []trefoil.Place{}, Principal: "p", Purpose: "q", Session: "00112233445566778899aabbccddeeff",
	}
}

func (d *door) addr() string { return d.listen.Addr().String() }

// connect opens a pgx connection through the door.
func (d *door) connect(mode pgx.QueryExecMode) (*pgx.Conn, error) {
	host, port, _ := strings.Cut(d.addr(), ":")
	cfg, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%s user=x dbname=test sslmode=disable", host, port))
	if err != nil {
		return nil, err
	}
	cfg.DefaultQueryExecMode = mode
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return pgx.ConnectConfig(ctx, cfg)
}

func (d *door) must(mode pgx.QueryExecMode) *pgx.Conn {
	d.t.Helper()
	conn, err := d.connect(mode)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		conn.Close(ctx)
	})
	return conn
}

// last is the newest session and its socket.
func (d *door) last() (*Session, *countedConn) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.sessions[len(d.sessions)-1], d.sockets[len(d.sockets)-1]
}

// balance waits for the session's end and checks the books to the byte.
func (d *door) balance() *trefoil.SessionBody {
	d.t.Helper()
	end := d.log.end(d.t)
	_, socket := d.last()
	if got, want := socket.written.Load(), end.Released+end.Covered+end.Fixed; got != want {
		d.t.Errorf("the client's socket took %d bytes; released %d + covered %d + fixed %d = %d", got, end.Released, end.Covered, end.Fixed, want)
	}
	releases, allowance := d.log.permitted()
	if end.Released > releases {
		d.t.Errorf("released %d bytes, permitted records say %d", end.Released, releases)
	}
	if end.Covered > allowance || end.Covered > end.Allowance {
		d.t.Errorf("covered %d bytes, the permitted allowance is %d", end.Covered, allowance)
	}
	return end
}

func (d *door) close(conn *pgx.Conn) *trefoil.SessionBody {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn.Close(ctx)
	return d.balance()
}
