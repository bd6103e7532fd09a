package enclave

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/trefoil-eu/trefoil/internal/proof/accesslog"
)

// errTakenOver is why a gateway drains for another one. It is no failure.
var errTakenOver = errors.New("another gateway takes over")

// mostHanded bounds the message that hands listeners over, in bytes and descriptors.
const (
	mostHanded  = 16 << 10
	mostHandles = 64
)

// TakeOver runs the door in place of a gateway that runs with the same configuration: it is
// handed the very sockets that the other listens on, so that nobody who waits in a queue is
// turned away; the other drains; and when it has let go of the log, this one serves.
func TakeOver(ctx context.Context, c *Config, logger *slog.Logger) error {
	open, err := c.askForDoors()
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	defer open.close()
	if err := c.openDoors(ctx, open); err != nil {
		return err
	}
	logger.Info("waiting for the gateway that drains")
	for {
		err := runGateway(ctx, c, open, logger)
		if !errors.Is(err, accesslog.ErrLocked) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// askForDoors asks the running gateway for its listeners; from then on it drains.
func (c *Config) askForDoors() (doors, error) {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: c.Gateway.Status})
	if err != nil {
		return nil, fmt.Errorf("nobody answers on %s; start without --takeover: %w", c.Gateway.Status, err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte("POST /takeover HTTP/1.1\r\nHost: gateway\r\nContent-Length: 0\r\n\r\n")); err != nil {
		return nil, err
	}
	text, handles := make([]byte, mostHanded), make([]byte, syscall.CmsgSpace(4*mostHandles))
	n, m, _, _, err := conn.ReadMsgUnix(text, handles)
	if err != nil {
		return nil, err
	}
	return readDoors(text[:n], handles[:m])
}

// readDoors makes listeners of what was handed over: the addresses, in the order of the sockets.
func readDoors(text, handles []byte) (doors, error) {
	messages, err := syscall.ParseSocketControlMessage(handles)
	if err != nil {
		return nil, fmt.Errorf("read handed sockets: %w", err)
	}
	var files []*os.File
	for _, m := range messages {
		fds, err := syscall.ParseUnixRights(&m)
		if err != nil {
			return nil, fmt.Errorf("read handed sockets: %w", err)
		}
		for _, fd := range fds {
			syscall.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "listener"))
		}
	}
	defer func() {
		for _, f := range files {
			_ = f.Close() // the listener has its own copy
		}
	}()
	_, body, _ := bytes.Cut(text, []byte("\r\n\r\n"))
	var addresses []string
	if err := json.Unmarshal(body, &addresses); err != nil || len(addresses) != len(files) || len(files) == 0 {
		return nil, fmt.Errorf("the running gateway hands over nothing: %q", firstLine(text))
	}
	out := doors{}
	for i, f := range files {
		l, err := net.FileListener(f)
		if err != nil {
			out.close()
			return nil, fmt.Errorf("open handed socket: %w", err)
		}
		out[addresses[i]] = l
	}
	return out, nil
}

func firstLine(text []byte) []byte {
	line, _, _ := bytes.Cut(text, []byte("\r\n"))
	return line
}

// handOver answers POST /takeover: it gives the listeners away and lets the gateway drain.
func (p *process) handOver(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		p.logger.Error("not taken over", "error", err)
		return
	}
	defer conn.Close()
	if err := p.give(conn); err != nil {
		p.logger.Error("not taken over", "error", err)
		return
	}
	p.logger.Info("another gateway takes over: draining")
	p.leave(errTakenOver)
}

func (p *process) give(conn net.Conn) error {
	to, ok := conn.(*net.UnixConn)
	if !ok {
		return errors.New("not asked through the socket")
	}
	var addresses []string
	var fds []int
	for address, l := range p.doors {
		f, err := l.(interface{ File() (*os.File, error) }).File()
		if err != nil {
			return fmt.Errorf("share listener: %w", err)
		}
		defer f.Close()
		addresses, fds = append(addresses, address), append(fds, int(f.Fd()))
	}
	body, err := json.Marshal(addresses)
	if err != nil {
		return err
	}
	_, _, err = to.WriteMsgUnix(slices.Concat([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), body), syscall.UnixRights(fds...), nil)
	return err
}
