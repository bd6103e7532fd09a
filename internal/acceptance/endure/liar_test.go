package endure

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// liar is a server that speaks the protocol and breaks it on demand: a statement that holds
// one of its words gets an answer that does not match.
type liar struct {
	listener net.Listener
	running  sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]bool
}

func startLiar() (*liar, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &liar{listener: l, conns: map[net.Conn]bool{}}
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.conns[conn] = true
			s.mu.Unlock()
			s.running.Go(func() {
				s.serve(conn)
				conn.Close()
				s.mu.Lock()
				delete(s.conns, conn)
				s.mu.Unlock()
			})
		}
	})
	return s, nil
}

func (s *liar) dsn() string {
	return fmt.Sprintf("postgres://platform_app@%s/platform?sslmode=disable", s.listener.Addr())
}

func (s *liar) open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

func (s *liar) close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

func (s *liar) serve(conn net.Conn) {
	b := pgproto3.NewBackend(conn, conn)
	start, err := b.ReceiveStartupMessage()
	if err != nil {
		return
	}
	if _, ok := start.(*pgproto3.StartupMessage); !ok {
		return // a cancel request, or a wish for TLS that its DSN does not have
	}
	b.Send(&pgproto3.AuthenticationOk{})
	for name, value := range map[string]string{"server_version": "15.0", "server_encoding": "UTF8", "client_encoding": "UTF8", "DateStyle": "ISO, MDY",
		"IntervalStyle": "postgres", "TimeZone": "UTC", "integer_datetimes": "on", "standard_conforming_strings": "on", "is_superuser": "off", "application_name": "", "session_authorization": "platform_app"} {
		b.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	b.Send(&pgproto3.BackendKeyData{ProcessID: 7, SecretKey: []byte{1, 2, 3, 4}})
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for b.Flush() == nil {
		m, err := b.Receive()
		if err != nil {
			return
		}
		if q, ok := m.(*pgproto3.Query); ok && !s.answer(b, conn, q.String) {
			return
		}
	}
}

// answer tells the statement's own text, and breaks the protocol where it is asked to. False
// ends the connection.
func (s *liar) answer(b *pgproto3.Backend, conn net.Conn, sql string) bool {
	row := func(v string) {
		b.Send(&pgproto3.RowDescription{Fields: []pgproto3.FieldDescription{{Name: []byte("v"), DataTypeOID: 25, DataTypeSize: -1, TypeModifier: -1}}})
		b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte(v)}})
		b.Send(&pgproto3.CommandComplete{CommandTag: []byte("SELECT 1")})
	}
	row(sql)
	switch {
	case strings.Contains(sql, "vanish"):
		b.Send(&pgproto3.DataRow{Values: [][]byte{[]byte("half an answer")}})
		_ = b.Flush() // the connection ends whether or not it arrives
		return false
	case strings.Contains(sql, "twice"):
		b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
		row("an answer that nobody asked for")
	case strings.Contains(sql, "garbage"):
		_ = b.Flush()
		_, _ = conn.Write([]byte("\x00\xff\xff\xff\xff"))
		return true
	case strings.Contains(sql, "length"):
		_ = b.Flush()
		_, _ = conn.Write([]byte{'D', 0, 0, 0, 1})
		return true
	case strings.Contains(sql, "wrong kind"):
		b.Send(&pgproto3.ParseComplete{})
	}
	b.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	return true
}

// TestAServerOutOfStepReachesNoOtherClient: a server whose answers do not match what was asked
// is closed, with the client that it answers; the next client gets another server, and never a
// byte that was said to the one before.
func TestAServerOutOfStepReachesNoOtherClient(t *testing.T) {
	for _, lie := range []string{"twice", "garbage", "length", "wrong kind", "vanish"} {
		t.Run(strings.ReplaceAll(lie, " ", "_"), func(t *testing.T) {
			victim := connect(t, shared.dsn("load", "lying"))
			ctx := bounded(t, 20*time.Second)
			_, first := victim.PgConn().Exec(ctx, "SELECT 'please "+lie+"'").ReadAll()
			second := error(nil)
			if first == nil { // a client may not see it at once
				_, second = victim.PgConn().Exec(ctx, "SELECT 'again'").ReadAll()
			}
			if first == nil && second == nil && lie != "twice" {
				t.Error("the client was not told")
			}
			for i := range 6 {
				other := connect(t, shared.dsn("load", "lying"))
				want := fmt.Sprintf("SELECT 'client %d after %s'", i, "a lie")
				results, err := other.PgConn().Exec(ctx, want).ReadAll()
				if err != nil || len(results) != 1 || len(results[0].Rows) != 1 || string(results[0].Rows[0][0]) != want {
					t.Fatalf("the next client got %v, %v", results, err)
				}
			}
		})
	}
	eventually(t, 10*time.Second, func() error {
		if n := shared.liar.open(); n > 2 {
			return fmt.Errorf("%d connections to a server of which two are allowed", n)
		}
		return nil
	})
}
