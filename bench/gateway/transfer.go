package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// lines is how many rows the large transfers have.
const lines = 1_000_000

// rows moves a million rows each way, through the gateway, PgBouncer and neither.
func (b *bench) rows(ctx context.Context) error {
	payload := bytes.Repeat([]byte("1\t5d41402abc4b2a76b9719d911017c592\t7\t2026-01-01 00:00:00+00\n"), lines)
	for _, t := range []struct {
		name string
		f    func(net.Conn) error
	}{
		{"rows_select", func(c net.Conn) error { return exchange(c, "SELECT * FROM lines", nil) }},
		{"rows_copy_out", func(c net.Conn) error { return exchange(c, "COPY lines TO STDOUT", nil) }},
		{"rows_copy_in", func(c net.Conn) error { return exchange(c, "COPY sink FROM STDIN", payload) }},
	} {
		if err := b.transfer(ctx, t.name, t.f); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
		if b.quick {
			return nil
		}
	}
	return nil
}

func (b *bench) transfer(ctx context.Context, name string, f func(net.Conn) error) error {
	if err := b.log.skip(); err != nil {
		return err
	}
	ways := []string{b.gateway.dsn(), b.bouncer.dsn(), b.direct()}
	took, cpu := make([][]float64, 3), make([][]float64, 2)
	for i := range b.pairs + 1 {
		for _, k := range rand.Perm(3) {
			d, used, err := b.timed(ctx, ways[k], b.pidOf(k), f)
			if err != nil {
				return err
			}
			if i == 0 {
				continue
			}
			took[k] = append(took[k], d.Seconds()*1e3)
			if k < 2 {
				cpu[k] = append(cpu[k], used.Seconds()*1e3)
			}
		}
	}
	if err := b.log.settled(ctx); err != nil {
		return err
	}
	if want := int64(b.pairs+1) * lines; b.log.rows != want && name != "rows_copy_in" {
		return fmt.Errorf("the log has %d rows, %d were read", b.log.rows, want)
	}
	figure(name, "ms", b.bouncer.name, "%.0f", took[0], took[1])
	figure(name+"_direct", "ms", "direct", "%.0f", took[0], took[2])
	figure("cpu_"+name, "ms", b.bouncer.name, "%.0f", cpu[0], cpu[1])
	return nil
}

func (b *bench) pidOf(way int) int { return []int{b.gateway.pid, b.bouncer.pid, 0}[way] }

// timed runs one transfer on a connection of its own.
func (b *bench) timed(ctx context.Context, dsn string, pid int, f func(net.Conn) error) (took, used time.Duration, err error) {
	c, err := pgconn.Connect(ctx, dsn)
	if err != nil {
		return 0, 0, err
	}
	if err := c.SyncConn(ctx); err != nil { // on a busy machine it may be reading ahead
		return 0, 0, err
	}
	h, err := c.Hijack()
	if err != nil {
		return 0, 0, err
	}
	defer h.Conn.Close()
	_ = h.Conn.SetDeadline(time.Now().Add(2 * time.Minute))
	var before, after time.Duration
	if pid > 0 {
		if before, err = cpuTime(pid); err != nil {
			return 0, 0, err
		}
	}
	start := time.Now()
	if err := f(h.Conn); err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	if pid > 0 {
		if after, err = cpuTime(pid); err != nil {
			return 0, 0, err
		}
	}
	_, _ = h.Conn.Write([]byte{'X', 0, 0, 0, 4})
	return took, after - before, nil
}

// exchange runs one simple query and reads its answer as cheaply as it can: what is measured
// is the way, not the client.
func exchange(c net.Conn, sql string, data []byte) error {
	if _, err := c.Write(message('Q', append([]byte(sql), 0))); err != nil {
		return err
	}
	if data != nil {
		if err := feed(c, data); err != nil {
			return err
		}
	}
	buf, have := make([]byte, 256<<10), 0
	for {
		n, err := c.Read(buf[have:])
		if err != nil {
			return err
		}
		have += n
		at := 0
		for have-at >= 5 {
			size := 1 + int(binary.BigEndian.Uint32(buf[at+1:]))
			if have-at < size {
				break
			}
			switch buf[at] {
			case 'E':
				return fmt.Errorf("server says: %q", buf[at:at+size])
			case 'Z':
				return nil
			}
			at += size
		}
		have = copy(buf, buf[at:have])
	}
}

// feed sends COPY data in messages of 64 KiB.
func feed(c net.Conn, data []byte) error {
	var head [5]byte
	if _, err := io.ReadFull(c, head[:]); err != nil || head[0] != 'G' {
		return fmt.Errorf("the server does not ask for the data: %q %w", head[0], err)
	}
	if _, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(head[1:]))-4); err != nil {
		return err
	}
	for len(data) > 0 {
		n := min(len(data), 64<<10)
		if _, err := c.Write(message('d', data[:n])); err != nil {
			return err
		}
		data = data[n:]
	}
	_, err := c.Write(message('c', nil))
	return err
}

func message(typ byte, payload []byte) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(payload)))
	return append(b, payload...)
}
