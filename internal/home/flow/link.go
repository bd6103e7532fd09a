package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// settings print values in the stream as they are printed to the owner's own sessions.
var settings = map[string]string{"replication": "database", "application_name": "trefoil flow", "client_encoding": "UTF8",
	"datestyle": "ISO, YMD", "timezone": "UTC", "intervalstyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex",
	"xmlbinary": "base64", "search_path": ""}

// link is the connection that reads one slot. Two goroutines of its own serve it: one
// receives, and waits while its stream holds as much as it may; the other speaks, so that
// the source hears of us whatever the first is doing.
type link struct {
	conn  net.Conn
	front *pgproto3.Frontend
	to    sink
	quiet time.Duration // a source that says nothing for so long, though asked, is gone
	done  sync.WaitGroup
	over  chan struct{}
	once  sync.Once
	poke  chan struct{} // a status is due now
	ask   atomic.Bool   // and an answer is wanted
	heard atomic.Int64  // when the source last said something, Unix nanoseconds
}

// sink takes what a link receives. Its methods are called by the link's goroutines.
type sink interface {
	message(data []byte) error
	advance(to LSN)                    // nothing more committed before it
	fail(err error)                    // nothing more comes
	positions() (reached, durable LSN) // what the source is told
	full() bool                        // receiving waits, for reasons of ours
}

// statusEvery is how often the source hears of us without being asked.
const statusEvery = time.Second

func connect(ctx context.Context, dsn string) (*pgconn.PgConn, error) {
	cfg, err := pgconn.ParseConfig(dsn)
	if err != nil {
		return nil, errors.New("read connection string: it is not one") // pgx's error may repeat a password
	}
	for k, v := range settings {
		cfg.RuntimeParams[k] = v
	}
	postgres.Reach(cfg)
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, safe(err)
	}
	return conn, nil
}

// safe keeps of an error of PostgreSQL what cannot be a value.
func safe(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	if strings.HasPrefix(pg.Code, "22") || strings.HasPrefix(pg.Code, "23") {
		return fmt.Errorf("SQLSTATE %s", pg.Code)
	}
	return fmt.Errorf("%s (SQLSTATE %s)", pg.Message, pg.Code)
}

// InUse is what PostgreSQL says of a slot that somebody reads.
const InUse = "55006"

// open starts to read a slot, also one that a process which has just ended still seems to read.
func open(ctx context.Context, c Config, to sink) (*link, error) {
	for try := 0; ; try++ {
		l, err := openOnce(ctx, c, to)
		if err == nil || try >= slotTries || !strings.Contains(err.Error(), InUse) {
			return l, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(slotPause):
		}
	}
}

func openOnce(ctx context.Context, c Config, to sink) (*link, error) {
	conn, err := connect(ctx, c.DSN)
	if err != nil {
		return nil, err
	}
	if err := start(ctx, conn, c); err != nil {
		quit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = conn.Close(quit) // the first error tells
		return nil, err
	}
	hj, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("start replication: %w", err)
	}
	l := &link{conn: hj.Conn, front: hj.Frontend, to: to, quiet: c.Silence, over: make(chan struct{}), poke: make(chan struct{}, 1)}
	l.heard.Store(time.Now().UnixNano())
	return l, nil
}

// run starts the goroutines of the link; close waits for them.
func (l *link) run() {
	l.done.Add(2)
	go func() { defer l.done.Done(); l.receive() }()
	go func() { defer l.done.Done(); l.speak() }()
}

func start(ctx context.Context, conn *pgconn.PgConn, c Config) error {
	sql := fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (proto_version '2', publication_names '%s')", quote(c.Slot), c.Start,
		strings.ReplaceAll(quote(c.Publication), "'", "''"))
	conn.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	for {
		m, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return fmt.Errorf("start replication: %w", safe(err))
		}
		switch m := m.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("start replication: %w", safe(pgconn.ErrorResponseToPgError(m)))
		}
	}
}

func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// close ends both goroutines and waits for them. Positions are confirmed by their owner's
// store, not by a farewell.
func (l *link) close() {
	l.end()
	l.done.Wait()
}

func (l *link) end() {
	l.once.Do(func() {
		close(l.over)
		_ = l.conn.Close() // nothing is left to lose
	})
}

// The receiver lets messages gather once it has read all that came: the source sends each change
// by itself, and to wake for each costs more than the change. It sleeps the shorter the more
// there were: a local socket holds fewer than 300 small ones, and then the source waits for us.
const (
	napMost  = 3 * time.Millisecond
	napLeast = 300 * time.Microsecond
	many     = 100 // messages at a time
)

func (l *link) receive() {
	nap, came := napMost, 0
	for {
		if l.front.ReadBufferLen() == 0 && drained(l.conn) {
			switch {
			case came > many:
				nap = max(nap/2, napLeast)
			case came < many/4:
				nap = min(nap*2, napMost)
			}
			came = 0
			select {
			case <-time.After(nap):
			case <-l.over:
				return
			}
		}
		came++
		err := l.step()
		select {
		case <-l.over:
			return
		default:
		}
		if err != nil {
			l.to.fail(fmt.Errorf("read the change stream: %w", err))
			l.end()
			return
		}
	}
}

// drained says whether nothing waits to be read; false where that cannot be seen (TLS).
func drained(c net.Conn) bool {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	empty := false
	var one [1]byte
	err = raw.Read(func(fd uintptr) bool {
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		empty = err == syscall.EAGAIN
		return true
	})
	return err == nil && empty
}

func (l *link) step() error {
	m, err := l.front.Receive()
	if err != nil {
		return err
	}
	l.heard.Store(time.Now().UnixNano())
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return l.data(m.Data)
	case *pgproto3.ErrorResponse:
		return safe(pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyDone, *pgproto3.CommandComplete:
		return errors.New("the source ended the stream")
	}
	return nil
}

func (l *link) data(b []byte) error {
	if len(b) == 0 {
		return ErrMalformed
	}
	r := &reader{rest: b[1:]}
	switch b[0] {
	case 'k':
		end := r.lsn()
		r.uint64()
		answer := r.byte() == 1
		if r.bad {
			return ErrMalformed
		}
		l.to.advance(end)
		if answer {
			l.status(false)
		}
		return nil
	case 'w':
		r.take(24)
		if r.bad {
			return ErrMalformed
		}
		return l.to.message(r.rest)
	}
	return fmt.Errorf("%w: unknown frame", ErrMalformed)
}

// status makes the other goroutine speak soon; ask: and want an answer.
func (l *link) status(ask bool) {
	if ask {
		l.ask.Store(true)
	}
	select {
	case l.poke <- struct{}{}:
	default: // it is about to
	}
}

func (l *link) speak() {
	tick := time.NewTicker(min(statusEvery, l.quiet/10))
	defer tick.Stop()
	for {
		select {
		case <-l.poke:
		case <-tick.C:
		case <-l.over:
			return
		}
		silent := time.Since(time.Unix(0, l.heard.Load()))
		if silent > l.quiet && !l.to.full() { // a peer that vanished closes no connection
			l.to.fail(fmt.Errorf("read the change stream: the source has said nothing for %s", silent.Round(time.Second)))
			l.end()
			return
		}
		if err := l.say(l.ask.Swap(false) || silent > l.quiet/3); err != nil {
			select {
			case <-l.over:
			default:
				l.to.fail(fmt.Errorf("read the change stream: %w", err))
				l.end()
			}
			return
		}
	}
}

func (l *link) say(ask bool) error {
	reached, durable := l.to.positions()
	b := []byte{'d', 0, 0, 0, 4 + 34, 'r'}
	for _, p := range []LSN{max(reached, durable), durable, durable} { // written, flushed, applied
		b = binary.BigEndian.AppendUint64(b, uint64(p))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(epoch).Microseconds()))
	reply := byte(0)
	if ask {
		reply = 1
	}
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.quiet)); err != nil {
		return err
	}
	_, err := l.conn.Write(append(b, reply))
	return err
}

// epoch is where PostgreSQL's clock begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
