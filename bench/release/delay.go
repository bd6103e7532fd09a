package main

import (
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// delayProxy relays TCP and delays every byte by half of a round trip each way. Bytes that
// follow closely travel together, as on a long line: the delay is latency, not a rate.
type delayProxy struct {
	listener net.Listener
	target   string
	oneWay   atomic.Int64
	wg       sync.WaitGroup

	mu    sync.Mutex
	conns map[net.Conn]bool
}

func startDelay(listen, target string) (*delayProxy, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the monitor: %w", err)
	}
	p := &delayProxy{listener: l, target: target, conns: map[net.Conn]bool{}}
	p.wg.Go(p.accept)
	return p, nil
}

// SetRoundTrip changes the delay for bytes that arrive from now on.
func (p *delayProxy) SetRoundTrip(d time.Duration) { p.oneWay.Store(int64(d / 2)) }

// Close ends every connection and waits.
func (p *delayProxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	return err
}

func (p *delayProxy) accept() {
	for {
		a, err := p.listener.Accept()
		if err != nil {
			return
		}
		b, err := net.Dial("tcp", p.target)
		if err != nil {
			a.Close()
			continue
		}
		p.mu.Lock()
		p.conns[a], p.conns[b] = true, true
		p.mu.Unlock()
		p.wg.Go(func() { p.relay(a, b) })
		p.wg.Go(func() { p.relay(b, a) })
	}
}

type piece struct {
	at   time.Time
	data []byte
}

func (p *delayProxy) relay(from, to net.Conn) {
	line := make(chan piece, 1024)
	p.wg.Go(func() {
		for b := range line {
			time.Sleep(time.Until(b.at))
			if _, err := to.Write(b.data); err != nil {
				from.Close()
			}
		}
		to.Close()
	})
	defer close(line)
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			line <- piece{time.Now().Add(time.Duration(p.oneWay.Load())), append([]byte(nil), buf[:n]...)}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}
