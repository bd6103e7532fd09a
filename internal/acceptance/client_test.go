package acceptance

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
)

// recorded keeps every byte that a session receives, after TLS.
type recorded struct {
	net.Conn
	buf bytes.Buffer
}

func (r *recorded) Read(b []byte) (int, error) {
	n, err := r.Conn.Read(b)
	r.buf.Write(b[:n])
	return n, err
}

// clientTLS trusts the gateway's authority alone.
func clientTLS() (*tls.Config, error) {
	u, err := url.Parse(shared.env["ANALYST_CN_DSN"])
	if err != nil {
		return nil, err
	}
	pem, err := os.ReadFile(u.Query().Get("sslrootcert"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, errors.New("no certificate")
	}
	return &tls.Config{RootCAs: pool, ServerName: "127.0.0.1", MinVersion: tls.VersionTLS12}, nil
}

// frontend speaks the protocol by hand on a recorded session.
type frontend struct {
	*pgproto3.Frontend
	errors int
	rows   int
}

// open logs in and gives the session with all it received so far.
func open(ctx context.Context, dsn string) (*recorded, *frontend, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, nil, errors.New("the DSN is no URI")
	}
	u.RawQuery = "sslmode=disable" // TLS is below
	config, err := pgconn.ParseConfig(u.String())
	if err != nil {
		return nil, nil, err
	}
	security, err := clientTLS()
	if err != nil {
		return nil, nil, err
	}
	r := &recorded{}
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		raw, err := (&net.Dialer{}).DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		var answer [1]byte
		if _, err = raw.Write(wire.AppendSSLRequest(nil)); err == nil {
			_, err = raw.Read(answer[:])
		}
		if err != nil || answer[0] != 'S' {
			raw.Close()
			return nil, fmt.Errorf("no TLS: %q %w", answer, err)
		}
		r.Conn = tls.Client(raw, security)
		return r, nil
	}
	conn, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return r, nil, err
	}
	h, err := conn.Hijack()
	if err != nil {
		return r, nil, err
	}
	return r, &frontend{Frontend: h.Frontend}, nil
}

// record is open for a test.
func record(t *testing.T, dsn string) (*recorded, *frontend) {
	t.Helper()
	r, f, err := open(bounded(t), dsn)
	if err != nil {
		t.Fatalf("connect: %v", err)
	}
	if err := r.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return r, f
}

// simple sends a Query and reads its answer. An error of the server is an answer.
func (f *frontend) simple(sql string) error {
	f.Send(&pgproto3.Query{String: sql})
	return f.answer(false)
}

// extended sends Parse, Bind, Describe, Execute and Sync, with binary results every other time.
func (f *frontend) extended(sql string, binary bool) error {
	formats := []int16{pgproto3.TextFormat}
	if binary {
		formats[0] = pgproto3.BinaryFormat
	}
	f.Send(&pgproto3.Parse{Query: sql})
	f.Send(&pgproto3.Bind{ResultFormatCodes: formats})
	f.Send(&pgproto3.Describe{ObjectType: 'P'})
	f.Send(&pgproto3.Execute{})
	f.Send(&pgproto3.Sync{})
	return f.answer(true)
}

// begin opens a transaction and a portal in it, and reads its first rows.
func (f *frontend) begin(sql string, rows uint32) error {
	if err := f.simple("BEGIN"); err != nil {
		return err
	}
	f.Send(&pgproto3.Parse{Query: sql})
	f.Send(&pgproto3.Bind{DestinationPortal: "open"})
	f.Send(&pgproto3.Execute{Portal: "open", MaxRows: rows})
	f.Send(&pgproto3.Sync{})
	return f.answer(true)
}

// more reads the portal's other rows, and commits.
func (f *frontend) more() error {
	f.Send(&pgproto3.Execute{Portal: "open"})
	f.Send(&pgproto3.Sync{})
	if err := f.answer(true); err != nil {
		return err
	}
	return f.simple("COMMIT")
}

// answer reads up to ReadyForQuery. A server that wants COPY data is told that there is none.
func (f *frontend) answer(extended bool) error {
	if err := f.Flush(); err != nil {
		return err
	}
	for {
		m, err := f.Receive()
		if err != nil {
			return err
		}
		switch m.(type) {
		case *pgproto3.ErrorResponse:
			f.errors++
		case *pgproto3.DataRow, *pgproto3.CopyData:
			f.rows++
		case *pgproto3.CopyInResponse:
			f.Send(&pgproto3.CopyFail{Message: "no"})
			if extended {
				f.Send(&pgproto3.Sync{})
			}
			if err := f.Flush(); err != nil {
				return err
			}
		case *pgproto3.ReadyForQuery:
			return nil
		}
	}
}

// end terminates the session as a client should, and reads what the server still says.
func (f *frontend) end(r *recorded) {
	f.Send(&pgproto3.Terminate{})
	if f.Flush() == nil {
		var rest [4096]byte
		for {
			if _, err := r.Read(rest[:]); err != nil {
				break
			}
		}
	}
	r.Close()
}
