package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// idle measures the memory of idle clients, each with a server session of its own, after each
// has moved a megabyte. The servers are played by the bench: ten thousand of PostgreSQL's
// would need more memory than machines have.
func (b *bench) idle(ctx context.Context) error {
	n := min(10000, (raise()-600)/2) // each of three processes holds two sockets a client
	if b.quick {
		n = min(n, 1500)
	}
	stage := &stage{}
	if err := stage.listen(); err != nil {
		return err
	}
	defer stage.close()
	for _, secure := range []bool{false, true} {
		name := "idle_plain"
		if secure {
			name = "idle_tls"
		}
		var got [2]float64
		for k := range 2 {
			p, err := b.before(ctx, stage.port, fmt.Sprint(name, k), k == 0)
			if err != nil {
				return err
			}
			got[k], err = b.hold(ctx, p, n, secure)
			if err := errors.Join(err, p.stop()); err != nil {
				return err
			}
			b.proxies = b.proxies[:len(b.proxies)-1]
		}
		fmt.Printf("figure %s %.2f KiB peer %s %.2f ratio %.2f clients %d\n", name, got[0]/1024, b.bouncer.name, got[1]/1024, got[0]/got[1], n)
	}
	return nil
}

// before starts a fresh proxy before the stage.
func (b *bench) before(ctx context.Context, port int, name string, ours bool) (*proxy, error) {
	if !ours {
		return b.pgbouncer(ctx, name, "session", port, 20000)
	}
	old, log := b.gateway, b.log
	defer func() { b.gateway, b.log = old, log }()
	fresh := *b
	fresh.summary = time.Second // what a minute of idleness does
	if err := fresh.gatewayBefore(ctx, fmt.Sprint("127.0.0.1:", port), name); err != nil {
		return nil, err
	}
	b.proxies = append(b.proxies, fresh.gateway)
	return fresh.gateway, fresh.log.close()
}

// hold opens n clients, has each move a megabyte, and returns the proxy's memory for each.
func (b *bench) hold(ctx context.Context, p *proxy, n int, secure bool) (float64, error) {
	if secure && n > 2000 { // a handshake costs a millisecond on each side
		n = 2000
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	open := func(count int) error {
		for range count {
			c, err := idler(ctx, p, secure)
			if err != nil {
				return err
			}
			conns = append(conns, c)
		}
		return nil
	}
	if err := open(n / 5); err != nil { // what is made once
		return 0, err
	}
	before, err := p.memory()
	if err != nil {
		return 0, err
	}
	if err := open(n); err != nil {
		return 0, err
	}
	time.Sleep(3 * time.Second)
	after, err := p.memory()
	return float64(after-before) / float64(n), err
}

// memory is what a proxy holds once it has settled.
func (p *proxy) memory() (int64, error) {
	if p.in != nil {
		if err := p.ask("collect"); err != nil {
			return 0, err
		}
		if dir := os.Getenv("HEAP"); dir != "" {
			if err := p.ask("heap " + filepath.Join(dir, fmt.Sprint(p.name, time.Now().Unix()))); err != nil {
				return 0, err
			}
		}
	}
	time.Sleep(200 * time.Millisecond)
	return resident(p.pid)
}

// idler is one client that has read a megabyte.
func idler(ctx context.Context, p *proxy, secure bool) (net.Conn, error) {
	cfg, err := pgconn.ParseConfig(p.dsn())
	if err != nil {
		return nil, err
	}
	if secure {
		cfg.TLSConfig = &tls.Config{InsecureSkipVerify: true} // of the bench's own authority, on loopback
	}
	c, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := c.SyncConn(ctx); err != nil { // on a busy machine it may be reading ahead
		return nil, err
	}
	h, err := c.Hijack()
	if err != nil {
		return nil, err
	}
	return h.Conn, exchange(h.Conn, "megabyte", nil)
}

// stage plays PostgreSQL: it lets everybody in and answers every query with a megabyte.
type stage struct {
	l    net.Listener
	port int
	wg   sync.WaitGroup

	megabyte []byte // the answer to every query
}

func (s *stage) listen() (err error) {
	row := message('D', append(binary.BigEndian.AppendUint32([]byte{0, 1}, 1000), make([]byte, 1000)...))
	s.megabyte = append(append(bytes.Repeat(row, 1000), message('C', []byte("SELECT 1000\x00"))...), message('Z', []byte{'I'})...)
	if s.port, err = postgres.FreePort("127.0.0.1"); err != nil {
		return err
	}
	if s.l, err = net.Listen("tcp", fmt.Sprint("127.0.0.1:", s.port)); err != nil {
		return err
	}
	s.wg.Go(func() {
		for {
			c, err := s.l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { _ = s.play(c) })
		}
	})
	return nil
}

func (s *stage) close() {
	_ = s.l.Close()
	s.wg.Wait()
}

func (s *stage) play(c net.Conn) error {
	defer c.Close()
	var head [5]byte
	if _, err := io.ReadFull(c, head[:4]); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[:]))-4); err != nil {
		return err
	}
	hello := message('R', []byte{0, 0, 0, 0})
	for _, p := range [][2]string{{"server_version", "15.0"}, {"client_encoding", "UTF8"}, {"server_encoding", "UTF8"}, {"DateStyle", "ISO"},
		{"TimeZone", "UTC"}, {"standard_conforming_strings", "on"}, {"integer_datetimes", "on"}, {"IntervalStyle", "postgres"}} {
		hello = append(hello, message('S', []byte(p[0]+"\x00"+p[1]+"\x00"))...)
	}
	hello = append(hello, message('K', make([]byte, 8))...)
	ready := message('Z', []byte{'I'})
	if _, err := c.Write(append(hello, ready...)); err != nil {
		return err
	}
	for {
		if _, err := io.ReadFull(c, head[:]); err != nil {
			return err
		}
		if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[1:]))-4); err != nil {
			return err
		}
		if head[0] != 'Q' {
			continue
		}
		if _, err := c.Write(s.megabyte); err != nil {
			return err
		}
	}
}
