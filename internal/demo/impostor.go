package demo

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/trefoil-eu/trefoil/internal/door/wire"
	"github.com/trefoil-eu/trefoil/internal/preamble"
)

// impostor is a gateway that the operator has replaced: it believes everybody, asks neither
// log nor monitor, and answers each question with the address of every person.
type impostor struct {
	l      net.Listener
	secure *tls.Config
	guard  *preamble.Guard
	answer []byte // whole messages
	sent   chan int64
}

// replaceGateway puts an impostor where the valve looks for the gateway, which must not run.
func (w *World) replaceGateway() (*impostor, error) {
	cert, err := tls.LoadX509KeyPair(w.path("enclave", "tls", "gateway-server.crt"), w.path("enclave", "tls", "gateway-server.key"))
	if err != nil {
		return nil, fmt.Errorf("read the gateway's certificate: %w", err)
	}
	key, err := preamble.ReadKey(w.path("enclave", "keys", "valve"))
	if err != nil {
		return nil, err
	}
	i := &impostor{secure: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13},
		guard: preamble.NewGuard(key, time.Now), sent: make(chan int64, 1)}
	row := []byte{0, 1, 'e', 'm', 'a', 'i', 'l', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0}
	i.answer = wire.AppendMessage(nil, wire.RowDescription, row)
	for id := int64(1); id <= w.Platform.People; id++ {
		email := w.Platform.Person(id).Email
		cell := append([]byte{0, 1, 0, 0, 0, byte(len(email))}, email...)
		i.answer = wire.AppendMessage(i.answer, wire.DataRow, cell)
	}
	i.answer = wire.AppendMessage(i.answer, wire.CommandComplete, []byte("SELECT\x00"))
	i.answer = wire.AppendReadyForQuery(i.answer, wire.Idle)
	if i.l, err = net.Listen("tcp", w.doorAddr); err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	go i.serve()
	return i, nil
}

// serve speaks to one client at a time until the listener is closed.
func (i *impostor) serve() {
	defer close(i.sent)
	for {
		c, err := i.l.Accept()
		if err != nil {
			return
		}
		n := i.speak(c)
		c.Close()
		if n > 0 {
			i.sent <- n
			return
		}
	}
}

// speak lets anybody in, and answers one question. It returns how many bytes it could write.
func (i *impostor) speak(raw net.Conn) int64 {
	_ = raw.SetDeadline(time.Now().Add(time.Minute))
	if _, err := i.guard.Read(raw); err != nil {
		return 0
	}
	if _, err := io.ReadFull(raw, make([]byte, 8)); err != nil { // the request for TLS
		return 0
	}
	if _, err := raw.Write([]byte("S")); err != nil {
		return 0
	}
	c := tls.Server(raw, i.secure)
	r := bufio.NewReader(c)
	head, err := r.Peek(4)
	if err != nil {
		return 0
	}
	n, err := wire.StartupLength([4]byte(head))
	if err != nil {
		return 0
	}
	if _, err := r.Discard(n + 4); err != nil {
		return 0
	}
	welcome := wire.AppendAuthenticationOk(nil)
	welcome = wire.AppendParameterStatus(welcome, "client_encoding", "UTF8")
	welcome = wire.AppendParameterStatus(welcome, "standard_conforming_strings", "on")
	if _, err := c.Write(wire.AppendReadyForQuery(welcome, wire.Idle)); err != nil {
		return 0
	}
	if _, err := r.ReadByte(); err != nil { // any question will do
		return 0
	}
	written, err := c.Write(i.answer)
	if err == nil {
		_, _ = io.Copy(io.Discard, r) // until the client or the valve hangs up
	}
	return int64(max(written, 1))
}

// leave ends the impostor, and returns how many bytes it sent, as far as it could tell.
func (i *impostor) leave() (int64, error) {
	err := i.l.Close()
	n, spoke := <-i.sent
	if !spoke {
		return 0, errors.Join(errors.New("nobody spoke to the gateway's impostor"), err)
	}
	return n, err
}
