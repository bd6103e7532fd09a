package audit

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"log/slog"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/trefoil-eu/trefoil"
	"github.com/trefoil-eu/trefoil/internal/proof/valve/kept"
)

// tap is a gateway's connection whose bytes a valve keeps.
type tap struct {
	net.Conn
	file *kept.File
	t    testing.TB
}

func (c *tap) Write(b []byte) (int, error) {
	if err := c.file.Down(b); err != nil {
		c.t.Error(err)
	}
	return c.Conn.Write(b)
}

func (c *tap) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err := c.file.Up(b[:n]); err != nil {
		c.t.Error(err)
	}
	return n, err
}

// taken is a session as it was kept, with its secrets.
type taken struct {
	t     testing.TB
	path  string
	lines []byte
}

// certificate is the gateway's.
func certificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"gateway"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, x, x, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// take keeps one connection: client speaks to serve over TLS; serve's writes are what leaves.
func take(t testing.TB, client func(net.Conn) error, serve func(*tls.Conn) error, change ...func(*tls.Config)) *taken {
	t.Helper()
	store, err := kept.Open(t.TempDir(), time.Hour, time.Now, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	file, err := store.Begin([16]byte{1})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err == nil {
			err = client(c)
			c.Close()
		}
		done <- err
	}()
	raw, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	through := &tap{raw, file, t}
	var ask [8]byte
	if _, err := io.ReadFull(through, ask[:]); err != nil {
		t.Fatal(err)
	}
	if _, err := through.Write([]byte("S")); err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	cfg := &tls.Config{Certificates: []tls.Certificate{certificate(t)}, MinVersion: tls.VersionTLS13, KeyLogWriter: &lines,
		DynamicRecordSizingDisabled: true}
	for _, f := range change {
		f(cfg)
	}
	c := tls.Server(through, cfg)
	if err := serve(c); err != nil {
		t.Fatalf("serve: %v", err)
	}
	c.Close()
	if err := <-done; err != nil {
		t.Fatalf("client: %v", err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	path, err := kept.Find(store.Directory(), "", "01000000000000000000000000000000")
	if err != nil {
		t.Fatal(err)
	}
	return &taken{t, path, lines.Bytes()}
}

// reads is a Go client that asks for TLS and reads to the end.
func reads(change ...func(*tls.Config)) func(net.Conn) error {
	return func(c net.Conn) error {
		if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
			return err
		}
		var yes [1]byte
		if _, err := io.ReadFull(c, yes[:]); err != nil {
			return err
		}
		cfg := &tls.Config{InsecureSkipVerify: true} //nolint:gosec // the test's own certificate
		for _, f := range change {
			f(cfg)
		}
		_, err := io.Copy(io.Discard, tls.Client(c, cfg))
		return err
	}
}

// open opens what was taken.
func (k *taken) open() (*Stream, error) {
	k.t.Helper()
	c, err := kept.Read(k.path)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() { c.Close() })
	s, err := ParseSecrets(k.lines)
	if err != nil {
		k.t.Fatal(err)
	}
	return OpenStream(c, c.Size, c.Up, s)
}

func (k *taken) opened() *Stream {
	k.t.Helper()
	x, err := k.open()
	if err != nil {
		k.t.Fatal(err)
	}
	return x
}

// message is one protocol message of n bytes.
func message(typ byte, n int) []byte {
	b := make([]byte, n)
	b[0] = typ
	binary.BigEndian.PutUint32(b[1:], uint32(n-1))
	_, _ = rand.Read(b[5:])
	return b
}

// script is what a session sends, and what its records say of it.
type script struct {
	sent   [][]byte // each a write of the gateway's
	claims Claims
}

func newScript() *script {
	return &script{claims: Claims{Session: "s", Started: true, Allowance: 1 << 20,
		End: &trefoil.SessionBody{Event: "end", Allowance: 1 << 20}}}
}

// fixed and covered send bytes that belong to no release record.
func (s *script) fixed(b []byte)   { s.sent = append(s.sent, b); s.claims.End.Fixed += int64(len(b)) }
func (s *script) covered(b []byte) { s.sent = append(s.sent, b); s.claims.End.Covered += int64(len(b)) }

// chunk records b, and sends it.
func (s *script) chunk(b []byte) { s.sent = append(s.sent, b); s.record(b) }

func (s *script) record(b []byte) {
	k := Chunk{Index: uint64(100 + len(s.claims.Chunks)), Number: int64(len(s.claims.Chunks)), Bytes: int64(len(b)), Salt: make([]byte, saltSize)}
	_, _ = rand.Read(k.Salt)
	sum := sha256.Sum256(append(bytes.Clone(k.Salt), b...))
	k.Result = sum[:]
	s.claims.End.Released += k.Bytes
	k.Cumulative = s.claims.End.Released
	s.claims.Chunks = append(s.claims.Chunks, k)
}

// ordinary is a log-in, catalog reads, three releases of several sizes, and a goodbye.
func ordinary() *script {
	s := newScript()
	s.fixed(message('R', 9))
	s.covered(message('S', 300))
	s.fixed(message('Z', 6))
	s.chunk(append(message('T', 60), message('D', 100)...))
	for range 30 {
		s.covered(message('I', 11))
	}
	s.chunk(bytes.Join([][]byte{message('T', 60), message('D', 700_000), message('Z', 6)}, nil))
	s.chunk(message('D', 20_000))
	s.fixed(message('E', 50))
	return s
}

func (s *script) play(t testing.TB) *taken {
	t.Helper()
	return take(t, reads(), func(c *tls.Conn) error {
		for _, b := range s.sent {
			if _, err := c.Write(b); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *script) audit(t testing.TB) *Report {
	t.Helper()
	r, err := Compare(s.play(t).opened(), &s.claims)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
