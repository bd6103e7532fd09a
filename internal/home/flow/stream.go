package flow

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/trefoil-eu/trefoil/internal/home/postgres"
)

// ErrTooMuch says that more changed than may be held: building again costs less.
var ErrTooMuch = errors.New("more rows changed than may be held")

// Config says what to read.
type Config struct {
	DSN         string
	Slot        string
	Publication string
	Start       LSN                 // where the owner's durable state ends
	Keys        map[string][]string // schema.table → its key columns; other tables are passed over
	MaxBytes    int64               // of keys held; default 256 MiB
	Silence     time.Duration       // a source that says nothing for so long, though asked, is gone; default 90 s
}

// Touch says how a row was touched.
type Touch uint8

// Touches of one row may add up.
const (
	Inserted Touch = 1 << iota
	Updated
	Deleted
)

// Batch is what a set of whole transactions touched.
type Batch struct {
	Keys      map[string]map[string]Touch // table → key (SplitKey) → how
	Truncated map[string]bool
	Count     int // transactions
}

// SplitKey gives the values of a key, in the order of Config.Keys, as the source prints them.
func SplitKey(k string) []string { return strings.Split(k, "\x00") }

// JoinKey makes a key of values. PostgreSQL's texts hold no zero byte.
func JoinKey(values []string) string { return strings.Join(values, "\x00") }

// transaction is one committed transaction that has not been taken.
type transaction struct {
	xid       uint32
	commit    LSN
	rows      []row
	truncated []string
	bytes     int64
}

type row struct {
	table string
	key   string
	touch Touch
}

// Stream reads one slot. One goroutine of its own receives; everything else may be called
// from another.
type Stream struct {
	cfg    Config
	conn   *pgconn.PgConn
	cancel context.CancelFunc
	done   chan struct{}
	wake   chan struct{} // something happened; one waiter

	mu      sync.Mutex
	txs     []*transaction
	held    int64
	reached LSN  // everything that committed before it is in txs, or was taken
	durable LSN  // 0 until the owner says: its first word may be of less than where it starts
	ask     bool // an answer of the source is wanted now
	err     error

	decoder   Decoder
	relations map[uint32]*followed
	current   *transaction
	lastSent  time.Time
	lastHeard time.Time
}

// followed is a relation of the stream; nil columns: it is passed over.
type followed struct {
	name    string
	columns []int
}

// settings print keys in the stream as they are printed to the owner's own sessions.
var settings = map[string]string{"replication": "database", "application_name": "trefoil flow", "client_encoding": "UTF8",
	"datestyle": "ISO, YMD", "timezone": "UTC", "intervalstyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex"}

// Open starts to read the slot.
func Open(ctx context.Context, c Config) (*Stream, error) {
	if c.MaxBytes <= 0 {
		c.MaxBytes = 256 << 20
	}
	if c.Silence <= 0 {
		c.Silence = 90 * time.Second
	}
	conn, err := connect(ctx, c.DSN)
	if err != nil {
		return nil, fmt.Errorf("open flow: %w", err)
	}
	s := &Stream{cfg: c, conn: conn, lastHeard: time.Now(), done: make(chan struct{}), wake: make(chan struct{}, 1), reached: c.Start,
		relations: map[uint32]*followed{}}
	if err := s.start(ctx); err != nil {
		closeConn(conn)
		return nil, fmt.Errorf("open flow: %w", err)
	}
	run, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	go s.run(run)
	return s, nil
}

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

func closeConn(c *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = c.Close(ctx) // positions are confirmed by their owner's store, not by this farewell
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

func (s *Stream) start(ctx context.Context) error {
	sql := fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (proto_version '2', publication_names '%s')", quote(s.cfg.Slot), s.cfg.Start,
		strings.ReplaceAll(quote(s.cfg.Publication), "'", "''"))
	s.conn.Frontend().SendQuery(&pgproto3.Query{String: sql})
	if err := s.conn.Frontend().Flush(); err != nil {
		return fmt.Errorf("start replication: %w", err)
	}
	for {
		m, err := s.conn.ReceiveMessage(ctx)
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

// Close ends the stream and waits for its goroutine.
func (s *Stream) Close() {
	s.cancel()
	<-s.done
	closeConn(s.conn)
}

// tick is how long the stream listens before it looks whether it has something to say.
const tick = 5 * time.Millisecond

// statusEvery is how often the source hears of us without being asked.
const statusEvery = time.Second

func (s *Stream) run(ctx context.Context) {
	defer close(s.done)
	for ctx.Err() == nil {
		if err := s.step(ctx); err != nil && ctx.Err() == nil {
			s.mu.Lock()
			s.err = fmt.Errorf("read the change stream: %w", err)
			s.mu.Unlock()
			s.signal()
			return
		}
	}
}

func (s *Stream) step(ctx context.Context) error {
	if err := s.speak(false); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, tick)
	m, err := s.conn.ReceiveMessage(wait)
	cancel()
	if err != nil {
		if pgconn.Timeout(err) && ctx.Err() == nil {
			return s.silent()
		}
		return safe(err)
	}
	s.lastHeard = time.Now()
	switch m := m.(type) {
	case *pgproto3.CopyData:
		return s.data(m.Data)
	case *pgproto3.ErrorResponse:
		return safe(pgconn.ErrorResponseToPgError(m))
	case *pgproto3.CopyDone, *pgproto3.CommandComplete:
		return errors.New("the source ended the stream")
	}
	return nil
}

// silent asks a source that has said nothing for a while for an answer, and gives it up when none
// comes: a peer that vanished closes no connection.
func (s *Stream) silent() error {
	quiet := time.Since(s.lastHeard)
	if quiet > s.cfg.Silence {
		return fmt.Errorf("the source has said nothing for %s", quiet.Round(time.Second))
	}
	if quiet > s.cfg.Silence/3 {
		s.mu.Lock()
		s.ask = s.ask || time.Since(s.lastSent) > s.cfg.Silence/10
		s.mu.Unlock()
	}
	return nil
}

// speak sends a status update when one is due, wanted, or forced.
func (s *Stream) speak(force bool) error {
	s.mu.Lock()
	durable, reached, ask := s.durable, s.reached, s.ask
	s.ask = false
	s.mu.Unlock()
	if !force && !ask && time.Since(s.lastSent) < statusEvery {
		return nil
	}
	s.lastSent = time.Now()
	b := []byte{'r'}
	for _, p := range []LSN{max(reached, durable), durable, durable} { // written, flushed, applied
		b = binary.BigEndian.AppendUint64(b, uint64(p))
	}
	b = binary.BigEndian.AppendUint64(b, uint64(time.Since(epoch).Microseconds()))
	reply := byte(0)
	if ask {
		reply = 1
	}
	s.conn.Frontend().Send(&pgproto3.CopyData{Data: append(b, reply)})
	return s.conn.Frontend().Flush()
}

// epoch is where PostgreSQL's clock begins.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func (s *Stream) data(b []byte) error {
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
		if s.current == nil { // in the middle of a transaction it says nothing about its end
			s.advance(end)
		}
		if answer {
			return s.speak(true)
		}
		return nil
	case 'w':
		r.take(24)
		if r.bad {
			return ErrMalformed
		}
		return s.message(r.rest)
	}
	return fmt.Errorf("%w: unknown frame", ErrMalformed)
}

func (s *Stream) advance(to LSN) {
	s.mu.Lock()
	s.reached = max(s.reached, to)
	s.mu.Unlock()
	s.signal()
}

func (s *Stream) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}
